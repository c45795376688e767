//! Offboarding, with a real directory: whoever loses a group or the account loses what rested on it,
//! and whoever keeps it keeps all. And operators: what they end, by person, role and cluster.

mod domain;
mod missing;
mod namesake;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

use crate::support::{Answer, Caller, SOON, TestBed, TestCa, until};

const READERS: &str = "cn=orders-readers,ou=groups,dc=example,dc=test";
const OPERATORS: &str = "cn=operators,ou=groups,dc=example,dc=test";

/// Everybody is looked up every ten seconds, and a look counts for twenty.
fn often(config: &str) -> String {
    let often = "[broker]\nrecheck_every = \"10s\"\nrecheck_grace = \"20s\"";
    config.replace("[broker]", often)
}

fn dn(person: &str) -> String {
    format!("uid={person},ou=people,dc=example,dc=test")
}

fn leave(bed: &TestBed, person: &str, group: &str) {
    let member = dn(person);
    bed.directory
        .change(&format!("dn: {group}\nchangetype: modify\ndelete: member\nmember: {member}\n"));
}

async fn issue(bed: &TestBed, caller: Caller<'_>, role: &str) -> Answer {
    let wish = json!({ "cluster": "orders", "role": role, "ttl": "10m", "reason": "ticket 7" });
    bed.call(Method::POST, "/v1/leases", caller, Some(wish)).await
}

/// Id and role of what was issued.
#[track_caller]
fn held(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 201, "{answer:?}");
    (answer.text("/lease/id"), answer.text("/lease/role_name"))
}

async fn renew(bed: &TestBed, caller: Caller<'_>, id: &str, body: Value) -> Answer {
    bed.call(Method::POST, &format!("/v1/leases/{id}/renew"), caller, Some(body)).await
}

async fn show(bed: &TestBed, caller: Caller<'_>, path: &str) -> Answer {
    bed.call(Method::GET, path, caller, None).await
}

/// The answer of `ask` once it has `status`.
async fn answer_of<Asked: Future<Output = Answer>>(status: u16, ask: impl Fn() -> Asked) -> Answer {
    until(&format!("an answer with status {status}"), async || {
        let answer = ask().await;
        (answer.status == status).then_some(answer)
    })
    .await
}

/// Waits until these and no others are the lease roles on the cluster.
#[track_caller]
fn only_roles(bed: &TestBed, roles: &[&str]) {
    let mut roles = roles.to_vec();
    roles.sort_unstable();
    let mut last = Vec::new();
    for _ in 0..SOON.as_millis() / 50 {
        last = bed.lease_roles();
        if last == roles {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{last:?} and not {roles:?}\n{}", bed.log());
}

fn of_action<'a>(records: &'a [Value], action: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["action"] == action).collect()
}

/// The broker is far from looking by itself: it is the renewal that asks.
#[tokio::test]
async fn who_loses_the_group_is_refused_the_next_renewal_and_the_lease_ends() {
    let bed = TestBed::start(16);
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let (id, _) = held(&issue(&bed, alice, "orders_read").await);
    let (bobs, bobs_role) = held(&issue(&bed, bob, "orders_read").await);
    assert_eq!(renew(&bed, alice, &id, json!({})).await.status, 200);
    leave(&bed, "alice", READERS);

    let refused = answer_of(403, || renew(&bed, alice, &id, json!({}))).await;
    assert!(refused.text("/type").ends_with(":not-on-offer"), "{refused:?}");
    assert_eq!(renew(&bed, bob, &bobs, json!({})).await.status, 200);
    only_roles(&bed, &[&bobs_role]);
    let lease = show(&bed, alice, &format!("/v1/leases/{id}")).await;
    assert_eq!(lease.text("/end"), "withdrawn");
    // What was seen then counts for a new lease too; the login itself stands.
    assert_eq!(issue(&bed, alice, "orders_read").await.status, 403);
    assert_eq!(issue(&bed, bob, "orders_read").await.status, 201);
    let me = show(&bed, alice, "/v1/whoami").await;
    assert_eq!((me.status, me.json()["groups"].clone()), (200, json!([])));

    let records = bed.records();
    let about = |action: &str| {
        let all = of_action(&records, action);
        all.into_iter().rfind(|record| record["lease"] == *id).cloned().expect("a record")
    };
    let renewal = about("lease.renewed");
    assert_eq!((&renewal["outcome"], &renewal["cause"]), (&json!("refused"), &json!("not_mapped")));
    let end = about("lease.revoke_requested");
    assert_eq!((&end["cause"], &end["person"]), (&json!("withdrawn"), &json!("ldap:corp:alice")));
    assert!(end["detail"].as_str().expect("why").starts_with("not_mapped: "), "{end}");
    assert!(of_action(&records, "person.gone").is_empty());
}

