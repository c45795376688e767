//! What is found at the door, by knocking as a lease role would come.

use super::{Clinic, MAJORS, SIDES};
use crate::support::{Postgres, TestCa};

#[test]
fn a_line_that_lets_leases_in_without_scram_or_without_tls_is_found_by_trying() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        for (lines, by_tls, in_clear) in [
            ("hostssl all all all scram-sha-256", "pass", "pass"),
            ("host all all all scram-sha-256", "pass", "fail"),
            ("hostssl all all all trust", "fail", "pass"),
            ("host all all all trust", "fail", "fail"),
            ("hostssl all all all password", "fail", "pass"),
            ("hostnossl all all all trust\nhostssl all all all scram-sha-256", "pass", "fail"),
            ("host orders all all trust\nhostssl all all all scram-sha-256", "fail", "fail"),
            ("host postgres all all trust\nhostssl all all all scram-sha-256", "fail", "fail"),
            ("hostssl all pgbridge all scram-sha-256", "note", "pass"),
            ("hostssl all pgbridge all scram-sha-256\nhost all all all reject", "note", "pass"),
        ] {
            clinic.postgres.set_hba(lines);
            let found = clinic.findings();
            found.hold("login-by-tls", by_tls);
            found.hold("login-in-clear", in_clear);
        }
    }
}

#[test]
fn md5_is_found_at_the_door_or_in_the_file() {
    for major in SIDES {
        let clinic = Clinic::of(Postgres::start_with(major, "password_encryption = md5"));
        clinic.postgres.set_hba("hostssl all pgbridge all scram-sha-256\nhostssl all all all md5");
        clinic.findings().hold("login-by-tls", "fail");

        // Where new passwords are SCRAM the method md5 asks for SCRAM, so only the file tells.
        clinic.postgres.set("password_encryption", "scram-sha-256");
        let found = clinic.findings();
        found.hold("login-by-tls", "pass");
        found.hold("hba-file", "note");
        clinic.dba(&found.mend("hba-file", "note").replace("SELECT line_number", "-- "));
        clinic.findings().hold("hba-file", "fail");
        clinic.postgres.set_hba("hostssl all all all scram-sha-256");
        clinic.findings().hold("hba-file", "pass");
    }
}

#[test]
fn the_file_is_read_line_by_line_where_the_login_may() {
    for major in SIDES {
        let clinic = Clinic::open(major);
        clinic.dba(
            "GRANT SELECT ON pg_catalog.pg_hba_file_rules TO pgbridge;
             GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO pgbridge;",
        );
        let good = "hostssl all all 127.0.0.1/32 scram-sha-256";
        for (lines, verdict) in [
            ("", "pass"),
            ("host all all 10.0.0.0/8 trust", "fail"),
            ("host all +orders_read 10.0.0.0/8 scram-sha-256", "fail"),
            ("host all someone 10.0.0.0/8 trust", "pass"),
            ("hostssl all all 10.0.0.0/8 radius radiusservers=127.0.0.1 radiussecrets=x", "warn"),
            ("host replication all 10.0.0.0/8 trust", "pass"),
            ("host all all all reject\nhost all all 10.0.0.0/8 trust", "note"),
            // Quotes make names of these, which the server does not show.
            ("host all \"all\" all reject\nhost all all 10.0.0.0/8 trust", "note"),
            ("host \"all\" all all reject\nhost all all 10.0.0.0/8 trust", "note"),
            ("hostgssenc all all all reject\nhost all all 10.0.0.0/8 trust", "fail"),
            ("local all all peer map=staff", "warn"),
            ("host all all 127.0.0.0/0 scram-sha-256", "fail"),
        ] {
            clinic.postgres.set_hba(&format!("{good}\n{lines}"));
            clinic.findings().hold("hba-file", verdict);
        }
    }
}

