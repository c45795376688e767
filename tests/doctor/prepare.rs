//! What the doctor prints to prepare a cluster, put to work.

use std::fs::File;
use std::process::{Command, Stdio};

use pgbridge::cluster::Created;
use pgbridge::lease::Lease;
use pgbridge::names::Password;

use super::{Clinic, MAJORS};
use crate::cluster::{WITHIN, credential, hour, lease, open, profile, settings};
use crate::support::{BROKER_PASSWORD, Postgres, TestCa};

/// A role with every letter that means something to SQL, psql or `pg_hba.conf`, as SQL and as TOML.
const WEIRD: (&str, &str) = ("\"we\"\"ird'x\\,+:v $$ all\"", "'''we\"ird'x\\,+:v $$ all'''");

/// Takes away what the seed made, but for databases of the same names.
fn strip(clinic: &Clinic) {
    clinic.dba(
        "DROP DATABASE orders; DROP DATABASE reports;
         DROP OWNED BY pgbridge, pgbridge_admin, pgbridge_attic;
         DROP ROLE pgbridge, pgbridge_admin, pgbridge_attic, orders_read, orders_write, reports_read;
         CREATE DATABASE orders; CREATE DATABASE reports;",
    );
}

/// Runs a printed script as `psql -f` does for a person, who types the password twice.
#[track_caller]
fn run(clinic: &Clinic, script: &str, typed: &str) {
    let file = clinic.scratch.write("prepare.sql", script, None);
    let input = clinic.scratch.write("typed", typed, None);
    let mut psql = clinic.postgres.superuser("postgres");
    // Without a terminal psql reads the password from its input.
    let mut command = Command::new("setsid");
    command.arg("--wait").arg("psql").args(["-X", "-q", "-f"]).arg(file);
    command.envs(psql.get_envs().filter_map(|(name, value)| Some((name, value?))));
    psql.stdin(Stdio::null());
    let output = command.stdin(File::open(input).expect("a file")).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}");
    assert!(!errors.contains("ERROR") && !errors.contains("WARNING"), "{script}\n{errors}");
}

/// Makes a lease role as the broker does, and gives it with its password.
async fn hold(postgres: &Postgres, group: &str) -> (Lease, Password, Created) {
    let cluster = open(settings(postgres), "main", '7');
    let (lease, (password, verifier)) = (lease(group), credential());
    let made = cluster.create(&lease, &profile(group), &verifier, hour(), WITHIN).await;
    let created = made.unwrap_or_else(|error| panic!("{group}: {error:?}"));
    (lease, password, created)
}

#[tokio::test]
async fn the_printed_sql_prepares_a_bare_cluster() {
    for major in MAJORS {
        let clinic = Clinic::open(major);
        strip(&clinic);
        let (quoted, toml) = WEIRD;
        clinic.configure_with(|cluster| cluster.replace("\"orders_write\"", toml));
        clinic.findings().hold("reach", "fail");

        let printed = clinic.visit(&["--print-sql"]);
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
        let typed = format!("{BROKER_PASSWORD}\n{BROKER_PASSWORD}\n");
        run(&clinic, &printed.stdout, &typed);
        let found = clinic.findings();
        assert!(found.all().all(|finding| finding["verdict"] != "fail"), "{}", found.text());
        hold(&clinic.postgres, "orders_read").await;
        let weird: String = quoted.trim_matches('"').replace("\"\"", "\"");
        hold(&clinic.postgres, &weird).await;

        // The second time nothing is asked, and nothing changes.
        let state = "SELECT json_agg(r ORDER BY rolname) FROM pg_authid AS r
                     UNION ALL SELECT json_agg(m ORDER BY roleid, member, grantor) FROM pg_auth_members AS m
                     UNION ALL SELECT json_agg(d ORDER BY oid) FROM
                         (SELECT oid, datname, datacl FROM pg_database) AS d";
        let before = clinic.postgres.sql("postgres", state);
        run(&clinic, &printed.stdout, "");
        assert_eq!(clinic.postgres.sql("postgres", state), before, "{major}");
    }
}

#[test]
fn the_printed_sql_makes_no_broker_of_the_superuser_who_runs_it() {
    let clinic = Clinic::open(15);
    clinic.configure_with(|cluster| cluster.replace("user = \"pgbridge\"", "user = \"postgres\""));
    let script = clinic.visit(&["--print-sql"]).stdout;
    let file = clinic.scratch.write("prepare.sql", &script, None);
    let mut psql = clinic.postgres.superuser("postgres");
    let output = psql.arg("-f").arg(file).stdin(Stdio::null()).output().expect("it runs");
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("roles of its own"), "{errors}");
    let superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = 'postgres'";
    assert_eq!(clinic.postgres.sql("postgres", superuser), [["t"]]);
}

