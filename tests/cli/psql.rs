//! `pgbridge psql` with a real psql on a real cluster; only the broker is played, so that each of
//! its answers can be chosen.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{Machine, Outcome, Stranger, json, open_house, problem};
use crate::support::{Postgres, SOON, wait_for};

struct Stand {
    postgres: Postgres,
    /// In no argument and no file may this stand. Drawn, because other tests run beside.
    password: String,
    machine: Machine,
    broker: Stranger,
}

/// A cluster with a role that a lease is for, and a person who is logged in.
fn stand(lease_seconds: i64, renew: impl Fn() -> String + Send + 'static) -> Stand {
    let postgres = Postgres::start(15);
    let password = format!("canary-{:032x}", rand::random::<u128>());
    let create = format!("CREATE ROLE pgb_alice LOGIN PASSWORD '{password}'");
    postgres.sql("postgres", &create);
    let root = std::fs::read_to_string(postgres.ca_file()).expect("the authority's certificate");
    let issued = issued(&postgres, &root, &password, lease_seconds);
    let broker = Stranger::start(open_house(move |request| {
        let line = request.lines().next().unwrap_or_default();
        if line.starts_with("GET /v1/roles ") {
            json("200 OK", &roles())
        } else if line.starts_with("POST /v1/leases ") {
            json("201 Created", &issued)
        } else if line.contains("/renew ") {
            renew()
        } else {
            json("200 OK", &lease(lease_seconds, "revoked").to_string())
        }
    }));
    let machine = Machine::new();
    machine.log_in(&["--server", &broker.url]).check(0, "");
    Stand { postgres, password, machine, broker }
}

fn roles() -> String {
    let role = serde_json::json!({
        "cluster": "orders", "role": "orders_read", "databases": ["orders"], "ttl_seconds": 3600,
        "max_ttl_seconds": 7200, "reason_required": false, "map_revision": "x",
        "rule": {"file": "pg_ident.conf", "line": 1},
    });
    serde_json::json!({ "roles": [role] }).to_string()
}

fn lease(seconds: i64, state: &str) -> serde_json::Value {
    let start: jiff::Timestamp = "2026-11-20T20:00:00Z".parse().expect("a time");
    let end = start + jiff::SignedDuration::from_secs(seconds);
    serde_json::json!({
        "id": "abcdefghijklmnop", "state": state, "cluster": "orders", "database": "orders",
        "role": "orders_read", "role_name": "pgb_alice", "principal": "ldap:alice",
        "requested_at": start, "expires_at": end, "ceiling": "2026-11-21T04:00:00Z",
        "rule": {"file": "pg_ident.conf", "line": 1}, "map_revision": "x",
    })
}

fn issued(postgres: &Postgres, root: &str, password: &str, seconds: i64) -> String {
    serde_json::json!({
        "lease": lease(seconds, "active"),
        "password": password,
        "connection": {
            "host": "localhost", "port": postgres.port(), "database": "postgres",
            "user": "pgb_alice", "sslmode": "verify-full", "root_certificate": root,
        },
        "uri": "postgresql://",
    })
    .to_string()
}

impl Stand {
    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.machine.command(&[&["psql", "orders"], arguments].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Whatever the person's environment says, psql goes where the broker said.
        command.env("PGHOSTADDR", "192.0.2.1").env("PGSERVICE", "nowhere").env("PGCLUSTER", "9/x");
        command.env("PGSSLMODE", "disable").env("PGUSER", "somebody").env("PGDATABASE", "none");
        command.spawn().expect("pgbridge runs")
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.start(arguments).wait_with_output().expect("pgbridge ends").into()
    }

    /// Waits until psql is in a statement, and gives its process id.
    fn sleeping(&self) -> String {
        let sleeping = "SELECT application_name FROM pg_stat_activity WHERE usename = 'pgb_alice'
                        AND wait_event = 'PgSleep'";
        let rows = wait_for("psql to run its statement", SOON, || {
            Some(self.postgres.sql("postgres", sleeping)).filter(|rows| !rows.is_empty())
        });
        rows.concat().concat()
    }

    /// How often the broker was asked for what begins with `line`.
    fn asked(&self, line: &str) -> usize {
        self.broker.asked().iter().filter(|request| request.starts_with(line)).count()
    }

    #[track_caller]
    fn check_revoked(&self) {
        assert_eq!(self.asked("DELETE /v1/leases/abcdefghijklmnop "), 1);
    }
}

