//! The broker itself is paused, overrun, set back to a backup, or there twice.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use pgbridge::clock::Stopwatch;
use pgbridge::crash::Place;
use reqwest::Method;
use serde_json::json;

use super::{SOON, assert_refused, bed, held, held_in_the_end, is_in_state, issue, lease, revoke};
use crate::support::{
    Caller, Fellow, Signal, StoreServer, TestBed, locked_roles, password_of, until, wait_for,
    waiting,
};

/// Between two wishes of somebody who asks again and again.
const PACE: Duration = Duration::from_millis(25);

/// F-06.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_paused_past_the_end_of_a_lease_leaves_nothing_of_it() {
    let bed = bed(16);
    let token = bed.login("alice").await;
    // A pause at another moment each time: from before the intent to after the answer.
    for pause in [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20] {
        let request = TestBed::client().post(format!("{}/v1/leases", bed.url()));
        let request = request.bearer_auth(&token).json(&super::wish("1s")).send();
        let asked = tokio::spawn(request);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        bed.signal(Signal::Freeze);
        let query = "SELECT clock_timestamp() + interval '1200 milliseconds'";
        let end = bed.postgres.sql("postgres", query).concat().concat();
        let over = format!("SELECT clock_timestamp() > '{end}'");
        wait_for("the lease to be over", SOON, || {
            (bed.postgres.sql("postgres", &over) == [["t"]]).then_some(())
        });
        bed.signal(Signal::Thaw);
        let answer = asked.await.expect("it does not panic").expect("the broker answers");
        let issued = answer.status() == 201;
        let body: serde_json::Value = answer.json().await.expect("JSON");
        assert_eq!(issued, body.get("password").is_some(), "{body}");
        bed.in_order(&token, &[]).await;
        if issued {
            let (role, password) = (body["lease"]["role_name"].as_str(), body["password"].as_str());
            let (role, password) = (role.expect("a role"), password.expect("a password"));
            assert!(bed.postgres.sql_as(role, password, "orders", "SELECT 1").is_err());
        }
    }
}

/// F-06, between the role and the move to active: the role is made while the broker is paused.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_paused_while_its_role_was_made_hands_out_nothing_that_works() {
    let bed = bed(15);
    let token = bed.login("alice").await;
    let lock = locked_roles(&bed).await;
    let request = TestBed::client().post(format!("{}/v1/leases", bed.url()));
    let request = request.bearer_auth(&token).json(&super::wish("1s")).send();
    let asked = tokio::spawn(request);
    waiting(&bed).await;
    bed.signal(Signal::Freeze);
    lock.batch_execute("ROLLBACK").await.expect("it holds the lock");
    let roles = wait_for("the role", SOON, || {
        let roles = bed.lease_roles();
        (!roles.is_empty()).then_some(roles)
    });
    wait_for("its time to be over", SOON, || (!bed.has_login(&roles[0])).then_some(()));
    bed.signal(Signal::Thaw);
    let answer = asked.await.expect("it does not panic").expect("the broker answers");
    let issued = answer.status() == 201;
    let body: serde_json::Value = answer.json().await.expect("JSON");
    if issued {
        let password = body["password"].as_str().expect("a password");
        assert!(bed.postgres.sql_as(&roles[0], password, "orders", "SELECT 1").is_err());
    }
    bed.in_order(&token, &[]).await;
    bed.assert_audit_is_whole();
}

/// A broker and another one, which have one store.
fn two() -> (TestBed, Fellow, StoreServer) {
    let server = StoreServer::start(16);
    server.make("store");
    let lines = server.lines("store");
    let bed = TestBed::start_with(15, |config| {
        super::often(&config.replace("path = \"pgbridge.db\"", &lines))
    });
    let fellow = bed.fellow();
    (bed, fellow, server)
}

