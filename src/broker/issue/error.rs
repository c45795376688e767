//! Why no credential was handed out.

use jiff::Timestamp;

use crate::cluster::CreateError;
use crate::names::{ClusterName, DatabaseName, LeaseId, LeaseLimit, RoleName, Ttl};
use crate::store::StoreError;

/// Why no credential was handed out.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The role is not on offer; the audit says why.
    #[error("{} on cluster `{cluster}` is not on offer to you", asked(.role))]
    NotOnOffer {
        /// The cluster asked for.
        cluster: String,
        /// The role asked for.
        role: String,
    },
    /// No role was named, and not exactly one is on offer.
    #[error("name a role for cluster `{cluster}`; on offer: {}", offered(.roles))]
    RoleNeeded {
        /// The cluster asked for.
        cluster: String,
        /// What is on offer there.
        roles: Vec<RoleName>,
    },
    /// The profile does not lend this database.
    #[error("role `{role}` is lent for {}, not for database `{database}`", listed(.databases))]
    DatabaseNotLent {
        /// The role.
        role: RoleName,
        /// The database asked for.
        database: String,
        /// The databases it is lent for.
        databases: Vec<DatabaseName>,
    },
    /// The TTL is longer than the profile allows.
    #[error("a lease of role `{role}` lives at most {max_ttl}, {ttl} was asked for")]
    TtlTooLong {
        /// The role.
        role: RoleName,
        /// What was asked for.
        ttl: Ttl,
        /// The most that is allowed.
        max_ttl: Ttl,
    },
    /// The profile asks for a reason and none was given.
    #[error("role `{role}` is lent only with a reason")]
    ReasonNeeded {
        /// The role.
        role: RoleName,
    },
    /// The reason is too long, or holds what cannot be seen.
    #[error("a reason is at most 500 characters, without control or invisible characters")]
    ReasonUnfit,
    /// The login ends too soon for a lease.
    #[error("the login ends at {ends_at}; log in again")]
    LoginTooOld {
        /// When the login ends.
        ends_at: Timestamp,
    },
    /// The login has ended since the request began.
    #[error("the login has ended")]
    LoginEnded,
    /// The directory cannot say whether the person still may have anything.
    #[error("the directory cannot be asked now")]
    DirectoryAway,
    /// The map turns on who is a member of a group role, which the cluster does not say.
    #[error("cluster `{cluster}` cannot be asked now who is a member of what")]
    MembersUnknown {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The person has as many leases of the role as they may have.
    #[error(
        "you have {} live leases of role `{role}` on cluster `{cluster}`, and no more are lent to one person at once; revoke one that is not needed",
        .most.get()
    )]
    TooManyLeases {
        /// The cluster.
        cluster: ClusterName,
        /// The role.
        role: RoleName,
        /// How many there may be.
        most: LeaseLimit,
    },
    /// The same wish is being fulfilled right now.
    #[error(
        "a request with this idempotency key is being worked on; ask again once it is answered"
    )]
    InProgress,
    /// The cluster has not been compared with the store since the start.
    #[error(
        "cluster `{cluster}` could not be reached or checked since the broker started; try again soon, or tell the administrators"
    )]
    NotReady {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The clocks of the cluster, the broker and its machine do not agree.
    #[error(
        "the clock of cluster `{cluster}` or of the broker's machine is {seconds} s off; nothing is issued there until the administrators have set it"
    )]
    ClocksApart {
        /// The cluster.
        cluster: ClusterName,
        /// How far the clock is from the broker's time.
        seconds: u64,
    },
    /// Nothing could be written down, so nothing was created.
    #[error("the lease could not be recorded, nothing was created")]
    NotRecorded(#[source] StoreError),
    /// The cluster did not make the role.
    #[error("the role for lease {lease} could not be created on cluster `{cluster}`")]
    RoleNotCreated {
        /// The lease, aborted.
        lease: LeaseId,
        /// The cluster.
        cluster: ClusterName,
        /// What the cluster said.
        source: Box<CreateError>,
    },
    /// The role exists but could not be recorded; it is taken away again.
    #[error("lease {lease} has its role but could not be activated; it is being taken away")]
    NotActivated {
        /// The lease.
        lease: LeaseId,
        /// What the store said.
        source: StoreError,
    },
    /// The lease was ended by somebody else while its role was made.
    #[error(
        "lease {lease} was ended while its role was being made; ask for another if you still need it"
    )]
    Overtaken {
        /// The lease.
        lease: LeaseId,
    },
    /// The task that issued has died.
    #[error("issuing was interrupted; what it left is being taken away, so ask again")]
    Interrupted,
}

fn asked(role: &str) -> String {
    if role.is_empty() { "a role".to_owned() } else { format!("role `{role}`") }
}

fn offered(roles: &[RoleName]) -> String {
    if roles.is_empty() { "none".to_owned() } else { listed(roles) }
}

fn listed<Name: ToString>(names: &[Name]) -> String {
    names.iter().map(|name| format!("`{}`", name.to_string())).collect::<Vec<_>>().join(", ")
}
