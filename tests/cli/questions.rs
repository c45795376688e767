//! What auditors ask the map on the command line, without any server.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::operate::{machine, run};
use super::{Machine, Outcome};

const CONFIG: &str = r#"[map]
file = "pg_ident.conf"

[[ldap]]
name = "corp"
map = "corp"
group_map = "corp-groups"
member_of_attribute = "memberOf"
ldapserver = ["127.0.0.1"]
ldapbasedn = "ou=people,dc=example,dc=test"
ldapsearchattribute = "uid"

[[ldap]]
name = "partner"
map = "partner"
ldapserver = ["127.0.0.1"]
ldapbasedn = "ou=people,dc=example,dc=test"
ldapsearchattribute = "uid"

[[cluster]]
name = "orders"
host = "127.0.0.1"
port = 1
sslmode = "disable"
user = "pgbridge"
password_file = "orders.password"

[[cluster.profile]]
role = "orders_read"
databases = ["orders", "archive"]

[[cluster.profile]]
role = "orders_write"
databases = ["orders"]
networks = ["10.0.0.0/8"]
reason = "required"
"#;

const MAP: &str = r#"# who may become what
corp         alice                                             orders_write
corp         "/^svc-(.*)$"                                     \1
corp         /^(?:tmp)?worker$                                 \1
corp         worker                                            orders_read
corp         dora                                              +staff
corp-groups  "cn=orders-readers,ou=groups,dc=example,dc=test"  orders_read
corp-groups  cn=admins                                         all
partner      /^.*$                                             orders_read
partner      eve                                               orders_read
"#;

const READERS: &str = "cn=orders-readers,ou=groups,dc=example,dc=test";

fn office() -> (Machine, PathBuf) {
    let (machine, directory) = machine(CONFIG);
    fs::write(directory.join("pg_ident.conf"), MAP).expect("written");
    (machine, directory)
}

/// The answer, whose exit code is this.
#[track_caller]
fn answer(code: i32, arguments: &[&str]) -> Outcome {
    let (machine, directory) = office();
    let outcome = run(&machine, &directory, arguments);
    assert_eq!(outcome.code, Some(code), "{}\n{}", outcome.stdout, outcome.stderr);
    outcome
}

#[track_caller]
fn json(code: i32, arguments: &[&str]) -> Value {
    let outcome = answer(code, &[arguments, &["--json"]].concat());
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

const EXPLAIN: [&str; 4] = ["explain", "--cluster", "orders", "--way=corp"];

fn explain<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&EXPLAIN[..], rest].concat()
}

#[test]
fn an_explanation_shows_the_lines_and_ends_with_the_answer_as_its_code() {
    let no_members = ["--member", "staff="];
    let of =
        |code: i32, rest: &[&str]| answer(code, &explain(&[rest, &no_members[..]].concat())).stdout;
    let story = [
        of(0, &["bob", "--role", "orders_read", "--groups", READERS, "--groups", "cn=other"]),
        of(1, &["Alice", "--role", "orders_write"]),
        of(1, &["worker", "--role", "orders_read", "--groups", READERS]),
        of(0, &["svc-orders_read", "--role", "orders_read"]),
        of(1, &["bob", "--role", "orders_read", "--groups", "orders-readers"]),
        of(0, &["alice", "--role", "orders_write", "--from", "10.1.2.3"]),
        of(1, &["alice", "--role", "orders_write", "--from", "192.0.2.1"]),
        of(1, &["alice", "--role", "orders_owner"]),
    ];
    insta::assert_snapshot!(story.join("\n"));
}

#[test]
fn each_way_in_and_each_role_that_may_be_meant_is_explained() {
    let all = json(0, &["explain", "eve", "--cluster", "orders", "--member", "staff="]);
    let all = all["explanations"].as_array().expect("a list");
    let told: Vec<_> = all
        .iter()
        .map(|one| {
            let word = |key: &str| one[key].as_str().expect("a word").to_owned();
            (word("way"), word("role"), word("verdict"))
        })
        .collect();
    let expected = [
        ("corp", "orders_read", "denied"),
        ("corp", "orders_write", "denied"),
        ("partner", "orders_read", "allowed"),
        ("partner", "orders_write", "denied"),
    ];
    assert_eq!(told, expected.map(|(way, role, word)| (way.into(), role.into(), word.into())));
}

#[test]
fn an_explanation_as_json_has_each_line_and_what_it_said() {
    let arguments = explain(&["svc-orders_read", "--role", "orders_write", "--member", "staff="]);
    let mut told = json(1, &arguments);
    // It depends on nothing else than the map above; its digits would be the same in every run.
    let revision = told["explanations"][0]["map_revision"].take();
    assert_eq!(revision.as_str().map(str::len), Some(64));
    insta::assert_snapshot!(serde_json::to_string_pretty(&told).expect("JSON"));
}

