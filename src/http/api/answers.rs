//! What goes out. The one file that shows a password or a token.

use std::collections::BTreeSet;

use axum::Json;
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::uri::connection_uri;
use crate::auth::{Identity, SessionTimes};
use crate::broker::{Caller, Credential, LoggedIn};
use crate::cluster::ClientConnection;
use crate::lease::{Blocker, Holder, Lease};
use crate::mapping::{Entitlement, Offers, ReasonRule, RuleRef};

/// A time as RFC 3339 text in UTC with whole seconds, never later than the time itself.
#[derive(Clone, Copy, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-20T19:47:00Z")]
pub(in crate::http) struct Moment(Timestamp);

impl Serialize for Moment {
    fn serialize<To: Serializer>(&self, to: To) -> Result<To::Ok, To::Error> {
        to.collect_str(&self.0.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// A session has begun.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct LoginAnswer<'a> {
    /// Send it as `Authorization: Bearer …`. It is shown once and kept nowhere.
    #[schema(example = "pgbs_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2E")]
    token: &'a str,
    /// When the session ends, however busy it is.
    expires_at: Moment,
    /// Longest pause between two calls before it ends, in seconds.
    idle_timeout_seconds: u32,
    /// Who was proven, as `method:name`.
    #[schema(example = "ldap:alice")]
    principal: String,
    /// How it was proven.
    #[schema(example = "ldap")]
    method: &'static str,
    /// The way in that vouches for it.
    #[schema(example = "corp")]
    issuer: &'a str,
}

/// The one answer that shows a token.
pub(super) fn logged_in(logged_in: &LoggedIn, times: SessionTimes) -> Response {
    let identity = &logged_in.session.identity;
    let answer = LoginAnswer {
        token: logged_in.token.expose(),
        expires_at: session_end(identity, times),
        idle_timeout_seconds: times.idle.seconds(),
        principal: identity.principal().to_string(),
        method: identity.principal().method().as_str(),
        issuer: identity.principal().issuer().as_str(),
    };
    Json(answer).into_response()
}

fn session_end(identity: &Identity, times: SessionTimes) -> Moment {
    let oldest = identity.authenticated_at() + times.absolute.span();
    Moment(oldest.min(identity.expires_at()))
}

/// Who calls, and what they may do with the broker itself.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct WhoAmI {
    /// Who was proven, as `method:name`.
    #[schema(example = "ldap:alice")]
    principal: String,
    /// The same so that nobody else has it: `method:issuer:name`.
    #[schema(example = "ldap:corp:alice")]
    person: String,
    /// How it was proven.
    #[schema(example = "ldap")]
    method: &'static str,
    /// The way in that vouches for it.
    #[schema(example = "corp")]
    issuer: String,
    /// The groups at the time of the login, in full.
    #[schema(example = json!(["cn=readers,ou=groups,dc=example,dc=test"]))]
    groups: Vec<String>,
    /// When it was proven.
    authenticated_at: Moment,
    /// When the session ends, however busy it is.
    expires_at: Moment,
    /// What they may do with the broker itself.
    duties: DutiesAnswer,
}

/// What somebody may do with the broker itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Duties)]
pub(in crate::http) struct DutiesAnswer {
    /// May read every lease and the audit.
    auditor: bool,
    /// May read every lease and end it.
    operator: bool,
}

impl WhoAmI {
    pub(super) fn of(caller: &Caller, times: SessionTimes) -> Self {
        let (identity, duties) = (caller.identity(), caller.duties());
        let principal = identity.principal();
        Self {
            principal: principal.to_string(),
            person: principal.key(),
            method: principal.method().as_str(),
            issuer: principal.issuer().to_string(),
            groups: identity.groups().iter().map(|group| group.as_str().to_owned()).collect(),
            authenticated_at: Moment(identity.authenticated_at()),
            expires_at: session_end(identity, times),
            duties: DutiesAnswer { auditor: duties.auditor, operator: duties.operator },
        }
    }
}

/// A line of the map.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Rule {
    /// The file, as the configuration names it.
    #[schema(example = "pg_ident.conf")]
    file: String,
    /// The line in it, from 1.
    line: u32,
}

impl Rule {
    fn of(rule: &RuleRef) -> Self {
        Self { file: rule.file.clone(), line: rule.line }
    }
}

