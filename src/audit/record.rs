//! One record of the audit: who, how, what, from where, by which line of the map, the outcome.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lease::Lease;
use crate::mapping::{Because, MapRevision, RuleRef};
use crate::names::{ClusterName, DatabaseName, LeaseId, LeaseRoleName, Principal, RoleOid};

/// What was done or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// A broker began to serve.
    #[serde(rename = "broker.started")]
    BrokerStarted,
    /// A broker stopped in good order.
    #[serde(rename = "broker.stopped")]
    BrokerStopped,
    /// Somebody tried to log in.
    #[serde(rename = "login")]
    Login,
    /// Somebody ended their session.
    #[serde(rename = "logout")]
    Logout,
    /// Somebody asked for a lease: the intent is written, or the wish was refused.
    #[serde(rename = "lease.requested")]
    LeaseRequested,
    /// The role exists and its password is about to leave.
    #[serde(rename = "lease.issued")]
    LeaseIssued,
    /// The role could not be made, or could not be handed out.
    #[serde(rename = "lease.aborted")]
    LeaseAborted,
    /// The end of a lease was moved, or that was refused.
    #[serde(rename = "lease.renewed")]
    LeaseRenewed,
    /// A lease was told to end, or that was refused.
    #[serde(rename = "lease.revoke_requested")]
    RevokeRequested,
    /// Nobody can use the lease any more.
    #[serde(rename = "lease.access_ended")]
    AccessEnded,
    /// Something keeps the role from being dropped.
    #[serde(rename = "lease.quarantined")]
    LeaseQuarantined,
    /// Objects of the role are about to go to the attic role: written before each portion, so that
    /// a crash leaves none untold. What went is told once more with how the attempt ended.
    #[serde(rename = "lease.handing_over")]
    HandingOver,
    /// Nothing of the lease is left on the cluster.
    #[serde(rename = "lease.revoked")]
    LeaseRevoked,
    /// The role was gone without our doing.
    #[serde(rename = "lease.lost")]
    LeaseLost,
    /// A role with our mark, but without a lease, was found and is about to be taken away.
    #[serde(rename = "orphan.found")]
    OrphanFound,
    /// A role with our mark, but without a lease, was taken away, or that was tried.
    #[serde(rename = "orphan.removed")]
    OrphanRemoved,
    /// The broker's own time was set: clocks did not agree.
    #[serde(rename = "clock.set")]
    ClockSet,
    /// Somebody could not log in any more when they were looked up again; all they had ends.
    #[serde(rename = "person.gone")]
    PersonGone,
    /// Many people were missing at once when they were looked up again, so that what they have was
    /// left to them; or that is over.
    #[serde(rename = "people.missing")]
    PeopleMissing,
    /// An operator declared that nothing is left of a lease, or was refused that.
    #[serde(rename = "lease.declared_gone")]
    DeclaredGone,
    /// Somebody with a duty read what is not theirs: all leases, or the audit.
    #[serde(rename = "review.read")]
    ReviewRead,
    /// Somebody was refused what needs a duty, or another person's lease.
    #[serde(rename = "access.refused")]
    AccessRefused,
    /// Another revision of the map was read than the one before, now or when the broker started, and
    /// is about to be used. Or the revision is the same, and the configuration goes by it otherwise
    /// than when a broker started before.
    #[serde(rename = "map.reloaded")]
    MapReloaded,
    /// Who gains and who loses what by the revision of the map that has come into force. Failed when
    /// not all of it was found out: then it says why, and what it left out.
    #[serde(rename = "map.compared")]
    MapCompared,
    /// The files of the map have changed and cannot be used; the revision before stays in force.
    #[serde(rename = "map.refused")]
    MapRefused,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not allowed; nothing was done.
    Refused,
    /// It was allowed and failed.
    Failed,
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Subject {
    /// The broker itself: expiry, reconciling.
    Broker,
    /// A proven person or program.
    Person {
        /// Who.
        principal: Principal,
        /// Handle of the session, when there is one.
        session: Option<Uuid>,
    },
    /// Somebody who has proven nothing, by what they said.
    Unproven {
        /// The way in that was tried.
        way: String,
        /// The name as it was typed, cut to 256 bytes.
        typed: String,
    },
    /// Somebody who said nothing at all, or whose token was good for nothing.
    Nobody,
}

