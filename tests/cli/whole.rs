//! The whole way by the program: directory, broker and cluster are real.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::Outcome;
use crate::support::{SOON, TestBed, password_of, wait_for};

const MAJORS: [u32; 2] = [15, 16];

/// Runs the program as `person` types it.
fn run(bed: &TestBed, person: &str, arguments: &[&str]) -> Outcome {
    bed.cli(person).args(arguments).stdin(Stdio::null()).output().expect("pgbridge runs").into()
}

/// The same, which succeeds, and gives what it printed.
#[track_caller]
fn done(bed: &TestBed, person: &str, arguments: &[&str]) -> String {
    let outcome = run(bed, person, arguments);
    outcome.check(0, "");
    outcome.stdout
}

#[track_caller]
fn json(bed: &TestBed, person: &str, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(bed, person, arguments)).expect("JSON")
}

#[track_caller]
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}"))
}

#[test]
fn a_person_logs_in_sees_what_is_on_offer_and_works_in_psql() {
    for major in MAJORS {
        let bed = TestBed::start(major);
        run(&bed, "alice", &["whoami"]).check(4, "pgbridge login");
        bed.cli_login("alice");
        let me = done(&bed, "alice", &["whoami"]);
        assert!(me.contains("ldap:corp:alice") && me.contains("cn=orders-readers"), "{me}");
        let roles = done(&bed, "alice", &["roles"]);
        assert!(roles.contains("orders_read") && !roles.contains("orders_write"), "{roles}");

        let question = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let select = "SELECT count(*) FROM sales.customer";
        let psql = ["psql", "orders", "--", "-XAt", "-c", question, "-c", select];
        let answer = done(&bed, "alice", &psql);
        let (who, count) = answer.split_once('\n').expect("two lines");
        assert!(who.contains("alice") && who.ends_with("|t"), "{answer}");
        assert_eq!(count, "3\n");
        assert!(bed.lease_roles().is_empty(), "{:?}", bed.lease_roles());
        let all = json(&bed, "alice", &["leases", "--all", "--json"]);
        assert_eq!(text(&all, "/leases/0/state"), "revoked");
        assert_eq!(text(&all, "/leases/0/end"), "released");

        done(&bed, "alice", &["logout"]);
        run(&bed, "alice", &["roles"]).check(4, "pgbridge login");
    }
}

/// Runs `script` in a shell that has only what `format` printed, in the variable `P`.
fn in_shell(bed: &TestBed, printed: &str, script: &str) -> String {
    let file = bed.file("printed");
    std::fs::write(&file, printed).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("chmod");
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).env_clear().env("PATH", "/usr/bin:/bin").env("P", &file);
    let output = shell.env("HOME", "/nowhere").output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn each_format_connects_as_it_is_printed() {
    let bed = TestBed::start(15);
    bed.cli_login("alice");
    let psql = "psql -wXAtc 'SELECT count(*) FROM sales.customer'";
    for (format, script) in [
        ("env", format!("eval \"$(cat $P)\"; {psql}")),
        ("uri", format!("{psql} \"$(cat $P)\"")),
        ("service", format!("PGSERVICEFILE=$P {psql} service=orders")),
        // A password file holds no more; the comment above the line has the rest.
        ("pgpass", format!("PGPASSFILE=$P {psql} \"$(sed -n 's/^# //p' $P)\"")),
    ] {
        let printed = done(&bed, "alice", &["issue", "orders", "--format", format]);
        assert_eq!(in_shell(&bed, &printed, &script), "3\n", "{format}: {printed}");
    }
    let answer = json(&bed, "alice", &["issue", "orders/orders", "--format", "json"]);
    let script = format!("{psql} \"$(cat $P)\"");
    assert_eq!(in_shell(&bed, text(&answer, "/uri"), &script), "3\n");
    assert_eq!(bed.lease_roles().len(), 5);
}

#[test]
fn a_lease_is_listed_renewed_and_revoked() {
    let bed = TestBed::start(16);
    bed.cli_login("bob");
    let wish = ["issue", "orders", "--role", "orders_write", "--ttl", "5m", "--reason", "a test"];
    let issued = json(&bed, "bob", &[&wish[..], &["--format", "json"]].concat());
    let (id, role) = (text(&issued, "/lease/id"), text(&issued, "/lease/role_name"));
    assert_eq!(bed.lease_roles(), [role]);
    let listed = done(&bed, "bob", &["leases"]);
    assert!(listed.contains(id) && listed.contains(role), "{listed}");

    let renewed = json(&bed, "bob", &["renew", id, "--ttl", "30m", "--json"]);
    assert!(text(&renewed, "/expires_at") > text(&issued, "/lease/expires_at"), "{renewed}");
    let login = |password| bed.postgres.sql_as(role, password, "orders", "SELECT 1");
    assert!(login(text(&issued, "/password")).is_ok());
    let revoked = done(&bed, "bob", &["revoke", id]);
    assert!(revoked.contains("revoked"), "{revoked}");
    assert!(login(text(&issued, "/password")).is_err());
    assert!(bed.lease_roles().is_empty());
    assert!(!done(&bed, "bob", &["leases"]).contains(id));
    assert!(done(&bed, "bob", &["leases", "--all"]).contains(id));
    run(&bed, "bob", &["renew", id]).check(3, "request ");
}

