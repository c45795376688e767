//! What the tests rely on when they start a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::json;

use crate::support::{
    BROKER_LOGIN, BROKER_PASSWORD, Caller, Directory, Postgres, SERVICE_DN, SERVICE_PASSWORD, SOON,
    Scratch, Signal, TestBed, TestCa, password_of, wait_for,
};

/// The majors that every test of a cluster runs on: both sides of the change of CREATEROLE in 16.
const MAJORS: [u32; 2] = [15, 16];

#[test]
fn postgres_starts_seeded_with_tls_and_the_brokers_login() {
    for major in MAJORS {
        let postgres = Postgres::start(major);
        let version = postgres.sql("postgres", "SHOW server_version_num");
        assert!(version.concat().concat().starts_with(&major.to_string()), "{version:?}");

        let rows = postgres.sql("orders", "SELECT name, NULL FROM sales.customer ORDER BY id");
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.last().unwrap(), &["Café Zürich", ""]);
        assert!(postgres.sql("orders", "SELECT 1 WHERE false").is_empty());

        let who = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let broker = postgres.sql_as(BROKER_LOGIN, BROKER_PASSWORD, "orders", who).unwrap();
        assert_eq!(broker, [[BROKER_LOGIN, "t"]]);
        let refused = postgres.sql_as(BROKER_LOGIN, "wrong", "orders", "SELECT 1").unwrap_err();
        assert!(refused.contains("password authentication failed"), "{refused}");
        let no_right = postgres
            .sql_as(BROKER_LOGIN, BROKER_PASSWORD, "orders", "TABLE sales.customer")
            .unwrap_err();
        assert!(no_right.contains("permission denied"), "{no_right}");
    }
}

#[test]
fn the_brokers_login_makes_a_role_that_uses_a_group_and_takes_it_away_with_all_it_made() {
    for major in MAJORS {
        let postgres = Postgres::start(major);
        let (member, own) = if major >= 16 {
            (" WITH INHERIT TRUE, SET FALSE", " WITH INHERIT TRUE, SET TRUE")
        } else {
            ("", "")
        };
        let create = format!(
            "CREATE ROLE guest LOGIN PASSWORD 'secret' ADMIN pgbridge_admin;
             GRANT orders_write TO guest{member}; GRANT guest TO pgbridge{own}"
        );
        postgres.sql_as(BROKER_LOGIN, BROKER_PASSWORD, "orders", &create).unwrap();

        let made = "CREATE TABLE workbench.mine (n integer);
                    CREATE FUNCTION workbench.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'";
        postgres.sql_as("guest", "secret", "orders", made).unwrap();
        let elsewhere = postgres.sql_as("guest", "secret", "reports", "SELECT 1").unwrap_err();
        assert!(elsewhere.contains("permission denied for database"), "{elsewhere}");

        let end = "REASSIGN OWNED BY guest TO pgbridge_attic; DROP OWNED BY guest;
                   REVOKE orders_write FROM guest; DROP ROLE guest";
        postgres.sql_as(BROKER_LOGIN, BROKER_PASSWORD, "orders", end).unwrap();
        let left = "SELECT count(*) FROM pg_roles WHERE rolname = 'guest'";
        assert_eq!(postgres.sql("postgres", left), [["0"]]);
    }
}

#[test]
fn postgres_comes_back_on_its_port_after_a_stop_and_after_a_crash() {
    let mut postgres = Postgres::start(15);
    let port = postgres.port();
    postgres.sql("orders", "CREATE TABLE kept (n integer)");
    postgres.stop();
    assert!(postgres.try_sql("orders", "TABLE kept").is_err());
    postgres.start_again();
    postgres.crash();
    postgres.start_again();
    assert!(postgres.try_sql("orders", "TABLE kept").is_ok());
    assert_eq!(postgres.port(), port);
}

#[test]
fn postgres_settings_change_while_it_runs_and_its_log_can_be_read() {
    let postgres = Postgres::start_with(16, "log_min_messages = warning");
    assert_eq!(postgres.sql("postgres", "SHOW log_min_messages"), [["warning"]]);
    assert_eq!(postgres.sql("postgres", "SHOW fsync"), [["off"]]);
    postgres.sql("orders", "SELECT 'quiet'");
    postgres.set("log_statement", "all");
    postgres.sql("orders", "SELECT 'loud'");
    assert!(postgres.log().contains("SELECT 'loud'"));
    assert!(!postgres.log().contains("SELECT 'quiet'"));
    let seen = "SELECT count(*) > 0 FROM pg_stat_statements";
    assert_eq!(postgres.sql("postgres", seen), [["t"]]);
}

