//! What mends, cut short while it mends: comparing, looking people up, watching for sessions.

use std::fs;

use super::{Held, Place, Request, SOON, Story};
use crate::support::{TestBed, wait_for};

pub(super) const PLACES: &[Place] = &[
    Place::ReconcileUndelivered,
    Place::ReconcileAbort,
    Place::ReconcileLostAccess,
    Place::ReconcileLost,
    Place::ReconcileSetBack,
];

pub(super) const ORPHAN: &[Place] = &[
    Place::ReconcileFound,
    Place::ReconcileAccess,
    Place::ReconcileRemove,
    Place::ReconcileRemoved,
];

pub(super) const GONE: &[Place] =
    &[Place::RecheckPerson, Place::RecheckLeases, Place::WatchSessions];

/// Starts a broker that ends itself at `place` while it mends, and then one that does not.
fn start_again_by(bed: &mut TestBed, place: Place) {
    bed.crash_at(place, 1);
    bed.start_again_unready();
    bed.wait_for_crash(place);
    bed.start_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_what_was_left_half_done_is_mended_is_mended_in_turn() {
    let mut story = Story::start(16).await;
    for (place, before) in [
        (Place::ReconcileUndelivered, Place::IssueActivation),
        (Place::ReconcileAbort, Place::IssueRole),
    ] {
        story.crash(before, 1, Request::to_issue("10m", None)).await;
        story.pass_the_time_to_make();
        start_again_by(&mut story.bed, place);
        story.is_in_order(&[]).await;
    }
    for place in [Place::ReconcileLostAccess, Place::ReconcileLost] {
        let held = story.issue("10m", None).await;
        story.bed.stop();
        story.bed.postgres.sql("postgres", &format!("DROP ROLE {}", held.role));
        start_again_by(&mut story.bed, place);
        story.is_in_order(&[]).await;
        assert_eq!(story.bed.told("lease.lost", &held.id), 1);
    }

    let held = story.issue("10m", None).await;
    story.bed.stop();
    let longer = format!("ALTER ROLE {} VALID UNTIL 'infinity'", held.role);
    story.bed.postgres.sql("postgres", &longer);
    start_again_by(&mut story.bed, Place::ReconcileSetBack);
    let outlives = format!(
        "SELECT rolvaliduntil > now() + interval '11 minutes' FROM pg_roles WHERE rolname = '{}'",
        held.role
    );
    wait_for("the role to be set back", SOON, || {
        (story.bed.postgres.sql("postgres", &outlives) == [["f"]]).then_some(())
    });
    story.is_in_order(&[&held]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_role_without_a_lease_is_taken_away_leaves_neither_it_nor_it_untold() {
    let mut story = Story::start(15).await;
    for place in ORPHAN {
        story.bed.stop();
        let (file, backup) = (story.bed.file("pgbridge.db"), story.bed.file("backup"));
        fs::copy(&file, &backup).expect("a file can be copied");
        story.bed.start_again();
        let held = story.issue("10m", None).await;
        story.bed.stop();
        for beside in ["pgbridge.db-wal", "pgbridge.db-shm"] {
            let _ = fs::remove_file(story.bed.file(beside));
        }
        fs::copy(&backup, &file).expect("a file can be copied");
        start_again_by(&mut story.bed, *place);
        story.is_in_order(&[]).await;
        // That it went is told, or that it was found and was about to go.
        let found = story.bed.told("orphan.found", &held.id);
        let removed = story.bed.told("orphan.removed", &held.id);
        assert!(found >= 1, "{place:?}");
        let was_gone = *place == Place::ReconcileRemoved;
        assert_eq!(removed, usize::from(!was_gone), "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_all_that_somebody_had_ends_is_made_good() {
    let mut story = Story::start(16).await;
    for (place, person, role) in [
        (Place::RecheckPerson, "alice", "orders_read"),
        (Place::RecheckLeases, "bob", "orders_write"),
    ] {
        story.token = story.bed.login(person).await;
        let mut request = Request::to_issue("10m", None);
        if let Some(body) = &mut request.body {
            body["role"] = role.into();
        }
        for _ in 0..2 {
            assert_eq!(story.call(request.clone()).await.status, 201);
        }
        story.bed.stop();
        let dn = format!("uid={person},ou=people,dc=example,dc=test");
        story.bed.directory.change(&format!(
            "dn: {dn}\nchangetype: modify\nadd: pwdAccountLockedTime\n\
             pwdAccountLockedTime: 000001010000Z\n"
        ));
        start_again_by(&mut story.bed, place);
        wait_for("the end of the roles", SOON, || story.bed.lease_roles().is_empty().then_some(()));
        let records = story.bed.records();
        let gone = records.iter().filter(|record| {
            record["action"] == "person.gone" && record["person"] == format!("ldap:corp:{person}")
        });
        assert!(gone.count() >= 1, "{place:?}");
    }
    wait_for("the last record", SOON, || {
        let records = story.bed.records();
        let revoked = records.iter().filter(|record| record["action"] == "lease.revoked");
        (revoked.count() == 4).then_some(())
    });
    story.bed.assert_audit_is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_a_session_without_a_role_ends_leaves_it_to_the_next_start() {
    let mut story = Story::start(16).await;
    let held = story.issue("10m", None).await;
    let Held { role, password, .. } = &held;
    let oid = format!("SELECT oid FROM pg_roles WHERE rolname = '{role}'");
    let oid = story.bed.postgres.sql("postgres", &oid).concat().concat();
    // Long enough for the role to be gone before, on a slow machine too.
    let _hidden = story.bed.postgres.hide_as(role, password, "orders", 15);
    story.revoke(&held).await;
    story.is_in_order(&[]).await;
    story.bed.crash_at(Place::WatchSessions, 1);
    story.bed.wait_for_crash(Place::WatchSessions);
    let sessions = format!("SELECT pid FROM pg_stat_activity WHERE usesysid = {oid}");
    let sessions = |bed: &TestBed| bed.postgres.sql("postgres", &sessions).len();
    assert_eq!(sessions(&story.bed), 1);
    story.bed.start_again();
    wait_for("the end of the session", SOON, || (sessions(&story.bed) == 0).then_some(()));
    story.is_in_order(&[]).await;
}
