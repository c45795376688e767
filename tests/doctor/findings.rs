//! What is found inside, by who is logged in as the broker.

use std::sync::Arc;
use std::time::Duration;

use pgbridge::clock::Clock;
use pgbridge::cluster::{Check, ClientConnection, ClientSslMode, Examination, Examiner, Verdict};
use pgbridge::mapping::Dialect;
use pgbridge::names::{RolePrefix, identifier, literal, steers};

use super::{Clinic, DURABLE, MAJORS, SIDES};
use crate::cluster::{profile, settings};
use crate::support::daemon::Daemon;
use crate::support::{BROKER_PASSWORD, Postgres, Signal, TestCa};

#[test]
fn a_cluster_that_is_prepared_as_we_say_passes_on_every_major() {
    for major in MAJORS {
        let clinic = Clinic::open(major);
        let findings = clinic.findings();
        let failed: Vec<_> = findings.all().filter(|found| found["verdict"] == "fail").collect();
        assert!(failed.is_empty(), "{major}: {failed:#?}");
        findings.hold("version", if major < 16 { "warn" } else { "pass" });
        findings.hold("map-release", if major < 16 { "warn" } else { "pass" });
        for check in ["reach", "pooler", "login", "group-role", "database", "attic-create"] {
            findings.hold(check, "pass");
        }
        for check in ["login-by-tls", "login-in-clear", "tls-minimum", "certificate", "clock"] {
            findings.hold(check, "pass");
        }
    }
}

/// The report without what differs from run to run.
fn steady(report: &str, clinic: &Clinic) -> String {
    let port = format!(":{}", clinic.postgres.port());
    let socket = clinic.postgres.socket().display().to_string();
    let text = report.replace(&port, ":PORT").replace(&socket, "SOCKET");
    let version = regex::Regex::new(r"PostgreSQL (\d+)\.\d+").expect("a pattern");
    let text = version.replace_all(&text, "PostgreSQL $1.x");
    // Which minor release is the newest, and whether a major has had its last, changes by itself.
    let lines = text.lines().filter(|line| !line.contains("minor-release"));
    let lines = lines.filter(|line| !line.ends_with(" failed"));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn the_report_on_a_good_cluster() {
    let logged = "log_connections = on\nlog_line_prefix = '%m [%p] %q%u@%d %h '\n\
                  max_prepared_transactions = 0\nwal_level = replica\n\
                  pg_stat_statements.track_utility = off";
    let clinic = Clinic::of(Postgres::start_with(16, &format!("{DURABLE}\n{logged}")));
    clinic.dba(
        "GRANT SELECT ON pg_catalog.pg_hba_file_rules TO pgbridge;
         GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO pgbridge;
         REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
         GRANT CONNECT ON DATABASE postgres TO pgbridge;",
    );
    let visit = clinic.visit(&[]);
    assert_eq!((visit.code, visit.stderr.as_str()), (Some(0), ""), "{}", visit.stdout);
    insta::assert_snapshot!(steady(&visit.stdout, &clinic));
}

#[test]
fn the_report_on_a_bad_cluster() {
    let settings = "password_encryption = md5\nlog_statement = ddl\nauthentication_timeout = 10min\n\
                    log_min_duration_statement = 0\nlog_parameter_max_length_on_error = -1";
    let clinic = Clinic::of(Postgres::start_with(16, settings));
    clinic.dba(
        "ALTER ROLE pgbridge NOCREATEROLE CREATEDB;
         REVOKE pg_signal_backend FROM pgbridge;
         ALTER ROLE pgbridge_attic LOGIN;
         GRANT orders_read TO pgbridge_attic;
         REVOKE orders_write FROM pgbridge_admin;
         GRANT pg_read_server_files TO orders_write;
         ALTER ROLE reports_read RENAME TO reports_reader;
         CREATE ROLE pgb_stranger;
         GRANT CONNECT ON DATABASE orders TO PUBLIC;
         \\connect orders
         GRANT CREATE ON SCHEMA public TO PUBLIC;",
    );
    clinic.postgres.set_hba("host all all 127.0.0.1/32 trust");
    let visit = clinic.visit(&[]);
    assert_eq!(visit.code, Some(1), "{}", visit.stderr);
    insta::assert_snapshot!(steady(&visit.stdout, &clinic));
}

#[test]
fn what_is_wrong_with_roles_is_found_and_mended_by_what_the_doctor_prints() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        for (breaking, check, verdict) in [
            ("ALTER ROLE pgbridge SUPERUSER", "login", "fail"),
            ("GRANT pg_execute_server_program TO pgbridge", "login", "fail"),
            ("ALTER ROLE pgbridge CREATEDB BYPASSRLS", "login", "warn"),
            ("ALTER ROLE pgbridge VALID UNTIL '2099-01-01'", "login", "warn"),
            ("ALTER ROLE pgbridge NOCREATEROLE", "create-role", "fail"),
            ("REVOKE pg_signal_backend FROM pgbridge", "signal-backend", "fail"),
            ("ALTER ROLE pgbridge CONNECTION LIMIT 5", "connection-limit", "warn"),
            ("ALTER ROLE pgbridge_admin CREATEROLE", "admin-role", "fail"),
            ("ALTER ROLE pgbridge_admin LOGIN", "admin-role", "fail"),
            ("REVOKE pgbridge_attic FROM pgbridge", "attic-role", "fail"),
            ("GRANT orders_read, orders_write TO pgbridge_attic", "attic-role", "fail"),
            ("ALTER ROLE pgbridge_attic LOGIN", "attic-role", "fail"),
            ("CREATE ROLE eve; GRANT pgbridge_attic TO eve", "attic-role", "warn"),
            ("ALTER ROLE orders_read LOGIN", "group-role", "warn"),
        ] {
            clinic.is_cured(&format!("{breaking};"), check, verdict);
        }
        if major >= 16 {
            for (breaking, check, verdict) in [
                (
                    "GRANT pg_signal_backend TO pgbridge WITH INHERIT FALSE",
                    "signal-backend",
                    "fail",
                ),
                ("REVOKE pgbridge_admin FROM pgbridge", "admin-role", "fail"),
                ("GRANT pgbridge_attic TO pgbridge WITH SET FALSE", "attic-role", "fail"),
                ("REVOKE orders_read FROM pgbridge_admin", "group-role", "fail"),
            ] {
                clinic.is_cured(&format!("{breaking};"), check, verdict);
            }
        }
    }
}

