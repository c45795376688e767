//! A pooler between the broker and the server.

use std::path::Path;

use super::{Clinic, SIDES};
use crate::support::daemon::Daemon;
use crate::support::scratch::{Scratch, ServiceUser, free_port, give};
use crate::support::{BROKER_LOGIN, BROKER_PASSWORD, SOON, Signal, wait_for};

/// A pgbouncer before a server.
struct Pooler {
    _daemon: Daemon,
    _scratch: Scratch,
    port: u16,
}

/// What a connection of the broker begins with, done by the pooler.
const BEGIN: &str = "SET search_path = pg_catalog, pg_temp; SET enable_seqscan = off";

impl Pooler {
    fn start(clinic: &Clinic, settings: &str) -> Self {
        let program = Path::new("/usr/sbin/pgbouncer");
        assert!(program.exists(), "no pgbouncer: run scripts/install-packages test");
        let user = ServiceUser::to_become("postgres");
        let scratch = Scratch::new("pooler");
        give(scratch.path(), user);
        let users = format!("\"{BROKER_LOGIN}\" \"{BROKER_PASSWORD}\"\n");
        let users = scratch.write("users.txt", &users, user);
        for _ in 0..5 {
            let port = free_port();
            let server = clinic.postgres.port();
            let text = format!(
                "[databases]\n\
                 * = host=127.0.0.1 port={server} connect_query='{begin}'\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = scram-sha-256\nauth_file = {users}\nserver_tls_sslmode = require\n{settings}\n",
                begin = BEGIN.replace('\'', "''"),
                users = users.display(),
            );
            let file = scratch.write("pgbouncer.ini", &text, user);
            let arguments = [file.display().to_string()];
            let log = scratch.join("pgbouncer.log");
            let mut daemon = Daemon::start(program, &arguments, user, &log, Signal::Interrupt);
            let up = wait_for("pgbouncer to listen", SOON, || {
                let listens = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
                (listens || !daemon.is_running()).then_some(listens)
            });
            if up {
                return Self { _daemon: daemon, _scratch: scratch, port };
            }
        }
        panic!("pgbouncer does not start");
    }
}

/// Sends the broker to the pooler, on this machine and without TLS.
fn go_by(clinic: &Clinic, pooler: &Pooler) {
    clinic.configure_with(|cluster| {
        let port = format!("port = {}", clinic.postgres.port());
        let cluster = cluster.replacen(&port, &format!("port = {}", pooler.port), 1);
        cluster.replacen(
            "ca_file = \"ca.pem\"",
            "sslmode = \"disable\"\nclient_sslmode = \"disable\"",
            1,
        )
    });
}

#[test]
fn a_pooler_that_shares_sessions_is_found_and_one_that_does_not_is_good() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        clinic.findings().hold("pooler", "pass");
        for (settings, verdict, words) in [
            ("pool_mode = transaction", "fail", "startup parameter"),
            ("pool_mode = session", "fail", "startup parameter"),
            ("pool_mode = transaction\nignore_startup_parameters = options", "fail", "process"),
            (
                "pool_mode = transaction\nserver_round_robin = 1\nignore_startup_parameters = options",
                "fail",
                "process",
            ),
            (
                "pool_mode = transaction\ndefault_pool_size = 1\nignore_startup_parameters = options",
                "fail",
                "process",
            ),
            ("pool_mode = session\nignore_startup_parameters = options", "pass", ""),
        ] {
            let pooler = Pooler::start(&clinic, settings);
            go_by(&clinic, &pooler);
            let found = clinic.findings();
            found.hold("pooler", verdict);
            assert!(found.text().contains(words), "{settings}: {}", found.text());
            if verdict == "pass" {
                found.hold("group-role", "pass");
            }
        }
    }
}

#[test]
fn a_pooler_that_drops_what_sessions_begin_with_is_found() {
    let clinic = Clinic::open(16);
    let settings = "pool_mode = session\nignore_startup_parameters = options\n\
                    [databases]\n* = host=127.0.0.1 port=";
    let port = clinic.postgres.port();
    let pooler = Pooler::start(&clinic, &format!("{settings}{port}"));
    go_by(&clinic, &pooler);
    let found = clinic.findings();
    found.hold("pooler", "fail");
    assert!(found.text().contains("not in force"), "{}", found.text());
}
