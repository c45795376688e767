//! Questions without an answer, and answers without a reader.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use pgbridge::audit::{Action, Record, Subject};
use pgbridge::clock::Clock;
use pgbridge::store::Store;
use pgbridge::store::sqlite::SqliteStore;
use serde_json::{Value, json};

use super::map::keys;
use super::operate::{run, run_as_nobody};
use super::questions::{CONFIG, MAP, office};
use super::{Machine, Outcome};

/// Runs a command whose standard output nobody reads.
fn run_unread(machine: &Machine, directory: &Path, arguments: &[&str]) -> Outcome {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let config = directory.join("pgbridge.toml");
    let named = ["--config", config.to_str().expect("UTF-8")];
    let mut command = machine.command(&[arguments, &named].concat());
    command.stdin(Stdio::null()).stdout(writer).output().expect("pgbridge runs").into()
}

#[test]
fn a_reader_who_went_away_changes_no_exit_code() {
    let (machine, directory) = office();
    let map = directory.join("pg_ident.conf").display().to_string();
    let other = directory.join("other.conf").display().to_string();
    fs::write(&other, "corp alice orders_read\n").expect("written");
    let explain = ["explain", "--cluster", "orders", "--way=corp", "--role=orders_write"];
    let who = ["who-can", "--cluster", "orders", "--member=staff="];
    let asked: [(i32, &[&str], &[&str]); 11] = [
        (0, &explain, &["alice"]),
        (1, &explain, &["bob"]),
        (1, &explain, &["bob", "--json"]),
        (2, &explain, &["dora"]),
        (0, &who, &["orders_read"]),
        (1, &who, &["orders_owner"]),
        (1, &["what-can", "nobody", "--way=corp"], &["--member=staff="]),
        (1, &["map", "diff", &map, &other], &[]),
        (1, &["map", "lint"], &["--json"]),
        (2, &["map", "lint", "/nowhere"], &["--json"]),
        (1, &["doctor"], &["--json"]),
    ];
    for (code, question, rest) in asked {
        let arguments = [question, rest].concat();
        assert_eq!(run(&machine, &directory, &arguments).code, Some(code), "{arguments:?}");
        let unread = run_unread(&machine, &directory, &arguments);
        assert_eq!(unread.code, Some(code), "{arguments:?}: {}", unread.stderr);
        assert!(!unread.stderr.contains("pipe"), "{}", unread.stderr);
    }
    run_unread(&machine, &directory, &["check"]).check(0, "");
    fs::write(&map, "corp alice\n").expect("written");
    run_unread(&machine, &directory, &["check"]).check(1, "");
}

#[tokio::test]
async fn an_audit_of_which_nobody_has_read_all_is_not_exported() {
    let (machine, directory) = office();
    let store = SqliteStore::open(&directory.join("pgbridge.db")).expect("a store");
    let subject = Subject::unproven("corp", "alice");
    let record = Record::new(Clock::system().now(), Action::Login, subject);
    store.commit(vec![], vec![record]).await.expect("recorded");
    run(&machine, &directory, &["audit", "export"]).check(0, "");
    let unread = run_unread(&machine, &directory, &["audit", "export"]);
    unread.check(1, "");
    assert_eq!(unread.stderr, "");
}

/// Every command with a configuration, but for the questions.
const COMMANDS: [&[&str]; 6] = [
    &["check"],
    &["doctor"],
    &["serve"],
    &["audit", "export"],
    &["map", "lint"],
    &["map", "diff", "/dev/null", "/dev/null"],
];
const QUESTIONS: [&[&str]; 3] = [
    &["explain", "alice", "--cluster=orders", "--member=staff="],
    &["who-can", "orders_write", "--cluster=orders", "--member=staff="],
    &["what-can", "alice", "--member=staff="],
];

#[test]
fn a_configuration_that_is_a_pipe_is_refused_at_once() {
    let (machine, directory) = office();
    let path = directory.join("pgbridge.toml");
    let words = ["is no regular file", "write it into a file and name that"];
    let told = |outcome: &Outcome, arguments: &[&str]| {
        assert!(outcome.code.is_some_and(|code| code != 0), "{arguments:?}");
        let told = format!("{}{}", outcome.stdout, outcome.stderr);
        for words in words {
            assert!(told.contains(words), "{arguments:?}: {told}");
        }
    };
    fs::remove_file(&path).expect("removed");
    // Nobody ever writes into it.
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    for arguments in COMMANDS.iter().chain(&QUESTIONS) {
        told(&run(&machine, &directory, arguments), arguments);
        // As a shell gives it with `<(…)`.
        let mut command = machine.command(&[arguments, &["--config", "/dev/stdin"][..]].concat());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pgbridge runs");
        let writer = child.stdin.take();
        told(&child.wait_with_output().expect("it ends").into(), arguments);
        drop(writer);
    }
    fs::remove_file(&path).expect("removed");
    fs::write(&path, CONFIG).expect("written");
    run(&machine, &directory, QUESTIONS[0]).check(0, "");
}