#[test]
fn members_that_nobody_knows_are_no_answer_and_members_that_are_said_are_one() {
    let dora =
        |rest: &[&'static str]| explain(&[&["dora", "--role", "orders_read"], rest].concat());
    let unknown = answer(2, &dora(&[]));
    assert!(unknown.stdout.starts_with("UNKNOWN: `dora`"), "{}", unknown.stdout);
    assert!(unknown.stderr.contains("cluster orders does not say"), "{}", unknown.stderr);
    answer(0, &dora(&["--member", "staff=orders_read"]));
    answer(0, &dora(&["--member", "staff=team", "--member", "team=orders_read"]));
    answer(1, &dora(&["--member", "staff=orders_write"]));
    answer(1, &dora(&["--member", "staff="]));
    answer(2, &dora(&["--member", "others=orders_read"]));
    // A line for them alone would decide, whoever is a member of what.
    let alice = answer(0, &explain(&["alice", "--role", "orders_write", "--member", "others="]));
    assert!(alice.stderr.is_empty(), "{}", alice.stderr);
}

#[test]
fn what_cannot_be_asked_is_no_no() {
    let elsewhere = answer(2, &["explain", "alice", "--cluster", "nowhere", "--member", "staff="]);
    assert!(
        elsewhere.stderr.contains("no cluster `nowhere` is configured"),
        "{}",
        elsewhere.stderr
    );
    let way = ["explain", "alice", "--cluster", "orders", "--way", "other", "--member", "staff="];
    assert!(answer(2, &way).stderr.contains("no way in `other` is configured"));
    let (machine, directory) = office();
    fs::write(directory.join("pg_ident.conf"), "corp alice\n").expect("written");
    run(&machine, &directory, &explain(&["alice"])).check(2, "1 mistake");
    run(&machine, &directory, &["who-can", "r", "--cluster", "orders"]).check(2, "1 mistake");
    run(&machine, &directory, &["what-can", "alice"]).check(2, "1 mistake");
}

#[test]
fn who_can_lists_the_lines_that_let_in_and_those_that_keep_out() {
    let no_members = ["--cluster", "orders", "--member", "staff="];
    let of = |code: i32, role: &str| {
        answer(code, &[&["who-can", role], &no_members[..]].concat()).stdout
    };
    insta::assert_snapshot!(
        [of(0, "orders_read"), of(0, "orders_write"), of(1, "orders_owner")].join("\n")
    );
}

#[test]
fn who_can_as_json_is_for_programs() {
    let told = json(
        0,
        &["who-can", "orders_read", "--cluster", "orders", "--member", "staff=orders_read"],
    );
    let lines = told["lines"].as_array().expect("a list");
    let of = |pointer: &str| told.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(lines.len(), 5, "{told:#}");
    assert_eq!(
        of("/lines/0/who"),
        serde_json::json!({
            "capture": { "pattern": "^svc-(.*)$", "capture": "orders_read" }
        })
    );
    assert_eq!(of("/lines/1/who"), serde_json::json!({ "name": "dora" }));
    assert_eq!(of("/lines/4/who"), "everybody");
    assert_eq!(of("/lines/4/way"), "partner");
    assert_eq!(of("/never/0/because_of/line"), 4);
    assert_eq!(of("/never/0/which"), "ends_the_scan");
    assert!(told.get("people").is_none());
}

#[test]
fn what_can_lists_the_roles_with_their_lines() {
    let no_members = ["--member", "staff="];
    let of = |code: i32, rest: &[&str]| {
        answer(code, &[&["what-can"], rest, &no_members[..]].concat()).stdout
    };
    let story = [
        of(0, &["alice", "--way", "corp", "--groups", READERS]),
        of(1, &["worker", "--way", "corp", "--groups", READERS]),
        of(1, &["nobody", "--way", "corp"]),
        of(0, &["nobody"]),
    ];
    insta::assert_snapshot!(story.join("\n"));
}

#[test]
fn what_was_typed_cannot_steer_the_terminal() {
    let hostile = "al\u{1b}[2Jice\nYES: all";
    let told = answer(1, &explain(&[hostile, "--role", "orders_read", "--member", "staff="]));
    assert!(!told.stdout.contains('\u{1b}'), "{}", told.stdout);
    assert!(!told.stdout.contains("\nYES"), "{}", told.stdout);
    let what = answer(1, &["what-can", hostile, "--way", "corp", "--member", "staff="]);
    assert!(!what.stdout.contains('\u{1b}') && !what.stdout.contains("\nYES"), "{}", what.stdout);
}
