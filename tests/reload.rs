//! The map while the program runs: another one comes into force by a signal or by itself, is
//! written down before, takes away what it does not allow any more, and nothing else. One that
//! cannot be used leaves the one before in force.

mod beside;
mod compared;
mod members;
mod restart;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pgbridge::mapping::{IdentMap, MapDecision, Memberships};
use pgbridge::store::sqlite::SqliteStore;
use pgbridge::store::{LeaseFilter, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Caller, Signal, TestBed, until};

const READERS: &str = "cn=orders-readers,ou=groups,dc=example,dc=test";

/// The map of the test bed, without a line that begins like this, and with these at its end.
fn edited(map: &str, without: &str, with: &str) -> String {
    let kept: Vec<&str> = map.lines().filter(|line| !line.contains(without)).collect();
    kept.join("\n") + "\n" + with
}

/// The files of the map are looked at this often.
fn every(length: &str) -> impl Fn(String) -> String {
    let lines = format!("file = \"pg_ident.conf\"\nreload_every = \"{length}\"");
    move |config| config.replace("file = \"pg_ident.conf\"", &lines)
}

/// Puts a new file in the place of the old one, as editors do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("a file can be written");
    fs::rename(new, path).expect("a file can be put in its place");
}

async fn issue(bed: &TestBed, caller: Caller<'_>, role: &str) -> Answer {
    let wish = json!({ "cluster": "orders", "role": role, "ttl": "10m", "reason": "ticket 7" });
    bed.call(Method::POST, "/v1/leases", caller, Some(wish)).await
}

/// Id, role and password of what was issued.
#[track_caller]
fn held(answer: &Answer) -> (String, String, String) {
    assert_eq!(answer.status, 201, "{answer:?}");
    (answer.text("/lease/id"), answer.text("/lease/role_name"), answer.text("/password"))
}

fn of_action(bed: &TestBed, action: &str) -> Vec<Value> {
    let mut records = bed.records();
    records.retain(|record| record["action"] == action);
    records
}

/// The records of `action`, once there are `count`.
async fn told(bed: &TestBed, action: &str, count: usize) -> Vec<Value> {
    until(&format!("{count} records of {action}"), async || {
        let records = of_action(bed, action);
        (records.len() >= count).then_some(records)
    })
    .await
}

/// Where in the audit the record stands.
#[track_caller]
fn place(bed: &TestBed, record: &Value) -> usize {
    bed.records().iter().position(|one| one == record).expect("it is there")
}

async fn logged(bed: &TestBed, text: &str) {
    until(text, async || bed.log().contains(text).then_some(())).await;
}

/// Returns once `count` maps have come into force. The audit has each of them before that.
async fn in_force(bed: &TestBed, count: usize) {
    told(bed, "map.reloaded", count).await;
    until(&format!("{count} maps in force"), async || {
        (bed.log().matches("another map is in force").count() >= count).then_some(())
    })
    .await;
}