/// F-17: with their audit, which tells it once.
#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_that_revoke_the_same_lease_tell_it_once() {
    let (bed, fellow, _server) = two();
    let token = bed.login("alice").await;
    for _ in 0..10 {
        let [id, _, _] = held(&bed, &token, "1h").await;
        let path = format!("/v1/leases/{id}");
        let there = fellow.call(Method::DELETE, &path, Caller::Session(&token), None);
        let (here, there) = tokio::join!(revoke(&bed, &token, &id), there);
        for answer in [here, there] {
            assert!([200, 202].contains(&answer.status), "{answer:?}");
        }
        is_in_state(&bed, &token, &id, "revoked").await;
        for action in ["lease.revoke_requested", "lease.access_ended", "lease.revoked"] {
            assert_eq!(bed.told(action, &id), 1, "{action}");
        }
    }
    bed.in_order(&token, &[]).await;
}

/// F-01, F-02: by the other broker, as soon as the time to make a role is over.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_had_begun_that_was_killed_another_one_aborts_or_ends() {
    let (bed, mut fellow, _server) = two();
    let token = bed.login("alice").await;
    for (place, action) in
        [(Place::IssueRole, "lease.aborted"), (Place::IssueActivation, "lease.revoked")]
    {
        fellow.crash_at(place);
        let asked = fellow.calling(Method::POST, "/v1/leases", &token, super::wish("1h"));
        assert!(asked.await.expect("it does not panic").is_none(), "{place:?}");
        fellow.wait_for_crash(place);
        let told =
            |action: &str| bed.records().iter().filter(|record| record["action"] == action).count();
        wait_for(action, SOON, || (told(action) == 1).then_some(()));
        assert_eq!(told("lease.issued"), 0);
        bed.in_order(&token, &[]).await;
        assert!(fellow.start(), "{}", fellow.log());
    }
}

/// F-19: whenever the person ends, an issue that meets it gives nothing, or what it gave is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_meets_the_end_of_its_person_leaves_no_lease() {
    let bed = bed(16);
    let operator = bed.login("carol").await;
    let begun = Stopwatch::start();
    let token = bed.login("alice").await;
    assert_eq!(issue(&bed, &token, "1h").await.status, 201);
    let took = begun.elapsed();
    let (mut issued, mut refused) = (0, 0);
    // The end comes from long before the issue until long after it, however fast this machine is.
    for moment in 0..30_u32 {
        let token = bed.login("alice").await;
        let asks = async {
            tokio::time::sleep(took * 6_u32.saturating_sub(moment) / 12).await;
            issue(&bed, &token, "1h").await
        };
        let ends = async {
            tokio::time::sleep(took * moment.saturating_sub(6) / 12).await;
            let person = Some(json!({ "person": "ldap:corp:alice" }));
            let caller = Caller::Session(&operator);
            bed.call(Method::POST, "/v1/operator/revoke", caller, person).await
        };
        let (answer, ended) = tokio::join!(asks, ends);
        assert_eq!(ended.status, 200, "{ended:?}");
        let got = usize::from(answer.status == 201);
        (issued, refused) = (issued + got, refused + 1 - got);
        // No role is left, and none comes any more.
        wait_for("the end of the role", SOON, || bed.lease_roles().is_empty().then_some(()));
        let token = bed.login("alice").await;
        bed.in_order(&token, &[]).await;
        if got == 1 {
            assert_eq!(bed.told("lease.revoked", &answer.text("/lease/id")), 1);
        }
    }
    println!("{issued} were issued and revoked, {refused} refused");
    assert!(issued > 0 && refused > 0, "they never met");
    bed.assert_audit_is_whole();
}

