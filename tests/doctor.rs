//! `pgbridge doctor` on real servers: each finding on one that has the fault and on one that has
//! it not, and what it prints as remedy is run and mends it.

mod doors;
mod findings;
mod map;
mod pooler;
mod prepare;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{BROKER_LOGIN, BROKER_PASSWORD, Postgres, SOON, Scratch, TestCa, wait_for};

/// All that are supported.
const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// Both sides of the change of CREATEROLE in 16.
const SIDES: [u32; 2] = [15, 16];

/// What every server of the tests is not, since nothing outlives a test.
const DURABLE: &str = "fsync = on\nfull_page_writes = on";

/// A server, and the configuration of a broker for it.
struct Clinic {
    postgres: Postgres,
    scratch: Scratch,
}

/// What the doctor said.
struct Visit {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Clinic {
    /// A seeded server, and a broker that lends what the seed has.
    fn open(major: u32) -> Self {
        Self::of(Postgres::start(major))
    }

    fn of(postgres: Postgres) -> Self {
        let scratch = Scratch::new("doctor");
        scratch.write("ca.pem", &TestCa::shared().pem(), None);
        scratch.write("pg_ident.conf", "corp alice orders_read\n", None);
        scratch.write("orders.password", BROKER_PASSWORD, None);
        let key: String = ['7'; 64].iter().collect();
        scratch.write("marker.key", &key, None);
        let clinic = Self { postgres, scratch };
        clinic.configure(&clinic.cluster("orders"));
        clinic
    }

    /// One cluster of the configuration, with the profiles of the seed.
    fn cluster(&self, name: &str) -> String {
        format!(
            r#"
[[cluster]]
name = "{name}"
host = "127.0.0.1"
port = {port}
user = "{BROKER_LOGIN}"
password_file = "orders.password"
ca_file = "ca.pem"
admin_role = "pgbridge_admin"
attic_role = "pgbridge_attic"

[[cluster.profile]]
role = "orders_read"
databases = ["orders"]

[[cluster.profile]]
role = "orders_write"
databases = ["orders"]

[[cluster.profile]]
role = "reports_read"
databases = ["reports"]
"#,
            port = self.postgres.port()
        )
    }

    /// Writes the configuration with these clusters.
    fn configure(&self, clusters: &str) {
        let text = format!(
            r#"
[map]
file = "pg_ident.conf"

[store]
path = "pgbridge.db"

[[ldap]]
name = "corp"
map = "corp"
ldapserver = ["127.0.0.1"]
ldapprefix = "uid="
ldapsuffix = ",ou=people,dc=example,dc=test"
{clusters}"#
        );
        self.scratch.write("pgbridge.toml", &text, None);
    }

    /// The same with what `edit` makes of the one cluster.
    fn configure_with(&self, edit: impl FnOnce(String) -> String) {
        self.configure(&edit(self.cluster("orders")));
    }

    fn visit(&self, arguments: &[&str]) -> Visit {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgbridge"));
        command.env_clear().arg("doctor").arg("--config").arg(self.scratch.join("pgbridge.toml"));
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("it runs");
        let visit = Visit {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        for text in [&visit.stdout, &visit.stderr] {
            assert!(!text.contains(BROKER_PASSWORD), "a secret was shown: {text}");
            assert!(!text.contains("panicked"), "{text}");
        }
        visit
    }

    /// What was found, for programs.
    fn findings(&self) -> Findings {
        let visit = self.visit(&["--json"]);
        let value: Value = serde_json::from_str(&visit.stdout)
            .unwrap_or_else(|error| panic!("{error} in {} {}", visit.stdout, visit.stderr));
        let findings = Findings(value["clusters"][0]["findings"].clone());
        let failed = findings.all().any(|finding| finding["verdict"] == "fail");
        assert_eq!(visit.code, Some(i32::from(failed)), "{}", visit.stdout);
        findings
    }

    /// Runs `text` as the superuser, as `psql -f` does: commands of psql and all.
    #[track_caller]
    fn dba(&self, text: &str) {
        let mut psql = self.postgres.superuser("postgres");
        psql.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = psql.spawn().expect("psql is installed");
        let mut input = child.stdin.take().expect("it has an input");
        input.write_all(text.as_bytes()).expect("it reads");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}\n{errors}");
    }

    /// Breaks something, holds that `check` comes to `verdict`, does what the doctor prints as
    /// remedy, and holds that it passes.
    #[track_caller]
    fn is_cured(&self, breaking: &str, check: &str, verdict: &str) {
        self.dba(breaking);
        let found = self.until(check, verdict);
        let mend = found.mend(check, verdict);
        self.dba(&mend);
        let cured = |findings: &Findings| findings.worst(check) < rank(verdict);
        wait_for(&format!("{check} to be mended by {mend}"), SOON, || {
            cured(&self.findings()).then_some(())
        });
    }

    /// Waits until `check` comes to `verdict`: a setting takes a moment to be in force.
    #[track_caller]
    fn until(&self, check: &str, verdict: &str) -> Findings {
        wait_for(&format!("{check}: {verdict}"), SOON, || {
            let findings = self.findings();
            (findings.worst(check) == rank(verdict)).then_some(findings)
        })
    }
}

/// What was found on one cluster, as JSON.
struct Findings(Value);

fn rank(verdict: &str) -> Option<usize> {
    ["pass", "note", "warn", "fail"].iter().position(|known| *known == verdict)
}

impl Findings {
    fn all(&self) -> impl Iterator<Item = &Value> {
        self.0.as_array().into_iter().flatten()
    }

    fn of(&self, check: &str) -> impl Iterator<Item = &Value> {
        self.all().filter(move |finding| finding["check"] == check)
    }

    /// The rank of the worst verdict on `check`; nothing when it was not made.
    fn worst(&self, check: &str) -> Option<usize> {
        self.of(check).filter_map(|finding| rank(finding["verdict"].as_str()?)).max()
    }

    #[track_caller]
    fn hold(&self, check: &str, verdict: &str) {
        let found: Vec<_> = self.of(check).collect();
        assert_eq!(self.worst(check), rank(verdict), "{check}: {found:#?}");
    }

    /// All remedies for `check` where it came to `verdict`.
    fn mend(&self, check: &str, verdict: &str) -> String {
        let at_fault = self.of(check).filter(|finding| finding["verdict"] == verdict);
        let lines = at_fault.flat_map(|finding| finding["mend"].as_array().into_iter().flatten());
        lines.filter_map(Value::as_str).collect::<Vec<_>>().join("\n") + "\n"
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}
