//! What auditors ask the map on the command line, without any server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use super::operate::{machine, run, run_as_nobody};
use super::{Machine, Outcome};

pub(super) const CONFIG: &str = r#"[map]
file = "pg_ident.conf"

[access]
map = "duties"
group_map = "duty-groups"

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

pub(super) const MAP: &str = r#"# who may become what
corp         alice                                             orders_write
corp         "/^svc-(.*)$"                                     \1
corp         /^(?:tmp)?worker$                                 \1
corp         worker                                            orders_read
corp         dora                                              +staff
corp-groups  "cn=orders-readers,ou=groups,dc=example,dc=test"  orders_read
corp-groups  cn=admins                                         all
partner      /^.*$                                             orders_read
partner      eve                                               orders_read
duties       carol                                             auditor
duties       /^(?:tmp)?root$                                   \1
duty-groups  cn=operators                                      operator
"#;

const READERS: &str = "cn=orders-readers,ou=groups,dc=example,dc=test";

pub(super) fn office() -> (Machine, PathBuf) {
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
    let both = answer(2, &dora(&["--member", "staff=orders_read", "--member", "staff="]));
    assert!(
        both.stderr.contains("`--member staff=` says that staff has no member"),
        "{}",
        both.stderr
    );
    answer(0, &dora(&["--member", "staff=orders_read", "--member", "others="]));
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

#[test]
fn the_brokers_own_duties_are_asked_like_roles() {
    let story = [
        answer(0, &["explain", "carol", "--duty", "auditor"]).stdout,
        answer(1, &["explain", "Carol", "--duty", "auditor"]).stdout,
        answer(0, &["explain", "eve", "--duty", "operator", "--groups", "cn=operators"]).stdout,
        answer(0, &["who-can", "--duty", "auditor"]).stdout,
        answer(0, &["what-can", "carol", "--way", "corp", "--member", "staff="]).stdout,
        answer(1, &["what-can", "root", "--way", "corp", "--member", "staff="]).stdout,
    ];
    insta::assert_snapshot!(story.join("\n"));
    let told = json(0, &["who-can", "--duty", "operator"]);
    assert_eq!(told.pointer("/lines/0/who/name"), Some(&"cn=operators".into()), "{told:#}");
    assert!(told.get("cluster").is_none() && told.pointer("/lines/0/way").is_none(), "{told:#}");
    let told = json(0, &["explain", "carol", "--duty", "auditor"]);
    assert_eq!(told["explanations"].as_array().map(Vec::len), Some(1), "{told:#}");
}

#[test]
fn no_secret_is_read_unless_a_server_must_be_asked() {
    let (machine, directory) = office();
    fs::remove_file(directory.join("orders.password")).expect("removed");
    let ask = |arguments: &[&str]| run(&machine, &directory, arguments);
    let alice = ["explain", "alice", "--cluster", "orders", "--way", "corp"];
    let said = ask(&[&alice[..], &["--member", "staff="]].concat());
    said.check(0, "");
    ask(&["what-can", "eve", "--way", "partner"]).check(0, "");
    ask(&["who-can", "orders_read", "--cluster", "orders", "--member", "staff="]).check(0, "");
    ask(&["who-can", "--duty", "auditor"]).check(0, "");
    // Who is in `staff` only the cluster knows, and for it the password is needed.
    let dora = ["explain", "dora", "--cluster", "orders", "--way", "corp", "--role", "orders_read"];
    let unknown = ask(&dora);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stdout.starts_with("UNKNOWN: `dora`"), "{}", unknown.stdout);
    assert!(unknown.stderr.contains("no cluster can be asked"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("password_file"), "{}", unknown.stderr);
}

#[test]
fn a_cluster_is_asked_only_where_the_answer_turns_on_its_members() {
    // Only the line of `dora` names a group role, and nothing listens where the cluster is.
    let unasked: [(i32, &[&str]); 6] = [
        (
            0,
            &["explain", "eve", "--cluster", "orders", "--role", "orders_read", "--way", "partner"],
        ),
        (1, &["explain", "eve", "--cluster", "orders", "--way", "corp"]),
        (1, &["explain", "dora", "--cluster", "orders", "--role", "orders_owner", "--way", "corp"]),
        (0, &["what-can", "alice", "--way", "corp"]),
        (1, &["who-can", "orders_owner", "--cluster", "orders"]),
        (0, &["who-can", "--duty", "auditor"]),
    ];
    for (code, arguments) in unasked {
        assert_eq!(answer(code, arguments).stderr, "", "{arguments:?}");
    }
    let asked: [(i32, &[&str]); 3] = [
        (2, &["explain", "dora", "--cluster", "orders", "--way", "corp"]),
        (2, &["what-can", "dora", "--way", "corp"]),
        (0, &["who-can", "orders_read", "--cluster", "orders"]),
    ];
    for (code, arguments) in asked {
        let told = answer(code, arguments);
        assert!(told.stderr.contains("cluster orders does not say"), "{}", told.stderr);
        // And it says what would settle it.
        assert!(told.stdout.contains("`--member GROUP=ROLE`"), "{}", told.stdout);
    }
}

#[test]
fn the_name_of_a_group_role_is_written_without_the_plus_of_a_line() {
    let dora = |member: &str| {
        let asked = explain(&["dora", "--role", "orders_read", "--member"]);
        let (machine, directory) = office();
        run(&machine, &directory, &[&asked[..], &[member]].concat())
    };
    dora("staff=orders_read").check(0, "");
    for bad in ["+staff=orders_read", "+staff=", "staff=+orders_read"] {
        dora(bad).check(2, "write the name without `+`");
    }
}

/// The answer to a question about a map of one's own, whose other maps let nobody in.
#[track_caller]
fn answer_of(config: &str, map: &str, code: i32, arguments: &[&str]) -> Outcome {
    let (machine, directory) = machine(config);
    let rest =
        "corp-groups none none\npartner none none\nduties none none\nduty-groups none none\n";
    fs::write(directory.join("pg_ident.conf"), map.to_owned() + rest).expect("written");
    let outcome = run(&machine, &directory, arguments);
    assert_eq!(outcome.code, Some(code), "{}\n{}", outcome.stdout, outcome.stderr);
    outcome
}

#[test]
fn lines_by_which_nobody_comes_to_the_role_let_nobody_in() {
    let map = "corp /^_ \\1\ncorp /^_.*$ orders_read\ncorp /^a(b|c)$ orders_\\1\n\
               corp /a$^b orders_read\ncorp \"\" orders_read\n";
    let asked = ["who-can", "orders_read", "--cluster", "orders"];
    let nobody = answer_of(CONFIG, map, 1, &asked).stdout;
    let somebody = map.replace("(b|c)", "(b|read)");
    let story = [nobody, answer_of(CONFIG, &somebody, 0, &asked).stdout];
    insta::assert_snapshot!(story.join("\n"));
}

/// What cannot be found out is no yes and no no.
#[test]
fn a_line_of_which_it_is_not_known_whether_it_is_anybodys_is_no_answer() {
    let asked = ["who-can", "orders_read", "--cluster", "orders"];
    let ahead = "corp /^(?=x)y orders_read\n";
    let told = answer_of(CONFIG, ahead, 2, &asked).stdout;
    assert!(told.contains("perhaps for nobody: that was not found out"), "{told}");
    answer_of(CONFIG, &format!("{ahead}corp alice orders_read\n"), 0, &asked);
}

#[test]
fn where_case_does_not_count_the_answers_say_so_and_how_it_is_spelled() {
    let config = CONFIG.replacen("map = \"corp\"", "map = \"corp\"\ncaseins_users = true", 1);
    assert_ne!(config, CONFIG);
    let map = "corp Alice Orders_Read\n";
    let of = |config: &str, code: i32, arguments: &[&str]| {
        answer_of(config, map, code, arguments).stdout
    };
    let explain = explain(&["ALICE", "--role", "orders_read"]);
    let who = ["who-can", "orders_read", "--cluster", "orders"];
    insta::assert_snapshot!([of(&config, 0, &explain), of(&config, 0, &who)].join("\n"));
    of(CONFIG, 1, &explain);
    of(CONFIG, 1, &who);
}

/// That a user may not read a file says nothing of what the broker has in force.
#[test]
fn a_file_that_the_auditor_may_not_read_is_no_mistake_and_it_is_told_what_to_do() {
    let (machine, directory) = office();
    let map = directory.join("pg_ident.conf").display().to_string();
    let included = directory.join("more.conf");
    fs::write(&included, "corp eve orders_read\n").expect("written");
    fs::write(&map, format!("{MAP}include more.conf\n")).expect("written");
    let explain =
        ["explain", "eve", "--cluster", "orders", "--role", "orders_read", "--way", "corp"];
    let lint = ["map", "lint", "--fail-on", "error"];
    let set = |path: &std::path::Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    for (file, place) in [
        (PathBuf::from(&map), "pgbridge.toml:2:8: "),
        (included, "pg_ident.conf:14:9: "),
        (directory.join("pgbridge.toml"), "pgbridge.toml: "),
    ] {
        run_as_nobody(&machine, &directory, &explain).check(0, "");
        run_as_nobody(&machine, &directory, &lint).check(1, "");
        set(&file, 0o000);
        for question in [&explain[..], &lint] {
            let told = run_as_nobody(&machine, &directory, question);
            told.check(2, &format!("this user may not read {}: run this as", file.display()));
            told.check(2, place);
            let json = run_as_nobody(&machine, &directory, &[question, &["--json"]].concat());
            let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
            let file = json["file"].as_str().expect("a file");
            let number =
                |key: &str| json[key].as_u64().map_or(String::new(), |at| format!("{at}:"));
            let named = format!("{file}:{}{} ", number("line"), number("column"));
            assert!(named.ends_with(place), "{place} is not the end of {named}");
            for said in ["mistake", "in force"] {
                assert!(!told.stderr.contains(said), "{said} is in: {}", told.stderr);
            }
            let asks = told.stderr.contains("GET /v1/explain");
            assert_eq!(asks, question == explain, "{}", told.stderr);
        }
        set(&file, 0o600);
    }
}

#[test]
fn a_map_with_a_mistake_is_told_with_its_place_and_not_taken_for_the_one_in_force() {
    let (machine, directory) = office();
    fs::write(directory.join("pg_ident.conf"), format!("{MAP}corp /^(a$ orders_read\n"))
        .expect("written");
    let place = format!("{}:14:", directory.join("pg_ident.conf").display());
    for question in [
        &["explain", "alice", "--cluster", "orders"][..],
        &["who-can", "orders_read", "--cluster", "orders"],
        &["what-can", "alice"],
    ] {
        let outcome = run(&machine, &directory, question);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{}", outcome.stderr);
        for said in [place.as_str(), "keeps the map that it had in force", "GET /v1/explain"] {
            assert!(outcome.stderr.contains(said), "{said} is not in: {}", outcome.stderr);
        }
    }
    // A mistake in the configuration says nothing of the map in force.
    let (machine, directory) =
        self::machine(&CONFIG.replace("role = \"orders_read\"", "role = \"none\""));
    fs::write(directory.join("pg_ident.conf"), MAP).expect("written");
    let outcome = run(&machine, &directory, &["what-can", "alice"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("in force"), "{}", outcome.stderr);
}

#[test]
fn what_is_not_known_gets_what_may_have_been_meant() {
    let ask = |arguments: &[&str]| answer(2, &[arguments, &["--member", "staff="]].concat()).stderr;
    let way = ask(&["what-can", "alice", "--way", "crop"]);
    assert!(way.contains("no way in `crop` is configured; did you mean `corp`?"), "{way}");
    let cluster = ask(&["who-can", "orders_read", "--cluster", "nowhere"]);
    assert!(cluster.contains("there is `orders`"), "{cluster}");
    let long = "a".repeat(257);
    assert!(ask(&["what-can", &long]).contains("257 bytes"));
    answer(1, &["what-can", &long[1..], "--way", "corp", "--member", "staff="]);
    let group = "g".repeat(8193);
    assert!(ask(&["what-can", "alice", "--groups", &group]).contains("8193 bytes"));
}

#[test]
fn lines_that_nearly_let_in_are_told_when_one_role_is_named() {
    let all = answer(1, &explain(&["Alice", "--member", "staff="])).stdout;
    assert!(!all.contains("nearly\n") && all.contains("name one role"), "{all}");
    let one =
        answer(1, &explain(&["Alice", "--role", "orders_write", "--member", "staff="])).stdout;
    assert!(one.contains("nearly\n") && !one.contains("name one role"), "{one}");
}

/// An answer without what a mistyped key says would be another one, and nobody would see why.
#[test]
fn a_key_that_is_not_known_is_refused_before_anything_is_answered() {
    let (machine, directory) = office();
    let map = directory.join("pg_ident.conf").display().to_string();
    let commands: [&[&str]; 5] = [
        &["explain", "bob", "--cluster", "orders", "--groups", READERS, "--member", "staff="],
        &["who-can", "orders_read", "--cluster", "orders", "--member", "staff="],
        &["what-can", "bob", "--member", "staff="],
        &["map", "diff", &map, &map],
        &["map", "lint", "--fail-on", "error"],
    ];
    let slips = [
        ("group_map =", "group_mapp =", "`group_mapp` is no key of [access]"),
        (
            "[[ldap]]\nname",
            "[[ldap]]\ncaseins_user = true\nname",
            "`caseins_user` is no key of [[ldap]]",
        ),
        ("[access]", "[acces]", "`acces` is no key of the configuration"),
        ("[map]", "[map]\npostgress = 15", "`postgress` is no key of [map]"),
        ("[[cluster]]", "[[cluster]]\npostgre = 15", "`postgre` is no key of [[cluster]]"),
    ];
    for (right, wrong, words) in slips {
        let text = CONFIG.replacen(right, wrong, 1);
        assert_ne!(text, CONFIG, "{right} is in the configuration");
        fs::write(directory.join("pgbridge.toml"), text).expect("written");
        for command in commands {
            let outcome = run(&machine, &directory, command);
            assert_eq!(outcome.code, Some(2), "{wrong}, {command:?}: {}", outcome.stdout);
            assert!(outcome.stderr.contains(words), "{wrong}, {command:?}: {}", outcome.stderr);
            assert_eq!(outcome.stdout, "", "{wrong}, {command:?}");
        }
    }
    fs::write(directory.join("pgbridge.toml"), CONFIG).expect("written");
    for command in commands {
        let outcome = run(&machine, &directory, command);
        assert_ne!(outcome.code, Some(2), "{command:?}: {}", outcome.stderr);
    }
}

#[test]
fn no_question_is_answered_from_a_secret_of_the_configuration() {
    let (machine, directory) = office();
    fs::write(directory.join("orders.roles"), "orders_write\n").expect("written");
    let asked: [&[&str]; 3] = [
        &["explain", "alice", "--cluster", "orders", "--member", "staff="],
        &["who-can", "orders_write", "--cluster", "orders", "--member", "staff="],
        &["what-can", "alice", "--member", "staff="],
    ];
    for (list, is_read) in [("orders.roles", true), ("orders.password", false)] {
        let map = MAP.replacen(
            "alice                                             orders_write",
            &format!("alice @{list}"),
            1,
        );
        fs::write(directory.join("pg_ident.conf"), map).expect("written");
        for arguments in asked {
            let outcome = run(&machine, &directory, arguments);
            let told = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(!told.contains("canary"), "{told}");
            let refused = "`orders.password`: the configuration names it as a file with a secret";
            let path = directory.join(list).display().to_string();
            let refused = refused.replace("orders.password", &path);
            assert_eq!(outcome.code != Some(2), is_read, "{told}");
            assert_eq!(!told.contains(&refused), is_read, "{told}");
        }
    }
}
