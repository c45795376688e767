//! What auditors ask the map of a running broker, and of the directory behind it.

use std::fs;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use crate::support::{Answer, Caller, TestBed};

const READERS: &str = "cn=orders-readers,ou=groups,dc=example,dc=test";
const WRITERS: &str = "cn=orders-writers,ou=groups,dc=example,dc=test";

/// A path with these parameters.
fn path(place: &str, parameters: &[(&str, &str)]) -> String {
    format!("{place}?{}", Serializer::new(String::new()).extend_pairs(parameters).finish())
}

async fn get(bed: &TestBed, token: &str, path: &str) -> Answer {
    bed.call(Method::GET, path, Caller::Session(token), None).await
}

/// The audit as the program exports it.
fn audit(bed: &TestBed) -> Vec<Value> {
    let config = bed.file("pgbridge.toml").display().to_string();
    let mut export = bed.cli("auditor");
    let output = export.args(["audit", "export", "--config", &config]).output().expect("it runs");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn an_auditor_is_told_why_who_and_what_and_each_question_is_recorded() {
    let bed = TestBed::start(16);
    let carol = bed.login("carol").await;

    let asked = [
        ("user", "bob"),
        ("cluster", "orders"),
        ("role", "orders_write"),
        ("group", READERS),
        ("group", WRITERS),
    ];
    let told = get(&bed, &carol, &path("/v1/explain", &asked)).await;
    assert_eq!(told.status, 200, "{told:?}");
    let told = &told.json()["explanations"][0];
    assert_eq!(told["verdict"], "allowed", "{told:#}");
    assert_eq!(told["by_group"], WRITERS);
    assert_eq!(told["rule"]["line"], 4);
    assert_eq!(told["terms"]["reason_required"], true);
    let denied = get(&bed, &carol, &path("/v1/explain", &asked[..4])).await.json();
    assert_eq!(denied.pointer("/explanations/0/verdict"), Some(&json!("denied")), "{denied:#}");

    let asked = [("cluster", "orders"), ("role", "orders_read")];
    let who = get(&bed, &carol, &path("/v1/who-can", &asked)).await.json();
    assert_eq!(who.pointer("/lines/0/who/name"), Some(&json!(READERS)), "{who:#}");
    assert_eq!(who.pointer("/lines/0/of"), Some(&json!("group")));

    let asked = [("user", "carol"), ("group", WRITERS)];
    let what = get(&bed, &carol, &path("/v1/what-can", &asked)).await.json();
    let roles = what.pointer("/people/0/roles").and_then(Value::as_array).expect("roles");
    let roles: Vec<_> = roles.iter().map(|role| role["role"].as_str().unwrap_or("")).collect();
    assert_eq!(roles, ["orders_write", "reports_read"]);

    let records = audit(&bed);
    let read: Vec<_> = records.iter().filter(|record| record["action"] == "review.read").collect();
    let details: Vec<_> =
        read.iter().map(|record| record["detail"].as_str().unwrap_or("")).collect();
    assert_eq!(details, ["explain: bob", "explain: bob", "who-can", "what-can: carol"]);
    assert_eq!((&read[0]["cluster"], &read[0]["role"]), (&json!("orders"), &json!("orders_write")));
}

#[tokio::test]
async fn nobody_but_an_auditor_may_ask_the_map() {
    let bed = TestBed::start(16);
    let paths = [
        path("/v1/explain", &[("user", "bob"), ("cluster", "orders")]),
        path("/v1/who-can", &[("cluster", "orders"), ("role", "orders_read")]),
        path("/v1/what-can", &[("user", "bob")]),
    ];
    let (alice, carol) = (bed.login("alice").await, bed.login("carol").await);
    for path in &paths {
        let refused = get(&bed, &alice, path).await;
        assert_eq!(refused.status, 403, "{path}: {refused:?}");
        assert_eq!(refused.text("/type"), "urn:pgbridge:problem:duty-needed");
        assert!(refused.text("/detail").contains("auditor"), "{refused:?}");
        assert_eq!(get(&bed, &carol, path).await.status, 200, "{path}");
    }
    // An operator who is no auditor is refused too.
    bed.directory.change(
        "dn: cn=operators,ou=groups,dc=example,dc=test\nchangetype: modify\nadd: member\n\
         member: uid=bob,ou=people,dc=example,dc=test\n",
    );
    let bob = bed.login("bob").await;
    let duties = get(&bed, &bob, "/v1/whoami").await.json();
    assert_eq!(duties["duties"], json!({ "auditor": false, "operator": true }));
    for path in &paths {
        assert_eq!(get(&bed, &bob, path).await.status, 403, "{path}");
    }
    let refused = |record: &&Value| record["action"] == "access.refused";
    let records = audit(&bed);
    assert_eq!(records.iter().filter(refused).count(), 6);
    assert!(records.iter().filter(refused).all(|record| record["cause"] == "duty_needed"));
}

#[tokio::test]
async fn a_question_that_does_not_fit_says_so() {
    let bed = TestBed::start(16);
    let carol = bed.login("carol").await;
    let good = [("user", "bob"), ("cluster", "orders")];
    let with = |more: &[(&'static str, &'static str)]| path("/v1/explain", &[&good, more].concat());
    assert_eq!(get(&bed, &carol, &with(&[])).await.status, 200);
    for bad in [
        path("/v1/explain", &good[..1]),
        path("/v1/explain", &good[1..]),
        with(&[("cluster", "orders")]),
        with(&[("color", "red")]),
        with(&[("address", "here")]),
        with(&[("role", "pg_monitor")]),
        with(&[("way", "nowhere")]),
        path("/v1/explain", &[("user", "bob"), ("cluster", "nowhere")]),
        path("/v1/who-can", &[("cluster", "orders")]),
        path("/v1/who-can", &[("cluster", "nowhere"), ("role", "orders_read")]),
        path("/v1/what-can", &[("user", "bob"), ("user", "alice")]),
        path("/v1/what-can", &[("user", "bob"), ("way", "nowhere")]),
        path("/v1/what-can", &[("user", &"b".repeat(257))]),
        with(&[("duty", "auditor")]),
        path("/v1/who-can", &[("duty", "owner")]),
    ] {
        let refused = get(&bed, &carol, &bad).await;
        assert_eq!(refused.status, 422, "{bad}: {refused:?}");
        assert_eq!(refused.text("/type"), "urn:pgbridge:problem:query-unfit", "{bad}");
    }
}

#[tokio::test]
async fn why_a_lease_was_issued_is_told_again_from_the_map_of_its_time() {
    let mut bed = TestBed::start(16);
    let alice = bed.login("alice").await;
    let wish = json!({ "cluster": "orders", "role": "orders_read" });
    let path = "/v1/leases";
    let issued = bed.call(Method::POST, path, Caller::Session(&alice), Some(wish)).await;
    let id = issued.text("/lease/id");
    let path = format!("/v1/operator/leases/{id}/explanation");
    let of = |told: &Value, pointer: &str| told.pointer(pointer).cloned().unwrap_or_default();

    let carol = bed.login("carol").await;
    let told = get(&bed, &carol, &path).await;
    assert_eq!(told.status, 200, "{told:?}");
    let told = told.json();
    assert_eq!(of(&told, "/person"), "ldap:corp:alice");
    assert_eq!(of(&told, "/then/again"), "same", "{told:#}");
    assert_eq!((of(&told, "/then/line"), of(&told, "/then/by_group")), (json!(3), json!(READERS)));
    assert_eq!(of(&told, "/then/asked/lines/0/said"), "allows");
    assert_eq!(of(&told, "/now/verdict"), "allowed");

    assert_eq!(get(&bed, &alice, &path).await.status, 403);
    let absent = get(&bed, &carol, "/v1/operator/leases/abcdefghijklmnop/explanation").await;
    assert_eq!(absent.status, 404, "{absent:?}");

    // The map of today does not allow it any more; that of its time still says why it was.
    let map = fs::read_to_string(bed.file("pg_ident.conf")).expect("the map");
    let line = map.lines().find(|line| line.contains(READERS)).expect("a line");
    bed.stop();
    let other = line.replace(" orders_read", " reports_read");
    fs::write(bed.file("pg_ident.conf"), map.replace(line, &other)).expect("written");
    bed.start_again();
    let carol = bed.login("carol").await;
    let told = get(&bed, &carol, &path).await.json();
    assert_eq!(of(&told, "/then/again"), "same", "{told:#}");
    assert_ne!(of(&told, "/then/map_revision"), of(&told, "/now/map_revision"));
    assert_eq!(
        (of(&told, "/now/verdict"), of(&told, "/now/cause")),
        (json!("denied"), json!("not_mapped"))
    );

    let (code, stdout, stderr) = ask(&bed, &["explain", "--lease", &id]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("THEN: pg_ident.conf:3 let group `cn=orders-readers"), "{stdout}");
    assert!(stdout.contains("the map of that time says the same again"), "{stdout}");
    assert!(stdout.contains("NOW, NO: `alice`"), "{stdout}");
    let (code, stdout, _) = ask(&bed, &["explain", "--lease", &id, "--json"]);
    let from_store: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, from_store), (Some(0), told));
    let (code, stdout, stderr) = ask(&bed, &["explain", "--lease", "abcdefghijklmnop"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("the store has no lease abcdefghijklmnop"), "{stderr}");
}