#[tokio::test]
async fn who_loses_the_group_loses_lease_and_duty_within_the_period_without_asking() {
    let bed = TestBed::start_with(15, |config| often(&config));
    let tokens = [bed.login("alice").await, bed.login("bob").await, bed.login("carol").await];
    let [alice, bob, carol] = tokens.each_ref().map(|token| Caller::Session(token));
    held(&issue(&bed, alice, "orders_read").await);
    let (_, bobs_role) = held(&issue(&bed, bob, "orders_read").await);
    let revoke = json!({ "cluster": "orders", "dry_run": true });
    let ask = || bed.call(Method::POST, "/v1/operator/revoke", carol, Some(revoke.clone()));
    assert_eq!(ask().await.status, 200);
    leave(&bed, "alice", READERS);
    // A group must have a member, and dave is locked.
    let dave = dn("dave");
    bed.directory
        .change(&format!("dn: {OPERATORS}\nchangetype: modify\nreplace: member\nmember: {dave}\n"));
    only_roles(&bed, &[&bobs_role]);
    answer_of(403, ask).await;
    // Carol is an auditor still, and alice is still who she is.
    assert_eq!(show(&bed, carol, "/v1/operator/leases").await.status, 200);
    assert_eq!(show(&bed, alice, "/v1/whoami").await.status, 200);
    let metrics = show(&bed, Caller::Nobody, "/metrics").await.body;
    for metric in
        ["pgbridge_rechecks_total{", "result=\"good\"", "pgbridge_oldest_look_seconds{way=\"corp\""]
    {
        assert!(metrics.contains(metric), "{metric} is not in {metrics}");
    }
}

#[tokio::test]
async fn whoever_is_deleted_or_locked_for_good_loses_sessions_and_leases() {
    let bed = TestBed::start_with(16, |config| often(&config));
    let tokens = [bed.login("alice").await, bed.login("bob").await, bed.login("carol").await];
    let [alice, bob, carol] = tokens.each_ref().map(|token| Caller::Session(token));
    held(&issue(&bed, alice, "orders_read").await);
    held(&issue(&bed, bob, "orders_write").await);
    held(&issue(&bed, bob, "orders_read").await);
    let wish = json!({ "cluster": "orders", "role": "reports_read" });
    let kept = bed.call(Method::POST, "/v1/leases", carol, Some(wish)).await;
    let (_, carols_role) = held(&kept);
    bed.directory.change(&format!("dn: {}\nchangetype: delete\n", dn("alice")));
    bed.directory.change(&format!(
        "dn: {}\nchangetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n",
        dn("bob")
    ));
    only_roles(&bed, &[&carols_role]);
    for gone in [alice, bob] {
        answer_of(401, || show(&bed, gone, "/v1/whoami")).await;
    }
    assert_eq!(show(&bed, carol, "/v1/whoami").await.status, 200);

    let records = bed.records();
    let gone = of_action(&records, "person.gone");
    let mut told: Vec<_> = gone
        .iter()
        .map(|record| (record["person"].as_str().unwrap(), record["cause"].as_str().unwrap()))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("ldap:corp:alice", "unknown_account"), ("ldap:corp:bob", "locked")]);
    let ended = of_action(&records, "lease.revoke_requested");
    let withdrawn = ended.iter().filter(|record| record["cause"] == "withdrawn");
    assert_eq!(withdrawn.count(), 3);

    // Unlocked, bob may come again; what was his stays gone.
    bed.directory
        .change(&format!("dn: {}\nchangetype: modify\ndelete: pwdAccountLockedTime\n", dn("bob")));
    let bob = bed.login("bob").await;
    held(&issue(&bed, Caller::Session(&bob), "orders_read").await);
}

