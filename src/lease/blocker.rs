//! What keeps a lease from being over, so that a person can see what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{printable, printable_sql, shortened};

/// One thing that keeps the last attempt from being the last: what and where it is, who holds it,
/// and what a person can do.
///
/// Names and texts come from the server, where the lease's holder may have chosen them: what is
/// made here is printable. A statement in a remedy still means the same names (`U&"…"`).
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

/// How many blockers one attempt may tell.
const TOLD: usize = 20;

/// Letters of a detail that are told: a server's message can be of any length.
const DETAIL: usize = 2000;

impl Blocker {
    /// Something of `kind`; `detail` says what happened.
    #[must_use]
    pub fn new(kind: BlockerKind, detail: impl AsRef<str>) -> Self {
        let detail = shortened(&printable(detail.as_ref()), DETAIL);
        Self { kind, database: None, object: None, held_by: None, detail, remedy: None }
    }

    /// Whether it is a membership, which ends with the role.
    #[must_use]
    pub fn is_membership(&self) -> bool {
        self.kind == BlockerKind::Membership
    }

    /// It is in `database`.
    #[must_use]
    pub fn within(self, database: impl AsRef<str>) -> Self {
        Self { database: Some(printable(database.as_ref())), ..self }
    }

    /// It is in `database`, if that is known.
    #[must_use]
    pub fn within_if(self, database: Option<impl AsRef<str>>) -> Self {
        match database {
            Some(database) => self.within(database),
            None => self,
        }
    }

    /// It is about `object`.
    #[must_use]
    pub fn about(self, object: impl AsRef<str>) -> Self {
        Self { object: Some(printable(object.as_ref())), ..self }
    }

    /// It is held by `holder`.
    #[must_use]
    pub fn held_by(self, holder: Holder) -> Self {
        let role = holder.role.map(|role| printable(&role));
        Self { held_by: Some(Holder { role, ..holder }), ..self }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl AsRef<str>) -> Self {
        Self { remedy: Some(printable(remedy.as_ref())), ..self }
    }

    /// The statement that mends it, ready to paste.
    #[must_use]
    pub fn remedy_sql(self, sql: &str) -> Self {
        Self { remedy: Some(printable_sql(sql)), ..self }
    }

    /// The first of them, and how many there are besides: a holder can make any number.
    #[must_use]
    pub fn first(mut blockers: Vec<Self>) -> Vec<Self> {
        let more = blockers.len().saturating_sub(TOLD);
        let next = blockers.get(TOLD).map(|blocker| blocker.kind);
        if let Some(kind) = next {
            blockers.truncate(TOLD);
            blockers.push(Self::new(kind, format!("and {more} more")));
        }
        blockers
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
        // A statement is of no use to who does not know where to run it.
        if let Some(database) = &self.database
            && !self.detail.contains(&format!("database {database}"))
        {
            write!(formatter, " (in database {database})")?;
        }
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
        let said = Blocker::new(BlockerKind::Database, "database orders is full").within("orders");
        assert_eq!(said.to_string(), "database orders is full");
        assert_eq!(
            Blocker::join(&[bare, whole]),
            "a session does not end; view v depends on table t (in database orders): drop the view"
        );
    }

    #[test]
    fn what_a_holder_named_is_printable_and_its_statement_names_the_same() {
        let blocker = Blocker::new(BlockerKind::Object, "a\nb")
            .about("table x\u{202e}")
            .within("d\u{7}")
            .held_by(Holder { pid: None, role: Some("r\r".into()) });
        assert_eq!(blocker.detail, r"a\u{a}b");
        assert_eq!(blocker.object.as_deref(), Some(r"table x\u{202e}"));
        assert_eq!(blocker.database.as_deref(), Some(r"d\u{7}"));
        assert_eq!(blocker.held_by.and_then(|holder| holder.role).as_deref(), Some(r"r\u{d}"));
        let of = |sql: &str| Blocker::new(BlockerKind::Object, "").remedy_sql(sql).remedy;
        let sql = of("DROP TABLE a.\"x\u{61c}\"");
        assert_eq!(sql.as_deref(), Some("DROP TABLE a.U&\"x\\+00061c\""));
    }

    #[test]
    fn a_message_of_any_length_is_told_as_far_as_a_person_reads() {
        let detail = Blocker::new(BlockerKind::Object, "x".repeat(1_000_000)).detail;
        assert_eq!(detail.chars().count(), DETAIL + 1);
        assert!(detail.ends_with("x…"));
    }

    #[test]
    fn twenty_blockers_are_told_and_the_others_counted() {
        let some = |count: usize| vec![Blocker::new(BlockerKind::Object, "x"); count];
        assert_eq!(Blocker::first(some(20)), some(20));
        let told = Blocker::first(some(23));
        assert_eq!(told.len(), 21);
        assert_eq!(told[20].to_string(), "and 3 more");
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