/// Somebody who may write one of the files and never lets it rest keeps nothing in force unseen.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_never_rest_are_told_once_and_taken_when_they_do() {
    let bed = TestBed::start_with(16, every("1s"));
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    bed.signal(Signal::Hangup);
    logged(&bed, "the map has not changed").await;
    let rest = Arc::new(AtomicBool::new(false));
    let restless = thread::spawn({
        let (rest, path, map) = (Arc::clone(&rest), path.clone(), map.clone());
        move || {
            for number in 0_u64.. {
                if rest.load(Ordering::Relaxed) {
                    break;
                }
                replace(&path, &format!("{map}# {number}\n"));
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let refused = told(&bed, "map.refused", 1).await;
    assert!(refused[0]["detail"].as_str().expect("why").contains("again and again"), "{refused:?}");
    is_seen(&bed, "stale").await;
    logged(&bed, "the files of the map change again and again").await;
    rest.store(true, Ordering::Relaxed);
    restless.join().expect("it rests");
    // What they looked like when they were seen last is what is in force.
    replace(&path, &map);
    is_seen(&bed, "current").await;
    replace(&path, &(map + "corp mallory orders_read\n"));
    in_force(&bed, 1).await;
    assert_eq!(of_action(&bed, "map.refused").len(), 1);
}

async fn metrics(bed: &TestBed) -> String {
    bed.call(Method::GET, "/metrics", Caller::Nobody, None).await.body
}

async fn readiness(bed: &TestBed) -> (u16, String) {
    let answer = bed.call(Method::GET, "/readyz", Caller::Nobody, None).await;
    (answer.status, answer.text("/map"))
}

/// Returns once the map is `health` for who asks whether the broker is ready.
async fn is_seen(bed: &TestBed, health: &str) {
    until(health, async || (readiness(bed).await == (200, health.to_owned())).then_some(())).await;
}

/// The sessions of a role on the cluster, with when they began.
fn sessions(bed: &TestBed, role: &str) -> Vec<Vec<String>> {
    let open = format!(
        "SELECT pid, backend_start FROM pg_stat_activity WHERE usename = '{role}' ORDER BY pid"
    );
    bed.postgres.sql("postgres", &open)
}

/// What the stored revision says now to what let the person have the lease.
async fn decided_again(bed: &TestBed, lease: &str) -> (MapDecision, String) {
    let store = SqliteStore::open_read_only(&bed.file("pgbridge.db")).expect("the store");
    let leases = store.leases(&LeaseFilter::default()).await.expect("leases");
    let lease = leases.into_iter().find(|one| one.id.to_string() == lease).expect("the lease");
    let stored = store.map_revision(&lease.revision).await.expect("the store");
    let map: IdentMap = stored.expect("it is kept").map().expect("it is read again");
    let (because, none) = (lease.because.expect("it is kept"), Memberships::none());
    let decision = map.decide(&because.question(lease.role.as_str().as_bytes(), &none));
    assert_eq!(decision, MapDecision::Allowed(lease.rule));
    (decision, because.matched.as_str().to_owned())
}

/// Alice and bob may both read orders as members of a group. By the new map bob may by a line of
/// his own, and alice may write.
async fn another_map_takes_away_what_it_does_not_allow(
    major: u32,
    look_every: &str,
    tell: impl Fn(&TestBed),
) {
    let bed = TestBed::start_with(major, every(look_every));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let (alices, alices_role, alices_password) = held(&issue(&bed, alice, "orders_read").await);
    let (bobs, bobs_role, bobs_password) = held(&issue(&bed, bob, "orders_read").await);
    let _alice = bed.postgres.stay_as(&alices_role, &alices_password, "orders", "SELECT 1");
    let _bob = bed.postgres.stay_as(&bobs_role, &bobs_password, "orders", "SELECT 1");
    let kept = sessions(&bed, &bobs_role);
    assert_eq!((kept.len(), sessions(&bed, &alices_role).len()), (1, 1));

    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    let own = "corp bob orders_read\ncorp alice orders_write\n";
    replace(&path, &edited(&map, "orders-readers", own));
    tell(&bed);

    let reloaded = told(&bed, "map.reloaded", 1).await;
    let started = of_action(&bed, "broker.started");
    let (former, now) = (&reloaded[0]["former_map_revision"], &reloaded[0]["map_revision"]);
    assert_eq!(*former, started[0]["map_revision"]);
    assert_ne!(former, now);
    assert_eq!(reloaded[0]["outcome"], "done");
    let compared = told(&bed, "map.compared", 1).await;
    for key in ["former_map_revision", "map_revision", "outcome"] {
        assert_eq!(compared[0][key], reloaded[0][key], "{compared:?}");
    }
    assert!(place(&bed, &compared[0]) > place(&bed, &reloaded[0]));
    let changes = compared[0]["detail"].as_str().expect("who gains and loses what");
    for (who, role) in [("alice", "orders_write"), ("bob", "orders_read"), (READERS, "orders_read")]
    {
        let told = changes.lines().any(|line| line.contains(who) && line.contains(role));
        assert!(told, "{who} and {role} are not in {changes}");
    }
    assert_eq!(changes.lines().count(), 3, "{changes}");
    // What the attacker would hide comes first.
    let signs: String = changes.lines().filter_map(|line| line.chars().next()).collect();
    assert_eq!(signs, "++-", "{changes}");
    assert_eq!(reloaded[0]["subject"]["kind"], "broker");
    // Without anybody asking, although the people are not due to be looked up for minutes.
    until("alice's role to be gone", async || {
        (bed.lease_roles() == [bobs_role.clone()]).then_some(())
    })
    .await;
    assert_eq!(sessions(&bed, &alices_role), Vec::<Vec<String>>::new());
    assert_eq!(sessions(&bed, &bobs_role), kept);
    let path_of = |id: &str| format!("/v1/leases/{id}");
    let gone = bed.call(Method::GET, &path_of(&alices), alice, None).await;
    assert_eq!(gone.text("/end"), "withdrawn");
    assert_eq!(bed.call(Method::GET, &path_of(&bobs), bob, None).await.text("/state"), "active");
    for person in [alice, bob] {
        assert_eq!(bed.call(Method::GET, "/v1/whoami", person, None).await.status, 200);
    }

    assert_eq!(issue(&bed, alice, "orders_read").await.status, 403);
    let issued = issue(&bed, alice, "orders_write").await;
    let (id, ..) = held(&issued);
    assert_eq!(issued.json()["lease"]["map_revision"], *now);
    let metrics = metrics(&bed).await;
    let shown = |revision: &Value, value: u8| {
        let revision = revision.as_str().expect("a revision");
        let lines = metrics.lines().filter(|line| line.starts_with("pgbridge_info{"));
        let of = lines.filter(|line| line.contains(&format!("map_revision=\"{revision}\"")));
        assert!(of.clone().all(|line| line.ends_with(&format!(" {value}"))), "{metrics}");
        assert_eq!(of.count(), 1, "{metrics}");
    };
    shown(now, 1);
    shown(former, 0);
    assert_eq!(readiness(&bed).await, (200, "current".to_owned()));

    // Each of the three can be decided again by the map that allowed it.
    for (lease, matched) in [
        (alices.as_str(), "cn=orders-readers,ou=groups,dc=example,dc=test"),
        (&bobs, "cn=orders-readers,ou=groups,dc=example,dc=test"),
        (&id, "alice"),
    ] {
        assert_eq!(decided_again(&bed, lease).await.1, matched);
    }
    let issued = of_action(&bed, "lease.issued");
    let last = issued.last().expect("a record");
    assert_eq!(last["because"], json!({ "map": "corp", "matched": { "name": "alice" } }));

    // What says the same again is no other map.
    replace(&path, &fs::read_to_string(&path).expect("the map"));
    bed.signal(Signal::Hangup);
    logged(&bed, "the map has not changed").await;
    assert_eq!(of_action(&bed, "map.reloaded").len(), 1);
}

#[tokio::test]
async fn another_map_comes_into_force_by_a_signal_and_takes_away_what_it_does_not_allow() {
    let hang_up = |bed: &TestBed| bed.signal(Signal::Hangup);
    another_map_takes_away_what_it_does_not_allow(16, "1h", hang_up).await;
}

#[tokio::test]
async fn another_map_comes_into_force_by_itself_and_takes_away_what_it_does_not_allow() {
    another_map_takes_away_what_it_does_not_allow(15, "1s", |_| {}).await;
}

#[tokio::test]
async fn a_map_that_cannot_be_used_leaves_the_one_before_in_force_until_a_good_one_comes() {
    let bed = TestBed::start_with(16, every("1s"));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let (_, alices_role, _) = held(&issue(&bed, alice, "orders_read").await);
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    assert_eq!(readiness(&bed).await, (200, "current".to_owned()));

    let good = edited(&map, "orders-readers", "corp bob orders_read\n");
    replace(&path, &format!("{good}corp alice\ncorp /^(a orders_read\n"));
    let refused = told(&bed, "map.refused", 1).await;
    assert_eq!(refused[0]["outcome"], "refused");
    assert_eq!(refused[0]["cause"], "map_mistakes");
    assert!(refused[0]["map_revision"].is_null(), "{refused:?}");
    let lines = good.lines().count();
    for line in [lines + 1, lines + 2] {
        let place = format!("pg_ident.conf:{line}:");
        let detail = refused[0]["detail"].as_str().expect("why");
        assert!(detail.contains(&place), "{place} is not in {detail}");
        assert!(bed.log().contains(&place), "{place} is not in {}", bed.log());
    }
    // Not what it was when somebody last asked.
    assert_eq!(readiness(&bed).await, (200, "stale".to_owned()));
    assert!(metrics(&bed).await.contains("pgbridge_map_stale 1"));
    held(&issue(&bed, alice, "orders_read").await);
    // A map that is not there any more, or none of whose lines is, is no map either.
    fs::remove_file(&path).expect("it is there");
    told(&bed, "map.refused", 2).await;
    fs::write(&path, "").expect("it can be written");
    let refused = told(&bed, "map.refused", 3).await;
    let detail = refused[2]["detail"].as_str().expect("why");
    for name in ["`corp`", "`corp-groups`", "`duties`"] {
        assert!(detail.contains(name), "{name} is not in {detail}");
    }
    held(&issue(&bed, bob, "orders_read").await);
    assert!(bed.lease_roles().contains(&alices_role));
    assert_eq!(of_action(&bed, "map.reloaded"), Vec::<Value>::new());

    // Nobody waits for who would write into a pipe.
    fs::remove_file(&path).expect("it is there");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("it runs");
    assert!(made.success());
    let refused = told(&bed, "map.refused", 4).await;
    let detail = refused[3]["detail"].as_str().expect("why");
    assert!(detail.contains("pg_ident.conf"), "{detail}");

    // The same as in force is in force, whatever came between.
    replace(&path, &map);
    is_seen(&bed, "current").await;
    assert_eq!(of_action(&bed, "map.reloaded"), Vec::<Value>::new());

    replace(&path, &good);
    told(&bed, "map.reloaded", 1).await;
    until("alice's roles to be gone", async || (bed.lease_roles().len() == 1).then_some(())).await;
    is_seen(&bed, "current").await;
    let metrics = metrics(&bed).await;
    assert!(metrics.contains("pgbridge_map_stale 0"), "{metrics}");
    assert!(metrics.contains("pgbridge_map_refused_total 4"), "{metrics}");
    assert_eq!(of_action(&bed, "map.refused").len(), 4);
}

#[tokio::test]
async fn files_that_the_map_includes_are_followed_too_and_those_that_come_later() {
    let bed = TestBed::start_with(16, every("1s"));
    let carol = bed.login("carol").await;
    let carol = Caller::Session(&carol);
    let path = bed.file("pg_ident.conf");
    fs::create_dir(bed.file("conf.d")).expect("a directory can be made");
    let map = fs::read_to_string(&path).expect("the map");
    replace(&path, &format!("{map}include_if_exists \"more.conf\"\ninclude_dir \"conf.d\"\n"));
    in_force(&bed, 1).await;
    assert_eq!(issue(&bed, carol, "orders_read").await.status, 403);

    let reads = "corp carol orders_read\n";
    for (number, (file, text)) in [
        ("more.conf", reads),
        ("more.conf", "# nobody\n"),
        ("conf.d/a.conf", reads),
        ("conf.d/a.conf", "corp carol orders_write\n"),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&bed.file(file), text);
        in_force(&bed, number + 2).await;
        let answer = issue(&bed, carol, "orders_read").await;
        assert_eq!(answer.status, if text == reads { 201 } else { 403 }, "{file}: {text}");
        if text == reads {
            assert_eq!(answer.text("/lease/rule/file"), file);
            let (decided, matched) = decided_again(&bed, &answer.text("/lease/id")).await;
            assert!(matches!(decided, MapDecision::Allowed(rule) if rule.file == file));
            assert_eq!(matched, "carol");
        }
    }
    until("carol's roles to be gone", async || bed.lease_roles().is_empty().then_some(())).await;
}

/// What was seen of somebody counts for the map while their directory is away: it is the map that
/// takes away, and whoever it keeps loses nothing.
#[tokio::test]
async fn a_map_takes_away_what_it_does_not_allow_also_while_the_directory_is_away() {
    alice_loses_by_the_map_when(|bed| bed.directory.stop()).await;
}

/// Whom the directory does not show any more is believed to be gone only later; what the map takes
/// away it takes away at once.
#[tokio::test]
async fn a_map_takes_away_what_it_does_not_allow_also_from_who_is_missing() {
    let gone = "dn: uid=alice,ou=people,dc=example,dc=test\nchangetype: delete\n";
    alice_loses_by_the_map_when(|bed| bed.directory.change(gone)).await;
}

/// The same from whom the directory had not shown already when the map came.
#[tokio::test]
async fn a_map_takes_away_what_it_does_not_allow_also_from_who_was_missing_before() {
    let bed = TestBed::start_with(16, |config| {
        let held_back = "recheck_every = \"10s\"\nrecheck_grace = \"20s\"\nmax_missing = 1";
        every("1h")(config).replace("[broker]", &format!("[broker]\n{held_back}"))
    });
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
    let (_, kept, _) = held(&issue(&bed, Caller::Session(&bob), "orders_write").await);
    bed.directory.change(
        "dn: uid=alice,ou=people,dc=example,dc=test\nchangetype: delete\n\n\
         dn: uid=bob,ou=people,dc=example,dc=test\nchangetype: delete\n",
    );
    // Nothing of theirs ends for that.
    until("both to be held back", async || {
        metrics(&bed).await.contains("pgbridge_people_held_back{way=\"corp\"} 2").then_some(())
    })
    .await;
    assert_eq!(bed.lease_roles().len(), 2);
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    replace(&path, &edited(&map, "orders-readers", ""));
    bed.signal(Signal::Hangup);
    until("alice's role to be gone", async || (bed.lease_roles() == [kept.clone()]).then_some(()))
        .await;
}

/// After `happens` to the directory, a new map takes from alice what her group gave her; bob keeps
/// what he has.
async fn alice_loses_by_the_map_when(happens: impl FnOnce(&mut TestBed)) {
    let mut bed = TestBed::start_with(16, every("1h"));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
    let (_, kept, _) = held(&issue(&bed, Caller::Session(&bob), "orders_write").await);
    happens(&mut bed);
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    replace(&path, &edited(&map, "orders-readers", ""));
    bed.signal(Signal::Hangup);
    until("alice's role to be gone", async || (bed.lease_roles() == [kept.clone()]).then_some(()))
        .await;
}

/// Alice left one group for another, and the map follows: nobody may go by what was seen before.
#[tokio::test]
async fn who_changed_groups_with_the_map_keeps_what_the_new_one_allows() {
    let bed = TestBed::start_with(16, every("1h"));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (_, alices_role, _) = held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
    let (_, bobs_role, _) = held(&issue(&bed, Caller::Session(&bob), "orders_read").await);
    let change = "dn: cn=auditors,ou=groups,dc=example,dc=test\nchangetype: modify\nadd: member\n\
                  member: uid=alice,ou=people,dc=example,dc=test\n";
    bed.directory.change(change);
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    let new = "corp-groups \"cn=auditors,ou=groups,dc=example,dc=test\" orders_read\n";
    replace(&path, &edited(&map, "orders-readers", new));
    bed.signal(Signal::Hangup);
    until("bob's role to be gone", async || {
        (!bed.lease_roles().contains(&bobs_role)).then_some(())
    })
    .await;
    logged(&bed, "all that people have was held against the map in force").await;
    assert_eq!(bed.lease_roles(), [alices_role]);
}