fn tell(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

#[test]
fn psql_goes_where_the_broker_says_over_verified_tls_and_the_role_ends_with_it() {
    let stand = stand(3600, || problem("409 Conflict", "No", ""));
    let question = "SELECT current_user, current_database(), ssl FROM pg_stat_ssl
                    WHERE pid = pg_backend_pid()";
    let outcome = stand.run(&["--ttl", "1h", "--reason", "why", "--", "-XAtc", question]);
    outcome.check(0, "");
    assert_eq!(outcome.stdout, "pgb_alice|postgres|t\n");
    stand.check_revoked();
    let asked = stand.broker.asked().join("\n");
    let wish = r#"{"cluster":"orders","role":"orders_read","ttl":"1h","reason":"why"}"#;
    assert!(asked.contains(wish), "{asked}");
}

#[test]
fn pgbridge_ends_as_psql_does() {
    let stand = stand(3600, || problem("409 Conflict", "No", ""));
    stand.run(&["--", "-Xc", "SELECT 1/0"]).check(1, "division by zero");
    stand.check_revoked();
    let script = ["--", "-Xv", "ON_ERROR_STOP=1", "-f", "/dev/null", "-f", "/nowhere.sql"];
    stand.run(&script).check(1, "/nowhere.sql");
    stand.run(&["--", "-Xd", "service=none"]).check(2, "none");
}

#[test]
fn the_password_is_in_the_environment_of_psql_and_nowhere_else() {
    let stand = stand(3600, || problem("409 Conflict", "No", ""));
    let child = stand.start(&["--", "-Xc", "SELECT pg_sleep(600)"]);
    stand.sleeping();
    let mut seen = 0;
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let read = |name: &str| {
            let text = std::fs::read(process.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&text).into_owned()
        };
        assert!(!read("cmdline").contains(&stand.password), "{:?}", process.path());
        seen += usize::from(read("environ").contains(&format!("PGPASSWORD={}", stand.password)));
    }
    assert!(seen >= 1, "psql does not have it");
    for file in std::fs::read_dir(stand.machine.session().parent().unwrap()).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(&stand.password), "{:?}", file.path());
    }
    tell(&child, Signal::TERM);
    child.wait_with_output().unwrap();
}

#[test]
fn a_signal_that_ends_pgbridge_ends_psql_and_the_lease_first() {
    let stand = stand(3600, || problem("409 Conflict", "No", ""));
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let before = stand.asked("DELETE ");
        let child = stand.start(&["--", "-Xc", "SELECT pg_sleep(600)"]);
        assert_eq!(stand.sleeping(), "pgbridge psql abcdefghijklmnop");
        tell(&child, signal);
        let outcome: Outcome = child.wait_with_output().unwrap().into();
        outcome.check(code, "");
        assert_eq!(stand.asked("DELETE "), before + 1);
        let end =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgb_alice'";
        stand.postgres.sql("postgres", end);
        wait_for("its session to end", SOON, || {
            let open = "SELECT 1 FROM pg_stat_activity WHERE usename = 'pgb_alice'";
            stand.postgres.sql("postgres", open).is_empty().then_some(())
        });
    }
}

#[test]
fn ctrl_c_is_for_psql_and_leaves_pgbridge_running_until_psql_ends() {
    let stand = stand(3600, || problem("409 Conflict", "No", ""));
    let child = stand.start(&["--", "-XAt", "-c", "SELECT pg_sleep(600)", "-c", "SELECT 'after'"]);
    stand.sleeping();
    // A terminal sends it to both; here only pgbridge gets it, and must not end by it.
    tell(&child, Signal::INT);
    tell(&child, Signal::QUIT);
    assert_eq!(stand.sleeping(), "pgbridge psql abcdefghijklmnop");
    assert_eq!(stand.asked("DELETE "), 0);
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'pgb_alice'";
    stand.postgres.sql("postgres", cancel);
    let outcome: Outcome = child.wait_with_output().unwrap().into();
    outcome.check(0, "canceling statement");
    assert_eq!(outcome.stdout, "after\n");
    stand.check_revoked();
}

#[test]
fn the_lease_is_renewed_while_psql_runs_and_the_person_is_told_when_it_cannot_be() {
    let renewals = std::sync::atomic::AtomicI64::new(0);
    let stand =
        stand(3, move || match renewals.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => json("200 OK", &lease(6, "active").to_string()),
            1 => problem("503 Service Unavailable", "Away", ""),
            _ => problem("403 Forbidden", "Not any more", "the map has changed"),
        });
    let child = stand.start(&["--", "-Xc", "SELECT pg_sleep(600)"]);
    stand.sleeping();
    let renew = "POST /v1/leases/abcdefghijklmnop/renew ";
    wait_for("three renewals", SOON, || (stand.asked(renew) == 3).then_some(()));
    let cancel =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pgb_alice'";
    stand.postgres.sql("postgres", cancel);
    let outcome: Outcome = child.wait_with_output().unwrap().into();
    outcome.check(2, "cannot be renewed");
    outcome.check(2, "Not any more: the map has changed");
    stand.check_revoked();
}
