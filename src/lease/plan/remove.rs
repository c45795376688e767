//! Plan for what a role leaves behind, and for the role itself.

use super::create::let_broker_act_for;
use super::portion::word;
use super::{ServerVersion, Statement, guard};
use crate::lease::{Blocker, BlockerKind};
use crate::mapping::ObjectPolicy;
use crate::names::{RoleName, RoleOid, identifier, literal};

/// A role without access, and all that keeps it from being dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as the catalogue has them")]
pub struct Estate {
    /// Its OID.
    pub oid: RoleOid,
    /// Its name now, in the maintenance database.
    pub name: String,
    /// Version of the server.
    pub version: ServerVersion,
    /// The broker's login.
    pub broker: String,
    /// Whether the broker is a member that has its rights and may become it.
    pub broker_is_member: bool,
    /// Whether the broker may end a session once its role is gone (`pg_signal_backend`).
    pub broker_may_signal: bool,
    /// Whether it had sessions when this was read: they may have made more since.
    pub has_sessions: bool,
    /// Whether it is in a group, has a member that is no broker, or has handed a membership on.
    pub has_memberships: bool,
    /// Transactions that it has prepared (two-phase commit) and that nobody finished.
    pub prepared: Vec<PreparedTransaction>,
    /// Databases in which something depends on it.
    pub dependencies: Vec<Dependency>,
    /// Shared objects that it owns, such as a database or a tablespace.
    pub owned_shared: Vec<Named>,
    /// Whether it has or has given privileges on shared objects.
    pub shared_privileges: bool,
    /// Who gets what it owns, if that was asked for.
    pub attic: Attic,
}

/// One row of `pg_prepared_xacts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// Its global identifier, as the client chose it.
    pub gid: String,
    /// The database it is in.
    pub database: String,
}

/// What depends on the role in one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The database.
    pub database: String,
    /// Whether it takes connections (`datallowconn`).
    pub connectable: bool,
    /// Objects that the role owns there.
    pub owned: i64,
}

/// An object as `pg_identify_object` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its type, such as `foreign table`.
    pub kind: String,
    /// Its name, quoted.
    pub identity: String,
    /// The database in which it is dealt with, if it must be a certain one.
    pub database: Option<String>,
}

/// The role that gets what lease roles leave behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attic {
    /// The configuration names none.
    Unset,
    /// The cluster has no role of this name.
    Missing(RoleName),
    /// It is there.
    Found {
        /// Its name.
        name: RoleName,
        /// Its OID.
        oid: RoleOid,
        /// Whether it may log in.
        can_login: bool,
        /// Whether it has any other attribute, such as CREATEROLE.
        has_attributes: bool,
        /// The roles it is in.
        groups: Vec<String>,
    },
}

/// What becomes of the role's objects, in this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They go to the attic.
    HandOver,
    /// They are dropped.
    Drop,
    /// They stay its own, by the policy, until a person has dealt with each.
    Keep,
    /// They stay its own until what is in the way, and said elsewhere, is gone.
    Leave,
}

/// What to do once what it prepared is rolled back ([`roll_back`]): clear each database, then drop.
/// A failure in one database is no reason to leave another uncleared, but nothing is dropped after a
/// failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalPlan {
    /// Databases to clear, each with a connection of its own.
    pub databases: Vec<String>,
    /// What becomes of what it owns there.
    pub fate: Fate,
    /// The last transaction.
    pub drop: Vec<Statement>,
    /// What keeps the role whatever is done, and what a person can do about it.
    pub blockers: Vec<Blocker>,
}

/// How to roll back one prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// The transaction's global identifier.
    pub gid: String,
    /// The database to be connected to.
    pub database: String,
    /// Statements, each on its own: only the role itself may roll its transaction back, and not
    /// in a transaction.
    pub statements: Vec<Statement>,
}

impl Estate {
    /// Whether it owns an object in some database.
    #[must_use]
    pub fn owns_objects(&self) -> bool {
        self.dependencies.iter().any(|dependency| dependency.owned > 0)
    }
}

