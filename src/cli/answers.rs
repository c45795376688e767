//! The answers of the API (`/openapi.json` describes them), as far as the CLI reads them.
//!
//! A word that is only shown is a [`Shown`]; what is used is of its own type. Fields that a newer
//! server adds are passed over.

use jiff::Timestamp;
use serde::Deserialize;

use super::secret::Secret;
use super::terminal::Shown;
use crate::names::{ClusterName, DatabaseName, LeaseId, RoleName};

/// `POST /v1/login`.
#[derive(Deserialize)]
pub(super) struct LoggedIn {
    pub token: Secret,
    pub expires_at: Timestamp,
    /// A pause of this length ends the session too.
    #[serde(default)]
    pub idle_timeout_seconds: Option<u64>,
    pub principal: String,
}

/// `GET /v1/whoami`.
#[derive(Debug, Deserialize)]
pub(super) struct Whoami {
    pub principal: Shown,
    /// The same with its issuer, as operators name a person.
    pub person: Shown,
    pub method: Shown,
    pub issuer: Shown,
    pub groups: Vec<Shown>,
    pub authenticated_at: Timestamp,
    pub expires_at: Timestamp,
    pub duties: Duties,
}

/// What somebody may do at the broker itself.
#[derive(Debug, Deserialize)]
pub(super) struct Duties {
    pub auditor: bool,
    pub operator: bool,
}

/// `GET /v1/roles`.
#[derive(Debug, Deserialize)]
pub(super) struct Roles {
    pub roles: Vec<Offer>,
    /// Clusters of which nobody can say now what more is on offer there.
    #[serde(default)]
    pub undecided: Vec<Shown>,
}

/// One role on offer.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Offer {
    pub cluster: ClusterName,
    pub role: RoleName,
    pub databases: Vec<DatabaseName>,
    pub ttl_seconds: u64,
    pub max_ttl_seconds: u64,
    pub reason_required: bool,
    pub rule: Rule,
}

/// A line of the map.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rule {
    pub file: Shown,
    pub line: u64,
}

/// A lease, as every answer about one shows it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Lease {
    pub id: LeaseId,
    pub state: Shown,
    pub cluster: ClusterName,
    pub database: DatabaseName,
    pub role: RoleName,
    pub role_name: Shown,
    /// Who has it, with the way in that vouches for them.
    #[serde(default)]
    pub person: Shown,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    pub ceiling: Timestamp,
    #[serde(default)]
    pub access_ended_at: Option<Timestamp>,
    #[serde(default)]
    pub gone_at: Option<Timestamp>,
    /// Why it ended or is ending, in one word.
    #[serde(default)]
    pub end: Option<Shown>,
    /// When taking it away is tried again.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    #[serde(default)]
    pub blockers: Vec<Blocker>,
}

/// One thing that keeps a lease's role from being dropped.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Blocker {
    #[serde(default)]
    pub database: Option<Shown>,
    #[serde(default)]
    pub object: Option<Shown>,
    #[serde(default)]
    pub held_by: Option<Holder>,
    pub detail: Shown,
    #[serde(default)]
    pub remedy: Option<Shown>,
}

/// Whoever holds a lock on the cluster.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Holder {
    #[serde(default)]
    pub pid: Option<i32>,
    #[serde(default)]
    pub role: Option<Shown>,
}

/// `GET /v1/leases`.
#[derive(Debug, Deserialize)]
pub(super) struct Leases {
    pub leases: Vec<Lease>,
}

/// `POST /v1/leases`: the one answer with a password.
#[derive(Deserialize)]
pub(super) struct Issued {
    pub lease: Lease,
    pub password: Secret,
    pub connection: Connection,
}

/// Where a client connects to.
#[derive(Debug, Deserialize)]
pub(super) struct Connection {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub sslmode: String,
    #[serde(default)]
    pub sslrootcert: Option<String>,
    #[serde(default)]
    pub root_certificate: Option<String>,
}

/// A refusal (RFC 9457 problem details).
#[derive(Debug, Default, Deserialize)]
pub(super) struct Problem {
    /// `urn:pgbridge:problem:` and a stable word.
    #[serde(default, rename = "type")]
    pub kind: Shown,
    #[serde(default)]
    pub title: Shown,
    #[serde(default)]
    pub detail: Shown,
    #[serde(default)]
    pub request_id: Shown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_password_or_token_cannot_be_printed() {
        super::super::secret::tests::assert_unprintable!(LoggedIn, Issued);
    }
}
