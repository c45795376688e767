use super::super::privileges::left;
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
    let remedies: Vec<_> = left.iter().filter_map(|blocker| blocker.remedy.as_deref()).collect();
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
    let keep = |contents: &Contents| clear(&estate(&[]), contents, Fate::Keep, Pace::InPortions);
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