#[test]
fn a_hanging_postgres_answers_again_when_it_is_resumed() {
    let postgres = Postgres::start(15);
    postgres.hang();
    wait_for("the postmaster to stop", SOON, || {
        let state = fs::read_to_string(format!("/proc/{}/stat", postgres.pid())).unwrap();
        state.contains(") T ").then_some(())
    });
    postgres.resume();
    assert_eq!(postgres.sql("orders", "SELECT 1"), [["1"]]);
}

#[test]
fn the_directory_tells_people_apart_over_ldaps_and_starttls() {
    let directory = Directory::start();
    let alice = "uid=alice,ou=people,dc=example,dc=test";
    for connection in [Connection::Ldaps, Connection::StartTls] {
        let bind = |dn: &str, password: &str| whoami(&directory, connection, dn, password);
        assert_eq!(bind(alice, &password_of("alice")), Ok(format!("dn:{alice}")));
        assert!(bind(alice, "wrong").unwrap_err().contains("(49)"));
        let dave = "uid=dave,ou=people,dc=example,dc=test";
        let locked = bind(dave, &password_of("dave")).unwrap_err();
        assert!(locked.contains("(49); Account locked"), "{locked}");
        let frank = "uid=frank,ou=people,dc=example,dc=test";
        let expired = bind(frank, "frank-password").unwrap_err();
        assert!(expired.contains("(49); Password expired"), "{expired}");
        assert!(
            bind(r"uid=we\2C ird (x)*\5C,ou=people,dc=example,dc=test", "weird-password").is_ok()
        );
        assert!(bind(SERVICE_DN, SERVICE_PASSWORD).is_ok());
    }
}

#[test]
fn the_directory_fills_member_of_also_for_a_group_that_is_added_later() {
    let directory = Directory::start();
    directory.change(
        "dn: cn=late,ou=groups,dc=example,dc=test\nchangetype: add\nobjectClass: groupOfNames\n\
         cn: late\nmember: uid=bob,ou=people,dc=example,dc=test\n",
    );
    let mut search = ldap("ldapsearch", &directory, Connection::Ldaps);
    search.args(["-D", SERVICE_DN, "-w", SERVICE_PASSWORD, "-LLL", "-o", "ldif-wrap=no"]);
    search.args(["-b", "ou=people,dc=example,dc=test", "(uid=bob)", "memberOf"]);
    let found = said(&mut search).unwrap();
    for group in ["orders-readers", "orders-writers", "late"] {
        assert!(found.contains(&format!("memberOf: cn={group},ou=groups")), "{found}");
    }
}

#[test]
fn a_directory_certificate_of_another_authority_is_not_trusted() {
    let directory = Directory::start();
    let scratch = Scratch::new("other-ca");
    let other = scratch.write("ca.pem", &TestCa::new().pem(), None);
    let bind = |ca: &Path| {
        let mut whoami = ldap("ldapwhoami", &directory, Connection::Ldaps);
        whoami.args(["-D", SERVICE_DN, "-w", SERVICE_PASSWORD]);
        said(whoami.env("LDAPTLS_CACERT", ca))
    };
    assert!(bind(&directory.ca_file()).is_ok());
    assert!(bind(&other).is_err());
}

#[test]
fn a_directory_that_hangs_or_is_down_comes_back() {
    let mut directory = Directory::start();
    let bind = |directory: &Directory| {
        whoami(directory, Connection::Ldaps, SERVICE_DN, SERVICE_PASSWORD).map(drop)
    };
    directory.hang();
    bind(&directory).unwrap_err();
    directory.resume();
    bind(&directory).unwrap();

    directory.stop();
    bind(&directory).unwrap_err();
    directory.start_again();
    bind(&directory).unwrap();
    assert!(directory.log().contains(SERVICE_DN));
    assert!(!directory.log().contains(SERVICE_PASSWORD));
}