#[tokio::test]
async fn members_of_a_group_role_are_asked_of_the_cluster_and_never_guessed() {
    for major in [15, 16] {
        let mut bed = TestBed::start(major);
        bed.postgres.sql(
            "postgres",
            "CREATE ROLE staff; CREATE ROLE team; GRANT staff TO team; GRANT team TO orders_read",
        );
        let map = fs::read_to_string(bed.file("pg_ident.conf")).expect("the map");
        bed.stop();
        fs::write(bed.file("pg_ident.conf"), format!("corp dora +staff\n{map}")).expect("written");
        bed.start_again();
        let explain = |bed: &TestBed, role: &str| {
            ask(bed, &["explain", "dora", "--cluster", "orders", "--role", role])
        };
        let (code, stdout, stderr) = explain(&bed, "orders_read");
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{major}: {stdout}");
        assert!(stdout.contains("pg_ident.conf:1"), "{stdout}");
        assert_eq!(explain(&bed, "orders_write").0, Some(1));

        let carol = bed.login("carol").await;
        let what = get(&bed, &carol, &path("/v1/what-can", &[("user", "dora")])).await.json();
        let roles = what.pointer("/people/0/roles").and_then(Value::as_array).expect("roles");
        let roles: Vec<_> = roles.iter().map(|role| (&role["role"], &role["verdict"])).collect();
        assert_eq!(roles, [(&json!("orders_read"), &json!("allowed"))], "{major}");
        let asked = [("cluster", "orders"), ("role", "orders_write")];
        let who = get(&bed, &carol, &path("/v1/who-can", &asked)).await.json();
        let who = who["lines"].as_array().expect("lines");
        assert!(who.iter().all(|line| line["line"] != 1), "{who:#?}");

        bed.postgres.stop();
        let (code, stdout, stderr) = explain(&bed, "orders_read");
        assert_eq!(code, Some(2), "{stdout}");
        assert!(stdout.starts_with("UNKNOWN: `dora`"), "{stdout}");
        assert!(stderr.contains("cluster orders does not say who is a member of what"), "{stderr}");
        let asked = [("user", "dora"), ("cluster", "orders"), ("role", "orders_read")];
        let told = get(&bed, &carol, &path("/v1/explain", &asked)).await.json();
        let verdict = told.pointer("/explanations/0/verdict");
        assert_eq!(verdict, Some(&json!("unknown")), "{told:#}");
    }
}

