//! What operators and auditors run beside the broker.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgbridge::audit::{Action, Record, Subject};
use pgbridge::clock::Clock;
use pgbridge::store::sqlite::SqliteStore;
use pgbridge::store::{AuditEntry, Store};

use super::{Machine, Outcome, nowhere};

const CONFIG: &str = r#"[map]
file = "pg_ident.conf"

[[ldap]]
name = "corp"
map = "corp"
ldapserver = ["127.0.0.1"]
ldapbasedn = "ou=people,dc=example,dc=test"
ldapsearchattribute = "uid"

[[cluster]]
name = "orders"
host = "127.0.0.1"
sslmode = "disable"
user = "pgbridge"
password_file = "orders.password"

[[cluster.profile]]
role = "orders_read"
databases = ["orders"]
"#;

/// A machine with a broker's files in `broker/`.
pub(super) fn machine(config: &str) -> (Machine, PathBuf) {
    let machine = Machine::new();
    let directory = machine.0.path().join("broker");
    fs::create_dir(&directory).expect("a directory");
    for (name, text) in [
        ("pgbridge.toml", config),
        ("pg_ident.conf", "corp alice orders_read\n"),
        ("orders.password", "canary-password\n"),
    ] {
        fs::write(directory.join(name), text).expect("written");
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o600)).expect("chmod");
    }
    (machine, directory)
}

pub(super) fn run(machine: &Machine, directory: &Path, arguments: &[&str]) -> Outcome {
    let config = directory.join("pgbridge.toml");
    let named = ["--config", config.to_str().expect("UTF-8")];
    machine.run(&[arguments, &named].concat())
}

