//! Objects one at a time, for who has more than goes into one transaction.

use super::Statement;
use super::remove::Named;

/// How many of each sort are read from a database and dealt with in one transaction.
///
/// A lease's holder can make any number: what is read must fit into the broker's memory, and each
/// object that gets another owner or is dropped takes some of the server's locks, of which there
/// are 64 for each connection that it allows, for everybody (`max_locks_per_transaction`). A
/// plain table with its types and its TOAST table takes ten when it is dropped.
pub const PORTION: usize = 200;

/// Up to how many a role's objects in one database are counted.
pub const COUNTED: usize = 10_000;

/// The word for a kind of object that `pg_identify_object` names, as `ALTER` and `DROP` have it.
pub(super) fn word(kind: &str) -> String {
    match kind {
        "statistics object" => "STATISTICS".to_owned(),
        "foreign-data wrapper" => "FOREIGN DATA WRAPPER".to_owned(),
        "function" | "procedure" | "aggregate" => "ROUTINE".to_owned(),
        kind => kind.to_uppercase(),
    }
}

/// Gives `named` to `attic`, already quoted; an extension has no such statement.
pub(super) fn hand_over_one(named: &Named, attic: &str) -> Option<Statement> {
    let Named { kind, identity, .. } = named;
    let sql = format!("ALTER {} {identity} OWNER TO {attic}", word(kind));
    (kind != "extension").then(|| Statement::new("keep what it made", sql))
}

/// Drops `named`, if that did not go with something before it.
pub(super) fn drop_one(named: &Named) -> Statement {
    let Named { kind, identity, .. } = named;
    let sql = match kind.as_str() {
        "large object" => format!("SELECT lo_unlink({identity})"),
        kind => format!("DROP {} IF EXISTS {identity}", word(kind)),
    };
    Statement::new("drop what it made", sql)
}