/// F-19: the directory disables the person while they ask again and again.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_disabled_while_they_ask_has_no_lease_within_the_period() {
    let bed = TestBed::start_with(15, |config| {
        let often = super::often(&config);
        let looks = "[broker]\nrecheck_every = \"10s\"\nrecheck_grace = \"20s\"";
        often
            .replace("[broker]", looks)
            .replace("role = \"orders_read\"", "role = \"orders_read\"\nmax_leases = 1000")
    });
    let token = bed.login("alice").await;
    let asks = async || {
        let mut issued = 0;
        loop {
            let answer = issue(&bed, &token, "1h").await;
            match answer.status {
                201 => issued += 1,
                // The re-check ended it while its role was being made.
                409 => {}
                _ => return (issued, answer),
            }
            tokio::time::sleep(PACE).await;
        }
    };
    let disable = async {
        until("a lease", async || (!bed.lease_roles().is_empty()).then_some(())).await;
        bed.directory.change(
            "dn: uid=alice,ou=people,dc=example,dc=test\nchangetype: modify\n\
             add: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n",
        );
    };
    let ((issued, refused), ()) = tokio::join!(asks(), disable);
    assert!(issued > 0);
    assert!([401, 403].contains(&refused.status), "{refused:?}");
    wait_for("the end of every role", SOON, || bed.lease_roles().is_empty().then_some(()));
    until("the last record", async || {
        let records = bed.records();
        let told = |action| records.iter().filter(|record| record["action"] == action).count();
        (told("lease.revoked") >= issued && told("lease.issued") == issued).then_some(())
    })
    .await;
    bed.assert_audit_is_whole();
}

/// F-03.
#[tokio::test(flavor = "multi_thread")]
async fn asking_again_after_an_answer_that_was_lost_ends_the_lease_that_nobody_holds() {
    let mut bed = bed(15);
    let token = bed.login("alice").await;
    let wish = Some(json!({
        "cluster": "orders", "role": "orders_read", "ttl": "1h", "idempotency_key": "key-1"
    }));
    bed.crash_at(Place::IssueAnswer, 1);
    let caller = Caller::Session(&token);
    let lost = bed.try_call(Method::POST, "/v1/leases", caller, wish.clone()).await;
    assert!(lost.is_err(), "{lost:?}");
    bed.wait_for_crash(Place::IssueAnswer);
    bed.start_again();
    let before = bed.live_roles(&token).await.expect("the store works");
    assert_eq!(before.len(), 1);
    let again = bed.call(Method::POST, "/v1/leases", caller, wish).await;
    assert_eq!(again.status, 201, "{again:?}");
    let role = again.text("/lease/role_name");
    assert!(!before.contains(&role));
    bed.in_order(&token, &[&role]).await;

    // Whoever does not ask again: the lease that nobody holds ends with its time.
    bed.crash_at(Place::IssueAnswer, 1);
    let lost = bed.try_call(Method::POST, "/v1/leases", caller, Some(super::wish("5s"))).await;
    assert!(lost.is_err(), "{lost:?}");
    bed.wait_for_crash(Place::IssueAnswer);
    assert_eq!(bed.lease_roles().len(), 2);
    bed.start_again();
    bed.in_order(&token, &[&role]).await;
}