/// The program with the configuration of the bed.
fn ask(bed: &TestBed, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = bed.file("pgbridge.toml").display().to_string();
    let mut command = bed.cli("auditor");
    let output = command.args(arguments).args(["--config", &config]).stdin(Stdio::null());
    let output = output.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn who_can_names_the_people_of_the_directory_and_an_outage_is_no_shorter_list() {
    let mut bed = TestBed::start(16);
    fs::write(
        bed.file("pg_ident.conf"),
        format!(
            "corp /^(?:er)?in$ \\1\ncorp /^.*r.*$ orders_read\ncorp-groups \"{READERS}\" orders_read\n\
             corp carol orders_write\nduties \"{READERS}\" auditor\n"
        ),
    )
    .expect("written");
    let who_can = ["who-can", "orders_read", "--cluster", "orders", "--resolve", "--json"];
    let (code, stdout, stderr) = ask(&bed, &who_can);
    assert_eq!(code, Some(0), "{stderr}");
    let told: Value = serde_json::from_str(&stdout).expect("JSON");
    let mut people: Vec<_> = told["people"]
        .as_array()
        .expect("people")
        .iter()
        .map(|person| {
            let text = |key: &str| person[key].as_str().unwrap_or_default().to_owned();
            (text("system_user"), person["line"].as_u64().unwrap_or(0), text("group"))
        })
        .collect();
    people.sort();
    let by_name = |name: &str| (name.to_owned(), 2, String::new());
    let by_group = |name: &str| (name.to_owned(), 3, READERS.to_owned());
    let expected = [
        by_group("alice"),
        by_group("bob"),
        by_name("carol"),
        // Erin is denied by the first line.
        by_name("frank"),
        by_name("jürgen"),
        by_name(r"we, ird (x)*\"),
    ];
    assert_eq!(people, expected);
    assert_eq!(
        told["left_out"],
        json!([
            { "way": "corp", "why": "locked", "entries": 1 },
            { "way": "corp", "why": "several_entries", "entries": 2 },
        ])
    );
    let (code, stdout, _) = ask(&bed, &who_can[..5]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("6 people who could log in"), "{stdout}");
    assert!(stdout.contains("left out at corp: 1 who could not log in (locked)"), "{stdout}");

    bed.directory.stop();
    let (code, stdout, stderr) = ask(&bed, &who_can);
    assert_eq!(code, Some(2), "{stderr}");
    let told: Value = serde_json::from_str(&stdout).expect("JSON");
    let why = told["load_error"].as_str().expect("a reason");
    assert!(why.contains("no part of the answer is shown") && told["people"].is_null(), "{told}");
    assert!(stderr.contains("no part of the answer is shown"), "{stderr}");
    assert_eq!(stderr.matches("the directory did not show everybody").count(), 1, "{stderr}");
    // Without the directory the lines still say who may.
    assert_eq!(ask(&bed, &who_can[..4]).0, Some(0));
}

#[tokio::test]
async fn an_auditor_asks_for_the_duties_of_the_broker_as_for_roles() {
    let bed = TestBed::start(16);
    let carol = bed.login("carol").await;
    let asked = [("user", "carol"), ("duty", "auditor")];
    let alone = get(&bed, &carol, &path("/v1/explain", &asked)).await.json();
    assert_eq!(alone.pointer("/explanations/0/verdict"), Some(&json!("denied")), "{alone:#}");
    // By her groups she has it: she could not have asked otherwise.
    let duties = get(&bed, &carol, "/v1/whoami").await.json();
    assert_eq!(duties["duties"]["auditor"], true, "{duties:#}");
    let groups = duties["groups"].as_array().expect("groups").clone();
    let groups: Vec<_> = groups.iter().map(|group| group.as_str().unwrap_or_default()).collect();
    let groups: Vec<_> = groups.into_iter().map(|group| ("group", group)).collect();
    let told =
        get(&bed, &carol, &path("/v1/explain", &[&asked[..], &groups].concat())).await.json();
    let told = &told["explanations"][0];
    assert_eq!((&told["verdict"], &told["role"]), (&json!("allowed"), &json!("auditor")));
    assert!(told.get("cluster").is_none() && told.get("terms").is_none(), "{told:#}");
    let asked = [&[("user", "carol")][..], &groups].concat();
    let what = get(&bed, &carol, &path("/v1/what-can", &asked)).await.json();
    assert_eq!(what.pointer("/people/0/duties/0/duty"), Some(&json!("auditor")), "{what:#}");
    let who = get(&bed, &carol, &path("/v1/who-can", &[("duty", "auditor")])).await.json();
    assert_eq!(who["lines"][0]["line"], told["rule"]["line"], "{who:#}");
    let unknown = get(&bed, &carol, "/v1/who-can?cluster=order&role=orders_read").await;
    assert!(unknown.text("/detail").contains("did you mean `orders`?"), "{unknown:?}");
}

#[test]
fn the_groups_of_one_person_are_those_of_the_directory_or_there_is_no_answer() {
    let mut bed = TestBed::start(16);
    let explain = |bed: &TestBed, user: &str, more: &[&str]| {
        let asked = ["explain", user, "--cluster", "orders", "--role", "orders_write"];
        ask(bed, &[&asked[..], more].concat())
    };
    let (code, stdout, stderr) = explain(&bed, "bob", &["--resolve"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains(&format!("group `{WRITERS}`")), "{stdout}");
    assert_eq!(explain(&bed, "alice", &["--resolve"]).0, Some(1));
    assert_eq!(explain(&bed, "bob", &[]).0, Some(1));
    let (code, stdout, stderr) = ask(&bed, &["what-can", "bob", "--resolve", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let told: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(told.pointer("/people/0/groups"), Some(&json!([READERS, WRITERS])), "{told:#}");
    let (code, stdout, stderr) = ask(&bed, &["explain", "carol", "--duty", "auditor", "--resolve"]);
    assert_eq!(code, Some(0), "{stdout}\n{stderr}");
    for (user, why) in [
        ("dave", "the account is locked"),
        ("mallory", "no entry has this name"),
        ("Bob", "the account is called `bob` now"),
    ] {
        let (code, stdout, stderr) = explain(&bed, user, &["--resolve"]);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{user}: {stderr}");
        let said = format!("nobody of this name could log in; way in corp: {why}");
        assert!(stderr.contains(&said), "{user}: {stderr}");
    }
    bed.directory.stop();
    let (code, stdout, stderr) = explain(&bed, "bob", &["--resolve"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.contains("it cannot be said which groups they are in"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(stderr.matches("cannot be said").count(), 1, "{stderr}");
}
