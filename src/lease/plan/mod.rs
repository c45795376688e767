//! Plans: what to do to a cluster, as a list that can be read before it is run.
//!
//! Invariant: nothing here is async and nothing here connects. A plan is made from what
//! `cluster::observe` found, run once by `cluster::apply`, and made anew after any failure. It is
//! never resumed half-way. What may be done to a role is decided here and nowhere else.

mod clear;
mod create;
mod guard;
mod held;
mod portion;
mod privileges;
mod remove;
mod revoke;

use std::fmt;

pub use clear::{Clearing, Contents, Next, Pace, clear, clear_shared, drop_each};
pub use create::{Creation, create, extend, join_remedy};
pub use guard::FAILED as CHECK_FAILED;
pub use held::{HeldByPrepared, roll_back_as_owner};
pub use portion::{COUNTED, PORTION};
pub use privileges::{Grant, Policy, left};
pub use remove::{
    Attic, Dependency, Estate, Fate, Named, PreparedTransaction, RemovalPlan, Rollback, join,
    remove, roll_back,
};
pub use revoke::{AccessPlan, Membership, RoleView, end_access, end_rights, take_back_gifts};

/// One statement, and what it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it does, in a few words.
    pub what: &'static str,
    text: Text,
}

#[derive(Clone, PartialEq, Eq)]
enum Text {
    Plain(String),
    /// Holds a password verifier.
    Secret(String),
}

impl Statement {
    fn new(what: &'static str, sql: impl Into<String>) -> Self {
        Self { what, text: Text::Plain(sql.into()) }
    }

    fn secret(what: &'static str, sql: String) -> Self {
        Self { what, text: Text::Secret(sql) }
    }

    /// The text for the server, without a semicolon.
    #[must_use]
    pub fn sql(&self) -> &str {
        match &self.text {
            Text::Plain(sql) | Text::Secret(sql) => sql,
        }
    }
}

impl fmt::Display for Statement {
    /// The statement as a dry run or a log shows it; of a secret one only what it is for.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Text::Plain(sql) => write!(formatter, "{sql}; -- {}", self.what),
            Text::Secret(_) => write!(formatter, "-- {} (not shown)", self.what),
        }
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Version of a server, as `server_version_num` has it, such as 160014.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32);

impl ServerVersion {
    /// Whether a membership has its own INHERIT and SET options, and a grantor that counts: since
    /// 16 (manual, GRANT).
    #[must_use]
    pub fn has_membership_options(self) -> bool {
        self.0 >= 160_000
    }

    /// Whether anybody may read which subscriptions there are: since 14 (manual, release 14).
    #[must_use]
    pub fn shows_subscriptions(self) -> bool {
        self.0 >= 140_000
    }

    /// Whether there are privileges on parameters: since 15 (manual, GRANT).
    #[must_use]
    pub fn has_parameter_privileges(self) -> bool {
        self.0 >= 150_000
    }
}

/// `GRANT "group" TO "member"`, with the options that the server's version has.
fn grant(group: &str, member: &str, options: &str, version: ServerVersion) -> String {
    if version.has_membership_options() {
        format!("GRANT {group} TO {member} WITH {options}")
    } else {
        format!("GRANT {group} TO {member}")
    }
}