/// F-36: the broker asks for memory that the machine does not have, dies of it in the middle of its
/// work, and is started again. What it leaves is what `kill -9` leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_for_lack_of_memory_leaves_no_role_without_a_lease() {
    let mut bed = TestBed::start_with(16, |config| {
        let many = "role = \"orders_read\"\nmax_leases = 1000";
        super::often(&config.replace("role = \"orders_read\"", many))
    });
    let token = bed.login("alice").await;
    let [_, kept, kept_password] = held(&bed, &token, "1h").await;
    // As much as it has now, and a little more: what comes next does not fit.
    let more = memory_of(bed.pid()) + 512 * 1024;
    let limit = ["--pid".to_owned(), bed.pid().to_string(), format!("--data={more}")];
    let limited = Command::new("prlimit").args(limit).status().expect("there is prlimit");
    assert!(limited.success());
    let (url, over) = (format!("{}/v1/leases", bed.url()), Arc::new(AtomicBool::new(false)));
    let asking = (0..64).map(|_| {
        let (url, token, over) = (url.clone(), token.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut handed_out = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let wish = TestBed::client().post(&url).bearer_auth(&token);
                let Ok(answer) = wish.json(&super::wish("1h")).send().await else { continue };
                if answer.status() == 201
                    && let Ok(lease) = answer.json::<serde_json::Value>().await
                {
                    handed_out.push(lease);
                }
            }
            handed_out
        })
    });
    let asking: Vec<_> = asking.collect();
    bed.wait_for_its_end();
    over.store(true, Ordering::Relaxed);
    assert!(bed.log().contains("memory allocation of"), "{}", bed.log());
    let mut roles = vec![kept.clone()];
    let mut passwords = BTreeSet::from([kept_password]);
    for asked in asking {
        for answer in asked.await.expect("it does not panic") {
            let text = |pointer: &str| {
                let text = answer.pointer(pointer).and_then(serde_json::Value::as_str);
                text.expect("it was issued").to_owned()
            };
            roles.push(text("/lease/role_name"));
            assert!(passwords.insert(text("/password")));
        }
    }
    bed.start_again();
    // Whoever was handed a password has a lease. An answer may be lost whose lease was issued.
    let live = bed.roles_at_rest(&token).await;
    assert!(roles.iter().all(|role| live.contains(role)), "{roles:?} {live:?}");
    let live: Vec<&str> = live.iter().map(String::as_str).collect();
    bed.in_order(&token, &live).await;
    bed.assert_audit_is_whole();
}

/// The memory that a process can write to and nobody else, in bytes.
fn memory_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).expect("it has some");
    let kilobytes = line.trim().trim_end_matches("kB").trim();
    kilobytes.parse::<u64>().expect("a number") * 1024
}

/// F-31.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_leases_that_end_in_one_second_are_all_gone_and_issuing_goes_on() {
    const LEASES: usize = 300;
    let bed = TestBed::start_with(16, |config| {
        let many = "role = \"orders_read\"\nmax_leases = 1000";
        super::often(&config.replace("role = \"orders_read\"", many))
    });
    let token = bed.login("alice").await;
    let clock = pgbridge::clock::Clock::system();
    let end = clock.now() + Duration::from_secs(14);
    // On a slow machine the last of them end a little later.
    let shortest = 8;
    let client = TestBed::client();
    let url = format!("{}/v1/leases", bed.url());
    let issued = futures::stream::iter(0..LEASES).map(|_| {
        let left = end.duration_since(clock.now()).as_secs().max(shortest);
        let wish = client.post(&url).bearer_auth(&token).json(&super::wish(&format!("{left}s")));
        async { wish.send().await.expect("the broker answers").status() }
    });
    let statuses: Vec<_> = issued.buffer_unordered(8).collect().await;
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    let [_, kept, _] = held(&bed, &token, "1h").await;
    let mut between = 0;
    until("the end of all of them", async || {
        // Somebody who asks meanwhile is served.
        let [id, _, _] = held(&bed, &token, "1h").await;
        assert_eq!(revoke(&bed, &token, &id).await.status, 200);
        between += 1;
        (bed.lease_roles().len() == 1).then_some(())
    })
    .await;
    bed.in_order(&token, &[&kept]).await;
    let ended = bed.records();
    let ended = ended.iter().filter(|record| record["action"] == "lease.revoked").count();
    assert_eq!(ended, LEASES + between);
}