#[test]
fn roles_that_are_missing_are_found_and_made_by_what_the_doctor_prints() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        clinic.is_cured("ALTER ROLE pgbridge_admin RENAME TO another;", "admin-role", "fail");
        clinic.is_cured("ALTER ROLE orders_read RENAME TO more;", "group-role", "fail");
        clinic.is_cured("ALTER ROLE pgbridge_attic RENAME TO third;", "attic-role", "fail");
    }
}

#[test]
fn a_role_that_reaches_what_rules_the_cluster_is_found_as_when_it_is_lent() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        clinic.findings().hold("group-reach", "pass");
        clinic.dba("GRANT pg_write_server_files TO orders_write;");
        clinic.findings().hold("group-reach", "fail");
        clinic.dba("REVOKE pg_write_server_files FROM orders_write;");
        clinic.findings().hold("group-reach", "pass");
        clinic.dba("CREATE ROLE ruler SUPERUSER; GRANT ruler TO orders_read;");
        let found = clinic.findings();
        found.hold("group-reach", "fail");
        assert!(found.text().contains("ruler is a superuser"), "{}", found.text());
    }
}

#[test]
fn a_role_that_is_lent_without_rights_is_found_until_it_has_some() {
    for major in MAJORS {
        let clinic = Clinic::open(major);
        clinic.findings().hold("group-rights", "pass");
        // To connect is no right in a database, nor is one on tables that are yet to be made.
        let empty = "CREATE ROLE empty; GRANT CONNECT ON DATABASE orders TO empty;
                     \\connect orders
                     ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO empty;
                     \\connect reports
                     ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO empty;";
        clinic.configure_with(|cluster| cluster.replace("\"orders_read\"", "\"empty\""));
        clinic.dba(empty);
        // Of several schemas nobody knows which is meant: none is opened by what is pasted.
        let found = clinic.findings();
        found.hold("group-rights", "warn");
        let mends = found.of("group-rights").map(|one| one["mend"].to_string());
        let mends = mends.collect::<String>();
        assert!(mends.contains("-- GRANT USAGE ON SCHEMA … TO \\\"empty\\\";"), "{mends}");
        let own =
            "\\connect orders\nCREATE TABLE public.own (); ALTER TABLE public.own OWNER TO empty;";
        let read = "\\connect orders\nGRANT SELECT ON sales.customer TO empty;";
        let create = "GRANT CREATE ON DATABASE orders TO empty;";
        let member = "GRANT orders_write TO empty;";
        for gets in [read, create, member, "GRANT pg_read_all_settings TO empty;", own] {
            clinic.dba(gets);
            clinic.findings().hold("group-rights", "pass");
            clinic.dba("REVOKE orders_write, pg_read_all_settings FROM empty;");
            clinic.dba("\\connect orders\nDROP OWNED BY empty;");
            clinic.findings().hold("group-rights", "warn");
        }
    }
}

