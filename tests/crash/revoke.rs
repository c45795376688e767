//! Revoking, cut short: asked for by the holder, by an operator, or because its time is over.

use serde_json::json;

use super::{Held, Place, Request, SOON, Story};
use crate::support::{TestBed, wait_for};

/// Come to by a role that leaves something of each kind.
pub(super) const PLAIN: &[Place] = &[
    Place::RevokeRequest,
    Place::RevokeAccess,
    Place::RevokeSessions,
    Place::RevokeAccessEnded,
    Place::RevokeRemove,
    Place::RevokePrepared,
    Place::RevokeShared,
    Place::RevokeDatabase,
    Place::RevokeHandOver,
    Place::RevokePortion,
    Place::RevokeDrop,
    Place::RevokeVerify,
    Place::RevokeClose,
    Place::RevokeGiveBack,
    Place::RevokeAnswer,
];

/// Come to when a DBA gave the role a membership that the broker cannot take back.
pub(super) const PIECEMEAL: &[Place] = &[
    Place::RevokePiecemeal,
    Place::RevokePiecemealCommit,
    Place::RevokeCloseAgain,
    Place::RevokeLateEnd,
];

/// Come to when the role owns more than is dropped at once.
pub(super) const MANY: &[Place] =
    &[Place::RevokePortion, Place::RevokeDropSome, Place::RevokeDropSomeCommit];

/// Come to when something holds a lock on the role.
pub(super) const IN_THE_WAY: &[Place] = &[Place::RevokeWay, Place::RevokeJoin];

/// Come to when it is a session, and the broker may end none but as a member of the role.
pub(super) const AS_MEMBER: &[Place] = &[Place::RevokeJoinToSignal, Place::RevokeSignalAsMember];

/// Come to in a way of their own.
pub(super) const OTHERS: &[Place] = &[
    Place::RevokeExpiry,
    Place::RevokeHold,
    Place::RevokeSelected,
    Place::RevokePerson,
    Place::RevokeUnwritten,
    Place::RevokeDueUnwritten,
];

/// A database of the attic role's, where it can give away what the broker takes back.
fn shelf(bed: &TestBed) {
    bed.postgres.sql("postgres", "CREATE DATABASE shelf OWNER pgbridge_attic");
}

/// Gives the role something of each kind: objects in two databases, a privilege on a shared object,
/// two transactions that are prepared, and a session that stays.
fn estate(bed: &TestBed, held: &Held) -> crate::support::postgres::Staying {
    let Held { role, password, .. } = held;
    for text in [
        "CREATE TABLE workbench.mine (n integer)".to_owned(),
        format!("BEGIN; CREATE TABLE workbench.half (n integer); PREPARE TRANSACTION 'a {role}'"),
        format!("BEGIN; CREATE TABLE workbench.rest (n integer); PREPARE TRANSACTION 'b {role}'"),
    ] {
        let done = bed.postgres.sql_as(role, password, "orders", &text);
        assert_eq!(done, Ok(Vec::new()), "{text}");
    }
    let given = format!(
        "CREATE TABLE finance.given (n integer); ALTER TABLE finance.given OWNER TO {role}"
    );
    bed.postgres.sql("reports", &given);
    let shared = format!("SET ROLE pgbridge_attic; GRANT CONNECT ON DATABASE shelf TO {role}");
    bed.postgres.sql("postgres", &shared);
    bed.postgres.stay_as(role, password, "orders", "SELECT 1")
}

/// All of it went where it belongs, once.
fn nothing_is_left(bed: &TestBed, place: Place) {
    for (database, table) in [("orders", "workbench.mine"), ("reports", "finance.given")] {
        let owner = format!(
            "SELECT relowner::regrole FROM pg_class WHERE oid = '{table}'::regclass; DROP TABLE {table}"
        );
        assert_eq!(bed.postgres.sql(database, &owner), [["pgbridge_attic"]], "{place:?}");
    }
    let left = "SELECT gid FROM pg_prepared_xacts \
                UNION ALL SELECT pid::text FROM pg_stat_activity \
                WHERE usesysid IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = usesysid) \
                UNION ALL SELECT refobjid::text FROM pg_shdepend \
                WHERE refclassid = 'pg_authid'::regclass \
                AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = refobjid)";
    let none: [[&str; 1]; 0] = [];
    assert_eq!(bed.postgres.sql("postgres", left), none, "{place:?}");
}