#[test]
fn a_revocation_that_cannot_reach_the_cluster_says_so_and_is_done_later() {
    let mut bed = TestBed::start(16);
    bed.cli_login("alice");
    let issued = json(&bed, "alice", &["issue", "orders", "--format", "json"]);
    let id = text(&issued, "/lease/id");
    bed.postgres.stop();
    let outcome = run(&bed, "alice", &["revoke", id]);
    outcome.check(1, "");
    assert!(outcome.stdout.contains("it can still be used"), "{}", outcome.stdout);
    let listed = done(&bed, "alice", &["leases"]);
    assert!(listed.contains(id) && listed.contains("revoking"), "{listed}");
    bed.postgres.start_again();
    wait_for("the role to be gone", SOON, || bed.lease_roles().is_empty().then_some(()));
    wait_for("the lease to be gone", SOON, || {
        (!done(&bed, "alice", &["leases"]).contains(id)).then_some(())
    });
    let again = done(&bed, "alice", &["revoke", id]);
    assert!(again.contains("gone") && !again.contains("still"), "{again}");
}

#[test]
fn each_refusal_has_its_exit_code_beside_its_accepted_twin() {
    let bed = TestBed::start(15);
    for person in ["alice", "bob"] {
        bed.cli_login(person);
    }
    // Bob has two roles there, alice one.
    run(&bed, "bob", &["issue", "orders"]).check(2, "orders_read, orders_write");
    done(&bed, "alice", &["issue", "orders"]);
    run(&bed, "alice", &["issue", "orders", "--role", "orders_write", "--reason", "x"])
        .check(3, "");
    run(&bed, "bob", &["issue", "orders", "--role", "orders_write"]).check(3, "reason");
    done(&bed, "bob", &["issue", "orders", "--role", "orders_write", "--reason", "x"]);
    run(&bed, "alice", &["issue", "orders", "--ttl", "9h"]).check(3, "");
    run(&bed, "alice", &["issue", "nowhere", "--role", "orders_read"]).check(3, "");
    run(&bed, "alice", &["issue", "orders/reports"]).check(3, "no role on orders/reports");

    let issued = json(&bed, "alice", &["issue", "orders", "--format", "json"]);
    let id = text(&issued, "/lease/id");
    run(&bed, "bob", &["revoke", id]).check(3, "");
    assert!(bed.lease_roles().contains(&text(&issued, "/lease/role_name").to_owned()));
    done(&bed, "alice", &["revoke", id]);
}

#[test]
fn a_refused_login_names_the_ways_in_and_leaves_the_session_before_it_as_it_was() {
    let bed = TestBed::start(15);
    bed.cli_login("alice");
    for (user, way, password) in [
        ("alice", "corp", "wrong".to_owned()),
        ("dave", "corp", password_of("dave")),
        ("nobody", "corp", "x".to_owned()),
        ("alice", "nowhere", password_of("alice")),
    ] {
        let typed = bed.file("wrong");
        std::fs::write(&typed, &password).expect("written");
        let mut login = bed.cli("alice");
        login.args(["login", "--way", way, "--user", user, "--password-stdin"]);
        login.stdin(std::fs::File::open(typed).expect("it was just written"));
        let outcome: Outcome = login.output().expect("pgbridge runs").into();
        outcome.check(4, "; ways in: corp; ");
        assert!(!outcome.stderr.contains(&password), "{}", outcome.stderr);
    }
    done(&bed, "alice", &["whoami"]);
}

#[test]
fn a_signal_ends_the_role_on_the_cluster() {
    let bed = TestBed::start(16);
    bed.cli_login("alice");
    let mut command = bed.cli("alice");
    command.args(["psql", "orders", "--", "-Xc", "SELECT pg_sleep(600)"]);
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("runs");
    let sleeping = "SELECT usename FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    wait_for("psql to run its statement", SOON, || {
        (!bed.postgres.sql("postgres", sleeping).is_empty()).then_some(())
    });
    assert_eq!(bed.lease_roles().len(), 1);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let outcome: Outcome = child.wait_with_output().expect("it ends").into();
    outcome.check(143, "");
    assert!(bed.lease_roles().is_empty(), "{:?}", bed.lease_roles());
    assert!(bed.postgres.sql("postgres", sleeping).is_empty());
}

#[test]
fn the_audit_tells_what_was_done_and_no_secret() {
    let mut bed = TestBed::start(15);
    bed.cli_login("alice");
    let issued = json(&bed, "alice", &["issue", "orders", "--format", "json"]);
    done(&bed, "alice", &["revoke", text(&issued, "/lease/id")]);
    let config = bed.file("pgbridge.toml");
    let config = config.to_str().expect("UTF-8");
    let export = done(&bed, "auditor", &["audit", "export", "--config", config]);
    for action in ["broker.started", "login", "lease.issued", "lease.revoked"] {
        assert!(export.contains(&format!("\"{action}\"")), "{action} is not in:\n{export}");
    }
    for secret in [text(&issued, "/password"), &password_of("alice"), "pgbs_"] {
        assert!(!export.contains(secret) && !bed.log().contains(secret), "{secret} was written");
    }
    bed.stop();
    run(&bed, "alice", &["whoami"]).check(5, "cannot be reached");
}