impl Named {
    /// That the role owns it, and how it gets another owner: the role `attic`, which can do nothing.
    /// Whoever owns what the lease's holder wrote may come to run it, by a view, an index or a
    /// routine, so it is never the person who runs the statement.
    pub(super) fn owned(&self, attic: Option<&str>) -> Blocker {
        let Self { kind, identity, database } = self;
        let blocker = Blocker::new(BlockerKind::Object, format!("the role owns {kind} {identity}"))
            .about(format!("{kind} {identity}"))
            .within_if(database.as_deref());
        let word = word(kind);
        let heir = match (kind.as_str(), attic) {
            // No line of the holder's is in these.
            ("database" | "tablespace", _) => "CURRENT_USER".to_owned(),
            ("extension" | "subscription", _) => String::new(),
            (_, Some(attic)) => identifier(attic),
            (_, None) => {
                let hint = "give it to a role without rights and never to a superuser, for its \
                            owner may come to run what the holder wrote; or drop it";
                return blocker.remedy(hint);
            }
        };
        blocker.remedy_sql(&match kind.as_str() {
            "extension" => format!("DROP EXTENSION {identity}"),
            // Its worker runs as its owner, on what a server of the holder's choice sends.
            "subscription" => format!(
                "ALTER SUBSCRIPTION {identity} DISABLE; \
                 ALTER SUBSCRIPTION {identity} SET (slot_name = NONE); \
                 DROP SUBSCRIPTION {identity}"
            ),
            "function" | "procedure" => format!(
                "ALTER {word} {identity} SECURITY INVOKER; REVOKE ALL ON {word} {identity} FROM \
                 PUBLIC; ALTER {word} {identity} OWNER TO {heir}"
            ),
            _ => format!("ALTER {word} {identity} OWNER TO {heir}"),
        })
    }
}

/// Plans how to remove a role without access: what it owns goes to the attic, is dropped or stays,
/// as `policy` says.
///
/// A database or tablespace that it owns is never moved or dropped: a lease role cannot make one,
/// so somebody gave it away, and must take it back.
#[must_use]
pub fn remove(estate: &Estate, policy: ObjectPolicy) -> RemovalPlan {
    let mut blockers: Vec<Blocker> =
        estate.owned_shared.iter().map(|named| named.owned(None)).collect();
    let fate = match policy {
        ObjectPolicy::Drop => Fate::Drop,
        ObjectPolicy::Keep => Fate::Keep,
        ObjectPolicy::Reassign => {
            if estate.owns_objects() {
                blockers.extend(unfit(&estate.attic));
            }
            // REASSIGN OWNED, in whichever database it runs, hands over shared objects too.
            if blockers.is_empty() { Fate::HandOver } else { Fate::Leave }
        }
    };
    let (open, closed): (Vec<_>, Vec<_>) =
        estate.dependencies.iter().partition(|dependency| dependency.connectable);
    blockers.extend(closed.into_iter().map(closed_database));
    let databases = open.into_iter().map(|dependency| dependency.database.clone()).collect();
    let name = &estate.name;
    let drop = vec![lock(name), guard::same_role(name, estate.oid), drop_role(name)];
    RemovalPlan { databases, fate, drop, blockers }
}

/// Plans how to roll back what the role has prepared: that alone when it keeps the role from
/// being closed, for a prepared transaction holds its locks without any session. The broker must
/// have joined the role ([`join`]).
#[must_use]
pub fn roll_back(estate: &Estate) -> Vec<Rollback> {
    estate.prepared.iter().map(|one| rollback(estate, one)).collect()
}

/// Makes the broker a member of the role, in one transaction; empty when it is one. What a role
/// that cannot be closed yet has running or prepared, only a member may end.
#[must_use]
pub fn join(estate: &Estate) -> Vec<Statement> {
    if estate.broker_is_member {
        return Vec::new();
    }
    let join = let_broker_act_for(&identifier(&estate.name), estate.version);
    let guard = || guard::same_role(&estate.name, estate.oid);
    vec![guard(), join, guard()]
}

/// Changes nothing, but from here to the commit nobody can rename the role.
pub(super) fn lock(role: &str) -> Statement {
    Statement::new("let nobody in", format!("ALTER ROLE {} NOLOGIN", identifier(role)))
}

fn drop_role(role: &str) -> Statement {
    Statement::new("drop it", format!("DROP ROLE {}", identifier(role)))
}

fn rollback(estate: &Estate, prepared: &PreparedTransaction) -> Rollback {
    let role = identifier(&estate.name);
    let statements = vec![
        Statement::new("become the role", format!("SET ROLE {role}")),
        guard::is_acting_as(estate.oid),
        Statement::new(
            "roll back what it prepared",
            format!("ROLLBACK PREPARED {}", literal(&prepared.gid)),
        ),
    ];
    Rollback { gid: prepared.gid.clone(), database: prepared.database.clone(), statements }
}