/// What reads maps, told to read `list` for a role.
fn maps_naming(directory: &Path, list: &str) -> Vec<Vec<String>> {
    let line = "alice                                             orders_write";
    let map = MAP.replacen(line, &format!("alice @{list}"), 1);
    assert_ne!(map, MAP);
    fs::write(directory.join("pg_ident.conf"), map).expect("written");
    let path = directory.join("pg_ident.conf").display().to_string();
    let owned = |arguments: &[&str]| arguments.iter().map(|&one| one.to_owned()).collect();
    let mut asked: Vec<Vec<String>> = QUESTIONS.iter().map(|question| owned(question)).collect();
    asked.push(owned(&["map", "lint"]));
    asked.push(owned(&["map", "lint", &path]));
    asked.push(owned(&["map", "diff", "/dev/null", &path]));
    asked
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn nobody_is_told_to_get_at_a_secret() {
    let (machine, directory) = office();
    let config = CONFIG.replacen("orders.password", "closed/orders.password", 1);
    fs::write(directory.join("pgbridge.toml"), config).expect("written");
    let closed = directory.join("closed");
    fs::create_dir(&closed).expect("a directory");
    for name in ["orders.password", "roles"] {
        fs::write(closed.join(name), "orders_write\n").expect("written");
    }
    symlink("closed/orders.password", directory.join("link")).expect("a link");
    for (list, is_secret) in
        [("closed/orders.password", true), ("link", true), ("closed/roles", false)]
    {
        for arguments in maps_naming(&directory, list) {
            fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("chmod");
            let told = run_as_nobody(&machine, &directory, &borrowed(&arguments));
            fs::set_permissions(&closed, Permissions::from_mode(0o755)).expect("chmod");
            told.check(2, "pg_ident.conf:2:");
            let secret = "the configuration names it as a file with a secret";
            assert_eq!(told.stderr.contains(secret), is_secret, "{arguments:?}: {}", told.stderr);
            let asks = told.stderr.contains("may not read");
            assert_eq!(asks, !is_secret, "{arguments:?}: {}", told.stderr);
            assert!(!told.stderr.contains("right to read"), "{}", told.stderr);
        }
    }
}

#[test]
fn what_cannot_be_understood_may_name_a_secret_so_no_map_is_read() {
    let (machine, directory) = office();
    // The name of a file that the map would read next would be told.
    fs::write(directory.join("orders.password"), "@canary\n").expect("written");
    let right = "password_file = \"orders.password\"";
    let config = directory.join("pgbridge.toml");
    for (wrong, words) in [
        ("pasword_file = \"orders.password\"", "`pasword_file` is no key of [[cluster]]"),
        ("password_file = [\"orders.password\"]", "`password_file` in [[cluster]] must be"),
        ("password_file = orders.password", "not TOML"),
    ] {
        fs::write(&config, CONFIG.replacen(right, wrong, 1)).expect("written");
        for arguments in maps_naming(&directory, "orders.password") {
            let told = run(&machine, &directory, &borrowed(&arguments));
            told.check(2, words);
            assert_eq!(told.stdout, "", "{arguments:?}");
            for of_the_map in ["canary", "pg_ident.conf:", "orders.password:"] {
                assert!(!told.stderr.contains(of_the_map), "{arguments:?}: {}", told.stderr);
            }
        }
    }
    for wrong in ["pasword_file = \"orders.password\"", "password_file = orders.password"] {
        fs::write(&config, CONFIG.replacen(right, wrong, 1)).expect("written");
        let told = run(&machine, &directory, &["check"]);
        assert_eq!(told.code, Some(1), "{}", told.stderr);
        assert!(!told.stdout.contains("canary"), "{}", told.stdout);
    }
    // Where no key is misunderstood, what does not fit otherwise hides no secret.
    let unfit = format!("{CONFIG}\n[store]\npath = \"store.db\"\nsslmode = \"disable\"\n");
    fs::write(directory.join("store.db"), "orders_write\n").expect("written");
    fs::write(directory.join("roles"), "orders_write\n").expect("written");
    fs::write(&config, unfit).expect("written");
    for (list, is_read) in [("roles", true), ("store.db", false), ("orders.password", false)] {
        for arguments in maps_naming(&directory, list) {
            let told = run(&machine, &directory, &borrowed(&arguments));
            assert_eq!(told.code != Some(2), is_read, "{arguments:?}: {}", told.stderr);
            let secret = "the configuration names it as a file with a secret";
            assert_eq!(told.stderr.contains(secret), !is_read, "{arguments:?}: {}", told.stderr);
        }
    }
}

#[test]
fn a_store_that_this_user_may_not_read_is_named_with_what_to_do() {
    let (machine, directory) = office();
    let map = directory.join("pg_ident.conf").display().to_string();
    let asked: [(i32, &[&str]); 3] = [
        (1, &["audit", "export"]),
        (2, &["explain", "--lease", "abcdefghijklmnop"]),
        (2, &["map", "diff", "01234567", &map]),
    ];
    let db = directory.join("pgbridge.db");
    let told = |words: &str| {
        for (code, arguments) in asked {
            let outcome = run_as_nobody(&machine, &directory, arguments);
            outcome.check(code, words);
            for raw in ["Error code", "unable to open"] {
                assert!(!outcome.stderr.contains(raw), "{arguments:?}: {}", outcome.stderr);
            }
        }
    };
    let set = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
    };
    told(&format!("there is no {}: a broker makes it when it starts", db.display()));
    drop(SqliteStore::open(&db).expect("a store"));
    run_as_nobody(&machine, &directory, asked[0].1).check(0, "");
    set(&db, 0o000);
    told(&format!("this user may not read {}: run this as the broker's user", db.display()));
    set(&db, 0o600);
    // SQLite makes files beside it to read it, which whoever only reads cannot take away.
    for beside in ["pgbridge.db-wal", "pgbridge.db-shm"] {
        fs::remove_file(directory.join(beside)).expect("it is there, and all of it in the store");
    }
    set(&directory, 0o555);
    // The program that is run stands in the directory, and is copied anew there as root only.
    let closed = run_as_nobody(&machine, &directory, asked[0].1);
    set(&directory, 0o755);
    closed.check(1, &format!("SQLite cannot read {} as this user", db.display()));
    closed.check(1, "run this as the broker's user");
    assert!(!closed.stderr.contains("Error code"), "{}", closed.stderr);
    let nowhere = format!("{CONFIG}\n[store]\npath = \"nowhere/own.db\"\n");
    fs::write(directory.join("pgbridge.toml"), nowhere).expect("written");
    told(&format!("there is no {}:", directory.join("nowhere").display()));
}