/// A role that the caller may ask for.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct RoleOnOffer {
    /// The cluster.
    #[schema(example = "orders")]
    cluster: String,
    /// The group role whose rights a lease has.
    #[schema(example = "orders_read")]
    role: String,
    /// The databases it is lent for; the first is used when none is named.
    #[schema(example = json!(["orders"]))]
    databases: Vec<String>,
    /// How long a lease lives when nothing is asked.
    #[schema(example = 3600)]
    ttl_seconds: u32,
    /// How long a lease may live with all renewals.
    #[schema(example = 28800)]
    max_ttl_seconds: u32,
    /// Whether a reason must be given.
    reason_required: bool,
    /// The line of the map that allows it.
    rule: Rule,
    /// The revision of the map.
    map_revision: String,
}

/// The roles that the caller may ask for.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct RolesAnswer {
    /// In the order of the configuration.
    roles: Vec<RoleOnOffer>,
    /// Clusters that could not be asked now what more is on offer there: the map turns on who is a
    /// member of a group role.
    undecided: BTreeSet<String>,
}

impl RolesAnswer {
    pub(super) fn of(offers: &Offers) -> Self {
        let undecided = offers.undecided.iter().map(|(cluster, _)| cluster.to_string()).collect();
        Self { roles: offers.entitlements.iter().map(RoleOnOffer::of).collect(), undecided }
    }
}

impl RoleOnOffer {
    fn of(entitlement: &Entitlement) -> Self {
        let profile = entitlement.profile();
        Self {
            cluster: entitlement.cluster().to_string(),
            role: profile.role.to_string(),
            databases: profile.databases.iter().map(ToString::to_string).collect(),
            ttl_seconds: profile.ttl.seconds(),
            max_ttl_seconds: profile.max_ttl.seconds(),
            reason_required: profile.reason == ReasonRule::Required,
            rule: Rule::of(entitlement.rule()),
            map_revision: entitlement.revision().to_string(),
        }
    }
}

/// A lease.
#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
pub(in crate::http) struct LeaseAnswer {
    /// Its id. It gives no right to anything.
    #[schema(example = "abcdefghijklmnop")]
    id: String,
    /// Where it stands: `intent`, `active`, `revoking`, `quarantined`, `revoked` or `aborted`.
    #[schema(example = "active")]
    state: &'static str,
    /// The cluster.
    #[schema(example = "orders")]
    cluster: String,
    /// The database in its connection string.
    #[schema(example = "orders")]
    database: String,
    /// The group role whose rights it has.
    #[schema(example = "orders_read")]
    role: String,
    /// Its own role, which its holder logs in as.
    #[schema(example = "pgb_alice_abcdefghijklmnop")]
    role_name: String,
    /// Who has it, as `method:name`.
    #[schema(example = "ldap:alice")]
    principal: String,
    /// The same so that nobody else has it: `method:issuer:name`.
    #[schema(example = "ldap:corp:alice")]
    person: String,
    /// When it was asked for.
    requested_at: Moment,
    /// When it ends unless renewed.
    expires_at: Moment,
    /// When it ends at the latest.
    ceiling: Moment,
    /// Why it was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The line of the map that allowed it.
    rule: Rule,
    /// The revision of the map.
    map_revision: String,
    /// Why it ended or is ending: `expired`, `released`, `operator`, `replaced`, `undelivered`,
    /// `lost` or `withdrawn` (the person may not have it any more).
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    /// Since when nobody can use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_ended_at: Option<Moment>,
    /// Since when its role is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_at: Option<Moment>,
    /// How often taking it away was tried in vain; left out when it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// When that is tried again, while something of it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Moment>,
    /// What keeps its role from being dropped; left out when nothing does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blockers: Vec<BlockerAnswer>,
}

