//! The clock of the broker's machine is moved.

use std::fs;
use std::path::Path;

use reqwest::Method;

use super::{SOON, assert_refused, bed, held, held_in_the_end, is_in_state, issue, lease, revoke};
use crate::support::{Caller, TestBed, until, wait_for};

/// The library that shows a program another time than the machine's.
fn library() -> String {
    let machines = fs::read_dir("/usr/lib").expect("it is there").flatten();
    let place = |machine: fs::DirEntry| machine.path().join("faketime/libfaketimeMT.so.1");
    let found = machines.map(place).find(|path| path.exists());
    found.expect("run scripts/install-packages test").display().to_string()
}

/// Starts the broker again on a machine whose clock is `ahead`, such as `+1h`.
fn start_again_at(bed: &mut TestBed, ahead: &str) {
    bed.stop();
    move_clock(bed, ahead);
    let file = bed.file("clock").display().to_string();
    let environment = [
        ("LD_PRELOAD", library()),
        ("FAKETIME_TIMESTAMP_FILE", file),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // What cannot be set on any machine is not set here either.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    bed.start_again_within(&[], &environment);
}

/// Moves the clock of the broker's machine while it runs.
fn move_clock(bed: &TestBed, ahead: &str) {
    let (file, new) = (bed.file("clock"), bed.file("clock.new"));
    fs::write(&new, format!("{ahead}\n")).expect("a file can be written");
    fs::rename(Path::new(&new), file).expect("a file can be put in its place");
}

/// Returns once issuing is refused because clocks are apart.
async fn is_refused_for_the_clocks(bed: &TestBed, token: &str) {
    until("a refusal", async || {
        let answer = issue(bed, token, "10m").await;
        if answer.status == 201 {
            let ended = revoke(bed, token, &answer.text("/lease/id")).await;
            assert_eq!(ended.status, 200, "{ended:?}");
            return None;
        }
        assert_refused(&answer);
        answer.body.contains("clock").then_some(())
    })
    .await;
    let refused = bed.records().into_iter().rev().find(|record| record["outcome"] == "refused");
    assert_eq!(refused.expect("it is written down")["cause"], "clocks_apart");
}

/// F-16.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_neither_ends_leases_nor_prolongs_them_and_stops_issuing() {
    let mut bed = bed(16);
    start_again_at(&mut bed, "+0");
    let token = bed.login("alice").await;
    let [kept, kept_role, password] = held(&bed, &token, "1h").await;
    for ahead in ["+1h", "-1h", "+10y"] {
        let [short, short_role, _] = held_in_the_end(&bed, &token, "4s").await;
        move_clock(&bed, ahead);
        is_refused_for_the_clocks(&bed, &token).await;
        // The one ends when it was to end, the other does not.
        wait_for("the end of the role", SOON, || {
            (!bed.lease_roles().contains(&short_role)).then_some(())
        });
        assert_eq!(is_in_state(&bed, &token, &short, "revoked").await.text("/end"), "expired");
        assert_eq!(lease(&bed, &token, &kept).await.text("/state"), "active", "{ahead}");
        assert!(bed.postgres.sql_as(&kept_role, &password, "orders", "SELECT 1").is_ok());
        // What must end can be ended, and who has a lease keeps it.
        let path = format!("/v1/leases/{kept}/renew");
        let renewed = bed.call(Method::POST, &path, Caller::Session(&token), None).await;
        assert!(renewed.status < 500, "{renewed:?}");
        move_clock(&bed, "+0");
    }
    let [other, _, _] = held_in_the_end(&bed, &token, "1h").await;
    move_clock(&bed, "-1h");
    is_refused_for_the_clocks(&bed, &token).await;
    assert_eq!(revoke(&bed, &token, &other).await.text("/state"), "revoked");
    bed.in_order(&token, &[&kept_role]).await;
}

/// F-16.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_a_wrong_clock_ends_no_lease_that_is_not_over() {
    let mut bed = bed(15);
    let token = bed.login("alice").await;
    let [kept, kept_role, password] = held(&bed, &token, "1h").await;
    for ahead in ["+10y", "-1h"] {
        start_again_at(&mut bed, ahead);
        // By a clock that is behind, who logged in before has not done so yet.
        let token = if ahead == "-1h" { bed.login("alice").await } else { token.clone() };
        is_refused_for_the_clocks(&bed, &token).await;
        bed.in_order(&token, &[&kept_role]).await;
        assert_eq!(lease(&bed, &token, &kept).await.text("/state"), "active", "{ahead}");
        assert!(bed.postgres.sql_as(&kept_role, &password, "orders", "SELECT 1").is_ok());
    }
    let set = bed.records().into_iter().find(|record| record["action"] == "clock.set");
    assert!(set.is_some_and(|record| record["detail"].as_str().is_some()));
    start_again_at(&mut bed, "+0");
    let token = bed.login("alice").await;
    let [_, role, _] = held_in_the_end(&bed, &token, "2s").await;
    wait_for("the end of the role", SOON, || (!bed.lease_roles().contains(&role)).then_some(()));
    bed.in_order(&token, &[&kept_role]).await;
}