#[tokio::test]
async fn while_the_directory_is_away_what_was_seen_counts_for_the_grace_and_leases_live_on() {
    let mut bed = TestBed::start_with(16, |config| often(&config));
    let (alice, carol) = (bed.login("alice").await, bed.login("carol").await);
    let (id, role) = {
        let (id, role) = held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
        assert_eq!(renew(&bed, Caller::Session(&alice), &id, json!({})).await.status, 200);
        (id, role)
    };
    bed.directory.stop();
    let (alice, carol) = (Caller::Session(&alice), Caller::Session(&carol));
    assert_eq!(renew(&bed, alice, &id, json!({})).await.status, 200, "within the grace");

    let away = answer_of(503, || renew(&bed, alice, &id, json!({}))).await;
    assert!(away.text("/type").ends_with(":directory-away"), "{away:?}");
    assert!(away.headers.contains_key("retry-after"), "{away:?}");
    assert_eq!(issue(&bed, alice, "orders_read").await.status, 503);
    answer_of(503, || show(&bed, carol, "/v1/operator/leases")).await;
    // Nothing ends for it, and nobody must wait for a directory to end something.
    assert_eq!(show(&bed, alice, &format!("/v1/leases/{id}")).await.text("/state"), "active");
    only_roles(&bed, &[&role]);
    let which = json!({ "person": "ldap:alice", "cluster": "orders", "dry_run": true });
    let rehearsed = bed.call(Method::POST, "/v1/operator/revoke", carol, Some(which)).await;
    assert_eq!((rehearsed.status, rehearsed.text("/leases/0/id")), (200, id.clone()));
    let warned = bed.log().matches("people cannot be looked up again").count();
    assert_eq!(warned, 1, "{}", bed.log());

    bed.directory.start_again();
    answer_of(200, || renew(&bed, alice, &id, json!({}))).await;
    assert_eq!(issue(&bed, alice, "orders_read").await.status, 201);
    let causes: Vec<Value> = of_action(&bed.records(), "lease.renewed")
        .iter()
        .filter(|record| record["outcome"] == "refused")
        .map(|record| record["cause"].clone())
        .collect();
    assert!(!causes.is_empty() && causes.iter().all(|cause| cause == "directory_unreachable"));
}

#[tokio::test]
async fn what_a_new_map_does_not_allow_ends_after_the_restart() {
    let mut bed = TestBed::start_with(16, |config| often(&config));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    held(&issue(&bed, Caller::Session(&alice), "orders_read").await);
    held(&issue(&bed, Caller::Session(&bob), "orders_read").await);
    let (_, kept) = held(&issue(&bed, Caller::Session(&bob), "orders_write").await);
    bed.stop();
    let path = bed.file("pg_ident.conf");
    let map = fs::read_to_string(&path).expect("the map");
    let kept_lines: Vec<&str> =
        map.lines().filter(|line| !line.contains("orders-readers")).collect();
    fs::write(&path, kept_lines.join("\n") + "\n").expect("written");
    bed.start_again();
    only_roles(&bed, &[&kept]);
    assert_eq!(show(&bed, Caller::Session(&alice), "/v1/whoami").await.status, 200);
}

/// F-19: whatever of it came first, nothing of it stays.
#[tokio::test]
async fn a_lease_issued_while_its_person_is_removed_does_not_stay() {
    let bed = TestBed::start_with(15, |config| often(&config));
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (_, bobs_role) = held(&issue(&bed, Caller::Session(&bob), "orders_read").await);
    let wishes = (0..5).map(|_| issue(&bed, Caller::Session(&alice), "orders_read"));
    let removal = async {
        bed.directory.change(&format!("dn: {}\nchangetype: delete\n", dn("alice")));
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(wishes), removal);
    assert!(answers.iter().all(|answer| [201, 401, 403].contains(&answer.status)), "{answers:?}");
    answer_of(401, || issue(&bed, Caller::Session(&alice), "orders_read")).await;
    only_roles(&bed, &[&bobs_role]);
}

