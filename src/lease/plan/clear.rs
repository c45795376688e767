//! Plan for one database: the privileges that a role has and has given there, and its objects.

use super::create::let_broker_act_for;
use super::portion::{COUNTED, PORTION, drop_one, hand_over_one};
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
            plan.statements.extend(take_back_on_its_own(contents));
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

/// What is left in a database (nothing means: on shared objects) that the broker cannot take back,
/// each with the statement that does.
#[must_use]
pub fn left(
    role: &str,
    database: Option<&str>,
    grants: &[Grant],
    policies: &[Policy],
) -> Vec<Blocker> {
    let within = |blocker: Blocker| match database {
        Some(database) => blocker.within(database),
        None => blocker,
    };
    let foreign = grants.iter().filter(|grant| !grant.of_own);
    let given = foreign.map(|grant| within(remains(role, grant)));
    let foreign = policies.iter().filter(|policy| !policy.of_own);
    let named = foreign.map(|policy| within(names_it(policy)));
    given.chain(named).collect()
}

/// From here to the commit nobody can rename the role, and the broker is a member of it.
fn begin(estate: &Estate, role: &str) -> Vec<Statement> {
    let mut statements = vec![lock(role), guard::same_role(role, estate.oid)];
    if !estate.broker_is_member {
        statements.push(let_broker_act_for(&identifier(role), estate.version));
    }
    statements
}

/// First what it gave on others' objects, as itself; then what it has, as each grantor.
fn take_back(role: &str, grants: &[Grant]) -> Vec<Statement> {
    let given = grants.iter().filter(|grant| !grant.of_own && grant.by_role);
    let given = given.flat_map(|grant| acting(role, "take back what it gave", &revoke(grant)));
    let has = grants.iter().filter(|grant| !grant.of_own && !grant.by_role && grant.can_act);
    let has =
        has.flat_map(|grant| acting(&grant.grantor, "take back what it was given", &revoke(grant)));
    given.chain(has).collect()
}

fn take_back_on_its_own(contents: &Contents) -> impl Iterator<Item = Statement> {
    let given = contents.grants.iter().filter(|grant| grant.of_own && grant.by_role);
    given.map(|grant| Statement::new("take back what it gave", revoke(grant)))
}