/// F-11: the part that can be seen without a chain of records.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_store_set_back_to_a_backup_no_role_stays_that_it_does_not_know() {
    let mut bed = bed(15);
    let token = bed.login("alice").await;
    let [over, _, _] = held(&bed, &token, "3s").await;
    let [_, kept, _] = held(&bed, &token, "1h").await;
    let [ended, _, _] = held(&bed, &token, "1h").await;
    bed.stop();
    let (file, backup) = (bed.file("pgbridge.db"), bed.file("backup"));
    fs::copy(&file, &backup).expect("a file can be copied");
    bed.start_again();
    let [unknown, _, _] = held_in_the_end(&bed, &token, "1h").await;
    assert_eq!(revoke(&bed, &token, &ended).await.text("/state"), "revoked");
    is_in_state(&bed, &token, &over, "revoked").await;
    bed.stop();
    for beside in ["pgbridge.db-wal", "pgbridge.db-shm"] {
        let _ = fs::remove_file(bed.file(beside));
    }
    fs::copy(&backup, &file).expect("a file can be copied");
    bed.start_again();
    // Its token is in the backup too.
    bed.in_order(&token, &[&kept]).await;
    assert_eq!(lease(&bed, &token, &over).await.text("/state"), "revoked");
    assert_eq!(lease(&bed, &token, &ended).await.text("/end"), "lost");
    assert_eq!(lease(&bed, &token, &unknown).await.status, 404);
    assert_eq!(bed.told("orphan.removed", &unknown), 1);
}

/// F-33.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_in_a_state_that_is_not_known_is_never_taken_for_one_that_is_over() {
    let mut bed = bed(16);
    let token = bed.login("alice").await;
    let [id, role, password] = held(&bed, &token, "1h").await;
    let set = |bed: &TestBed, state: &str| {
        let store = rusqlite::Connection::open(bed.file("pgbridge.db")).expect("the file is there");
        let sql = "UPDATE lease SET state = ?1 WHERE id = ?2";
        assert_eq!(store.execute(sql, [state, &id]).expect("it can be changed"), 1);
    };
    bed.stop();
    set(&bed, "resting");
    bed.start_again_unready();
    // It cannot compare, so it says that it is not ready, issues nothing and removes nothing.
    wait_for("what it cannot read to be said", SOON, || {
        bed.log().contains("resting").then_some(())
    });
    let login = json!({ "username": "alice", "password": password_of("alice") });
    until("an answer", async || {
        let login = bed.try_call(Method::POST, "/v1/login", Caller::Nobody, Some(login.clone()));
        login.await.ok()
    })
    .await;
    assert_refused(&issue(&bed, &token, "1h").await);
    assert_eq!(bed.lease_roles(), std::slice::from_ref(&role));
    assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_ok());
    bed.stop();
    set(&bed, "active");
    bed.start_again();
    bed.in_order(&token, &[&role]).await;
    assert_eq!(revoke(&bed, &token, &id).await.text("/state"), "revoked");
}

/// F-34: nothing keeps a copy of the store from being served on another host. Both are safe: each
/// takes away what it does not know, so the two cannot both lend, and a role that both knew ends.
#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_with_a_copy_of_one_store_leave_no_role_without_a_lease_in_both() {
    let mut bed = bed(15);
    let token = bed.login("alice").await;
    let [shared, shared_role, _] = held(&bed, &token, "1h").await;
    let [short, _, _] = held(&bed, &token, "10s").await;
    bed.stop();
    let mut twin = bed.on_another_host();
    assert!(twin.start(), "{}", twin.log());
    bed.start_again();
    // What only one of them knows is taken away by the other, and lost to the first.
    let issued = issue(&bed, &token, "1h").await;
    if issued.status == 201 {
        let id = issued.text("/lease/id");
        is_in_state(&bed, &token, &id, "revoked").await;
        assert_eq!(lease(&bed, &token, &id).await.text("/end"), "lost");
        // The twin says so once it is done, and the first may see it before.
        wait_for("the twin's word", SOON, || {
            twin.log().contains("a role without a lease was taken away").then_some(())
        });
    }
    // What both know ends once, and the second finds nothing left to do.
    is_in_state(&bed, &token, &short, "revoked").await;
    bed.in_order(&token, &[&shared_role]).await;
    assert_eq!(revoke(&bed, &token, &shared).await.text("/state"), "revoked");
    bed.in_order(&token, &[]).await;
    wait_for("the twin to see it", SOON, || twin.log().contains("the lease is lost").then_some(()));
    assert!(bed.lease_roles().is_empty());
}