/// A line of the file can name whom other files name, and those can be many.
#[test]
fn a_line_of_pg_hba_of_any_length_is_judged_and_shown_as_far_as_a_person_reads() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        let reads = "GRANT SELECT ON pg_catalog.pg_hba_file_rules TO pgbridge;
                     GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO pgbridge;";
        clinic.dba(reads);
        let before = "hostssl all pgbridge 127.0.0.1/32 scram-sha-256";
        let after = "hostssl all all 127.0.0.1/32 scram-sha-256";
        let names = |count: usize| (0..count).map(|at| format!("n{at}")).collect::<Vec<_>>();
        let with = |users: &[String]| {
            let line = format!("host all {} 127.0.0.2/32 trust", users.join(","));
            clinic.postgres.set_hba(&format!("{before}\n{line}\n{after}"));
        };
        with(&names(500));
        clinic.until("hba-file", "pass");
        with(&[names(1200), vec!["pgb_x".to_owned()]].concat());
        let found = clinic.until("hba-file", "fail");
        let longest =
            found.of("hba-file").filter_map(|one| one["seen"].as_str()).map(str::len).max();
        assert!(longest.is_some_and(|longest| longest < 1100), "{longest:?}");
    }
}

#[test]
fn what_is_wrong_with_databases_is_found_and_mended_by_what_the_doctor_prints() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        for (breaking, check, verdict) in [
            ("REVOKE CONNECT ON DATABASE reports FROM pgbridge;", "database", "fail"),
            ("REVOKE CONNECT ON DATABASE reports FROM reports_read;", "database", "fail"),
            ("ALTER DATABASE reports ALLOW_CONNECTIONS false;", "database", "fail"),
            ("GRANT TEMPORARY ON DATABASE reports TO PUBLIC;", "public-temporary", "note"),
            ("\\connect orders\nGRANT CREATE ON SCHEMA public TO PUBLIC;", "public-create", "warn"),
            ("GRANT CREATE ON DATABASE orders TO PUBLIC;", "public-create", "warn"),
            (
                "\\connect orders\nREVOKE CREATE ON SCHEMA workbench FROM pgbridge_attic;",
                "attic-create",
                "warn",
            ),
            ("GRANT CREATE ON DATABASE orders TO orders_write;", "attic-create", "warn"),
        ] {
            clinic.is_cured(breaking, check, verdict);
        }
        clinic.dba("ALTER DATABASE reports RENAME TO elsewhere;");
        clinic.findings().hold("database", "fail");
        clinic.dba("ALTER DATABASE elsewhere RENAME TO reports;");
        clinic.findings().hold("database", "pass");
    }
}