/// A client whose calls come from another address of this machine.
async fn renew_from(bed: &TestBed, address: [u8; 4], token: &str, id: &str) -> u16 {
    let authority = Certificate::from_pem(TestCa::shared().pem().as_bytes()).expect("one");
    let client = Client::builder().tls_certs_only([authority]);
    let client = client.local_address(IpAddr::V4(Ipv4Addr::from(address)));
    let client = client.build().expect("a client can be made");
    let url = format!("{}/v1/leases/{id}/renew", bed.url());
    let answer = client.post(url).bearer_auth(token).json(&json!({})).send().await;
    answer.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_renewal_from_a_network_that_is_not_admitted_is_refused_and_the_lease_stays() {
    let bed = TestBed::start_with(15, |config| {
        let role = "role = \"orders_read\"";
        config.replace(role, &format!("{role}\nnetworks = [\"127.0.0.1/32\"]"))
    });
    let token = bed.login("alice").await;
    let (id, role) = held(&issue(&bed, Caller::Session(&token), "orders_read").await);
    assert_eq!(renew_from(&bed, [127, 0, 0, 2], &token, &id).await, 403);
    assert_eq!(renew_from(&bed, [127, 0, 0, 1], &token, &id).await, 200);
    only_roles(&bed, &[&role]);
}

#[tokio::test]
async fn a_renewal_that_names_no_time_never_shortens_and_one_that_does_may() {
    let bed = TestBed::start(16);
    let token = bed.login("alice").await;
    let alice = Caller::Session(&token);
    let wish = json!({ "cluster": "orders", "role": "orders_read", "ttl": "2h" });
    let issued = bed.call(Method::POST, "/v1/leases", alice, Some(wish)).await;
    let (id, _) = held(&issued);
    let end = issued.text("/lease/expires_at");
    let same = renew(&bed, alice, &id, json!({})).await;
    assert_eq!((same.status, same.text("/expires_at")), (200, end.clone()));
    let shorter = renew(&bed, alice, &id, json!({ "ttl": "10m" })).await;
    assert!(shorter.text("/expires_at") < end, "{shorter:?}");
    let longer = renew(&bed, alice, &id, json!({})).await;
    assert!(longer.text("/expires_at") > shorter.text("/expires_at"), "{longer:?}");
}

#[tokio::test]
async fn a_person_has_no_more_leases_of_a_role_than_its_profile_says() {
    let bed = TestBed::start_with(16, |config| {
        let role = "role = \"orders_read\"";
        config.replace(role, &format!("{role}\nmax_leases = 2"))
    });
    let (alice, bob) = (bed.login("alice").await, bed.login("bob").await);
    let (alice, bob) = (Caller::Session(&alice), Caller::Session(&bob));
    let keyed = json!({ "cluster": "orders", "role": "orders_read", "idempotency_key": "k" });
    let (_, replaced) =
        held(&bed.call(Method::POST, "/v1/leases", alice, Some(keyed.clone())).await);
    let (id, _) = held(&issue(&bed, alice, "orders_read").await);
    let refused = issue(&bed, alice, "orders_read").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.text("/type").ends_with(":too-many-leases"), "{refused:?}");
    assert!(refused.text("/detail").contains("2 live leases"), "{refused:?}");
    // Another person and another role have room of their own.
    held(&issue(&bed, bob, "orders_read").await);
    held(&issue(&bed, bob, "orders_write").await);
    // One that takes another's place needs none, and one that ends makes some.
    let (_, again) = held(&bed.call(Method::POST, "/v1/leases", alice, Some(keyed)).await);
    assert_ne!(again, replaced);
    assert_eq!(issue(&bed, alice, "orders_read").await.status, 409);
    bed.call(Method::DELETE, &format!("/v1/leases/{id}"), alice, None).await;
    held(&issue(&bed, alice, "orders_read").await);
    let refusals = bed.records();
    let refused = refusals.iter().filter(|record| record["cause"] == "too_many_leases");
    assert_eq!(refused.count(), 2);
}

