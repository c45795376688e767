//! What keeps a lease from being over, so that a person can see what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that keeps the last attempt from being the last: what and where it is, who holds it,
/// and what a person can do.
///
/// Names and texts come from the server, where the lease's holder may have chosen them: whoever
/// shows them makes them printable first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocker {
    /// What sort of thing it is.
    pub kind: BlockerKind,
    /// The database it is in, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The object, in the server's words, such as `table sales.mine`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Who holds what is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<Holder>,
    /// What happened, in one sentence without a full stop.
    pub detail: String,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Whoever holds a lock on the cluster. Never what they run: that may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The server process; nothing for a prepared transaction, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The role it runs as, if the server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// What sort of thing keeps a lease from being over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockerKind {
    /// A session of the role that does not end.
    Session,
    /// A lock that somebody else holds.
    Lock,
    /// A transaction that the role has prepared.
    PreparedTransaction,
    /// A replication slot that the role uses.
    ReplicationSlot,
    /// An object that the role owns, or that depends on one.
    Object,
    /// A privilege that the role has or has given.
    Privilege,
    /// A membership that the broker may not revoke.
    Membership,
    /// A database that cannot be cleared.
    Database,
    /// A right that the broker's login lacks.
    BrokerRight,
    /// The role itself: it is changed by others, or is not ours to touch.
    Role,
    /// The cluster, which cannot be asked.
    Cluster,
}

impl BlockerKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Session,
        Self::Lock,
        Self::PreparedTransaction,
        Self::ReplicationSlot,
        Self::Object,
        Self::Privilege,
        Self::Membership,
        Self::Database,
        Self::BrokerRight,
        Self::Role,
        Self::Cluster,
    ];

    /// The kind as a word, the same in the store, the API, the metrics and the audit.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Lock => "lock",
            Self::PreparedTransaction => "prepared_transaction",
            Self::ReplicationSlot => "replication_slot",
            Self::Object => "object",
            Self::Privilege => "privilege",
            Self::Membership => "membership",
            Self::Database => "database",
            Self::BrokerRight => "broker_right",
            Self::Role => "role",
            Self::Cluster => "cluster",
        }
    }
}

impl Blocker {
    /// Something of `kind`; `detail` says what happened.
    #[must_use]
    pub fn new(kind: BlockerKind, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, database: None, object: None, held_by: None, detail, remedy: None }
    }

    /// It is in `database`.
    #[must_use]
    pub fn within(self, database: impl Into<String>) -> Self {
        Self { database: Some(database.into()), ..self }
    }

    /// It is about `object`.
    #[must_use]
    pub fn about(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }

    /// It is held by `holder`.
    #[must_use]
    pub fn held_by(self, holder: Holder) -> Self {
        Self { held_by: Some(holder), ..self }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// All of them on one line, for a log or the audit.
    #[must_use]
    pub fn join(blockers: &[Self]) -> String {
        let texts: Vec<String> = blockers.iter().map(Self::to_string).collect();
        texts.join("; ")
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(formatter, ": {remedy}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_reads_as_what_happened_and_what_to_do() {
        let bare = Blocker::new(BlockerKind::Session, "a session does not end");
        let whole = Blocker::new(BlockerKind::Object, "view v depends on table t")
            .within("orders")
            .about("table t")
            .remedy("drop the view");
        assert_eq!(
            Blocker::join(&[bare, whole]),
            "a session does not end; view v depends on table t: drop the view"
        );
    }

    #[test]
    fn a_blocker_reads_back_from_json_and_names_its_kind_by_one_word() {
        for kind in BlockerKind::ALL {
            let holder = Holder { pid: Some(7), role: None };
            for blocker in [
                Blocker::new(kind, "σ \"\u{0}"),
                Blocker::new(kind, "").held_by(holder).remedy("r").within("d").about("o"),
            ] {
                let json = serde_json::to_string(&blocker).unwrap();
                assert!(json.contains(&format!("\"kind\":\"{}\"", kind.as_str())), "{json}");
                assert_eq!(serde_json::from_str::<Blocker>(&json).unwrap(), blocker);
            }
        }
    }
}