#[test]
fn a_server_and_its_directory_are_gone_after_the_test_also_when_it_panics() {
    let place: PathBuf;
    let pid: u32;
    {
        let postgres = Postgres::start(15);
        // A frozen server does not hear the signal that ends it.
        postgres.hang();
        place = postgres.ca_file().parent().unwrap().to_owned();
        pid = postgres.pid();
        assert!(place.exists());
    }
    assert!(!place.exists());
    let process = PathBuf::from(format!("/proc/{pid}"));
    wait_for("the end of the server", SOON, || (!process.exists()).then_some(()));
}

#[tokio::test]
async fn a_stand_issues_a_role_by_http_that_can_log_in_and_ends_when_it_is_revoked() {
    for major in MAJORS {
        let bed = TestBed::start(major);
        let token = bed.login("alice").await;
        let alice = Caller::Session(&token);
        let body = json!({ "cluster": "orders", "role": "orders_read", "ttl": "5m" });
        let issued = bed.call(Method::POST, "/v1/leases", alice, Some(body)).await;
        assert_eq!(issued.status, 201, "{issued:?}");
        let role = issued.text("/lease/role_name");
        assert_eq!(bed.lease_roles(), [role.as_str()]);
        let rows = bed.postgres.sql_as(
            &role,
            &issued.text("/password"),
            "orders",
            "SELECT count(*) FROM sales.customer",
        );
        assert_eq!(rows.unwrap(), [["3"]]);

        let path = format!("/v1/leases/{}", issued.text("/lease/id"));
        let revoked = bed.call(Method::DELETE, &path, alice, None).await;
        assert_eq!(revoked.status, 200, "{revoked:?}");
        assert!(bed.lease_roles().is_empty());
    }
}

#[tokio::test]
async fn a_stand_survives_the_death_of_its_broker_and_reads_an_edited_configuration() {
    let mut bed = TestBed::start_with(15, |config| config.replace("ttl = \"15m\"", "ttl = \"7m\""));
    let token = bed.login("alice").await;
    bed.kill();
    bed.start_again();
    let roles = bed.call(Method::GET, "/v1/roles", Caller::Session(&token), None).await;
    assert_eq!(roles.status, 200, "{roles:?}");
    assert_eq!(roles.json()["roles"][0]["ttl_seconds"], 420);
    let nobody = bed.call(Method::GET, "/v1/roles", Caller::Nobody, None).await;
    assert_eq!(nobody.status, 401);
    assert!(nobody.headers.contains_key("www-authenticate"));
    let body = json!({ "cluster": "orders", "role": "orders_read" });
    let wrong = Caller::Basic("alice", "wrong");
    assert_eq!(bed.call(Method::POST, "/v1/leases", wrong, Some(body.clone())).await.status, 401);
    bed.directory.stop();
    let right = password_of("alice");
    let right = Caller::Basic("alice", &right);
    assert_ne!(bed.call(Method::POST, "/v1/leases", right, Some(body)).await.status, 201);
    bed.signal(Signal::Terminate);
    bed.stop();
    assert!(bed.file("pgbridge.db").exists());
    assert!(!bed.log().contains(&password_of("alice")));
}

#[test]
fn people_type_the_program_with_a_session_of_their_own() {
    let bed = TestBed::start(16);
    bed.cli_login("alice");
    let whoami = bed.cli("alice").arg("whoami").output().unwrap();
    assert!(String::from_utf8_lossy(&whoami.stdout).contains("alice"), "{whoami:?}");
    let bob = bed.cli("bob").arg("whoami").output().unwrap();
    assert!(!bob.status.success(), "{bob:?}");
}

#[derive(Clone, Copy)]
enum Connection {
    Ldaps,
    StartTls,
}

/// An OpenLDAP client program that trusts the directory's authority, ended after 10 s: its own
/// limits do not cover the TLS handshake.
fn ldap(program: &str, directory: &Directory, connection: Connection) -> Command {
    let mut command = Command::new("timeout");
    command.env("LDAPTLS_CACERT", directory.ca_file());
    command.args(["10", program, "-x", "-e", "ppolicy", "-H"]);
    match connection {
        Connection::Ldaps => command.arg(directory.ldaps_url()),
        Connection::StartTls => command.arg(directory.ldap_url()).arg("-ZZ"),
    };
    command
}

fn whoami(
    directory: &Directory,
    connection: Connection,
    dn: &str,
    password: &str,
) -> Result<String, String> {
    said(ldap("ldapwhoami", directory, connection).args(["-D", dn, "-w", password]))
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().expect("ldap-utils is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
