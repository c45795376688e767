//! Checks that a transaction makes of itself, on the server, before it may commit.
//!
//! A check is a `SELECT` that fails with a cast error (SQLSTATE 22P02) whose text says why. Both
//! branches must depend on something the planner cannot know, or it computes the cast at once.
//! (`concat` and not `||`: that operator is an SQL function here, and slow to plan.)

use jiff::Timestamp;

use super::Statement;
use crate::names::{LeaseRoleName, RoleOid, identifier, literal};

/// SQLSTATE of a check that failed: `invalid_text_representation`.
pub const FAILED: &str = "22P02";

/// Fails once the server's clock has passed `deadline`; else gives the OID of `role`, as text.
pub fn in_time(role: &LeaseRoleName, deadline: Timestamp) -> Statement {
    let role = literal(&role.quoted());
    let until = timestamp(deadline);
    let sql = format!(
        "SELECT CASE WHEN clock_timestamp() < {until} THEN {role}::regrole::oid \
         ELSE concat('too late to make this role, the time is ', clock_timestamp())::oid END"
    );
    Statement::new("only in time", sql)
}

/// Fails when the name `role` does not belong to `oid` any more. Stands after a statement that
/// has changed the role's row: from then on nobody else can rename it before the commit.
pub fn same_role(role: &str, oid: RoleOid) -> Statement {
    let role = literal(&identifier(role));
    let sql = format!(
        "SELECT CASE WHEN {role}::regrole::oid = {oid} THEN {oid} \
         ELSE concat('another role has this name since ', clock_timestamp())::oid END"
    );
    Statement::new("only if it is still the same role", sql)
}

/// Fails when whoever the session acts as since `SET ROLE` is not the role `oid`.
pub fn is_acting_as(oid: RoleOid) -> Statement {
    let sql = format!(
        "SELECT CASE WHEN quote_ident(current_user)::regrole::oid = {oid} THEN {oid} \
         ELSE concat('another role has this name since ', clock_timestamp())::oid END"
    );
    Statement::new("only if it is still the same role", sql)
}

/// Fails when the role `oid` may not log in any more. Stands after a statement that has changed
/// the role's row: who ends its access at the same time has committed by then, or waits.
pub fn still_open(oid: RoleOid) -> Statement {
    let sql = format!(
        "SELECT CASE WHEN (SELECT rolcanlogin FROM pg_roles WHERE oid = {oid}) THEN {oid} \
         ELSE concat('the access of this role has ended before ', clock_timestamp())::oid END"
    );
    Statement::new("only if its access has not ended", sql)
}

/// Fails when the role `oid` owns an object in this database.
pub fn owns_nothing(oid: RoleOid) -> Statement {
    let sql = format!(
        "SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_shdepend \
         WHERE refclassid = 'pg_authid'::regclass AND refobjid = {oid} AND deptype = 'o' \
         AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND classid NOT IN ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)) THEN 0::oid \
         ELSE concat('the role owns something since ', clock_timestamp())::oid END"
    );
    Statement::new("only if it owns nothing", sql)
}

/// `time` as a constant that does not depend on the session's `TimeZone` or `DateStyle`.
pub fn timestamp(time: Timestamp) -> String {
    format!("{}::timestamptz", literal(&text(time)))
}

/// `time` to the microsecond, which is what the server keeps, with its offset.
pub fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string()
}
