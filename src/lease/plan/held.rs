//! Plan for a prepared transaction that keeps a lease role locked and is not that role's own.

use super::remove::Rollback;
use super::{Statement, guard};
use crate::names::{RoleOid, identifier, literal};

/// A prepared transaction in the way of a statement about a role of ours.
///
/// Before 16 its holder can become the group first: then it is the group's, and only the group or
/// a superuser may end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldByPrepared {
    /// Its name.
    pub gid: String,
    /// Its number, as text: another may get the name.
    pub transaction: String,
    /// The database in which it can be ended.
    pub database: String,
    /// The role that prepared it.
    pub owner: String,
    /// OID of that role.
    pub owner_oid: RoleOid,
    /// Whether the broker is a member of the owner already, and stays so.
    pub broker_is_member: bool,
}

/// Plans how to roll back a prepared transaction as its owner, before 16, where CREATEROLE may
/// become any role but a superuser.
///
/// The membership that this needs is taken away in the transaction that gives it, so that nobody
/// sees it and a broker that dies leaves none: `SET ROLE` lasts beyond the commit, and
/// `SET LOCAL ROLE` covers it until then (manual, SET).
#[must_use]
pub fn roll_back_as_owner(held: &HeldByPrepared) -> Rollback {
    let owner = identifier(&held.owner);
    let become_it = if held.broker_is_member {
        format!("SET ROLE {owner}")
    } else {
        format!(
            "BEGIN; GRANT {owner} TO CURRENT_USER; SET ROLE {owner}; SET LOCAL ROLE NONE; \
             REVOKE {owner} FROM CURRENT_USER; COMMIT"
        )
    };
    let (gid, transaction) = (literal(&held.gid), literal(&held.transaction));
    let same_transaction = format!(
        "SELECT CASE WHEN EXISTS (SELECT FROM pg_prepared_xacts \
         WHERE gid = {gid} AND transaction::text = {transaction}) THEN 0::oid \
         ELSE concat('it was ended before ', clock_timestamp())::oid END"
    );
    let statements = vec![
        Statement::new("become who prepared it", become_it),
        guard::is_acting_as(held.owner_oid),
        Statement::new("only if it is still the same transaction", same_transaction),
        Statement::new("roll back what keeps the role", format!("ROLLBACK PREPARED {gid}")),
    ];
    Rollback { gid: held.gid.clone(), database: held.database.clone(), statements }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_becomes_the_owner_without_a_membership_that_anybody_sees() {
        let held = HeldByPrepared {
            gid: "it's".into(),
            transaction: "754".into(),
            database: "orders".into(),
            owner: "orders\"read".into(),
            owner_oid: RoleOid(77),
            broker_is_member: false,
        };
        let plan = roll_back_as_owner(&held);
        let sql: Vec<&str> = plan.statements.iter().map(Statement::sql).collect();
        assert_eq!(plan.database, "orders");
        assert_eq!(
            sql[0],
            "BEGIN; GRANT \"orders\"\"read\" TO CURRENT_USER; SET ROLE \"orders\"\"read\"; \
             SET LOCAL ROLE NONE; REVOKE \"orders\"\"read\" FROM CURRENT_USER; COMMIT"
        );
        assert!(sql[1].contains("::oid = 77 "), "{sql:?}");
        assert!(sql[2].contains("gid = 'it''s' AND transaction::text = '754'"), "{sql:?}");
        assert_eq!(sql[3], "ROLLBACK PREPARED 'it''s'");
        let member = HeldByPrepared { broker_is_member: true, ..held };
        let plan = roll_back_as_owner(&member);
        assert_eq!(plan.statements[0].sql(), "SET ROLE \"orders\"\"read\"");
    }
}