#[test]
fn a_question_without_an_answer_is_json_too_where_that_was_asked_for() {
    let (machine, directory) = office();
    let config = directory.join("pgbridge.toml").display().to_string();
    let map = directory.join("pg_ident.conf").display().to_string();
    let told = |question: &[&str]| -> Value {
        let outcome = run(&machine, &directory, &[question, &["--json"]].concat());
        outcome.check(2, "");
        assert!(!outcome.stderr.is_empty(), "{question:?}");
        serde_json::from_str(&outcome.stdout).expect("JSON")
    };
    let place =
        |told: &Value| json!([told["file"], told["line"], told["column"], told["mistakes"]]);
    let mut found = BTreeSet::new();
    for question in QUESTIONS {
        run(&machine, &directory, &[question, &["--json"]].concat()).check(0, "");
        fs::write(&map, "corp alice orders_write\ncorp alice\ncorp\n").expect("written");
        assert_eq!(place(&told(question)), json!([map, 2, 11, 2]), "{question:?}");
        let unread = run(&machine, &directory, question);
        assert_eq!((unread.code, unread.stdout.as_str()), (Some(2), ""), "{question:?}");
        fs::write(&map, MAP).expect("written");
        fs::write(&config, CONFIG.replacen("[access]", "[acces]", 1)).expect("written");
        let unknown = told(question);
        assert_eq!(place(&unknown), json!([config, 4, 2, 1]), "{question:?}");
        assert!(unknown["load_error"].as_str().expect("a text").contains("`acces`"), "{unknown}");
        fs::write(&config, CONFIG).expect("written");
        keys(&unknown, &mut found);
        let help = machine.run(&[question[0], "--help"]).stdout;
        for key in &found {
            let is_told =
                help.contains(&format!("\"{key}\"")) || help.contains(&format!("  {key} "));
            assert!(is_told, "{key} is not in:\n{help}");
        }
    }
    for question in [
        &["explain", "alice", "--cluster=nowhere", "--member=staff="][..],
        &["explain", "--lease", "abcdefghijklmnop"],
        &["who-can", "orders_read", "--cluster=nowhere", "--member=staff="],
        &["what-can", "alice", "--way=nobody", "--member=staff="],
    ] {
        let unasked = told(question);
        assert_eq!(place(&unasked), json!([null, null, null, 1]), "{question:?}");
        let mut these = BTreeSet::new();
        keys(&unasked, &mut these);
        assert_eq!(these, found, "{question:?}");
    }
    // An answer that is not known is an answer.
    let arguments = ["explain", "dora", "--cluster=orders", "--role=orders_read", "--json"];
    let unknown = run(&machine, &directory, &arguments);
    let unknown: Value = serde_json::from_str(&unknown.stdout).expect("JSON");
    assert_eq!(unknown["load_error"], Value::Null);
    assert_eq!(unknown["explanations"][0]["verdict"], "unknown");
}
