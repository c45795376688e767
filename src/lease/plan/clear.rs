//! Plan for one database: what becomes of a role's objects there, and that it is left no privilege.

use super::create::let_broker_act_for;
use super::portion::{COUNTED, PORTION, drop_one, hand_over_one};
use super::privileges::{Grant, Policy, acting, take_back, take_back_on_its_own, take_out};
use super::remove::{Estate, Fate, Named, lock};
use super::{Statement, guard};
use crate::lease::{Blocker, BlockerKind};
use crate::names::identifier;

/// What a role has in one database, or a portion of it. Names of roles are as that database shows
/// them: one of another encoding shows them otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The database.
    pub database: String,
    /// How many of each sort were read at most: where there are as many, there may be more.
    pub limit: usize,
    /// The role's name.
    pub role: String,
    /// The attic role's name, if there is one.
    pub attic: Option<String>,
    /// Routines in the portion that run with their owner's rights, as `regprocedure` names them.
    pub definers: Vec<String>,
    /// Schemas in the portion, quoted.
    pub schemas: Vec<String>,
    /// The first triggers on others' tables that run a routine in the portion, as `DROP TRIGGER`
    /// names them.
    pub triggers: Vec<String>,
    /// Statements that drop what has no owner and hangs on the role's objects, and only it or a
    /// superuser can have made: `DROP OWNED` alone would take it for somebody else's.
    pub parts: Vec<String>,
    /// Statements that drop a user mapping of the role, which only it or the server's owner may run.
    pub mappings: Vec<String>,
    /// How many objects the role owns, counted up to [`COUNTED`](super::COUNTED).
    pub owned: usize,
    /// The first of them.
    pub objects: Vec<Named>,
    /// Those that are dealt with now, its schemas first; without those whose names are no text.
    pub portion: Vec<Named>,
    /// Privileges that it has or has given on others' objects and the broker can take back, and
    /// those it has given on objects in the portion.
    pub grants: Vec<Grant>,
    /// Policies of row security that name it and that the broker can change.
    pub policies: Vec<Policy>,
}

/// How to clear one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clearing {
    /// Statements for one transaction. No CASCADE but for privileges: what somebody else built on
    /// the role's objects is not ours to drop.
    pub statements: Vec<Statement>,
    /// What keeps the role although all of them succeed.
    pub blockers: Vec<Blocker>,
    /// How many objects get a new owner by them.
    pub handed_over: usize,
    /// What is to be done after them.
    pub next: Next,
}

/// How much of a database is cleared at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// What there is too much of goes in portions.
    InPortions,
    /// All that is left goes in one transaction: a portion more would change nothing.
    AtOnce,
}

/// What is to be done after one transaction in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// That was the last.
    Nothing,
    /// There is more: look, and plan again.
    Again,
    /// Objects are to be dropped one by one ([`drop_each`]); then look, and plan again.
    DropSome,
}

/// Plans how to clear a database.
///
/// Each privilege is taken back by who gave it: the server takes one back in the name of the owner
/// or of whoever has the right to grant, and says nothing when that was not the giver (manual,
/// REVOKE). What the role itself gave to others ends too, also on objects that go to the attic:
/// it was the lease's doing, and so nobody can reach what is there.
///
/// The holder can make any number of everything, so a plan is about a portion and says whether
/// there is another. Objects come last, when there is nothing left to take back from others.
#[must_use]
pub fn clear(estate: &Estate, contents: &Contents, fate: Fate, pace: Pace) -> Clearing {
    let role = identifier(&contents.role);
    let mut blockers = Vec::new();
    if fate != Fate::Drop {
        blockers.extend(contents.triggers.iter().map(|trigger| runs_ours(contents, trigger)));
    }
    // A trigger would go on running what was handed over: the role keeps it until that is gone.
    let fate = if blockers.is_empty() || fate != Fate::HandOver { fate } else { Fate::Leave };
    if fate == Fate::Keep {
        blockers.extend(owned(contents));
    }
    let mut statements = begin(estate, &contents.role);
    statements.extend(take_back(&contents.role, &contents.grants));
    statements.extend(contents.policies.iter().flat_map(take_out));
    let mut plan = Clearing { statements, blockers, handed_over: 0, next: Next::Nothing };
    let more = |read: usize| pace == Pace::InPortions && read >= contents.limit;
    let goes = matches!(fate, Fate::HandOver | Fate::Drop);
    if more(contents.grants.len()) || more(contents.policies.len()) {
        if fate == Fate::HandOver {
            plan.statements.extend(take_back_on_its_own(&contents.grants));
        }
        plan.next = Next::Again;
    } else if goes && more(contents.mappings.len()) {
        let drop = |sql: &String| acting(&contents.role, "drop its user mappings", sql);
        plan.statements.extend(contents.mappings.iter().flat_map(drop));
        plan.next = Next::Again;
    } else {
        match (fate, &contents.attic) {
            (Fate::HandOver, Some(attic)) => hand_over(&mut plan, contents, attic, pace),
            (Fate::Drop, _) => drop_all(&mut plan, contents, pace),
            _ if contents.owned == 0 => {
                plan.statements.extend([guard::owns_nothing(estate.oid), drop_owned(&role)]);
            }
            _ => {}
        }
    }
    plan
}

