//! Plan for what a role leaves behind, and for the role itself.

use super::create::let_broker_act_for;
use super::{ServerVersion, Statement, guard};
use crate::lease::{Blocker, BlockerKind};
use crate::mapping::ObjectPolicy;
use crate::names::{RoleName, RoleOid, identifier, literal, printable};

/// A role without access, and all that keeps it from being dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estate {
    /// Its OID.
    pub oid: RoleOid,
    /// Its name now.
    pub name: String,
    /// Version of the server.
    pub version: ServerVersion,
    /// Whether the broker is a member that has its rights and may become it.
    pub broker_is_member: bool,
    /// Transactions that it has prepared (two-phase commit) and that nobody finished.
    pub prepared: Vec<PreparedTransaction>,
    /// Databases in which something depends on it.
    pub dependencies: Vec<Dependency>,
    /// Shared objects that it owns, such as a database or a tablespace, in the server's words.
    pub owned_shared: Vec<String>,
    /// Whether it has privileges on shared objects.
    pub shared_privileges: bool,
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

/// What to do, in this order: roll back, clear each database, then drop. A failure in one
/// database is no reason to leave another uncleared, but nothing is dropped after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalPlan {
    /// Prepared transactions to roll back, outside of a transaction.
    pub rollbacks: Vec<Rollback>,
    /// What to clear, one transaction for each database.
    pub clearings: Vec<Clearing>,
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

/// How to clear one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clearing {
    /// The database to be connected to; nothing means the maintenance database.
    pub database: Option<String>,
    /// Statements for one transaction.
    pub statements: Vec<Statement>,
    /// At which of the statements the role's objects get another owner, if they do.
    pub hands_over_at: Option<usize>,
}

impl Clearing {
    /// The statements, with those before the handing over that take the owner's rights from
    /// `definers`: routines that run with them (`SECURITY DEFINER`), as `regprocedure` names
    /// them. Else whoever may call one would act as the new owner.
    #[must_use]
    pub fn disarming(&self, definers: &[String]) -> Vec<Statement> {
        let mut statements = self.statements.clone();
        if let Some(at) = self.hands_over_at.filter(|at| *at <= statements.len()) {
            statements.splice(at..at, definers.iter().flat_map(|routine| disarm(routine)));
        }
        statements
    }
}

fn disarm(routine: &str) -> [Statement; 2] {
    [
        format!("ALTER ROUTINE {routine} SECURITY INVOKER"),
        format!("REVOKE ALL ON ROUTINE {routine} FROM PUBLIC"),
    ]
    .map(|sql| Statement::new("let nobody act as its new owner", sql))
}

/// Plans how to remove a role without access: what it owns goes to `attic` or is dropped, as
/// `policy` says.
///
/// A database or tablespace that it owns is never moved or dropped: a lease role cannot make one,
/// so somebody gave it away, and must take it back.
#[must_use]
pub fn remove(estate: &Estate, policy: ObjectPolicy, attic: Option<&RoleName>) -> RemovalPlan {
    let mut plan = RemovalPlan {
        rollbacks: roll_back(estate),
        clearings: Vec::new(),
        drop: vec![lock(estate), guard::same_role(&estate.name, estate.oid), drop_role(estate)],
        blockers: estate.owned_shared.iter().map(|object| owns(estate, object)).collect(),
    };
    let heir = match (policy, attic) {
        (ObjectPolicy::Drop, _) => Ok(None),
        (ObjectPolicy::Reassign, Some(attic)) => Ok(Some(attic)),
        (ObjectPolicy::Reassign, None) => Err(no_attic()),
    };
    // REASSIGN OWNED, in whichever database it runs, hands over shared objects too.
    let may_clear = plan.blockers.is_empty();
    for dependency in &estate.dependencies {
        match &heir {
            _ if !dependency.connectable => plan.blockers.push(closed_database(dependency)),
            Ok(heir) if may_clear => {
                plan.clearings.push(clear(estate, Some(&dependency.database), *heir));
            }
            Ok(_) => {}
            Err(no_attic) => plan.blockers.push(no_attic.clone()),
        }
    }
    if plan.clearings.is_empty() && estate.shared_privileges && may_clear {
        // It owns nothing that this could drop: only its privileges on shared objects go.
        plan.clearings.push(clear(estate, None, None));
    }
    plan
}

/// Plans how to roll back what the role has prepared: that alone when it keeps the role from
/// being closed, for a prepared transaction holds its locks without any session.
#[must_use]
pub fn roll_back(estate: &Estate) -> Vec<Rollback> {
    estate.prepared.iter().map(|one| rollback(estate, one)).collect()
}

/// Makes the broker a member of the role, in one transaction; empty when it is one. What a role
/// that cannot be closed yet has running or prepared, only a member may end.
#[must_use]
pub fn join(estate: &Estate) -> Vec<Statement> {
    let guard = || guard::same_role(&estate.name, estate.oid);
    membership(estate).into_iter().flat_map(|join| [join, guard()]).collect()
}