#[test]
fn a_pattern_keeps_leases_out_from_16_on_and_the_file_is_judged_by_that() {
    for major in MAJORS {
        let clinic = Clinic::open(major);
        clinic.dba(
            "GRANT SELECT ON pg_catalog.pg_hba_file_rules TO pgbridge;
             GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO pgbridge;
             CREATE ROLE pgb_eve_aaaaaaaaaaaaaaaa LOGIN;
             CREATE ROLE nested ROLE pgb_eve_aaaaaaaaaaaaaaaa; CREATE ROLE outer_ ROLE nested;",
        );
        // Whether it gets in by the socket, where the broker does not come from.
        let judged = |lines: &str, verdict: &str, comes_in: bool| {
            let broker = "hostssl all all 127.0.0.1/32 scram-sha-256";
            clinic.postgres.set_hba(&format!("{broker}\n{lines}"));
            clinic.findings().hold("hba-file", verdict);
            let mut psql = clinic.postgres.superuser("postgres");
            psql.env("PGUSER", "pgb_eve_aaaaaaaaaaaaaaaa").args(["-c", "SELECT 1"]);
            let answer = psql.output().expect("psql is installed");
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            assert_eq!(answer.status.success(), comes_in, "{major} {lines}: {said}");
        };
        let old = major < 16;
        for pattern in ["/^pgb_", "\"/^pgb_\""] {
            let lines = format!("local all {pattern} reject\nlocal all all trust");
            judged(&lines, if old { "fail" } else { "note" }, old);
        }
        judged("local all \"all\" reject\nlocal all all trust", "note", true);
        judged("local all all reject\nlocal all all trust", "note", false);
        judged("local all +outer_ trust", "fail", true);
        judged("local all /^pgb_eve trust", if old { "warn" } else { "fail" }, !old);
        judged("local all /^app_ trust", if old { "warn" } else { "pass" }, false);
        judged("local \"replication\" all trust", "pass", false);
        judged("local all nobody trust", "pass", false);
    }
}

#[test]
fn a_server_that_speaks_old_tls_is_found_by_trying() {
    // OpenSSL 3 speaks it only when it is told to mind nothing.
    let old = "ssl_min_protocol_version = 'TLSv1'\nssl_ciphers = 'ALL:@SECLEVEL=0'";
    for major in SIDES {
        let clinic = Clinic::of(Postgres::start_with(major, old));
        let found = clinic.findings();
        found.hold("tls-minimum", "warn");
        clinic.dba(&found.mend("tls-minimum", "warn"));
        clinic.until("tls-minimum", "pass");
    }
}

#[test]
fn a_certificate_that_clients_cannot_check_is_found() {
    let clinic = Clinic::open(16);
    clinic.findings().hold("certificate", "pass");
    clinic.scratch.write("ca.pem", &TestCa::new().pem(), None);
    let found = clinic.findings();
    found.hold("certificate", "fail");
    found.hold("reach", "fail");

    clinic.configure_with(|cluster| {
        cluster.replacen(
            "ca_file = \"ca.pem\"",
            "client_sslmode = \"require\"\nsslmode = \"disable\"",
            1,
        )
    });
    clinic.findings().hold("certificate", "note");
}

#[test]
fn a_way_for_clients_that_is_not_the_brokers_is_tried_too() {
    let clinic = Clinic::open(16);
    let closed = crate::support::scratch::free_port();
    clinic.configure_with(|cluster| {
        cluster.replacen("ca_file", &format!("client_port = {closed}\nca_file"), 1)
    });
    let found = clinic.findings();
    found.hold("login-by-tls", "warn");
    assert!(found.text().contains("(the broker's way)"), "{}", found.text());

    let socket = clinic.postgres.socket().display().to_string();
    clinic.configure_with(|cluster| {
        cluster.replacen("ca_file", &format!("client_host = \"{socket}\"\nca_file"), 1)
    });
    clinic.findings().hold("login-by-tls", "note");
    let lines = "hostssl all all all scram-sha-256\nlocal all all trust";
    clinic.postgres.set_hba(lines);
    clinic.findings().hold("login-by-tls", "fail");
    clinic.postgres.set_hba(&lines.replace("trust", "scram-sha-256"));
    clinic.findings().hold("login-by-tls", "pass");
}

#[test]
fn without_tls_is_good_for_a_cluster_that_is_on_this_machine_and_told_so() {
    let clinic = Clinic::open(16);
    clinic.postgres.set_hba("host all all 127.0.0.1/32 scram-sha-256");
    clinic.findings().hold("login-in-clear", "fail");
    clinic.configure_with(|cluster| {
        cluster.replacen(
            "ca_file = \"ca.pem\"",
            "sslmode = \"disable\"\nclient_sslmode = \"disable\"",
            1,
        )
    });
    clinic.findings().hold("login-in-clear", "note");
    clinic.dba("ALTER SYSTEM SET ssl = off; SELECT pg_reload_conf();");
    let found = clinic.until("ssl", "note");
    found.hold("login-by-tls", "note");
    assert!(found.all().all(|finding| finding["verdict"] != "fail"), "{}", found.text());
}
