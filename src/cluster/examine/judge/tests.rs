use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::super::facts::{
    Database, Direction, Facts, HbaLine, LeaseRole, Login, Replicas, Role, Schema, Server, Skew,
};
use super::super::finding::Verdict::{self, Fail, Note, Pass, Warn};
use super::super::finding::{Check, Finding};
use super::super::knock::{Answer, Certificate, Fit, Guest, Opened, Way};
use super::super::prepare::{self, HbaServer};
use super::super::read::HBA_LINES;
use super::super::wire::Demand;
use super::super::{Expected, StorePlace, expected::Protection};
use super::{inside, out_of_reach};
use crate::cluster::client::{ClientConnection, ClientSslMode};
use crate::cluster::error::{Failure, FailureKind};
use crate::lease::MarkerReading;
use crate::mapping::{Dialect, ObjectPolicy, Profile};
use crate::names::{LeaseId, RolePrefix};

fn profile(role: &str, databases: &[&str], networks: Option<&[&str]>) -> Arc<Profile> {
    let mut databases = databases.iter().map(|name| name.parse().unwrap());
    let (role, first) = (role.parse().unwrap(), databases.next().unwrap());
    let mut profile = Profile::plain(role, first, "1h".parse().unwrap(), "8h".parse().unwrap());
    profile.databases.extend(databases);
    profile.networks = networks.map(|nets| nets.iter().map(|net| net.parse().unwrap()).collect());
    profile.owned_objects = ObjectPolicy::Reassign;
    Arc::new(profile)
}

fn expected() -> Expected {
    Expected {
        cluster: "orders".parse().unwrap(),
        host: "db.example.test".parse().unwrap(),
        port: 5432,
        protection: Protection::Tls,
        user: "pgbridge".parse().unwrap(),
        maintenance: "postgres".parse().unwrap(),
        admin_role: Some("admin".parse().unwrap()),
        attic_role: Some("attic".parse().unwrap()),
        connections: 12,
        connect_timeout: Duration::from_secs(5),
        client: ClientConnection {
            host: "db.example.test".to_owned(),
            port: 5432,
            sslmode: ClientSslMode::VerifyFull,
            sslrootcert: None,
            root_certificate: None,
        },
        profiles: vec![profile("reader", &["orders"], None)],
        role_prefix: RolePrefix::default(),
        max_clock_skew: Duration::from_mins(2),
        store: None,
        map_read_as: Dialect::default(),
        written_release: None,
    }
}

fn role(name: &str) -> Role {
    Role {
        name: name.to_owned(),
        known: true,
        inherited: true,
        can_be_set: true,
        can_be_granted: true,
        has_rights: true,
        ..Role::default()
    }
}