/// What others may do with the role's objects ends; what runs with the owner's rights no longer
/// does; then they may get the new owner, who must be let into a schema of the role's first.
fn make_harmless(attic: &str, contents: &Contents) -> Vec<Statement> {
    let mut statements: Vec<Statement> = take_back_on_its_own(contents).collect();
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

/// `sql` in the name of `actor`.
fn acting(actor: &str, what: &'static str, sql: &str) -> [Statement; 3] {
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
fn take_out(policy: &Policy) -> Vec<Statement> {
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
mod tests {
    use super::super::remove::tests::{LOCK, SAME, estate, sql};
    use super::*;

    const PURGE: &str = "DROP OWNED BY \"pgb_a\"";
    const BACK: &str = "SET LOCAL ROLE NONE";

    fn contents() -> Contents {
        Contents {
            database: "orders".into(),
            limit: 2,
            role: "pgb_a".into(),
            attic: Some("the \"attic\"".into()),
            definers: Vec::new(),
            schemas: Vec::new(),
            triggers: Vec::new(),
            parts: Vec::new(),
            owned: 1,
            objects: vec![Named {
                kind: "table".into(),
                identity: "sales.mine".into(),
                database: Some("orders".into()),
            }],
            portion: Vec::new(),
            mappings: Vec::new(),
            grants: Vec::new(),
            policies: Vec::new(),
        }
    }

    fn named(kind: &str, identity: &str) -> Named {
        Named { kind: kind.into(), identity: identity.into(), database: None }
    }

    fn grant(grantor: &str, grantee: Option<&str>) -> Grant {
        Grant {
            prefix: String::new(),
            privileges: "SELECT".into(),
            target: "TABLE sales.customer".into(),
            grantor: grantor.into(),
            grantee: grantee.map(str::to_owned),
            of_own: false,
            by_role: grantor == "pgb_a",
            can_act: true,
        }
    }

    fn policy(others: &[&str]) -> Policy {
        Policy {
            name: "\"p\"".into(),
            table: "sales.customer".into(),
            others: others.iter().map(|&other| other.to_owned()).collect(),
            owner: "dba".into(),
            of_own: false,
            can_act: true,
        }
    }

    /// What is done after the role is locked.
    #[track_caller]
    fn check(contents: &Contents, fate: Fate, done: &[&str]) {
        check_portion(contents, fate, Pace::AtOnce, done, Next::Nothing);
    }

    #[track_caller]
    fn check_portion(contents: &Contents, fate: Fate, pace: Pace, done: &[&str], next: Next) {
        let plan = clear(&estate(&[]), contents, fate, pace);
        assert_eq!(plan.next, next);
        let done: Vec<&str> = [LOCK, SAME].iter().chain(done).copied().collect();
        assert_eq!(sql(&plan.statements), done);
    }

    #[test]
    fn what_it_made_goes_to_the_attic_disarmed_and_ungranted() {
        let keep = "REASSIGN OWNED BY \"pgb_a\" TO \"the \"\"attic\"\"\"";
        check(&contents(), Fate::HandOver, &[keep, PURGE]);
        let mut contents = Contents { limit: PORTION, ..contents() };
        contents.definers = vec!["sales.\"f\"\"x\"(integer)".into()];
        contents.schemas = vec!["\"my own\"".into()];
        contents.grants = vec![
            Grant { of_own: true, target: "TABLE s.mine".into(), ..grant("pgb_a", Some("e\"ve")) },
            Grant { of_own: true, target: "TABLE s.mine".into(), ..grant("pgb_a", None) },
        ];
        let armed = [
            "REVOKE SELECT ON TABLE s.mine FROM \"e\"\"ve\" CASCADE",
            "REVOKE SELECT ON TABLE s.mine FROM PUBLIC CASCADE",
            "ALTER ROUTINE sales.\"f\"\"x\"(integer) SECURITY INVOKER",
            "REVOKE ALL ON ROUTINE sales.\"f\"\"x\"(integer) FROM PUBLIC",
            "GRANT CREATE ON SCHEMA \"my own\" TO \"the \"\"attic\"\"\"",
            keep,
            PURGE,
        ];
        check(&contents, Fate::HandOver, &armed);
        contents.parts = vec!["DROP CAST (s.mine AS text)".into()];
        check(&contents, Fate::Drop, &["DROP CAST (s.mine AS text)", PURGE]);
        check(&contents, Fate::Keep, &[]);
    }

    #[test]
    fn what_it_was_given_is_taken_back_by_each_giver_and_what_it_gave_by_itself() {
        let mut contents = contents();
        contents.grants = vec![grant("d\"ba", Some("pgb_a")), grant("pgb_a", Some("eve"))];
        contents.grants[0].prefix = "ALTER DEFAULT PRIVILEGES FOR ROLE dba ".into();
        contents.policies = vec![policy(&["eve", "PUBLIC"]), policy(&[])];
        let taken = [
            "SET LOCAL ROLE \"pgb_a\"",
            "REVOKE SELECT ON TABLE sales.customer FROM \"eve\" CASCADE",
            BACK,
            "SET LOCAL ROLE \"d\"\"ba\"",
            "ALTER DEFAULT PRIVILEGES FOR ROLE dba \
             REVOKE SELECT ON TABLE sales.customer FROM \"pgb_a\" CASCADE",
            BACK,
            "SET LOCAL ROLE \"dba\"",
            "ALTER POLICY \"p\" ON sales.customer TO eve, PUBLIC",
            BACK,
            "SET LOCAL ROLE \"dba\"",
            "DROP POLICY \"p\" ON sales.customer",
            BACK,
        ];
        check(&contents, Fate::Leave, &taken);
        check(&contents, Fate::Drop, &[&taken[..], &[PURGE]].concat());
    }

    #[test]
    fn what_the_broker_cannot_take_back_is_looked_at_again_and_told_as_a_statement() {
        let mut contents = contents();
        contents.grants = vec![Grant { can_act: false, ..grant("dba", Some("pgb_a")) }];
        contents.policies = vec![Policy { can_act: false, ..policy(&["eve"]) }];
        let plan = clear(&estate(&[]), &contents, Fate::Drop, Pace::AtOnce);
        assert_eq!(sql(&plan.statements), [LOCK, SAME, PURGE]);
        let left = left("pgb_a", Some("orders"), &contents.grants, &contents.policies);
        let remedies: Vec<_> =
            left.iter().filter_map(|blocker| blocker.remedy.as_deref()).collect();
        assert_eq!(
            remedies,
            [
                "SET ROLE \"dba\"; \
                 REVOKE SELECT ON TABLE sales.customer FROM \"pgb_a\" CASCADE; RESET ROLE",
                "ALTER POLICY \"p\" ON sales.customer TO eve",
            ]
        );
        assert!(left.iter().all(|blocker| blocker.database.as_deref() == Some("orders")));
    }

    #[test]
    fn kept_objects_are_listed_and_the_role_goes_once_it_owns_none() {
        let keep =
            |contents: &Contents| clear(&estate(&[]), contents, Fate::Keep, Pace::InPortions);
        let many = keep(&Contents { owned: COUNTED, ..contents() });
        let last = many.blockers[1].to_string();
        assert_eq!(last, "the role owns at least 9999 more objects in database orders");
        let plan = keep(&Contents { owned: 30, ..contents() });
        assert_eq!((sql(&plan.statements), plan.next), (vec![LOCK, SAME], Next::Nothing));
        let listed: Vec<String> = plan.blockers.iter().map(ToString::to_string).collect();
        assert_eq!(
            listed,
            [
                "the role owns table sales.mine (in database orders): ALTER TABLE sales.mine OWNER TO \"the \"\"attic\"\"\"",
                "the role owns 29 more objects in database orders",
            ]
        );
        let bare = Contents { owned: 0, objects: Vec::new(), ..contents() };
        let plan = keep(&bare);
        assert!(plan.blockers.is_empty(), "{plan:?}");
        assert_eq!(sql(&plan.statements)[3..], [PURGE]);
        assert!(sql(&plan.statements)[2].contains("the role owns something since"), "{plan:?}");
    }

    #[test]
    fn a_trigger_on_anothers_table_keeps_its_routine_out_of_the_attic() {
        let contents = Contents { triggers: vec!["t ON sales.customer".into()], ..contents() };
        let plan = clear(&estate(&[]), &contents, Fate::HandOver, Pace::InPortions);
        assert_eq!(sql(&plan.statements), [LOCK, SAME]);
        let remedy = plan.blockers[0].remedy.as_deref();
        assert_eq!(remedy, Some("DROP TRIGGER t ON sales.customer"));
        let dropped = clear(&estate(&[]), &contents, Fate::Drop, Pace::InPortions);
        assert!(dropped.blockers.is_empty());
    }

    #[test]
    fn a_broker_that_is_no_member_becomes_one_only_to_clear() {
        let mut estate = estate(&[]);
        estate.broker_is_member = false;
        let join = "GRANT \"pgb_a\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE";
        let plan = clear(&estate, &contents(), Fate::Drop, Pace::AtOnce);
        assert_eq!(sql(&plan.statements), [LOCK, SAME, join, PURGE]);
    }

    #[test]
    fn privileges_on_shared_objects_are_taken_back_without_any_database() {
        let grants = [
            Grant { target: "DATABASE reports".into(), ..grant("attic", Some("pgb_a")) },
            Grant { can_act: false, ..grant("postgres", Some("pgb_a")) },
        ];
        let plan = clear_shared(&estate(&[]), &grants);
        let taken = [
            LOCK,
            SAME,
            "SET LOCAL ROLE \"attic\"",
            "REVOKE SELECT ON DATABASE reports FROM \"pgb_a\" CASCADE",
            BACK,
        ];
        assert_eq!(sql(&plan.statements), taken);
    }

    #[test]
    fn what_there_is_much_of_goes_in_portions_and_all_the_rest_at_once() {
        use Pace::{AtOnce, InPortions};

        let mut contents = contents();
        contents.owned = 3;
        contents.schemas = vec!["own".into()];
        contents.portion = vec![named("schema", "own"), named("statistics object", "own.s")];
        let harmless = "GRANT CREATE ON SCHEMA own TO \"the \"\"attic\"\"\"";
        let handed = [
            harmless,
            "ALTER SCHEMA own OWNER TO \"the \"\"attic\"\"\"",
            "ALTER STATISTICS own.s OWNER TO \"the \"\"attic\"\"\"",
        ];
        check_portion(&contents, Fate::HandOver, InPortions, &handed, Next::Again);
        // What was not read was not made harmless, so not all of it is handed over at once.
        check_portion(&contents, Fate::HandOver, AtOnce, &[], Next::Nothing);
        let stuck = clear(&estate(&[]), &contents, Fate::HandOver, AtOnce);
        assert!(stuck.blockers[0].detail.contains("do not get a new owner"), "{stuck:?}");
        let keep = "REASSIGN OWNED BY \"pgb_a\" TO \"the \"\"attic\"\"\"";
        let whole = Contents { owned: 2, ..contents.clone() };
        for pace in [InPortions, AtOnce] {
            check_portion(&whole, Fate::HandOver, pace, &[harmless, keep, PURGE], Next::Nothing);
        }
        check_portion(&contents, Fate::Drop, InPortions, &[], Next::DropSome);
        check_portion(&contents, Fate::Drop, AtOnce, &[PURGE], Next::Nothing);
        contents.owned = 2;
        check_portion(&contents, Fate::Drop, InPortions, &[], Next::DropSome);
        contents.limit = PORTION;
        check_portion(&contents, Fate::Drop, InPortions, &[PURGE], Next::Nothing);
        (contents.owned, contents.limit) = (3, 2);

        // First what it gave to others and was given, and what hangs on its own.
        contents.parts = vec!["DROP CAST (a AS b)".into(), "DROP CAST (b AS a)".into()];
        let parts = ["DROP CAST (a AS b)", "DROP CAST (b AS a)"];
        check_portion(&contents, Fate::Drop, InPortions, &parts, Next::Again);
        contents.mappings = vec!["DROP USER MAPPING FOR pgb_a SERVER s".into(); 2];
        let mapping = ["SET LOCAL ROLE \"pgb_a\"", "DROP USER MAPPING FOR pgb_a SERVER s", BACK];
        let mappings = [mapping, mapping].concat();
        check_portion(&contents, Fate::HandOver, InPortions, &mappings, Next::Again);
        let own = Grant { of_own: true, ..grant("pgb_a", Some("eve")) };
        contents.grants = vec![own.clone(), own];
        let back = "REVOKE SELECT ON TABLE sales.customer FROM \"eve\" CASCADE";
        check_portion(&contents, Fate::HandOver, InPortions, &[back, back], Next::Again);
    }

    #[test]
    fn objects_are_dropped_one_by_one_and_never_with_what_rests_on_them() {
        let objects = [
            named("materialized view", "s.v"),
            named("large object", "4711"),
            named("aggregate", "s.a(integer)"),
        ];
        let (first, each) = drop_each(&estate(&[]), "pgb_a", &objects);
        assert_eq!(sql(&first), [LOCK, SAME]);
        let drops = [
            "DROP MATERIALIZED VIEW IF EXISTS s.v",
            "SELECT lo_unlink(4711)",
            "DROP ROUTINE IF EXISTS s.a(integer)",
        ];
        assert_eq!(sql(&each), drops);
    }
}