/// Why the attic role cannot take anything over. What is owned by a role can act with its rights
/// (a view, a rule, a routine): so the attic has none, and nobody is it.
fn unfit(attic: &Attic) -> Vec<Blocker> {
    let blocker = |detail: String| Blocker::new(BlockerKind::Object, detail);
    match attic {
        Attic::Unset => {
            let detail = "its objects are to be kept, and there is no role for them";
            vec![blocker(detail.to_owned()).remedy("set `attic_role` of the cluster")]
        }
        Attic::Missing(name) => {
            let sql = format!("CREATE ROLE {} NOLOGIN", name.quoted());
            vec![blocker(format!("the attic role {name} is missing")).remedy_sql(&sql)]
        }
        Attic::Found { name, can_login, has_attributes, groups, .. } => {
            let quoted = name.quoted();
            let attributes = (*can_login || *has_attributes).then(|| {
                let sql = format!(
                    "ALTER ROLE {quoted} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE \
                     NOREPLICATION NOBYPASSRLS"
                );
                blocker(format!("the attic role {name} may log in or has attributes"))
                    .remedy_sql(&sql)
            });
            let groups = groups.iter().map(|group| {
                let sql = format!("REVOKE {} FROM {quoted}", identifier(group));
                blocker(format!("the attic role {name} is in {group}: what it gets would act so"))
                    .remedy_sql(&sql)
            });
            attributes.into_iter().chain(groups).collect()
        }
    }
}