/// The statements that clear the database they run in, for one transaction. No CASCADE: what
/// somebody else built on the role's objects is not ours to drop.
fn clear(estate: &Estate, database: Option<&str>, heir: Option<&RoleName>) -> Clearing {
    let role = identifier(&estate.name);
    let mut statements = vec![lock(estate), guard::same_role(&estate.name, estate.oid)];
    statements.extend(membership(estate));
    let hands_over_at = heir.map(|_| statements.len());
    if let Some(heir) = heir {
        let sql = format!("REASSIGN OWNED BY {role} TO {}", heir.quoted());
        statements.push(Statement::new("keep what it made", sql));
    }
    statements.push(Statement::new("take back its privileges", format!("DROP OWNED BY {role}")));
    Clearing { database: database.map(str::to_owned), statements, hands_over_at }
}

/// Changes nothing, but from here to the commit nobody can rename the role.
fn lock(estate: &Estate) -> Statement {
    let sql = format!("ALTER ROLE {} NOLOGIN", identifier(&estate.name));
    Statement::new("let nobody in", sql)
}

/// Only a member may hand over, drop or roll back what is the role's.
fn membership(estate: &Estate) -> Option<Statement> {
    let role = identifier(&estate.name);
    (!estate.broker_is_member).then(|| let_broker_act_for(&role, estate.version))
}

fn drop_role(estate: &Estate) -> Statement {
    Statement::new("drop it", format!("DROP ROLE {}", identifier(&estate.name)))
}

fn rollback(estate: &Estate, prepared: &PreparedTransaction) -> Rollback {
    let role = identifier(&estate.name);
    let check = format!(
        "SELECT CASE WHEN quote_ident(current_user)::regrole::oid = {oid} THEN {oid} \
         ELSE concat('another role has this name since ', clock_timestamp())::oid END",
        oid = estate.oid
    );
    let statements = [
        Statement::new("become the role", format!("SET ROLE {role}")),
        Statement::new("only if it is still the same role", check),
        Statement::new(
            "roll back what it prepared",
            format!("ROLLBACK PREPARED {}", literal(&prepared.gid)),
        ),
    ];
    Rollback {
        gid: prepared.gid.clone(),
        database: prepared.database.clone(),
        statements: membership(estate).into_iter().chain(statements).collect(),
    }
}

fn owns(estate: &Estate, object: &str) -> Blocker {
    let (role, printed) = (printable(&estate.name), printable(object));
    Blocker::new(BlockerKind::Object, format!("role {role} owns the {printed}"))
        .about(object)
        .remedy("give it another owner, then the role is dropped")
}

fn closed_database(dependency: &Dependency) -> Blocker {
    let (database, owned) = (printable(&dependency.database), dependency.owned);
    let detail =
        format!("database {database} takes no connections and holds {owned} objects of the role");
    Blocker::new(BlockerKind::Database, detail)
        .within(&dependency.database)
        .remedy("allow connections for a while, or clear it by hand")
}