async fn while_revoking(major: u32) {
    let mut story = Story::start(major).await;
    shelf(&story.bed);
    let second =
        [(Place::RevokePrepared, 2), (Place::RevokeDatabase, 2), (Place::RevokeHandOver, 2)];
    for (place, turn) in PLAIN.iter().map(|place| (*place, 1)).chain(second) {
        let held = story.issue("10m", None).await;
        let _session = estate(&story.bed, &held);
        story.crash(place, turn, Request::to_revoke(&held)).await;
        story.bed.start_again();
        story.revoke(&held).await;
        story.is_in_order(&[]).await;
        nothing_is_left(&story.bed, place);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_revoking_is_made_good_on_15() {
    while_revoking(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_any_step_of_revoking_is_made_good_on_16() {
    while_revoking(16).await;
}

/// Lets the role own more than is dealt with at once.
fn many_tables(bed: &TestBed, held: &Held) {
    let many = "DO $$BEGIN FOR n IN 1..500 LOOP \
                EXECUTE format('CREATE TABLE workbench.many%s ()', n); END LOOP; END$$";
    let made = bed.postgres.sql_as(&held.role, &held.password, "orders", many);
    assert_eq!(made, Ok(Vec::new()));
}

/// How many of these tables `owner` has.
fn tables_of(bed: &TestBed, owner: &str) -> u32 {
    let text = format!(
        "SELECT count(*) FROM pg_class WHERE relname LIKE 'many%' AND relowner = '{owner}'::regrole"
    );
    bed.postgres.sql("orders", &text).concat().concat().parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_two_portions_of_much_that_is_dropped_is_made_good() {
    let mut story = Story::start_with(16, |config| {
        let drop = "role = \"orders_write\"\nowned_objects = \"drop\"";
        config.replace("role = \"orders_write\"", drop)
    })
    .await;
    for (place, turn) in MANY.iter().map(|place| (*place, 2)) {
        let held = story.issue("10m", None).await;
        many_tables(&story.bed, &held);
        story.crash(place, turn, Request::to_revoke(&held)).await;
        story.bed.start_again();
        story.revoke(&held).await;
        story.is_in_order(&[]).await;
        let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'many%'";
        assert_eq!(story.bed.postgres.sql("orders", left), [["0"]], "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_two_portions_of_much_that_is_handed_over_is_made_good() {
    let mut story = Story::start(16).await;
    let held = story.issue("10m", None).await;
    many_tables(&story.bed, &held);
    story.crash(Place::RevokePortion, 2, Request::to_revoke(&held)).await;
    let (of_attic, of_role) =
        (tables_of(&story.bed, "pgbridge_attic"), tables_of(&story.bed, &held.role));
    assert!(of_attic > 0 && of_role > 0 && of_attic + of_role == 500, "{of_attic} {of_role}");
    story.bed.start_again();
    story.revoke(&held).await;
    story.is_in_order(&[]).await;
    assert_eq!(tables_of(&story.bed, "pgbridge_attic"), 500);
    // The end of the lease tells what the last attempt did; the rest was told before.
    let records = story.bed.records();
    let about = records.iter().filter(|record| record["lease"] == held.id);
    let before = about.filter(|record| record["action"] == "lease.handing_over");
    let count = |record: &serde_json::Value| {
        let detail = record["detail"].as_str().expect("what goes");
        detail.split(' ').next().and_then(|count| count.parse::<u32>().ok()).expect("a number")
    };
    assert!(before.map(count).sum::<u32>() >= 500, "{records:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_memberships_are_taken_one_by_one_is_made_good() {
    let mut story = Story::start(16).await;
    story.bed.postgres.sql("postgres", "CREATE ROLE of_the_dba");
    for place in PIECEMEAL {
        let held = story.issue("10m", None).await;
        story.bed.postgres.sql("postgres", &format!("GRANT of_the_dba TO {}", held.role));
        story.crash(*place, 1, Request::to_revoke(&held)).await;
        story.bed.start_again();
        story.revoke(&held).await;
        story.is_in_order(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_something_holds_the_role_open_is_made_good() {
    let mut story = Story::start(15).await;
    for place in IN_THE_WAY {
        let held = story.issue("10m", None).await;
        let Held { role, password, .. } = &held;
        let lock = format!(
            "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'x'; PREPARE TRANSACTION 'lock {role}'"
        );
        assert_eq!(story.bed.postgres.sql_as(role, password, "orders", &lock), Ok(Vec::new()));
        if *place == Place::RevokeJoin {
            story.bed.postgres.sql("postgres", &format!("REVOKE {role} FROM pgbridge"));
        }
        story.crash(*place, 1, Request::to_revoke(&held)).await;
        story.bed.start_again();
        story.revoke(&held).await;
        story.is_in_order(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_the_broker_becomes_a_member_to_end_a_session_is_made_good() {
    let mut story = Story::start(15).await;
    for place in AS_MEMBER {
        let held = story.issue("10m", None).await;
        let Held { role, password, .. } = &held;
        let lock = "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'x'";
        let _session = story.bed.postgres.stay_as(role, password, "orders", lock);
        let less = format!("REVOKE pg_signal_backend FROM pgbridge; REVOKE {role} FROM pgbridge");
        story.bed.postgres.sql("postgres", &less);
        story.crash(*place, 1, Request::to_revoke(&held)).await;
        // Without that right the role would stay as long as a log-in can be held back.
        story.bed.postgres.sql("postgres", "GRANT pg_signal_backend TO pgbridge");
        story.bed.start_again();
        story.revoke(&held).await;
        story.is_in_order(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_an_expiry_or_a_quarantine_is_written_is_made_good() {
    let mut story = Story::start(15).await;
    story.issue("4s", None).await;
    story.bed.crash_at(Place::RevokeExpiry, 1);
    story.bed.wait_for_crash(Place::RevokeExpiry);
    story.bed.start_again();
    story.is_in_order(&[]).await;

    // What the DBA gave only the DBA takes back.
    let held = story.issue("10m", None).await;
    let Held { role, .. } = &held;
    story.bed.postgres.sql("postgres", &format!("GRANT CONNECT ON DATABASE reports TO {role}"));
    story.crash(Place::RevokeHold, 1, Request::to_revoke(&held)).await;
    story.bed.start_again();
    story.is_in_order(&[&held]).await;
    assert!(!story.bed.has_access(role));
    wait_for("the quarantine", SOON, || {
        (story.bed.told("lease.quarantined", &held.id) > 0).then_some(())
    });
    story.is_in_order(&[&held]).await;
    story.bed.postgres.sql("postgres", &format!("REVOKE CONNECT ON DATABASE reports FROM {role}"));
    story.is_in_order(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_an_operator_revokes_is_made_good_when_they_ask_again() {
    let mut story = Story::start(16).await;
    let operator = story.bed.login("carol").await;
    let (all, bobs) = (json!({ "cluster": "orders" }), json!({ "person": "ldap:corp:bob" }));
    for (place, turn, selection) in [
        (Place::RevokeSelected, 1, &all),
        // The one is told to end, the other not yet.
        (Place::RevokeRequest, 2, &all),
        (Place::RevokePerson, 1, &bobs),
        (Place::RevokeRequest, 2, &bobs),
    ] {
        let held = [story.issue("10m", None).await, story.issue("10m", None).await];
        let request = Request::to_revoke_selected(selection.clone());
        story.crash_as(place, turn, request.clone(), &operator).await;
        story.bed.start_again();
        // By now the logins of a person may have ended.
        story.token = story.bed.login("bob").await;
        let is_of_none = |live: &std::collections::BTreeSet<String>| {
            live.iter().all(|role| held.iter().any(|held| held.role == *role))
        };
        let live = story.bed.live_roles(&story.token).await.expect("the store works");
        assert!(is_of_none(&live), "{place:?}: {live:?}");
        let operator = crate::support::Caller::Session(&operator);
        let Request { method, path, body } = request;
        let again = story.bed.call(method, &path, operator, body).await;
        assert_eq!(again.status, 200, "{again:?}");
        story.token = story.bed.login("bob").await;
        story.is_in_order(&[]).await;
    }
}

/// Lets nobody write to the store until it is dropped.
fn held_store(bed: &TestBed) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(bed.file("pgbridge.db")).expect("the file is there");
    other.execute_batch("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE").expect("nobody writes");
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_access_ends_that_the_store_does_not_take_is_made_good() {
    let mut story = Story::start(15).await;
    let held = story.issue("10m", None).await;
    let other = held_store(&story.bed);
    story.crash(Place::RevokeUnwritten, 1, Request::to_revoke(&held)).await;
    drop(other);
    story.bed.start_again();
    story.is_in_order(&[&held]).await;
    story.revoke(&held).await;
    story.is_in_order(&[]).await;

    let held = story.issue("4s", None).await;
    let other = held_store(&story.bed);
    story.bed.crash_at(Place::RevokeDueUnwritten, 1);
    story.bed.wait_for_crash(Place::RevokeDueUnwritten);
    drop(other);
    story.bed.start_again();
    story.is_in_order(&[]).await;
    assert_eq!(story.bed.told("lease.revoked", &held.id), 1);
}