fn closed_database(dependency: &Dependency) -> Blocker {
    let Dependency { database, owned, .. } = dependency;
    let detail =
        format!("database {database} takes no connections and holds {owned} objects of the role");
    let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", identifier(database));
    Blocker::new(BlockerKind::Database, detail).within(database).remedy_sql(&sql)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const SAME: &str = "SELECT CASE WHEN '\"pgb_a\"'::regrole::oid = 77 THEN 77 \
         ELSE concat('another role has this name since ', clock_timestamp())::oid END";
    pub(in super::super) const LOCK: &str = "ALTER ROLE \"pgb_a\" NOLOGIN";

    pub(in super::super) fn estate(databases: &[(&str, bool)]) -> Estate {
        let dependency = |&(database, connectable): &(&str, bool)| Dependency {
            database: database.to_owned(),
            connectable,
            owned: 1,
        };
        Estate {
            oid: RoleOid(77),
            name: "pgb_a".into(),
            version: ServerVersion(160_014),
            broker: "pgbridge".into(),
            broker_is_member: true,
            broker_may_signal: true,
            has_sessions: false,
            has_memberships: false,
            prepared: Vec::new(),
            dependencies: databases.iter().map(dependency).collect(),
            owned_shared: Vec::new(),
            shared_privileges: false,
            attic: Attic::Found {
                name: "attic".parse().unwrap(),
                oid: RoleOid(78),
                can_login: false,
                has_attributes: false,
                groups: Vec::new(),
            },
        }
    }

    pub(in super::super) fn sql(statements: &[Statement]) -> Vec<&str> {
        statements.iter().map(Statement::sql).collect()
    }

    #[test]
    fn a_role_that_left_nothing_is_dropped() {
        let plan = remove(&estate(&[]), ObjectPolicy::Drop);
        assert_eq!(sql(&plan.drop), [LOCK, SAME, "DROP ROLE \"pgb_a\""]);
        assert!(plan.databases.is_empty() && plan.blockers.is_empty(), "{plan:?}");
    }

    #[test]
    fn each_database_is_cleared_by_the_policy() {
        for (policy, fate) in [
            (ObjectPolicy::Reassign, Fate::HandOver),
            (ObjectPolicy::Drop, Fate::Drop),
            (ObjectPolicy::Keep, Fate::Keep),
        ] {
            let plan = remove(&estate(&[("orders", true), ("o'clock", true)]), policy);
            assert_eq!(plan.databases, ["orders", "o'clock"]);
            assert_eq!((plan.fate, plan.blockers), (fate, Vec::new()));
        }
    }

    #[test]
    fn a_database_without_connections_blocks_and_the_others_are_cleared() {
        let plan = remove(&estate(&[("old", false), ("orders", true)]), ObjectPolicy::Drop);
        assert_eq!(plan.databases, ["orders"]);
        assert_eq!(plan.blockers.len(), 1);
        let text = plan.blockers[0].to_string();
        assert!(text.contains("database old takes no connections"), "{text}");
        assert!(text.contains("ALTER DATABASE \"old\" ALLOW_CONNECTIONS true"), "{text}");
    }

    #[track_caller]
    fn blocked_by(attic: Attic) -> Vec<String> {
        let estate = Estate { attic, ..estate(&[("orders", true)]) };
        let plan = remove(&estate, ObjectPolicy::Reassign);
        assert_eq!(plan.fate, Fate::Leave);
        // Privileges go all the same.
        assert_eq!(plan.databases, ["orders"]);
        plan.blockers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn objects_to_be_kept_are_never_dropped_for_lack_of_an_attic() {
        assert!(blocked_by(Attic::Unset)[0].contains("set `attic_role`"));
        let missing = blocked_by(Attic::Missing("the attic".parse().unwrap()));
        assert!(missing[0].ends_with("CREATE ROLE \"the attic\" NOLOGIN"), "{missing:?}");
    }

    #[test]
    fn an_attic_with_rights_of_its_own_gets_nothing() {
        let attic = |can_login, has_attributes, groups: &[&str]| Attic::Found {
            name: "attic".parse().unwrap(),
            oid: RoleOid(78),
            can_login,
            has_attributes,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        };
        assert!(blocked_by(attic(true, false, &[]))[0].contains("ALTER ROLE \"attic\" NOLOGIN"));
        assert!(blocked_by(attic(false, true, &[]))[0].contains("NOCREATEROLE"));
        let groups = blocked_by(attic(false, false, &["staff", "x\"y"]));
        assert!(groups[0].ends_with("REVOKE \"staff\" FROM \"attic\""), "{groups:?}");
        assert!(groups[1].ends_with("REVOKE \"x\"\"y\" FROM \"attic\""), "{groups:?}");
        // Whoever owns nothing needs no attic.
        let mut bare = Estate { attic: Attic::Unset, ..estate(&[("orders", true)]) };
        bare.dependencies[0].owned = 0;
        let plan = remove(&bare, ObjectPolicy::Reassign);
        assert_eq!((plan.fate, plan.blockers), (Fate::HandOver, Vec::new()));
    }

    #[test]
    fn an_owned_database_is_not_handed_over_by_the_way() {
        let mut estate = estate(&[("orders", true)]);
        let payroll = Named { kind: "database".into(), identity: "payroll".into(), database: None };
        estate.owned_shared = vec![payroll];
        let plan = remove(&estate, ObjectPolicy::Reassign);
        assert_eq!(plan.fate, Fate::Leave);
        assert_eq!(
            plan.blockers[0].to_string(),
            "the role owns database payroll: ALTER DATABASE payroll OWNER TO CURRENT_USER"
        );
        assert_eq!(remove(&estate, ObjectPolicy::Drop).fate, Fate::Drop);
    }

    #[test]
    fn a_broker_that_is_no_member_becomes_one_before_it_rolls_back() {
        let mut estate = estate(&[]);
        assert!(join(&estate).is_empty());
        estate.broker_is_member = false;
        let grant = "GRANT \"pgb_a\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE";
        assert_eq!(sql(&join(&estate)), [SAME, grant, SAME]);
        estate.version = ServerVersion(150_018);
        assert_eq!(sql(&join(&estate))[1], "GRANT \"pgb_a\" TO CURRENT_USER");
    }

    #[test]
    fn a_prepared_transaction_is_rolled_back_as_the_role_itself() {
        let mut estate = estate(&[]);
        let gid = "it's\\".to_owned();
        estate.prepared = vec![PreparedTransaction { gid, database: "orders".into() }];
        let rollbacks = roll_back(&estate);
        assert_eq!(rollbacks[0].database, "orders");
        assert_eq!(
            sql(&rollbacks[0].statements),
            [
                "SET ROLE \"pgb_a\"",
                "SELECT CASE WHEN quote_ident(current_user)::regrole::oid = 77 THEN 77 \
                 ELSE concat('another role has this name since ', clock_timestamp())::oid END",
                "ROLLBACK PREPARED E'it''s\\\\'",
            ]
        );
    }
}