/// Tries to log in as the holder of a lease, without what a client usually insists on.
fn log_in(
    postgres: &Postgres,
    role: &str,
    password: &str,
    place: (&str, &str, &str),
) -> Result<(), String> {
    let (host, database, sslmode) = place;
    let mut psql = Command::new("psql");
    psql.args(["-X", "-w", "-c", "SELECT 1"]);
    psql.env("PGHOST", host).env("PGPORT", postgres.port().to_string());
    psql.env("PGUSER", role).env("PGPASSWORD", password).env("PGDATABASE", database);
    psql.env("PGSSLMODE", sslmode).env("PGGSSENCMODE", "disable");
    let output = psql.stdin(Stdio::null()).output().expect("psql is installed");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn the_printed_lines_let_a_lease_in_by_tls_and_scram_and_not_otherwise() {
    for major in MAJORS {
        let clinic = Clinic::open(major);
        let (quoted, toml) = WEIRD;
        clinic.dba(&format!("CREATE ROLE {quoted}; GRANT CONNECT ON DATABASE orders TO {quoted};"));
        if major >= 16 {
            clinic.dba(&format!("GRANT {quoted} TO pgbridge_admin WITH ADMIN OPTION;"));
        }
        clinic.configure_with(|cluster| {
            let only = "databases = [\"orders\"]";
            let from_here = format!("{only}\nnetworks = [\"127.0.0.0/8\"]");
            cluster.replace("\"orders_write\"", toml).replace(only, &from_here)
        });
        let printed = clinic.visit(&["--print-hba"]);
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
        // What follows would let anybody in, by every way.
        let wide_open = "host all all all trust\nlocal all all trust";
        clinic.postgres.set_hba(&format!("{}\n{wide_open}", printed.stdout));

        let (lease, password, _) = hold(&clinic.postgres, "orders_read").await;
        let role = lease.role_name.as_str();
        let here = "127.0.0.1";
        let socket = clinic.postgres.socket().display().to_string();
        let by = |place, password: &str| log_in(&clinic.postgres, role, password, place);
        let good = password.expose();
        assert_eq!(by((here, "orders", "require"), good), Ok(()), "{major}");
        let refused = |place, password: &str, because: &str| {
            let error = by(place, password).expect_err("it was let in");
            assert!(error.contains(because), "{major} {place:?}: {error}");
        };
        refused((here, "orders", "require"), "wrong", "password authentication failed");
        for place in [
            (here, "orders", "disable"),
            (here, "postgres", "require"),
            (here, "template1", "require"),
            (socket.as_str(), "orders", "disable"),
        ] {
            refused(place, good, "pg_hba.conf rejects connection");
        }
        let errors = "SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL";
        assert_eq!(clinic.postgres.sql("postgres", errors), [[""; 0]; 0], "{major}");
        let weird = quoted.trim_matches('"').replace("\"\"", "\"");
        let (other, password, _) = hold(&clinic.postgres, &weird).await;
        let (other, place) = (other.role_name.as_str(), (here, "orders", "require"));
        assert_eq!(log_in(&clinic.postgres, other, password.expose(), place), Ok(()), "{major}");
        clinic.findings().hold("reach", "pass");
        if major >= 16 {
            // Before, a name that is no member of anything falls through to what follows.
            let found = clinic.findings();
            assert!(found.all().all(|finding| finding["verdict"] != "fail"), "{}", found.text());
        }
    }
}

#[test]
fn the_printed_lines_are_for_the_version_of_the_server_or_the_one_that_is_named() {
    let clinic = Clinic::open(15);
    let lines = |arguments: &[&str]| {
        let visit = clinic.visit(arguments);
        assert_eq!(visit.code, Some(0), "{}", visit.stderr);
        visit.stdout
    };
    let old = lines(&["--print-hba"]);
    assert!(old.contains("\nhostssl  \"orders\"  +\"orders_read\"  all  scram-sha-256\n"), "{old}");
    assert!(old.contains("\nhostssl  all  \"pgbridge\"  127.0.0.1/32  scram-sha-256\n"), "{old}");
    let new = lines(&["--print-hba", "--major", "17"]);
    assert!(new.contains("\nhostssl  \"orders\"  /^pgb_  all  scram-sha-256\n"), "{new}");

    clinic.scratch.write("ca.pem", &TestCa::new().pem(), None);
    let unasked = lines(&["--print-hba"]);
    assert!(unasked.contains("could not be asked") && unasked.contains("/^pgb_"), "{unasked}");
}