#[test]
fn check_prints_every_mistake_with_its_place_and_no_line_of_the_file() {
    let (machine, directory) = machine(CONFIG);
    let outcome = run(&machine, &directory, &["check"]);
    outcome.check(0, "");
    let good = format!("{}: no mistakes", directory.join("pgbridge.toml").display());
    assert_eq!(outcome.stdout, format!("{good} (no server was contacted)\n"));

    let wrong = CONFIG
        .replace("ldapbasedn", "ldapbasdn")
        .replace("databases = [\"orders\"]", "databases = \"canary-password\"");
    let (machine, directory) = self::machine(&wrong);
    let outcome = run(&machine, &directory, &["check"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    for place in ["pgbridge.toml:8:1: ", "pgbridge.toml:20:13: "] {
        assert!(outcome.stdout.contains(place), "{place} is not in:\n{}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("canary"), "{}", outcome.stdout);
    let absent = machine.run(&["check", "--config", "/nowhere.toml"]);
    assert_eq!(absent.code, Some(1));
    assert!(
        absent.stdout.contains("/nowhere.toml: cannot be read: no such file"),
        "{}",
        absent.stdout
    );
}

#[test]
fn a_start_without_its_store_says_which_store_and_what_to_do_and_changes_nothing() {
    // With one server, and with two of which neither is there.
    for servers in 1..=2 {
        let hosts: Vec<String> = (0..servers).map(|_| nowhere().replace("http://", "")).collect();
        let store = format!("postgresql://pgbridge_store@{}/store", hosts.join(","));
        let keys = "password_file = \"orders.password\"\nsslmode = \"disable\"";
        let config = format!("[store]\nurl = \"{store}\"\n{keys}\n\n{CONFIG}");
        let (machine, directory) = machine(&config);
        let outcome = run(&machine, &directory, &["serve"]);
        outcome.check(1, "nothing was started or changed: the store postgresql://");
        let version = env!("CARGO_PKG_VERSION");
        for told in [&store, version, "orders", "corp", "Connection refused", "see that"] {
            assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
        }
        for host in hosts.iter().filter(|_| servers > 1) {
            let why = format!("{host}: error connecting");
            assert!(outcome.stderr.contains(&why), "{why}: {}", outcome.stderr);
        }
        assert!(!directory.join("marker.key").exists());
    }
}

#[tokio::test]
async fn the_audit_is_exported_line_by_line_beside_a_broker_that_has_it_open() {
    let (machine, directory) = machine(CONFIG);
    run(&machine, &directory, &["audit", "export"]).check(1, "pgbridge.db");

    let store = SqliteStore::open(&directory.join("pgbridge.db")).expect("a store");
    let now = Clock::system().now();
    for action in [Action::BrokerStarted, Action::Login, Action::Logout] {
        let subject = Subject::unproven("corp", "al\u{1b}[2Jice\u{9b}");
        store.commit(vec![], vec![Record::new(now, action, subject)]).await.expect("recorded");
    }
    let outcome = run(&machine, &directory, &["audit", "export"]);
    outcome.check(0, "");
    let entries = store.audit_after(0, 10).await.expect("the audit");
    let numbered = |entry: &AuditEntry| {
        format!("{{\"seq\":{},{}\n", entry.seq, entry.json.strip_prefix('{').expect("an object"))
    };
    assert_eq!(outcome.stdout, entries.iter().map(numbered).collect::<String>());
    let numbers = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["seq"].as_u64());
    assert_eq!(numbers.collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);

    let later = run(&machine, &directory, &["audit", "export", "--after", "2"]);
    assert_eq!(later.stdout, numbered(&entries[2]));
    let none = run(&machine, &directory, &["audit", "export", "--after", "3"]);
    none.check(0, "");
    assert_eq!(none.stdout, "");
}

#[test]
fn an_auditor_needs_the_store_and_no_other_file_of_the_configuration() {
    let (machine, directory) = machine(&format!("{CONFIG}[store]\npath = \"own.db\"\n"));
    SqliteStore::open(&directory.join("own.db")).expect("a store");
    for name in ["orders.password", "pg_ident.conf"] {
        fs::remove_file(directory.join(name)).expect("removed");
    }
    run(&machine, &directory, &["audit", "export"]).check(0, "");
    assert_eq!(run(&machine, &directory, &["check"]).code, Some(1));

    let (machine, directory) = self::machine("[store]\npth = \"own.db\"\n");
    let outcome = run(&machine, &directory, &["audit", "export"]);
    outcome.check(1, "nothing was done");
    outcome.check(1, "did you mean `path`?");
}

#[test]
fn check_notes_each_line_of_the_map_whose_role_nobody_lends() {
    let config = format!("{CONFIG}[access]\nmap = \"pgbridge\"\n");
    let (machine, directory) = machine(&config);
    let map = "corp alice orders_read\ncorp bob orders_raed\ncorp /^(.*)$ x_\\1\ncorp carol all\n\
               pgbridge alice auditor\nother dave nothing\ncorp dave \"all\"\n";
    fs::write(directory.join("pg_ident.conf"), map).expect("written");
    let outcome = run(&machine, &directory, &["check"]);
    outcome.check(0, "");
    let file = directory.join("pg_ident.conf");
    let note = |line| {
        let message = "note: no cluster lends this role, so the line allows nothing";
        format!("{}:{line}: {message}", file.display())
    };
    let notes: Vec<&str> = outcome.stdout.lines().skip(1).collect();
    assert_eq!(notes, [note(2), note(7)]);
}

#[test]
fn check_notes_a_directory_that_shows_nobody_without_their_password() {
    let bind_only = "ldapprefix = \"uid=\"\nldapsuffix = \",dc=test\"";
    let searched = "ldapbasedn = \"ou=people,dc=example,dc=test\"\nldapsearchattribute = \"uid\"";
    let (machine, directory) = machine(&CONFIG.replace(searched, bind_only));
    let outcome = run(&machine, &directory, &["check"]);
    outcome.check(0, "");
    let notes: Vec<&str> = outcome.stdout.lines().skip(1).collect();
    let place = format!("{}:4: note: ", directory.join("pgbridge.toml").display());
    let [note] = notes[..] else { panic!("{notes:?}") };
    assert!(note.starts_with(&place) && note.contains("nobody is looked up again"), "{note}");
}

/// Runs `check` as a user for whom the modes of files count.
fn check_as_nobody(machine: &Machine, directory: &Path) -> Outcome {
    run_as_nobody(machine, directory, &["check"])
}

/// Runs a command as a user for whom the modes of files count: root is none.
pub(super) fn run_as_nobody(machine: &Machine, directory: &Path, arguments: &[&str]) -> Outcome {
    let config = directory.join("pgbridge.toml");
    let named = ["--config", config.to_str().expect("UTF-8")];
    let mut command = machine.command(&[arguments, &named].concat());
    if rustix::process::geteuid().is_root() {
        let open = Permissions::from_mode(0o755);
        fs::set_permissions(directory.parent().expect("one"), open).expect("chmod");
        for file in fs::read_dir(directory).expect("a list").flatten() {
            chown(file.path(), Some(NOBODY), None).expect("chown");
        }
        chown(directory, Some(NOBODY), None).expect("chown");
        // Where the program was built may be closed to others. A copy written by this process
        // could be held open by a child of another test, and then not be run.
        let copy = directory.join("pgbridge");
        let mut cp = Command::new("cp");
        let copied = cp.arg(env!("CARGO_BIN_EXE_pgbridge")).arg(&copy).status().expect("cp runs");
        assert!(copied.success());
        let mut own = Command::new(copy);
        own.args(command.get_args()).env_clear().uid(NOBODY);
        command = own;
    }
    command.output().expect("pgbridge runs").into()
}

/// The user without rights on Debian and most others.
const NOBODY: u32 = 65_534;

#[test]
fn check_finds_that_the_broker_could_not_make_its_files() {
    let (machine, directory) = machine(CONFIG);
    check_as_nobody(&machine, &directory).check(0, "");
    fs::set_permissions(&directory, Permissions::from_mode(0o555)).expect("chmod");
    let outcome = check_as_nobody(&machine, &directory);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    for key in ["`path` in [store]", "`marker_key_file` in [broker]"] {
        let words = format!("{key} names a file that is not there, in a directory where this user");
        assert!(outcome.stdout.contains(&words), "{}", outcome.stdout);
    }
    assert!(outcome.stdout.contains("must be able to make a file there"), "{}", outcome.stdout);
    for (name, text) in [("pgbridge.db", String::new()), ("marker.key", "0f".repeat(32))] {
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("chmod");
        fs::write(directory.join(name), text).expect("written");
        let private = Permissions::from_mode(0o600);
        fs::set_permissions(directory.join(name), private).expect("chmod");
        fs::set_permissions(&directory, Permissions::from_mode(0o555)).expect("chmod");
    }
    check_as_nobody(&machine, &directory).check(0, "");
    // So that it can be removed.
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("chmod");
}