#[tokio::test]
async fn an_operator_ends_by_role_cluster_and_role_name_what_is_named_and_nothing_else() {
    let bed = TestBed::start(16);
    let tokens = [bed.login("alice").await, bed.login("bob").await, bed.login("carol").await];
    let [alice, bob, carol] = tokens.each_ref().map(|token| Caller::Session(token));
    let (_, alices) = held(&issue(&bed, alice, "orders_read").await);
    let (_, bobs) = held(&issue(&bed, bob, "orders_read").await);
    let (_, written) = held(&issue(&bed, bob, "orders_write").await);
    let wish = json!({ "cluster": "orders", "role": "reports_read" });
    let (_, carols) = held(&bed.call(Method::POST, "/v1/leases", carol, Some(wish)).await);
    let revoke = async |caller, which: Value| {
        bed.call(Method::POST, "/v1/operator/revoke", caller, Some(which)).await
    };
    let names = |answer: &Answer| {
        let leases = answer.json()["leases"].as_array().expect("leases").clone();
        let mut names: Vec<String> =
            leases.iter().map(|lease| lease["role_name"].as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    };
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (which, status) in [
        (json!({}), 422),
        (json!({ "dry_run": true }), 422),
        (json!({ "person": "alice" }), 422),
        (json!({ "cluster": "No" }), 422),
        (json!({ "role_name": "pg_x" }), 422),
        (json!({ "roles": ["orders_read"] }), 422),
    ] {
        assert_eq!(revoke(carol, which.clone()).await.status, status, "{which}");
    }
    let all = json!({ "cluster": "orders" });
    assert_eq!(revoke(alice, all.clone()).await.status, 403);

    let reading = json!({ "role": "orders_read", "dry_run": true });
    let rehearsed = revoke(carol, reading).await;
    assert_eq!((rehearsed.status, names(&rehearsed)), (200, sorted(vec![&alices, &bobs])));
    let nothing = revoke(carol, json!({ "role": "orders_read", "person": "ldap:carol" })).await;
    assert_eq!((nothing.status, names(&nothing)), (200, vec![]));
    only_roles(&bed, &[&alices, &bobs, &written, &carols]);

    let one = revoke(carol, json!({ "role_name": alices })).await;
    assert_eq!((one.status, names(&one)), (200, vec![alices.clone()]));
    only_roles(&bed, &[&bobs, &written, &carols]);
    let listed = show(&bed, carol, "/v1/operator/leases?role=orders_write&state=active").await;
    assert_eq!(names(&listed), [written.as_str()]);
    let by_both = json!({ "role": "orders_read", "cluster": "orders" });
    assert_eq!(names(&revoke(carol, by_both).await), [bobs.as_str()]);
    only_roles(&bed, &[&written, &carols]);
    // The logins stand: only a person who is named alone loses them.
    let (_, again) = held(&issue(&bed, alice, "orders_read").await);
    let ended = revoke(carol, all).await;
    assert_eq!(names(&ended), sorted(vec![&written, &carols, &again]));
    only_roles(&bed, &[]);
    let alone = revoke(carol, json!({ "person": "ldap:corp:bob" })).await;
    assert_eq!(alone.status, 200);
    assert_eq!(show(&bed, bob, "/v1/whoami").await.status, 401);
    assert_eq!(show(&bed, alice, "/v1/whoami").await.status, 200);

    let records = bed.records();
    let told = of_action(&records, "lease.revoke_requested");
    let summaries: Vec<&str> = told
        .iter()
        .filter(|record| record["lease"].is_null())
        .map(|record| record["detail"].as_str().expect("what"))
        .collect();
    let expected = [
        "revocation by selection",
        "revocation by selection: 1 lease",
        "revocation by selection: 1 lease",
        "revocation by selection: 3 leases",
        "every login",
    ];
    assert_eq!(summaries, expected);
    let ends = told.iter().filter(|record| record["cause"] == "operator");
    assert_eq!(ends.count(), 5);
}

#[test]
fn an_operator_ends_leases_by_the_program_and_is_asked_before_many_end() {
    let bed = TestBed::start(15);
    for person in ["alice", "bob", "carol"] {
        bed.cli_login(person);
    }
    let run = |person: &str, line: &str| {
        bed.cli(person).args(line.split(' ')).output().expect("pgbridge can be run")
    };
    let issued = |person, line: &str| {
        let output = run(person, &format!("issue orders --format json {line}"));
        assert!(output.status.success(), "{output:?}");
        let issued: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        issued["lease"]["role_name"].as_str().expect("a name").to_owned()
    };
    let alices = issued("alice", "--role orders_read");
    let bobs = issued("bob", "--role orders_read");
    let written = issued("bob", "--role orders_write --reason r");

    assert_eq!(run("alice", "leases --everyone").status.code(), Some(3));
    let listed = run("carol", "leases --everyone --person ldap:corp:bob --role orders_write");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains(&written) && text.contains("ldap:corp:bob"), "{text}");
    assert!(!text.contains(&bobs) && !text.contains(&alices), "{text}");

    assert_eq!(run("alice", "revoke --role orders_read --yes").status.code(), Some(3));
    let rehearsed = run("carol", "revoke --role orders_read --dry-run");
    let text = String::from_utf8_lossy(&rehearsed.stdout).into_owned();
    assert!(rehearsed.status.success() && text.contains(&alices) && text.contains(&bobs), "{text}");
    // Without a terminal nobody can be asked, so nothing ends.
    let mut unasked = bed.cli("carol");
    unasked.args(["revoke", "--role", "orders_read"]);
    let unasked = without_terminal(&unasked);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("2 leases would end"), "{unasked:?}");
    only_roles(&bed, &[&alices, &bobs, &written]);

    let one = run("carol", &format!("revoke --role-name {written}"));
    assert!(one.status.success(), "{one:?}");
    only_roles(&bed, &[&alices, &bobs]);
    let many = run("carol", "revoke --role orders_read --yes");
    assert!(many.status.success(), "{many:?}");
    only_roles(&bed, &[]);
    assert!(run("carol", "revoke --person ldap:corp:bob").status.success());
    assert_eq!(run("bob", "whoami").status.code(), Some(4));
    assert!(run("alice", "whoami").status.success());
}

/// Runs a command in a session of its own, which has no terminal.
fn without_terminal(command: &std::process::Command) -> std::process::Output {
    let mut own = std::process::Command::new("setsid");
    own.arg("--wait").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => own.env(name, value),
            None => own.env_remove(name),
        };
    }
    own.output().expect("setsid is installed")
}
