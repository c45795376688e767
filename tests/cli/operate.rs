//! What operators and auditors run beside the broker.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pgbridge::audit::{Action, Record, Subject};
use pgbridge::clock::Clock;
use pgbridge::store::Store;
use pgbridge::store::sqlite::SqliteStore;

use super::{Machine, Outcome};

const CONFIG: &str = r#"[map]
file = "pg_ident.conf"

[[ldap]]
name = "corp"
map = "corp"
ldapserver = ["127.0.0.1"]
ldapprefix = "uid="
ldapsuffix = ",ou=people,dc=example,dc=test"

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
fn machine(config: &str) -> (Machine, PathBuf) {
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

fn run(machine: &Machine, directory: &std::path::Path, arguments: &[&str]) -> Outcome {
    let config = directory.join("pgbridge.toml");
    let named = ["--config", config.to_str().expect("UTF-8")];
    machine.run(&[arguments, &named].concat())
}

#[test]
fn check_prints_every_mistake_with_its_place_and_no_line_of_the_file() {
    let (machine, directory) = machine(CONFIG);
    let outcome = run(&machine, &directory, &["check"]);
    outcome.check(0, "");
    assert_eq!(outcome.stdout, "");

    let wrong = CONFIG
        .replace("ldapprefix", "ldapprefx")
        .replace("databases = [\"orders\"]", "databases = \"canary-password\"");
    let (machine, directory) = self::machine(&wrong);
    let outcome = run(&machine, &directory, &["check"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    for place in ["pgbridge.toml:8:1: ", "pgbridge.toml:20:13: "] {
        assert!(outcome.stdout.contains(place), "{place} is not in:\n{}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("canary"), "{}", outcome.stdout);
    run(&machine, &directory, &["audit", "export"]).check(1, "nothing was done");
    let absent = machine.run(&["check", "--config", "/nowhere.toml"]);
    assert_eq!(absent.code, Some(1));
    assert!(absent.stdout.contains("/nowhere.toml"), "{}", absent.stdout);
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
    let whole: String = entries.iter().flat_map(|entry| [&entry.json, "\n"]).collect();
    assert_eq!(outcome.stdout, whole);
    assert_eq!(entries.len(), 3);

    let later = run(&machine, &directory, &["audit", "export", "--after", "2"]);
    assert_eq!(later.stdout, format!("{}\n", entries[2].json));
    let none = run(&machine, &directory, &["audit", "export", "--after", "3"]);
    none.check(0, "");
    assert_eq!(none.stdout, "");
}