/// One thing that keeps the role of a lease from being dropped. It is tried again for ever.
#[derive(Serialize, ToSchema)]
#[schema(as = Blocker)]
struct BlockerAnswer {
    /// What sort of thing: `session`, `lock`, `prepared_transaction`, `replication_slot`, `object`,
    /// `privilege`, `membership`, `database`, `broker_right`, `role` or `cluster`.
    kind: &'static str,
    /// The database it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    /// The object, in the server's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    /// Who holds what is waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_by: Option<HolderAnswer>,
    /// What happened.
    detail: String,
    /// What a person can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

/// Whoever holds a lock on the cluster.
#[derive(Serialize, ToSchema)]
#[schema(as = Holder)]
struct HolderAnswer {
    /// The server process; left out for a prepared transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    /// The role it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
}

impl BlockerAnswer {
    fn of(blocker: &Blocker) -> Self {
        let holder = |holder: &Holder| HolderAnswer { pid: holder.pid, role: holder.role.clone() };
        Self {
            kind: blocker.kind.as_str(),
            database: blocker.database.clone(),
            object: blocker.object.clone(),
            held_by: blocker.held_by.as_ref().map(holder),
            detail: blocker.detail.clone(),
            remedy: blocker.remedy.clone(),
        }
    }
}

impl LeaseAnswer {
    pub(super) fn of(lease: &Lease) -> Self {
        Self {
            id: lease.id.to_string(),
            state: lease.state.as_str(),
            cluster: lease.cluster.to_string(),
            database: lease.database.to_string(),
            role: lease.role.to_string(),
            role_name: lease.role_name.to_string(),
            principal: lease.principal.to_string(),
            person: lease.principal.key(),
            requested_at: Moment(lease.requested_at),
            expires_at: Moment(lease.expires_at),
            ceiling: Moment(lease.ceiling),
            reason: lease.reason.clone(),
            rule: Rule::of(&lease.rule),
            map_revision: lease.revision.to_string(),
            end: lease.end.map(crate::lease::EndReason::as_str),
            access_ended_at: lease.access_ended_at.map(Moment),
            gone_at: lease.gone_at.map(Moment),
            attempts: Some(lease.attempts).filter(|attempts| *attempts > 0),
            retry_at: lease.retry_at.map(Moment),
            blockers: lease.blockers.iter().map(BlockerAnswer::of).collect(),
        }
    }
}

/// Leases, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = Leases)]
pub(in crate::http) struct LeasesAnswer {
    /// The leases.
    leases: Vec<LeaseAnswer>,
}

impl LeasesAnswer {
    pub(super) fn of(leases: &[Lease]) -> Self {
        Self { leases: leases.iter().map(LeaseAnswer::of).collect() }
    }
}

/// How to connect.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Connection<'a> {
    /// Host name or address.
    #[schema(example = "orders-db.example.test")]
    host: &'a str,
    /// Port.
    #[schema(example = 5432)]
    port: u16,
    /// Database.
    #[schema(example = "orders")]
    database: &'a str,
    /// The lease's own role.
    #[schema(example = "pgb_alice_abcdefghijklmnop")]
    user: &'a str,
    /// How much TLS to insist on, in libpq's words.
    #[schema(example = "verify-full")]
    sslmode: &'static str,
    /// Where the cluster's root certificate is on the client's machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/etc/ssl/certs/orders-ca.crt")]
    sslrootcert: Option<&'a str>,
    /// The root certificate itself, PEM, for clients that do not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    root_certificate: Option<&'a str>,
}

impl<'a> Connection<'a> {
    fn of(connection: &'a ClientConnection, database: &'a str, user: &'a str) -> Self {
        Self {
            host: &connection.host,
            port: connection.port,
            database,
            user,
            sslmode: connection.sslmode.as_str(),
            sslrootcert: connection.sslrootcert.as_deref(),
            root_certificate: connection.root_certificate.as_deref(),
        }
    }
}

/// A lease with its password, which is shown once and kept nowhere.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct IssuedAnswer<'a> {
    /// The lease.
    lease: LeaseAnswer,
    /// The password of its role.
    #[schema(example = "Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5")]
    password: &'a str,
    /// How to connect.
    connection: Connection<'a>,
    /// The same as one connection URI, password included.
    #[schema(
        example = "postgresql://pgb_alice_abcdefghijklmnop:Y2FuYXJ5@orders-db.example.test:5432/orders?sslmode=verify-full"
    )]
    uri: &'a str,
}

/// The one answer that shows a password.
pub(super) fn issued(credential: &Credential) -> Response {
    let Credential { lease, password, connection } = credential;
    let (database, user) = (lease.database.as_str(), lease.role_name.as_str());
    let uri = connection_uri(connection, database, user, password.expose());
    let answer = IssuedAnswer {
        lease: LeaseAnswer::of(lease),
        password: password.expose(),
        connection: Connection::of(connection, database, user),
        uri: &uri,
    };
    let headers: [(HeaderName, String); 1] = [(LOCATION, format!("/v1/leases/{}", lease.id))];
    (StatusCode::CREATED, headers, Json(answer)).into_response()
}