fn settings() -> BTreeMap<String, String> {
    [
        ("authentication_timeout", "60"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", "10.0.0.5"),
        ("log_connections", "on"),
        ("log_line_prefix", "%m [%p] %q%u@%d %h "),
        ("log_min_duration_sample", "-1"),
        ("log_min_duration_statement", "-1"),
        ("log_parameter_max_length_on_error", "0"),
        ("log_statement", "none"),
        ("log_statement_sample_rate", "1"),
        ("log_transaction_sample_rate", "0"),
        ("max_connections", "100"),
        ("max_prepared_transactions", "0"),
        ("password_encryption", "scram-sha-256"),
        ("ssl", "on"),
        ("ssl_min_protocol_version", "TLSv1.2"),
        ("synchronous_commit", "on"),
        ("synchronous_standby_names", ""),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// A cluster on which all is well.
fn good() -> Facts {
    Facts {
        now: now(),
        server: Ok(Server {
            version: 160_014,
            standby: false,
            skew: Skew { at_least: Duration::ZERO, direction: Direction::Ahead },
            broker_address: Some("10.0.0.9".to_owned()),
        }),
        settings: Ok(settings()),
        login: Ok(Login {
            superuser: false,
            can_create_roles: true,
            connection_limit: -1,
            expires: false,
            needless: Vec::new(),
            may_signal: true,
            powers: Vec::new(),
            reads_hba: true,
        }),
        roles: Ok(vec![role("admin"), role("attic"), role("reader")]),
        reaches: Ok(vec![("reader".to_owned(), Vec::new())]),
        databases: Ok(vec![Database {
            name: "orders".to_owned(),
            wanted: true,
            known: true,
            connectable: true,
            broker_connects: true,
            ..Database::default()
        }]),
        schemas: vec![("orders".to_owned(), Ok(vec![schema(None), schema(Some("public"))]))],
        hba: Ok(Some(vec![line("hostssl", &["all"], Some("all"), "scram-sha-256")])),
        replicas: Ok(Replicas::default()),
        lease_roles: Ok(Vec::new()),
    }
}

fn schema(name: Option<&str>) -> Schema {
    Schema { name: name.map(str::to_owned), ..Schema::default() }
}

fn line(kind: &str, users: &[&str], address: Option<&str>, method: &str) -> HbaLine {
    HbaLine {
        line: 7,
        kind: kind.to_owned(),
        databases: vec!["all".to_owned()],
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        address: address.map(str::to_owned),
        method: method.to_owned(),
        ..HbaLine::default()
    }
}

/// Holds that `findings` say `verdict` of `check`, and nothing worse, with `mend` in a line that
/// mends it; a pass needs none.
#[track_caller]
fn hold(findings: &[Finding], check: Check, verdict: Verdict, mend: &str) {
    let of_check = || findings.iter().filter(|finding| finding.check == check);
    let worst = of_check().map(|finding| finding.verdict).max();
    assert_eq!(worst, Some(verdict), "{check}: {:#?}", of_check().collect::<Vec<_>>());
    let at_fault = of_check().filter(|finding| finding.verdict == verdict);
    let mut lines = at_fault.flat_map(|finding| &finding.mend);
    assert!(
        mend.is_empty() || lines.any(|line| line.contains(mend)),
        "{:#?}",
        of_check().collect::<Vec<_>>()
    );
}

/// Holds that `check` passes on a good cluster and comes to `verdict` once `change` is made.
#[track_caller]
fn check(check: Check, verdict: Verdict, mend: &str, change: impl FnOnce(&mut Facts)) {
    hold(&inside(&expected(), &good()), check, Pass, "");
    hold_changed(&expected(), check, verdict, mend, change);
}

#[track_caller]
fn hold_changed(
    expected: &Expected,
    check: Check,
    verdict: Verdict,
    mend: &str,
    change: impl FnOnce(&mut Facts),
) {
    let mut facts = good();
    change(&mut facts);
    hold(&inside(expected, &facts), check, verdict, mend);
}

fn server(facts: &mut Facts) -> &mut Server {
    facts.server.as_mut().unwrap()
}

fn login(facts: &mut Facts) -> &mut Login {
    facts.login.as_mut().unwrap()
}

fn role_of<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Role {
    facts.roles.as_mut().unwrap().iter_mut().find(|role| role.name == name).unwrap()
}

fn database(facts: &mut Facts) -> &mut Database {
    &mut facts.databases.as_mut().unwrap()[0]
}

/// The change that gives a parameter another value.
fn set(name: &'static str, value: &'static str) -> impl FnOnce(&mut Facts) {
    move |facts| {
        facts.settings.as_mut().unwrap().insert(name.to_owned(), value.to_owned());
    }
}

#[test]
fn a_good_cluster_passes_every_check() {
    let findings = inside(&expected(), &good());
    let worse: Vec<&Finding> = findings.iter().filter(|finding| finding.verdict != Pass).collect();
    assert!(worse.is_empty(), "{worse:#?}");
    let checks: std::collections::BTreeSet<Check> =
        findings.iter().map(|finding| finding.check).collect();
    assert!(checks.len() > 25, "{checks:?}");
}

#[test]
fn every_finding_that_is_no_pass_says_why_and_what_mends_it() {
    let mut facts = good();
    facts.settings.as_mut().unwrap().clear();
    *login(&mut facts) = Login {
        superuser: true,
        can_create_roles: false,
        may_signal: false,
        connection_limit: 1,
        expires: true,
        needless: vec!["CREATEDB".to_owned()],
        powers: vec!["pg_read_server_files".to_owned()],
        reads_hba: false,
    };
    facts.roles = Ok(vec![
        Role { name: "admin".to_owned(), ..Role::default() },
        Role { name: "attic".to_owned(), ..Role::default() },
        Role { name: "reader".to_owned(), ..Role::default() },
    ]);
    facts.hba = Ok(None);
    for finding in inside(&expected(), &facts) {
        if finding.verdict >= Warn {
            assert!(finding.why.is_some() && !finding.mend.is_empty(), "{finding:?}");
        }
    }
}

#[test]
fn a_role_that_is_lent_without_any_rights_is_told_with_a_grant_to_begin_with() {
    let none = |facts: &mut Facts| role_of(facts, "reader").has_rights = false;
    check(
        Check::GroupRights,
        Warn,
        "SELECT ON ALL TABLES IN SCHEMA \"public\" TO \"reader\"",
        none,
    );
    let in_sales = |facts: &mut Facts| {
        none(facts);
        facts.schemas[0].1.as_mut().unwrap().push(schema(Some("sales")));
    };
    check(Check::GroupRights, Warn, "USAGE ON SCHEMA \"sales\" TO \"reader\"", in_sales);
}

#[test]
fn what_a_server_says_is_shown_as_far_as_a_person_reads() {
    let long = "x".repeat(100_000);
    let mut facts = good();
    let lines = [
        line("host", &[&long], Some("all"), "trust"),
        HbaLine { error: Some(long.clone()), ..line("host", &["all"], Some(&long), &long) },
    ];
    facts.hba = Ok(Some(lines.into()));
    let failure = Failure { kind: FailureKind::Rejected, code: None, constraint: None, text: long };
    facts.roles = Err(failure);
    for finding in inside(&expected(), &facts) {
        assert!(finding.seen.len() < 2000, "{finding:?}");
    }
}

#[test]
fn a_line_of_pg_hba_that_is_not_read_to_its_end_is_taken_for_one_that_fits() {
    let cut = |facts: &mut Facts| {
        let line = line("host", &["dba"], Some("all"), "trust");
        facts.hba = Ok(Some(vec![line.clone()]));
        hold(&inside(&expected(), facts), Check::HbaFile, Pass, "");
        facts.hba = Ok(Some(vec![HbaLine { is_cut: true, ..line }]));
    };
    check(Check::HbaFile, Fail, "scram-sha-256", cut);
    let lines = |count| vec![line("host", &["dba"], Some("all"), "trust"); count];
    check(Check::HbaFile, Warn, "fewer lines", |facts| facts.hba = Ok(Some(lines(HBA_LINES))));
    hold_changed(&expected(), Check::HbaFile, Pass, "", |facts| {
        facts.hba = Ok(Some(lines(HBA_LINES - 1)));
    });
}

#[test]
fn only_versions_that_leases_were_tried_on_are_good() {
    let version = |version| move |facts: &mut Facts| server(facts).version = version;
    for good in [160_000, 170_010, 180_004] {
        hold_changed(&expected(), Check::Version, Pass, "", version(good));
    }
    for old in [130_000, 140_023, 150_018] {
        check(Check::Version, Warn, "16 or newer", version(old));
    }
    check(Check::Version, Fail, "13 to 18", version(120_022));
    check(Check::Version, Warn, "newer pgbridge", version(190_000));
}

#[test]
fn a_map_that_is_read_as_a_newer_release_reads_it_is_told() {
    const CHECK: Check = Check::MapRelease;
    let version = |major: u32| move |facts: &mut Facts| server(facts).version = major * 10_000;
    let read_as = |major: u32| major.try_into().unwrap();
    for major in [16, 17, 18] {
        hold_changed(&expected(), CHECK, Pass, "", version(major));
    }
    check(CHECK, Warn, "postgres = 15 in this", version(15));
    let old = Expected { map_read_as: read_as(13), ..expected() };
    hold_changed(&old, CHECK, Pass, "", version(13));
    hold_changed(&old, CHECK, Pass, "", version(15));
    let written = Expected { written_release: Some(read_as(17)), ..expected() };
    hold_changed(&written, CHECK, Pass, "", version(17));
    hold_changed(&written, CHECK, Warn, "postgres = 18 in this", version(18));
    hold_changed(&written, CHECK, Warn, "postgres = 16 in this", version(16));
}

#[test]
fn a_release_with_known_holes_or_without_an_end_in_sight_is_told() {
    check(Check::MinorRelease, Warn, "newest minor", |facts| server(facts).version = 160_013);
    check(Check::MinorRelease, Warn, "newer major", |facts| server(facts).version = 130_023);
    check(Check::MinorRelease, Warn, "newer major", |facts| {
        facts.now = "2028-11-10T00:00:00Z".parse().unwrap();
    });
    hold_changed(&expected(), Check::MinorRelease, Pass, "", |facts| {
        facts.now = "2028-11-09T23:00:00Z".parse().unwrap();
    });
}

#[test]
fn a_standby_and_a_clock_that_is_off_are_told() {
    check(Check::Standby, Fail, "primary", |facts| server(facts).standby = true);
    let skew = |seconds| {
        move |facts: &mut Facts| server(facts).skew.at_least = Duration::from_secs(seconds)
    };
    check(Check::Clock, Warn, "time source", skew(31));
    check(Check::Clock, Fail, "time source", skew(121));
    hold_changed(&expected(), Check::Clock, Pass, "", skew(30));
}

#[test]
fn a_login_with_more_or_less_than_it_needs_is_told() {
    check(Check::Login, Fail, "NOSUPERUSER", |facts| login(facts).superuser = true);
    check(Check::Login, Fail, "REVOKE \"pg_execute_server_program\" FROM \"pgbridge\"", |facts| {
        login(facts).powers = vec!["pg_execute_server_program".to_owned()];
    });
    check(Check::Login, Warn, "NOREPLICATION", |facts| {
        login(facts).needless = vec!["REPLICATION".to_owned()];
    });
    check(Check::Login, Warn, "VALID UNTIL 'infinity'", |facts| login(facts).expires = true);
    check(Check::CreateRole, Fail, "ALTER ROLE \"pgbridge\" CREATEROLE;", |facts| {
        login(facts).can_create_roles = false;
    });
    check(Check::Signal, Fail, "WITH INHERIT TRUE, SET TRUE;", |facts| {
        login(facts).may_signal = false;
    });
    check(Check::Signal, Fail, "GRANT pg_signal_backend TO \"pgbridge\";", |facts| {
        login(facts).may_signal = false;
        server(facts).version = 150_018;
    });
    check(Check::ConnectionLimit, Warn, "CONNECTION LIMIT -1", |facts| {
        login(facts).connection_limit = 11;
    });
    hold_changed(&expected(), Check::ConnectionLimit, Pass, "", |facts| {
        login(facts).connection_limit = 12;
    });
    check(Check::ConnectionLimit, Warn, "max_connections", set("max_connections", "11"));
}

#[test]
fn the_group_of_brokers_must_serve_brokers_and_nobody_else() {
    const CHECK: Check = Check::AdminRole;
    check(CHECK, Fail, "CREATE ROLE \"admin\" NOLOGIN;", |facts| {
        role_of(facts, "admin").known = false;
    });
    check(CHECK, Fail, "NOSUPERUSER", |facts| {
        role_of(facts, "admin").attributes = vec!["SUPERUSER".to_owned()];
    });
    check(CHECK, Fail, "GRANT \"admin\" TO \"pgbridge\" WITH INHERIT TRUE", |facts| {
        role_of(facts, "admin").inherited = false;
    });
    check(CHECK, Fail, "NOLOGIN", |facts| role_of(facts, "admin").can_login = true);
    check(CHECK, Note, "", |facts| role_of(facts, "admin").members = vec!["b2".to_owned()]);
    let without = Expected { admin_role: None, ..expected() };
    hold_changed(&without, CHECK, Warn, "admin_role = ", |_| {});
    hold_changed(&without, CHECK, Pass, "", |facts| server(facts).version = 150_018);
}

#[test]
fn the_attic_must_have_no_rights_and_nobody_but_the_broker() {
    const CHECK: Check = Check::AtticRole;
    check(CHECK, Fail, "CREATE ROLE \"attic\" NOLOGIN;", |facts| {
        role_of(facts, "attic").known = false;
    });
    check(CHECK, Fail, "NOBYPASSRLS", |facts| {
        role_of(facts, "attic").attributes = vec!["BYPASSRLS".to_owned()];
    });
    check(CHECK, Fail, "REVOKE \"x\"\"y\" FROM \"attic\";", |facts| {
        role_of(facts, "attic").groups = vec!["x\"y".to_owned()];
    });
    for not_a_member in
        [(|role| role.inherited = false) as fn(&mut Role), |role| role.can_be_set = false]
    {
        check(CHECK, Fail, "GRANT \"attic\" TO \"pgbridge\"", |facts| {
            not_a_member(role_of(facts, "attic"));
        });
    }
    check(CHECK, Fail, "NOLOGIN", |facts| role_of(facts, "attic").can_login = true);
    check(CHECK, Warn, "REVOKE \"attic\" FROM \"eve\";", |facts| {
        role_of(facts, "attic").members = vec!["eve".to_owned()];
    });
    hold_changed(&Expected { attic_role: None, ..expected() }, CHECK, Note, "", |_| {});
}

#[test]
fn a_role_that_cannot_be_lent_or_lends_too_much_is_told() {
    const CHECK: Check = Check::GroupRole;
    check(CHECK, Fail, "CREATE ROLE \"reader\" NOLOGIN;", |facts| {
        role_of(facts, "reader").known = false;
    });
    check(CHECK, Fail, "GRANT \"reader\" TO \"admin\" WITH ADMIN TRUE", |facts| {
        role_of(facts, "reader").can_be_granted = false;
    });
    hold_changed(&expected(), CHECK, Pass, "", |facts| {
        role_of(facts, "reader").can_be_granted = false;
        server(facts).version = 150_018;
    });
    check(CHECK, Warn, "ALTER ROLE \"reader\" NOLOGIN;", |facts| {
        role_of(facts, "reader").can_login = true;
    });
    check(Check::GroupReach, Fail, "pg_auth_members", |facts| {
        facts.reaches = Ok(vec![("reader".to_owned(), vec!["postgres is a superuser".to_owned()])]);
    });
}

#[test]
fn a_database_must_be_there_and_open_to_broker_and_leases() {
    const CHECK: Check = Check::Database;
    check(CHECK, Fail, "[[cluster.profile]]", |facts| database(facts).known = false);
    check(CHECK, Fail, "ALLOW_CONNECTIONS", |facts| database(facts).connectable = false);
    check(CHECK, Fail, "TO \"pgbridge\";", |facts| database(facts).broker_connects = false);
    check(CHECK, Fail, "TO \"reader\";", |facts| {
        database(facts).shut_out = vec!["reader".to_owned(), "other".to_owned()];
    });
    hold_changed(&expected(), CHECK, Pass, "", |facts| {
        database(facts).shut_out = vec!["other".to_owned()];
    });
    check(Check::PublicConnect, Note, "REVOKE CONNECT ON DATABASE \"orders\"", |facts| {
        database(facts).public_connects = true;
    });
    hold_changed(&expected(), Check::PublicTemporary, Note, "REVOKE TEMPORARY", |facts| {
        database(facts).public_temporary = true;
    });
}

#[test]
fn a_store_on_the_server_is_told_and_more_so_when_leases_get_into_it() {
    const CHECK: Check = Check::Store;
    let store = StorePlace {
        servers: vec![("db.example.test".parse().unwrap(), 5432)],
        user: "store".parse().unwrap(),
        database: "pgb store".parse().unwrap(),
    };
    let with_store = Expected { store: Some(store), ..expected() };
    let here = |public_connects: bool, shut_out: &[&str]| {
        let name = "pgb store".to_owned();
        let shut_out = shut_out.iter().map(|&role| role.to_owned()).collect();
        let found =
            Database { name, connectable: true, public_connects, shut_out, ..Database::default() };
        move |facts: &mut Facts| facts.databases.as_mut().unwrap().push(found)
    };
    check(CHECK, Pass, "", here(true, &[]));
    hold_changed(&with_store, CHECK, Pass, "", |_| {});
    let public = "REVOKE CONNECT ON DATABASE \"pgb store\" FROM PUBLIC, \"reader\";";
    hold_changed(&with_store, CHECK, Warn, public, here(true, &[]));
    hold_changed(&with_store, CHECK, Warn, "FROM PUBLIC, \"reader\";", here(false, &["other"]));
    let reserved = "GRANT pg_use_reserved_connections TO \"store\";";
    hold_changed(&with_store, CHECK, Warn, reserved, here(true, &[]));
    hold_changed(&with_store, CHECK, Note, reserved, here(false, &["reader"]));
}

#[test]
fn a_server_of_the_store_is_known_by_its_address() {
    let check = |own: &str, own_port: u16, host: &str, same: bool| {
        let place = StorePlace {
            servers: vec![
                ("elsewhere.example.test".parse().unwrap(), 5432),
                (own.parse().unwrap(), own_port),
            ],
            user: "store".parse().unwrap(),
            database: "store".parse().unwrap(),
        };
        assert_eq!(place.is_at(&host.parse().unwrap(), 5432), same, "{own}:{own_port} {host}");
    };
    check("db.example.test", 5432, "db.example.test", true);
    check("db.example.test", 5433, "db.example.test", false);
    check("db.example.test", 5432, "db2.example.test", false);
    check("127.0.0.1", 5432, "localhost", true);
    check("/run/postgresql", 5432, "::1", true);
    check("127.0.0.1", 5432, "10.0.0.1", false);
}

#[test]
fn prepared_transactions_are_worse_where_a_lease_role_can_become_its_group() {
    for (version, verdict) in [(150_018, Warn), (160_014, Note)] {
        check(Check::PreparedTransactions, verdict, "= 0", |facts| {
            server(facts).version = version;
            let settings = facts.settings.as_mut().unwrap();
            settings.insert("max_prepared_transactions".to_owned(), "10".to_owned());
        });
    }
}

#[test]
fn a_place_where_everybody_makes_things_or_the_attic_cannot_own_them_is_told() {
    let schemas = |schema: Schema| {
        move |facts: &mut Facts| facts.schemas = vec![("orders".to_owned(), Ok(vec![schema]))]
    };
    check(
        Check::PublicCreate,
        Warn,
        "REVOKE CREATE ON SCHEMA \"public\" FROM PUBLIC;",
        schemas(Schema { public_creates: true, ..schema(Some("public")) }),
    );
    check(
        Check::PublicCreate,
        Warn,
        "REVOKE CREATE ON DATABASE \"orders\" FROM PUBLIC;",
        schemas(Schema { public_creates: true, ..schema(None) }),
    );
    let used = || Schema { groups_create: vec!["reader".to_owned()], ..schema(Some("work")) };
    let mend = "GRANT CREATE ON SCHEMA \"work\" TO \"attic\";";
    hold_changed(&expected(), Check::AtticCreate, Warn, mend, schemas(used()));
    let open = Schema { attic_creates: true, ..used() };
    hold_changed(&expected(), Check::AtticCreate, Pass, "", schemas(open));
}

#[test]
fn settings_that_make_a_cluster_less_safe_are_told() {
    for (what, verdict, mend, name, value) in [
        (Check::Ssl, Fail, "SET ssl = on", "ssl", "off"),
        (Check::TlsMinimum, Warn, "'TLSv1.2'", "ssl_min_protocol_version", "TLSv1"),
        (Check::PasswordEncryption, Warn, "'scram-sha-256'", "password_encryption", "md5"),
        (Check::ListenAddresses, Warn, "listen_addresses", "listen_addresses", "*"),
        (Check::ListenAddresses, Warn, "listen_addresses", "listen_addresses", "10.0.0.5, ::"),
        (Check::AuthenticationTimeout, Warn, "'30s'", "authentication_timeout", "61"),
        (Check::Durability, Warn, "SET fsync = on", "fsync", "off"),
        (Check::Durability, Warn, "synchronous_commit = on", "synchronous_commit", "off"),
        (Check::PreparedTransactions, Note, "= 0", "max_prepared_transactions", "10"),
        (Check::StatementLog, Warn, "log_statement = 'none'", "log_statement", "ddl"),
        (Check::StatementLog, Warn, "'1s'", "log_min_duration_statement", "0"),
        (Check::StatementLog, Warn, "'1s'", "log_min_duration_sample", "0"),
        (Check::StatementLog, Warn, "= 0", "log_transaction_sample_rate", "0.1"),
        (Check::ParameterLog, Warn, "= 0", "log_parameter_max_length_on_error", "-1"),
        (Check::LoginLog, Note, "log_connections = 'on'", "log_connections", "off"),
        (Check::LoginLog, Note, "%u@%d", "log_line_prefix", "%m [%p] "),
    ] {
        check(what, verdict, mend, set(name, value));
    }
    for (what, name, value) in [
        (Check::ListenAddresses, "listen_addresses", ""),
        (Check::StatementLog, "log_min_duration_statement", "1000"),
        (Check::LoginLog, "log_connections", "receipt,authentication,authorization"),
        (Check::TlsMinimum, "ssl_min_protocol_version", "TLSv1.3"),
    ] {
        hold_changed(&expected(), what, Pass, "", set(name, value));
    }
}

#[test]
fn libraries_that_write_statements_down_are_told_when_they_are_loaded() {
    let track = "pg_stat_statements.track_utility";
    hold_changed(&expected(), Check::StatStatements, Warn, "= off", set(track, "on"));
    hold_changed(&expected(), Check::StatStatements, Pass, "", set(track, "off"));
    let findings = inside(&expected(), &good());
    assert!(findings.iter().all(|found| found.check != Check::StatStatements));
    for (value, verdict) in [("on", Warn), ("off", Pass)] {
        hold_changed(&expected(), Check::PgAudit, verdict, "", |facts| {
            set("pgaudit.log", "role, ddl")(facts);
            set("pgaudit.log_parameter", value)(facts);
        });
    }
}

#[test]
fn copies_that_nobody_waits_for_can_bring_back_what_was_dropped() {
    let attached = |synchronous, hidden| {
        move |facts: &mut Facts| {
            facts.replicas = Ok(Replicas { attached: 1, synchronous, hidden });
        }
    };
    check(Check::Replicas, Warn, "synchronous_standby_names", attached(0, 0));
    hold_changed(&expected(), Check::Replicas, Pass, "", |facts| {
        attached(1, 0)(facts);
        set("synchronous_standby_names", "*")(facts);
    });
    check(Check::Replicas, Warn, "", |facts| {
        attached(1, 0)(facts);
        set("synchronous_standby_names", "*")(facts);
        set("synchronous_commit", "local")(facts);
    });
}

#[test]
fn lines_of_pg_hba_that_let_a_lease_in_without_tls_or_scram_are_told() {
    let only = |lines: Vec<HbaLine>| move |facts: &mut Facts| facts.hba = Ok(Some(lines));
    let any = Some("0.0.0.0/0");
    for (verdict, line) in [
        (Fail, line("host", &["all"], any, "scram-sha-256")),
        (Fail, line("hostnossl", &["all"], any, "scram-sha-256")),
        (Fail, line("hostssl", &["all"], any, "trust")),
        (Fail, line("hostssl", &["all"], any, "md5")),
        (Fail, line("hostssl", &["+reader"], any, "trust")),
        (Fail, line("hostssl", &["/^pgb_"], any, "trust")),
        (Fail, line("hostssl", &["/^(unreadable(?<=x)"], any, "trust")),
        // Some lease role's name may begin so.
        (Fail, line("hostssl", &["/^pgb_bob"], any, "trust")),
        (Fail, line("hostssl", &["/^p"], any, "trust")),
        (Fail, line("hostssl", &["/^app_|^pgb_"], any, "trust")),
        (Fail, line("hostssl", &["/^pgx?b"], any, "trust")),
        (Fail, line("hostssl", &["/(?i)^PGB"], any, "trust")),
        (Fail, line("hostssl", &["/alice"], any, "trust")),
        (Fail, line("hostssl", &["postgres", "pgb_alice_x"], any, "trust")),
        (Fail, line("local", &["all"], None, "trust")),
        (Fail, line("host", &["all"], any, "ident")),
        (Fail, line("hostssl", &["all"], any, "password")),
        (Warn, line("hostssl", &["all"], any, "ldap")),
        (Warn, line("host", &["all"], Some("127.0.0.1"), "scram-sha-256")),
        (Warn, masked("127.0.0.0", "255.0.0.0")),
        (Warn, masked("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        (Fail, masked("127.0.0.0", "0.0.0.0")),
        (Fail, masked("::1", "::")),
        (Warn, with_map(line("local", &["all"], None, "peer"))),
        (Warn, with_map(line("hostssl", &["all"], any, "cert"))),
        (Fail, HbaLine { error: Some("odd".into()), ..line("host", &[], None, "") }),
    ] {
        let shown = format!("{line:?}");
        let mut facts = good();
        only(vec![line])(&mut facts);
        let findings = inside(&expected(), &facts);
        assert!(findings.iter().any(|found| found.check == Check::HbaFile), "{shown}");
        hold(&findings, Check::HbaFile, verdict, ":7: ");
    }
    for line in [
        line("hostssl", &["all"], any, "scram-sha-256"),
        line("host", &["all"], any, "reject"),
        line("hostgssenc", &["all"], any, "scram-sha-256"),
        line("local", &["all"], None, "peer"),
        line("hostssl", &["all"], any, "cert"),
        line("local", &["all"], None, "scram-sha-256"),
        line("host", &["postgres"], any, "trust"),
        line("host", &["/^app_"], any, "trust"),
        line("host", &["/^pgbouncer$"], any, "trust"),
        HbaLine { databases: vec!["replication".into()], ..line("host", &["all"], any, "trust") },
    ] {
        hold_changed(&expected(), Check::HbaFile, Pass, "", only(vec![line]));
    }
}

fn masked(address: &str, netmask: &str) -> HbaLine {
    let netmask = Some(netmask.to_owned());
    HbaLine { netmask, ..line("host", &["all"], Some(address), "scram-sha-256") }
}

fn with_map(line: HbaLine) -> HbaLine {
    HbaLine { options: vec!["map=staff".to_owned()], ..line }
}

#[test]
fn a_line_behind_one_that_rejects_every_lease_counts_only_if_that_is_in_quotes() {
    let trust = || line("host", &["all"], Some("0.0.0.0/0"), "trust");
    let reject = |users, address| line("host", users, address, "reject");
    let judged = |lines: Vec<HbaLine>, verdict, mend: &str| {
        let only = |facts: &mut Facts| facts.hba = Ok(Some(lines));
        hold_changed(&expected(), Check::HbaFile, verdict, mend, only);
    };
    // A server shows no quotes, so it may be a role of the name `all`.
    judged(vec![reject(&["/^pgb_"], Some("all")), trust()], Note, "no quotes");
    judged(vec![reject(&["all"], Some("all")), trust()], Note, "no quotes");
    // Behind it nothing weak comes.
    let good = || line("hostssl", &["all"], Some("0.0.0.0/0"), "scram-sha-256");
    judged(vec![reject(&["all"], Some("all")), good()], Pass, "");
    judged(vec![trust(), reject(&["all"], Some("all"))], Fail, "");
    judged(vec![reject(&["/^pgb_"], Some("10.0.0.0/8")), trust()], Fail, "");
    judged(vec![reject(&["/^pgb_b"], Some("all")), trust()], Fail, "");
    judged(vec![reject(&["+reader"], Some("all")), trust()], Fail, "");
    // By each way that the one is not for, the other lets in.
    for (kind, verdict) in [
        ("hostssl", Fail),
        ("hostnossl", Fail),
        ("hostgssenc", Fail),
        ("hostnogssenc", Fail),
        ("local", Fail),
        ("host", Note),
    ] {
        judged(vec![line(kind, &["all"], Some("all"), "reject"), trust()], verdict, "");
    }
    let split = ["hostssl", "hostnossl"].map(|kind| line(kind, &["all"], Some("all"), "reject"));
    judged(split.into_iter().chain([trust()]).collect(), Note, "no quotes");
}

#[test]
fn before_16_a_pattern_is_a_name_and_keeps_nobody_out() {
    let lines = || {
        let any = Some("0.0.0.0/0");
        vec![
            line("local", &["/^pgb_"], None, "reject"),
            line("host", &["/^pgb_"], Some("all"), "reject"),
            line("local", &["all"], None, "trust"),
            line("host", &["all"], any, "trust"),
        ]
    };
    let on = |version: u32, lines: Vec<HbaLine>| {
        move |facts: &mut Facts| {
            server(facts).version = version;
            facts.hba = Ok(Some(lines));
        }
    };
    for old in [130_023, 150_018] {
        hold_changed(&expected(), Check::HbaFile, Fail, "", on(old, lines()));
        let only = || vec![line("host", &["/^pgb_"], Some("all"), "trust")];
        hold_changed(&expected(), Check::HbaFile, Warn, "--print-hba", on(old, only()));
        let database = vec!["/^orders".to_owned()];
        let only =
            vec![HbaLine { databases: database, ..line("host", &["bob"], Some("all"), "reject") }];
        hold_changed(&expected(), Check::HbaFile, Warn, "--print-hba", on(old, only));
    }
    for new in [160_014, 180_004] {
        hold_changed(&expected(), Check::HbaFile, Note, "no quotes", on(new, lines()));
    }
    // Where nobody knows which it is, it is neither.
    let unknown = |facts: &mut Facts| {
        on(160_014, lines())(facts);
        facts.server = Err(Failure {
            kind: FailureKind::Rejected,
            code: None,
            constraint: None,
            text: "denied".into(),
        });
    };
    hold_changed(&expected(), Check::HbaFile, Fail, "", unknown);
}

#[test]
fn a_line_for_replication_lets_leases_in_where_a_database_has_that_name() {
    let replication = |facts: &mut Facts| {
        let line = line("host", &["all"], Some("0.0.0.0/0"), "trust");
        facts.hba = Ok(Some(vec![HbaLine { databases: vec!["replication".into()], ..line }]));
    };
    hold_changed(&expected(), Check::HbaFile, Pass, "", replication);
    hold_changed(&expected(), Check::HbaFile, Fail, "", |facts| {
        replication(facts);
        facts.databases.as_mut().unwrap().push(Database {
            name: "replication".to_owned(),
            known: true,
            ..Database::default()
        });
    });
}

#[test]
fn what_could_not_be_seen_is_told_and_does_not_hide_the_rest() {
    let failure = || Failure {
        kind: FailureKind::Rejected,
        code: None,
        constraint: None,
        text: "denied".into(),
    };
    hold_changed(&expected(), Check::HbaFile, Note, "GRANT SELECT", |facts| facts.hba = Ok(None));
    hold_changed(&expected(), Check::Ssl, Warn, "", |facts| facts.settings = Err(failure()));
    hold_changed(&expected(), Check::Login, Warn, "", |facts| facts.login = Err(failure()));
    hold_changed(&expected(), Check::Version, Pass, "", |facts| facts.login = Err(failure()));
}

#[test]
fn roles_that_look_like_ours_and_leftovers_are_told() {
    let found = |name: &str, marker, can_login| LeaseRole { name: name.into(), marker, can_login };
    let ours = || Some(MarkerReading::Ours(LeaseId::random(&mut rand::rng())));
    let roles = |roles: Vec<LeaseRole>| move |facts: &mut Facts| facts.lease_roles = Ok(roles);
    check(
        Check::LeaseRoles,
        Warn,
        "-- DROP ROLE \"pgb_x\";",
        roles(vec![found("pgb_x", Some(MarkerReading::Invalid), true)]),
    );
    check(Check::LeaseRoles, Note, "blockers", roles(vec![found("pgb_y", ours(), false)]));
    check(Check::LeaseRoles, Warn, "marker_key_file", roles(vec![found("pgb_z", None, true)]));
    let fine =
        vec![found("pgb_a", ours(), true), found("pgb_b", Some(MarkerReading::Foreign), true)];
    hold_changed(&expected(), Check::LeaseRoles, Pass, "", roles(fine));
}

/// A door where each way gives `answer`.
fn door(way: Way, answer: Answer) -> Opened {
    Opened {
        guest: Guest::Clients,
        place: "db.example.test:5432".to_owned(),
        local: false,
        answers: vec![(way, "orders".to_owned(), answer)],
        broken: None,
        certificate: None,
        old_tls: None,
    }
}

fn refusal(code: &str) -> Demand {
    Demand::Refused(code.to_owned(), "no".to_owned())
}

#[test]
fn what_is_asked_for_at_the_door_decides() {
    for (way, demand, verdict, mend) in [
        (Way::Tls, Demand::Scram, Pass, ""),
        (Way::Tls, Demand::Nothing, Fail, "/^pgb_  all  reject"),
        (Way::Tls, Demand::Password, Fail, "hostssl"),
        (Way::Tls, Demand::Md5, Fail, "scram-sha-256"),
        (Way::Tls, Demand::Ticket, Warn, "hostssl"),
        (Way::Tls, refusal("28000"), Note, ""),
        (Way::Tls, refusal("53300"), Warn, ""),
        (Way::Clear, Demand::Scram, Fail, "reject"),
        (Way::Clear, Demand::Nothing, Fail, "reject"),
        (Way::Clear, refusal("28000"), Pass, ""),
        (Way::Clear, refusal("53300"), Warn, ""),
        (Way::Socket, Demand::Scram, Pass, ""),
        (Way::Socket, Demand::Nothing, Fail, "reject"),
    ] {
        let shown = format!("{way:?} {demand:?}");
        let doors = [door(way, Answer::Asked(demand))];
        let findings = super::doors(&expected(), Some(160_014), &doors, now());
        let check = if way == Way::Clear { Check::LoginInClear } else { Check::LoginByTls };
        assert_eq!(findings.len(), 1, "{shown}");
        hold(&findings, check, verdict, mend);
    }
    let none = super::doors(&expected(), None, &[door(Way::Tls, Answer::NoTls)], now());
    hold(&none, Check::LoginByTls, Fail, "ssl = on");
}

#[test]
fn without_tls_is_good_only_where_clients_are_told_so_and_stay_on_the_machine() {
    let mut local = expected();
    local.client.host = "127.0.0.1".to_owned();
    local.client.sslmode = ClientSslMode::Disable;
    let here = Opened { local: true, ..door(Way::Clear, Answer::Asked(Demand::Scram)) };
    hold(
        &super::doors(&local, None, std::slice::from_ref(&here), now()),
        Check::LoginInClear,
        Note,
        "",
    );
    let away = door(Way::Clear, Answer::Asked(Demand::Scram));
    hold(&super::doors(&local, None, &[away], now()), Check::LoginInClear, Fail, "");
    hold(&super::doors(&expected(), None, &[here], now()), Check::LoginInClear, Fail, "");
}

#[test]
fn a_certificate_that_clients_refuse_or_that_ends_soon_is_told() {
    let after = |hours| Some(now() + jiff::SignedDuration::from_hours(hours));
    let judged = |mode, fit: &Fit, expires_at, verdict| {
        let certificate = Some(Certificate { fit: fit.clone(), expires_at });
        let doors = [Opened { certificate, ..door(Way::Tls, Answer::Asked(Demand::Scram)) }];
        let mut expected = expected();
        expected.client.sslmode = mode;
        hold(&super::doors(&expected, None, &doors, now()), Check::Certificate, verdict, "");
    };
    let other = Fit::OtherName("x".into());
    let bad = Fit::Bad("x".into());
    let (full, ca, require) =
        (ClientSslMode::VerifyFull, ClientSslMode::VerifyCa, ClientSslMode::Require);
    judged(full, &Fit::Good, after(1000), Pass);
    judged(full, &other, after(1000), Fail);
    judged(full, &bad, after(1000), Fail);
    judged(full, &Fit::Untried, after(1000), Note);
    judged(full, &Fit::Good, after(300), Warn);
    judged(ca, &other, after(1000), Pass);
    judged(ca, &bad, after(1000), Fail);
    judged(require, &bad, after(1000), Note);
}

#[test]
fn old_tls_and_a_door_that_cannot_be_reached_are_told() {
    let asked = || door(Way::Tls, Answer::Asked(Demand::Scram));
    let judged = |door| super::doors(&expected(), None, &[door], now());
    for (spoken, verdict) in [(true, Warn), (false, Pass)] {
        let old_tls = Some(spoken);
        hold(&judged(Opened { old_tls, ..asked() }), Check::TlsMinimum, verdict, "");
    }
    let broken = Opened { broken: Some("no route".into()), answers: Vec::new(), ..asked() };
    hold(&judged(broken), Check::LoginByTls, Warn, "client_host");
}

#[test]
fn why_the_broker_cannot_log_in_leads_to_what_mends_it() {
    for (code, check, mend) in [
        (Some("28P01"), Check::Reach, "\\password \"pgbridge\""),
        (Some("28000"), Check::Reach, "--print-hba"),
        (Some("42501"), Check::Reach, "GRANT CONNECT ON DATABASE \"postgres\" TO \"pgbridge\";"),
        (Some("3D000"), Check::Reach, "database in [[cluster]]"),
        (Some("53300"), Check::Reach, "max_connections"),
        (None, Check::Reach, "host, port"),
    ] {
        let code = code.map(str::to_owned);
        let failure =
            Failure { kind: FailureKind::Broken, code, constraint: None, text: "x".into() };
        hold(&[out_of_reach(&expected(), &failure)], check, Fail, mend);
    }
    let text = "unsupported startup parameter: options".to_owned();
    let failure = Failure { kind: FailureKind::Broken, code: None, constraint: None, text };
    hold(&[out_of_reach(&expected(), &failure)], Check::Pooler, Fail, "pool_mode");
}

#[test]
fn the_lines_for_pg_hba_let_leases_in_by_tls_and_scram_and_not_otherwise() {
    let mut expected = expected();
    expected.profiles = vec![
        profile("reader", &["orders", "all"], Some(&["10.0.0.0/8"])),
        profile("we\"ird", &["orders"], Some(&["2001:db8::/32"])),
    ];
    let lines = |major, broker_address| -> Vec<String> {
        let lines = prepare::hba(&expected, HbaServer { major, broker_address });
        lines.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(
        lines(16, Some("10.9.9.9")),
        [
            "hostssl  all  \"pgbridge\"  10.9.9.9/32  scram-sha-256",
            "hostssl  \"orders\"  /^pgb_  10.0.0.0/8  scram-sha-256",
            "hostssl  \"orders\"  /^pgb_  2001:db8::/32  scram-sha-256",
            "hostssl  \"all\"  /^pgb_  10.0.0.0/8  scram-sha-256",
            "host     all  /^pgb_  all  reject",
            "local    all  /^pgb_  reject",
        ]
    );
    assert_eq!(
        lines(15, None),
        [
            "hostssl  all  \"pgbridge\"  all  scram-sha-256",
            "hostssl  \"orders\"  +\"reader\"  10.0.0.0/8  scram-sha-256",
            "hostssl  \"orders\"  +\"we\"\"ird\"  2001:db8::/32  scram-sha-256",
            "hostssl  \"all\"  +\"reader\"  10.0.0.0/8  scram-sha-256",
            "host     all  +\"reader\"  all  reject",
            "local    all  +\"reader\"  reject",
            "host     all  +\"we\"\"ird\"  all  reject",
            "local    all  +\"we\"\"ird\"  reject",
        ]
    );
}

#[test]
fn where_one_profile_comes_from_anywhere_a_pattern_admits_from_anywhere() {
    let mut expected = expected();
    expected.profiles.push(profile("writer", &["orders"], Some(&["10.0.0.0/8"])));
    let lines = prepare::hba(&expected, HbaServer { major: 18, broker_address: None });
    assert!(lines.contains("\nhostssl  \"orders\"  /^pgb_  all  scram-sha-256\n"), "{lines}");
    assert!(!lines.contains("10.0.0.0/8"), "{lines}");
}