#[test]
fn a_store_on_a_server_that_lends_roles_is_found_and_mended_by_what_the_doctor_prints() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        clinic.findings().hold("store", "pass");
        let file = clinic.scratch.join("pgbridge.toml");
        let config = std::fs::read_to_string(&file).expect("it was written");
        let url = format!(
            "url = \"postgresql://pgb%20store@localhost:{}/pgb%20store\"\n\
             password_file = \"orders.password\"\nca_file = \"ca.pem\"",
            clinic.postgres.port()
        );
        let config = config.replace("path = \"pgbridge.db\"", &url);
        clinic.scratch.write("pgbridge.toml", &config, None);
        clinic.findings().hold("store", "pass");
        clinic.dba("CREATE ROLE \"pgb store\" LOGIN; CREATE DATABASE \"pgb store\";");
        clinic.is_cured("GRANT CONNECT ON DATABASE \"pgb store\" TO PUBLIC;", "store", "warn");
        clinic.findings().hold("store", "note");
        let to_a_group = "GRANT CONNECT ON DATABASE \"pgb store\" TO orders_read;";
        clinic.is_cured(to_a_group, "store", "warn");
    }
}

#[test]
fn settings_are_found_and_mended_by_what_the_doctor_prints() {
    for major in SIDES {
        let clinic = Clinic::of(Postgres::start_with(major, DURABLE));
        for (name, value, check, verdict) in [
            ("password_encryption", "md5", "password-encryption", "warn"),
            ("authentication_timeout", "5min", "authentication-timeout", "warn"),
            ("synchronous_commit", "off", "durability", "warn"),
            ("log_statement", "mod", "statement-log", "warn"),
            ("log_min_duration_statement", "0", "statement-log", "warn"),
            ("log_transaction_sample_rate", "0.5", "statement-log", "warn"),
            ("log_parameter_max_length_on_error", "64", "parameter-log", "warn"),
            ("pg_stat_statements.track_utility", "on", "pg-stat-statements", "warn"),
            ("log_connections", "off", "login-log", "note"),
        ] {
            let breaking = format!("ALTER SYSTEM SET {name} = '{value}'; SELECT pg_reload_conf();");
            clinic.is_cured(&breaking, check, verdict);
        }
    }
}

#[test]
fn a_server_without_tls_is_found() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        clinic.findings().hold("ssl", "pass");
        // The broker may come without TLS, as it is on the same machine, and clients may not.
        clinic.postgres.set_hba("host all all 127.0.0.1/32 scram-sha-256");
        clinic.configure_with(|cluster| {
            let with_both = "ca_file = \"ca.pem\"\nsslmode = \"disable\"";
            cluster.replacen("ca_file = \"ca.pem\"", with_both, 1)
        });
        clinic.dba("ALTER SYSTEM SET ssl = off; SELECT pg_reload_conf();");
        let found = clinic.until("ssl", "fail");
        assert!(found.mend("ssl", "fail").contains("ALTER SYSTEM SET ssl = on;"));
        found.hold("login-by-tls", "fail");
    }
}

#[test]
fn a_standby_is_found() {
    for major in SIDES {
        let mut clinic = Clinic::open(major);
        clinic.findings().hold("standby", "pass");
        clinic.postgres.become_standby();
        clinic.findings().hold("standby", "fail");
    }
}

#[test]
fn a_copy_that_nobody_waits_for_is_found() {
    let clinic = Clinic::of(Postgres::start_with(15, DURABLE));
    clinic.findings().hold("replicas", "pass");
    clinic
        .postgres
        .set_hba("local replication postgres trust\nhostssl all all 127.0.0.1/32 scram-sha-256");
    let copy = clinic.scratch.join("wal");
    std::fs::create_dir(&copy).expect("a directory");
    let arguments = [
        format!("--directory={}", copy.display()),
        format!("--host={}", clinic.postgres.socket().display()),
        format!("--port={}", clinic.postgres.port()),
        "--username=postgres".to_owned(),
        "--no-loop".to_owned(),
    ];
    let program = std::path::Path::new("/usr/lib/postgresql/15/bin/pg_receivewal");
    let log = clinic.scratch.join("receivewal.log");
    let mut receiver = Daemon::start(program, &arguments, None, &log, Signal::Interrupt);
    clinic.until("replicas", "warn");
    clinic.dba("ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf();");
    clinic.until("replicas", "pass");
    clinic.dba("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf();");
    clinic.until("replicas", "warn");
    receiver.stop();
    clinic.until("replicas", "pass");
}