/// One record. Append-only, numbered without gaps by the store, one JSON line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When, UTC.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// Who.
    pub subject: Subject,
    /// The request it belongs to; nothing for the broker's own work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// Where the request came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<IpAddr>,
    /// The client program, as it named itself, cut to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<String>,
    /// Whom it is about, when that is not who did it: `method:issuer:name`, or `method:name`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<String>,
    /// The lease.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease: Option<LeaseId>,
    /// The cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<ClusterName>,
    /// The database.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database: Option<DatabaseName>,
    /// The group role, or what was asked for in its place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// The lease's own role.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role_name: Option<LeaseRoleName>,
    /// Its OID.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role_oid: Option<RoleOid>,
    /// When the lease ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Timestamp>,
    /// The line of the map that decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<RuleRef>,
    /// The revision of the map.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub map_revision: Option<MapRevision>,
    /// The revision of the map that was in force before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub former_map_revision: Option<MapRevision>,
    /// What the configuration says of who may become what, a line each: which maps are used for what,
    /// and what is lent. Of records that a map was taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<Vec<String>>,
    /// By what of the person the line let them in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub because: Option<Because>,
    /// Why the lease was wanted, in the person's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Why it was refused, failed or ended: a stable word.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// The same for a reader, without any secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

impl Record {
    /// A record of `action` by `subject` that was done; the rest is filled in by the `with_…`
    /// methods or by hand.
    #[must_use]
    pub fn new(at: Timestamp, action: Action, subject: Subject) -> Self {
        Self {
            at,
            action,
            outcome: Outcome::Done,
            subject,
            request_id: None,
            client: None,
            agent: None,
            person: None,
            lease: None,
            cluster: None,
            database: None,
            role: None,
            role_name: None,
            role_oid: None,
            expires_at: None,
            rule: None,
            map_revision: None,
            former_map_revision: None,
            policy: None,
            because: None,
            reason: None,
            cause: None,
            detail: None,
        }
    }

    /// The same about `lease`.
    #[must_use]
    pub fn about(self, lease: &Lease) -> Self {
        Self {
            lease: Some(lease.id),
            cluster: Some(lease.cluster.clone()),
            database: Some(lease.database.clone()),
            role: Some(lease.role.to_string()),
            role_name: Some(lease.role_name.clone()),
            role_oid: lease.role_oid,
            expires_at: Some(lease.expires_at),
            rule: Some(lease.rule.clone()),
            map_revision: Some(lease.revision.clone()),
            because: lease.because.clone(),
            reason: lease.reason.clone(),
            cause: lease.end.map(|end| end.as_str().to_owned()),
            ..self
        }
    }

    /// Whether a broker writes such a record only once it has compared the clocks, so that `at` has
    /// passed for certain. Before, it goes by its machine's clock alone, which may be ahead.
    #[must_use]
    pub fn is_by_compared_clocks(&self) -> bool {
        match self.action {
            Action::LeaseIssued
            | Action::AccessEnded
            | Action::LeaseQuarantined
            | Action::HandingOver
            | Action::LeaseRevoked
            | Action::LeaseLost
            | Action::OrphanFound
            | Action::OrphanRemoved
            | Action::PeopleMissing
            | Action::ClockSet => true,
            Action::BrokerStopped => self.cause.is_none(),
            Action::BrokerStarted
            | Action::Login
            | Action::Logout
            | Action::LeaseRequested
            | Action::LeaseAborted
            | Action::LeaseRenewed
            | Action::RevokeRequested
            | Action::PersonGone
            | Action::DeclaredGone
            | Action::ReviewRead
            | Action::AccessRefused
            | Action::MapReloaded
            | Action::MapCompared
            | Action::MapRefused => false,
        }
    }

    /// The same, refused or failed for `cause` (a stable word) with `detail` for a reader.
    #[must_use]
    pub fn ended(self, outcome: Outcome, cause: &str, detail: &str) -> Self {
        let detail = Some(detail.to_owned()).filter(|text| !text.is_empty());
        Self { outcome, cause: Some(cause.to_owned()), detail, ..self }
    }
}

/// Cuts what a client said to at most 256 bytes, so that a record stays small.
#[must_use]
pub fn cut(text: &str) -> String {
    let end = text.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let end = end.take_while(|end| *end <= 256).last().unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

impl Subject {
    /// Somebody unproven who typed `name` at `way`.
    #[must_use]
    pub fn unproven(way: &str, name: &str) -> Self {
        Self::Unproven { way: cut(way), typed: cut(name) }
    }
}