fn no_attic() -> Blocker {
    Blocker::new(BlockerKind::Object, "its objects are to be kept, and there is no role for them")
        .remedy("set `attic_role` of the cluster")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: &str = "SELECT CASE WHEN '\"pgb_a\"'::regrole::oid = 77 THEN 77 \
                        ELSE concat('another role has this name since ', clock_timestamp())::oid END";
    const LOCK: &str = "ALTER ROLE \"pgb_a\" NOLOGIN";

    fn estate(databases: &[(&str, bool)]) -> Estate {
        let dependency = |&(database, connectable): &(&str, bool)| Dependency {
            database: database.to_owned(),
            connectable,
            owned: 1,
        };
        Estate {
            oid: RoleOid(77),
            name: "pgb_a".into(),
            version: ServerVersion(160_014),
            broker_is_member: true,
            prepared: Vec::new(),
            dependencies: databases.iter().map(dependency).collect(),
            owned_shared: Vec::new(),
            shared_privileges: false,
        }
    }

    fn sql(statements: &[Statement]) -> Vec<&str> {
        statements.iter().map(Statement::sql).collect()
    }

    fn cleared(plan: &RemovalPlan) -> Vec<Option<&str>> {
        plan.clearings.iter().map(|clearing| clearing.database.as_deref()).collect()
    }

    #[test]
    fn a_role_that_left_nothing_is_dropped() {
        let plan = remove(&estate(&[]), ObjectPolicy::Drop, None);
        assert_eq!(sql(&plan.drop), [LOCK, SAME, "DROP ROLE \"pgb_a\""]);
        assert!(plan.clearings.is_empty() && plan.blockers.is_empty(), "{plan:?}");
    }

    #[test]
    fn each_database_is_cleared_by_the_policy() {
        let attic: RoleName = "the \"attic\"".parse().unwrap();
        let estate = estate(&[("orders", true), ("o'clock", true)]);
        let plan = remove(&estate, ObjectPolicy::Reassign, Some(&attic));
        assert_eq!(cleared(&plan), [Some("orders"), Some("o'clock")]);
        let keep = "REASSIGN OWNED BY \"pgb_a\" TO \"the \"\"attic\"\"\"";
        let purge = "DROP OWNED BY \"pgb_a\"";
        assert_eq!(sql(&plan.clearings[0].statements), [LOCK, SAME, keep, purge]);

        let definer = ["sales.\"f\"\"x\"(integer)".to_owned()];
        let invoker = "ALTER ROUTINE sales.\"f\"\"x\"(integer) SECURITY INVOKER";
        let private = "REVOKE ALL ON ROUTINE sales.\"f\"\"x\"(integer) FROM PUBLIC";
        assert_eq!(
            sql(&plan.clearings[0].disarming(&definer)),
            [LOCK, SAME, invoker, private, keep, purge]
        );

        let plan = remove(&estate, ObjectPolicy::Drop, Some(&attic));
        assert_eq!(sql(&plan.clearings[1].statements), [LOCK, SAME, purge]);
        assert_eq!(sql(&plan.clearings[1].disarming(&definer)), [LOCK, SAME, purge]);
    }

    #[test]
    fn a_database_without_connections_blocks_and_the_others_are_cleared() {
        let plan = remove(&estate(&[("old", false), ("orders", true)]), ObjectPolicy::Drop, None);
        assert_eq!(cleared(&plan), [Some("orders")]);
        assert_eq!(plan.blockers.len(), 1);
        assert!(
            plan.blockers[0].to_string().contains("database old takes no connections"),
            "{plan:?}"
        );
    }

    #[test]
    fn objects_to_be_kept_are_never_dropped_for_lack_of_an_attic() {
        let plan = remove(&estate(&[("orders", true)]), ObjectPolicy::Reassign, None);
        assert!(plan.clearings.is_empty(), "{plan:?}");
        assert!(plan.blockers[0].to_string().contains("attic_role"), "{plan:?}");
    }

    #[test]
    fn an_owned_database_is_not_handed_over_by_the_way() {
        let attic: RoleName = "attic".parse().unwrap();
        let mut estate = estate(&[("orders", true)]);
        estate.owned_shared = vec!["database payroll".into()];
        let plan = remove(&estate, ObjectPolicy::Reassign, Some(&attic));
        assert!(plan.clearings.is_empty(), "{plan:?}");
        assert!(plan.blockers[0].to_string().contains("owns the database payroll"), "{plan:?}");
    }

    #[test]
    fn privileges_on_shared_objects_are_taken_back_without_any_database() {
        let mut estate = estate(&[]);
        estate.shared_privileges = true;
        let plan = remove(&estate, ObjectPolicy::Reassign, None);
        assert_eq!(cleared(&plan), [None]);
        assert_eq!(sql(&plan.clearings[0].statements), [LOCK, SAME, "DROP OWNED BY \"pgb_a\""]);
    }

    #[test]
    fn a_broker_that_is_no_member_becomes_one_only_to_clear() {
        let mut estate = estate(&[("orders", true)]);
        estate.broker_is_member = false;
        estate.prepared = vec![PreparedTransaction { gid: "g".into(), database: "orders".into() }];
        let plan = remove(&estate, ObjectPolicy::Drop, None);
        let join = "GRANT \"pgb_a\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE";
        let purge = "DROP OWNED BY \"pgb_a\"";
        assert_eq!(sql(&plan.clearings[0].statements), [LOCK, SAME, join, purge]);
        assert_eq!(sql(&plan.rollbacks[0].statements)[..2], [join, "SET ROLE \"pgb_a\""]);
        assert_eq!(sql(&plan.drop), [LOCK, SAME, "DROP ROLE \"pgb_a\""]);
        estate.version = ServerVersion(150_018);
        let plan = remove(&estate, ObjectPolicy::Drop, None);
        assert_eq!(sql(&plan.rollbacks[0].statements)[0], "GRANT \"pgb_a\" TO CURRENT_USER");
    }

    #[test]
    fn a_prepared_transaction_is_rolled_back_as_the_role_itself() {
        let mut estate = estate(&[]);
        let gid = "it's\\".to_owned();
        estate.prepared = vec![PreparedTransaction { gid, database: "orders".into() }];
        let plan = remove(&estate, ObjectPolicy::Drop, None);
        assert_eq!(plan.rollbacks[0].database, "orders");
        assert_eq!(
            sql(&plan.rollbacks[0].statements),
            [
                "SET ROLE \"pgb_a\"",
                "SELECT CASE WHEN quote_ident(current_user)::regrole::oid = 77 THEN 77 \
                 ELSE concat('another role has this name since ', clock_timestamp())::oid END",
                "ROLLBACK PREPARED E'it''s\\\\'",
            ]
        );
    }
}