#[tokio::test]
async fn a_clock_that_is_off_is_found() {
    for major in SIDES {
        let postgres = Postgres::start(major);
        let client = ClientConnection {
            host: "127.0.0.1".to_owned(),
            port: postgres.port(),
            sslmode: ClientSslMode::VerifyFull,
            sslrootcert: None,
            root_certificate: Some(TestCa::shared().pem()),
        };
        let examiner = Examiner {
            map_read_as: Dialect::default(),
            written_release: None,
            broker: "b1".parse().expect("a name"),
            key: None,
            role_prefix: RolePrefix::default(),
            max_clock_skew: "2m".parse().expect("a length of time"),
            store: None,
        };
        let profiles = vec![Arc::new(profile("orders_read"))];
        let examination = Examination::new(&settings(&postgres), client, profiles, examiner)
            .expect("usable settings");
        let system = Clock::system();
        for (ahead, wanted) in [
            (Duration::ZERO, Verdict::Pass),
            (Duration::from_mins(1), Verdict::Warn),
            (Duration::from_mins(10), Verdict::Fail),
        ] {
            let clock = Clock::manual(system.now() + ahead);
            let findings = examination.examine(&clock).await;
            let found = findings.iter().find(|finding| finding.check == Check::Clock);
            assert_eq!(found.map(|finding| finding.verdict), Some(wanted), "{ahead:?}");
        }
    }
}

#[test]
fn roles_that_only_look_like_ours_are_found() {
    let clinic = Clinic::open(16);
    clinic.findings().hold("lease-roles", "pass");
    clinic.dba("CREATE ROLE pgb_stranger; CREATE ROLE other;");
    let found = clinic.findings();
    found.hold("lease-roles", "warn");
    assert!(found.mend("lease-roles", "warn").contains("-- DROP ROLE \"pgb_stranger\";"));
    clinic.dba("DROP ROLE pgb_stranger;");
    clinic.findings().hold("lease-roles", "pass");
}

