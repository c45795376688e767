//! Privileges and policies that name a role: how each is taken back, and what is told of those that
//! the broker cannot take back.

use super::Statement;
use crate::lease::{Blocker, BlockerKind};
use crate::names::identifier;

/// Privileges on one object, by one grantor to one grantee, of which one is the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What stands before `REVOKE`: nothing, or `ALTER DEFAULT PRIVILEGES … ` with its space.
    pub prefix: String,
    /// The privileges, such as `SELECT, UPDATE ("a")`.
    pub privileges: String,
    /// The object, such as `TABLE sales.customer`, quoted.
    pub target: String,
    /// Who gave them.
    pub grantor: String,
    /// Who has them; nothing means everybody (PUBLIC).
    pub grantee: Option<String>,
    /// Whether the object is the role's own.
    pub of_own: bool,
    /// Whether the role gave them.
    pub by_role: bool,
    /// Whether the broker may become the grantor.
    pub can_act: bool,
}

/// A policy of row security that names the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name, quoted.
    pub name: String,
    /// Its table, quoted.
    pub table: String,
    /// Whom it names besides the role, quoted.
    pub others: Vec<String>,
    /// The owner of the table.
    pub owner: String,
    /// Whether the table is the role's own.
    pub of_own: bool,
    /// Whether the broker may become the owner.
    pub can_act: bool,
}

/// What is left in a database (nothing means: on shared objects) that the broker cannot take back,
/// each with the statement that does.
#[must_use]
pub fn left(
    role: &str,
    database: Option<&str>,
    grants: &[Grant],
    policies: &[Policy],
) -> Vec<Blocker> {
    let foreign = grants.iter().filter(|grant| !grant.of_own);
    let given = foreign.map(|grant| remains(role, grant));
    let foreign = policies.iter().filter(|policy| !policy.of_own);
    given.chain(foreign.map(names_it)).map(|blocker| blocker.within_if(database)).collect()
}

/// First what it gave on others' objects, as itself; then what it has, as each grantor.
pub(super) fn take_back(role: &str, grants: &[Grant]) -> Vec<Statement> {
    let given = grants.iter().filter(|grant| !grant.of_own && grant.by_role);
    let given = given.flat_map(|grant| acting(role, "take back what it gave", &revoke(grant)));
    let has = grants.iter().filter(|grant| !grant.of_own && !grant.by_role && grant.can_act);
    let has =
        has.flat_map(|grant| acting(&grant.grantor, "take back what it was given", &revoke(grant)));
    given.chain(has).collect()
}

/// What it gave on its own objects, which needs nobody else's name.
pub(super) fn take_back_on_its_own(grants: &[Grant]) -> impl Iterator<Item = Statement> {
    let given = grants.iter().filter(|grant| grant.of_own && grant.by_role);
    given.map(|grant| Statement::new("take back what it gave", revoke(grant)))
}

/// `sql` in the name of `actor`.
pub(super) fn acting(actor: &str, what: &'static str, sql: &str) -> [Statement; 3] {
    [
        Statement::new("act as who may", format!("SET LOCAL ROLE {}", identifier(actor))),
        Statement::new(what, sql),
        Statement::new("act as the broker again", "SET LOCAL ROLE NONE"),
    ]
}

/// CASCADE reaches only what the grantee has handed on.
fn revoke(grant: &Grant) -> String {
    let Grant { prefix, privileges, target, .. } = grant;
    let grantee = grant.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), identifier);
    format!("{prefix}REVOKE {privileges} ON {target} FROM {grantee} CASCADE")
}

/// What `DROP OWNED` does to a policy, which only the table's owner may change.
pub(super) fn take_out(policy: &Policy) -> Vec<Statement> {
    if policy.of_own || !policy.can_act {
        return Vec::new();
    }
    acting(&policy.owner, "take it out of a policy", &without(policy)).into()
}

fn without(policy: &Policy) -> String {
    let Policy { name, table, others, .. } = policy;
    if others.is_empty() {
        format!("DROP POLICY {name} ON {table}")
    } else {
        format!("ALTER POLICY {name} ON {table} TO {}", others.join(", "))
    }
}

fn remains(role: &str, grant: &Grant) -> Blocker {
    let grantor = identifier(&grant.grantor);
    let Grant { privileges, target, .. } = grant;
    let detail = match &grant.grantee {
        _ if !grant.by_role => format!("{} gave the role {privileges} on {target}", grant.grantor),
        Some(grantee) => format!("the role gave {grantee} {privileges} on {target}"),
        None => format!("the role gave everybody {privileges} on {target}"),
    };
    let actor = if grant.by_role { identifier(role) } else { grantor };
    Blocker::new(BlockerKind::Privilege, detail)
        .about(&grant.target)
        .remedy_sql(&format!("SET ROLE {actor}; {}; RESET ROLE", revoke(grant)))
}

fn names_it(policy: &Policy) -> Blocker {
    let detail = format!("policy {} on table {} names the role", policy.name, policy.table);
    Blocker::new(BlockerKind::Privilege, detail)
        .about(format!("policy {} on table {}", policy.name, policy.table))
        .remedy_sql(&without(policy))
}