/// Nothing is handed over but what was made harmless: what is not read is left with the role.
fn hand_over(plan: &mut Clearing, contents: &Contents, attic: &str, pace: Pace) {
    let (role, attic) = (identifier(&contents.role), identifier(attic));
    let is_all = contents.owned <= contents.limit && contents.grants.len() < contents.limit;
    if !is_all && pace == Pace::AtOnce {
        plan.blockers.push(not_moved(contents));
        return;
    }
    plan.statements.extend(make_harmless(&attic, contents));
    if is_all {
        let sql = format!("REASSIGN OWNED BY {role} TO {attic}");
        plan.statements.extend([Statement::new("keep what it made", sql), drop_owned(&role)]);
        plan.handed_over = contents.owned;
    } else {
        let portion = contents.portion.iter();
        plan.statements.extend(portion.filter_map(|named| hand_over_one(named, &attic)));
        plan.handed_over = contents.portion.len();
        plan.next = Next::Again;
    }
}

fn drop_all(plan: &mut Clearing, contents: &Contents, pace: Pace) {
    let parts = contents.parts.iter();
    plan.statements.extend(parts.map(|sql| Statement::new("drop what hangs on its own", sql)));
    let is_many = contents.owned > contents.limit;
    // Where all at once was too much, one by one goes more than is counted, such as sequences.
    let was_too_much = contents.limit < PORTION && contents.owned > 0;
    plan.next = match pace {
        Pace::InPortions if contents.parts.len() >= contents.limit => Next::Again,
        Pace::InPortions if is_many || was_too_much => Next::DropSome,
        _ => Next::Nothing,
    };
    if plan.next == Next::Nothing {
        plan.statements.push(drop_owned(&identifier(&contents.role)));
    }
}

/// Plans how to drop `objects` one after the other: first what must succeed, then each of them.
/// Without CASCADE: one on which something rests still is refused.
#[must_use]
pub fn drop_each(
    estate: &Estate,
    role: &str,
    objects: &[Named],
) -> (Vec<Statement>, Vec<Statement>) {
    (begin(estate, role), objects.iter().map(drop_one).collect())
}

/// Plans how to take back privileges on databases, tablespaces and parameters.
#[must_use]
pub fn clear_shared(estate: &Estate, grants: &[Grant]) -> Clearing {
    let mut statements = begin(estate, &estate.name);
    statements.extend(take_back(&estate.name, grants));
    Clearing { statements, blockers: Vec::new(), handed_over: 0, next: Next::Nothing }
}

/// From here to the commit nobody can rename the role, and the broker is a member of it.
fn begin(estate: &Estate, role: &str) -> Vec<Statement> {
    let mut statements = vec![lock(role), guard::same_role(role, estate.oid)];
    if !estate.broker_is_member {
        statements.push(let_broker_act_for(&identifier(role), estate.version));
    }
    statements
}

/// What others may do with the role's objects ends; what runs with the owner's rights no longer
/// does; then they may get the new owner, who must be let into a schema of the role's first.
fn make_harmless(attic: &str, contents: &Contents) -> Vec<Statement> {
    let mut statements: Vec<Statement> = take_back_on_its_own(&contents.grants).collect();
    statements.extend(contents.definers.iter().flat_map(|routine| disarm(routine)));
    statements.extend(contents.schemas.iter().map(|schema| {
        let sql = format!("GRANT CREATE ON SCHEMA {schema} TO {attic}");
        Statement::new("let the new owner in", sql)
    }));
    statements
}

fn disarm(routine: &str) -> [Statement; 2] {
    [
        format!("ALTER ROUTINE {routine} SECURITY INVOKER"),
        format!("REVOKE ALL ON ROUTINE {routine} FROM PUBLIC"),
    ]
    .map(|sql| Statement::new("let nobody act as its new owner", sql))
}

/// Takes back what is left of its privileges, and drops what it owns. Without CASCADE.
fn drop_owned(role: &str) -> Statement {
    Statement::new("take back its privileges", format!("DROP OWNED BY {role}"))
}

/// The attempts to hand a portion over, or to take back what was given on it, change nothing.
fn not_moved(contents: &Contents) -> Blocker {
    let detail = format!(
        "{} or more objects of the role do not get a new owner one by one, or what it gave on them \
         is not taken back",
        contents.limit
    );
    Blocker::new(BlockerKind::Object, detail).within(&contents.database).remedy(
        "look whether their names are text, and rename them to plain letters; the next attempt \
         does the rest; do not run or take over anything of it",
    )
}

fn runs_ours(contents: &Contents, trigger: &str) -> Blocker {
    let detail =
        format!("trigger {trigger} runs a routine of the role for whoever changes the table");
    Blocker::new(BlockerKind::Object, detail)
        .within(&contents.database)
        .about(format!("trigger {trigger}"))
        .remedy_sql(&format!("DROP TRIGGER {trigger}"))
}

/// Each object that `contents` names, and how many there are besides.
fn owned(contents: &Contents) -> Vec<Blocker> {
    let attic = contents.attic.as_deref();
    let named = contents.objects.iter().map(|named| named.owned(attic));
    let named: Vec<Blocker> = named.collect();
    let more = contents.owned.saturating_sub(named.len());
    let more = (more > 0).then(|| {
        let at_least = if contents.owned >= COUNTED { "at least " } else { "" };
        let database = &contents.database;
        let detail = format!("the role owns {at_least}{more} more objects in database {database}");
        Blocker::new(BlockerKind::Object, detail).within(&contents.database)
    });
    named.into_iter().chain(more).collect()
}

#[cfg(test)]
mod tests;