#[test]
fn a_cluster_that_cannot_be_reached_has_failed_and_the_others_are_examined() {
    let clinic = Clinic::open(16);
    let away = clinic.cluster("away").replace(
        &format!("port = {}", clinic.postgres.port()),
        &format!("port = {}", crate::support::scratch::free_port()),
    );
    clinic.configure(&format!("{away}{}", clinic.cluster("orders")));
    let visit = clinic.visit(&[]);
    assert_eq!(visit.code, Some(1), "{}", visit.stdout);
    assert!(visit.stdout.contains("FAIL  reach"), "{}", visit.stdout);
    assert!(visit.stdout.contains("pass  reach"), "{}", visit.stdout);

    let one = clinic.visit(&["--cluster", "orders"]);
    assert_eq!(one.code, Some(0), "{}", one.stdout);
    assert!(!one.stdout.contains("cluster away"), "{}", one.stdout);
    let none = clinic.visit(&["--cluster", "nowhere"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("has no cluster nowhere"), "{}", none.stderr);
}

#[test]
fn why_the_broker_cannot_log_in_is_told() {
    let clinic = Clinic::open(16);
    let told = |words: &str| {
        let found = clinic.findings();
        found.hold("reach", "fail");
        assert!(found.text().contains(words), "{}", found.text());
        // The door is tried all the same.
        found.hold("login-in-clear", "pass");
    };
    clinic.dba("ALTER ROLE pgbridge PASSWORD 'another';");
    told("password_file");
    clinic.dba(&format!("ALTER ROLE pgbridge NOLOGIN PASSWORD '{BROKER_PASSWORD}';"));
    told("is not permitted to log in");
    clinic.postgres.set_hba("hostssl all orders_read 127.0.0.1/32 scram-sha-256");
    told("--print-hba");
}

#[test]
fn a_doctor_changes_nothing() {
    for major in SIDES {
        let clinic = Clinic::of(Postgres::start_with(major, "autovacuum = off"));
        let next = || {
            let rows = clinic.postgres.sql("postgres", "SELECT txid_current()");
            rows.concat().concat().parse::<u64>().expect("a number")
        };
        let before = next();
        clinic.findings();
        assert_eq!(next(), before + 1, "a transaction wrote something");
        let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pgbridge'";
        crate::support::wait_for("its sessions to end", super::SOON, || {
            (clinic.postgres.sql("postgres", left) == [["0"]]).then_some(())
        });
    }
}

#[test]
fn a_configuration_with_mistakes_is_told_and_nobody_is_asked() {
    let clinic = Clinic::open(16);
    clinic.configure_with(|cluster| cluster.replace("admin_role", "admin_rol"));
    for arguments in [&[][..], &["--print-sql"], &["--print-hba"]] {
        let visit = clinic.visit(arguments);
        assert_eq!((visit.code, visit.stdout.as_str()), (Some(1), ""), "{}", visit.stderr);
        assert!(visit.stderr.contains("did you mean `admin_role`?"), "{}", visit.stderr);
    }
}

/// Every letter that is not shown as it is.
fn letters() -> Vec<char> {
    ('\u{1}'..=char::MAX).filter(|letter| steers(*letter)).collect()
}

/// The lines that mend `check`, as a person sees them.
fn shown(text: &str, check: &str) -> String {
    let mut lines = String::new();
    let mut is_of_check = false;
    for line in text.lines() {
        if let Some(mend) = line.strip_prefix("            ").filter(|_| is_of_check) {
            lines.push_str(mend);
            lines.push('\n');
        } else if !line.starts_with("        ") {
            is_of_check = line.split_whitespace().nth(1) == Some(check);
        }
    }
    lines
}

#[test]
fn what_mends_a_name_that_cannot_be_seen_is_pasted_as_it_is_shown() {
    let toml = |name: &str| {
        let one = |letter: char| format!("\\U{:08X}", u32::from(letter));
        format!("\"{}\"", name.chars().map(one).collect::<String>())
    };
    let named = |letters: &[char]| format!("a'\"\\{}z", letters.iter().collect::<String>());
    let roles: Vec<String> = letters().chunks(12).map(named).collect();
    let database = "b'\"\\ \u{61c}\u{e0001}";
    for major in SIDES {
        let clinic = Clinic::open(major);
        clinic.dba(&format!("CREATE DATABASE {};", identifier(database)));
        let open = "CREATE SCHEMA s; GRANT CREATE ON SCHEMA s TO PUBLIC";
        clinic.postgres.sql(database, open);
        clinic.configure_with(|cluster| {
            let profile = |role: &String| {
                let (role, database) = (toml(role), toml(database));
                format!("[[cluster.profile]]\nrole = {role}\ndatabases = [{database}]\n")
            };
            cluster + &roles.iter().map(profile).collect::<String>()
        });
        let text = clinic.visit(&[]).stdout;
        assert!(!text.contains(|letter| letter != '\n' && steers(letter)), "{text}");

        clinic.dba(&shown(&text, "group-role"));
        for role in &roles {
            let sql = format!("SELECT count(*) FROM pg_roles WHERE rolname = {}", literal(role));
            assert_eq!(clinic.postgres.sql("postgres", &sql), [["1"]], "{major} {role:?}");
        }
        let mend = shown(&text, "public-create");
        assert!(mend.contains("\\gset \\connect"), "{mend}");
        clinic.dba(&mend);
        let sql = "SELECT has_schema_privilege('public', 's', 'CREATE')";
        assert_eq!(clinic.postgres.sql(database, sql), [["f"]], "{major} {mend}");
    }
}
