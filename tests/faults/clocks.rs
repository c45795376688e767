//! The clock of a machine is moved: the broker's, the cluster's, or the store's.

use std::fs;
use std::path::PathBuf;

use reqwest::Method;
use serde_json::json;

use super::{SOON, assert_refused, bed, held, held_in_the_end, is_in_state, issue, lease, revoke};
use crate::support::{Caller, Postgres, StoreServer, TestBed, password_of, until, wait_for};

/// The library that shows a program another time than the machine's.
fn library() -> String {
    let machines = fs::read_dir("/usr/lib").expect("it is there").flatten();
    let place = |machine: fs::DirEntry| machine.path().join("faketime/libfaketimeMT.so.1");
    let found = machines.map(place).find(|path| path.exists());
    found.expect("run scripts/install-packages test").display().to_string()
}

/// The clock of a machine, which a file holds.
struct MachineClock(PathBuf);

impl MachineClock {
    /// The clock in the file `name` of `bed`, which is right.
    fn of(bed: &TestBed, name: &str) -> Self {
        let clock = Self(bed.file(name));
        clock.show("+0");
        clock
    }

    /// From now on it is `ahead`, such as `+1h`.
    fn show(&self, ahead: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{ahead}\n")).expect("a file can be written");
        fs::rename(&new, &self.0).expect("a file can be put in its place");
    }

    /// What lets a program go by this clock.
    fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            // What cannot be set on any machine is not set here either.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// Starts a server again on a machine with `clock`.
fn start_server_again(server: &mut Postgres, clock: &MachineClock) {
    let environment = clock.environment();
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    server.stop();
    server.start_again_within(&environment);
}

/// Starts the broker again on a machine whose clock is `ahead`, such as `+1h`.
fn start_again_at(bed: &mut TestBed, ahead: &str) {
    bed.stop();
    let clock = MachineClock::of(bed, "clock");
    clock.show(ahead);
    let environment = clock.environment();
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    bed.start_again_within(&[], &environment);
}

/// Moves the clock of the broker's machine while it runs.
fn move_clock(bed: &TestBed, ahead: &str) {
    MachineClock(bed.file("clock")).show(ahead);
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

/// Moves `clock`, which is not the broker's: nothing is issued, what is over ends, and nothing else.
async fn moves(bed: &TestBed, clock: &MachineClock, kept: &str, token: &str) {
    for ahead in ["+1h", "-1h", "+10y"] {
        let [other, _, _] = held_in_the_end(bed, token, "1h").await;
        let [short, short_role, _] = held_in_the_end(bed, token, "4s").await;
        clock.show(ahead);
        // What must end can be ended.
        assert_eq!(revoke(bed, token, &other).await.text("/state"), "revoked", "{ahead}");
        is_refused_for_the_clocks(bed, token).await;
        wait_for("the end of the role", SOON, || {
            (!bed.lease_roles().contains(&short_role)).then_some(())
        });
        assert_eq!(is_in_state(bed, token, &short, "revoked").await.text("/end"), "expired");
        assert_eq!(lease(bed, token, kept).await.text("/state"), "active", "{ahead}");
        clock.show("+0");
    }
    assert!(bed.records().iter().all(|record| record["action"] != "clock.set"));
    assert!(bed.records().iter().all(|record| record["action"] != "lease.lost"));
}

/// F-16, on the cluster's machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_a_cluster_that_jumps_ends_no_lease_and_prolongs_none() {
    let mut bed = bed(16);
    let clock = MachineClock::of(&bed, "cluster-clock");
    start_server_again(&mut bed.postgres, &clock);
    let token = bed.login("alice").await;
    let [kept, kept_role, password] = held_in_the_end(&bed, &token, "1h").await;
    moves(&bed, &clock, &kept, &token).await;
    bed.in_order(&token, &[&kept_role]).await;
    // A log-in that began by the other time may still fail by it.
    until("a log-in", async || {
        bed.postgres.sql_as(&kept_role, &password, "orders", "SELECT 1").ok()
    })
    .await;
}

/// F-16, on the machine of the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_the_store_that_jumps_ends_no_lease_and_prolongs_none() {
    let mut server = StoreServer::start(16);
    server.make("store");
    let lines = server.lines("store");
    let bed = TestBed::start_with(15, |config| {
        super::often(&config.replace("path = \"pgbridge.db\"", &lines))
    });
    let clock = MachineClock::of(&bed, "store-clock");
    start_server_again(&mut server.postgres, &clock);
    let token = until("the store", async || {
        let login = json!({ "username": "alice", "password": password_of("alice") });
        let login = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(login)).await;
        (login.status == 200).then(|| login.text("/token"))
    })
    .await;
    let [kept, kept_role, password] = held_in_the_end(&bed, &token, "1h").await;
    moves(&bed, &clock, &kept, &token).await;
    bed.in_order(&token, &[&kept_role]).await;
    assert!(bed.postgres.sql_as(&kept_role, &password, "orders", "SELECT 1").is_ok());
}
