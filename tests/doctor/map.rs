//! `pgbridge map lint --clusters`: the roles of a map, as the clusters know them.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Clinic, MAJORS};
use crate::support::BROKER_PASSWORD;

impl Clinic {
    /// What is found in `map` with the clusters asked, as `line code`.
    #[track_caller]
    fn lint(&self, map: &str) -> Vec<String> {
        self.scratch.write("pg_ident.conf", map, None);
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgbridge"));
        command.env_clear().args(["map", "lint", "--clusters", "--json", "--config"]);
        command.arg(self.scratch.join("pgbridge.toml"));
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stdout.contains(BROKER_PASSWORD) && !stderr.contains(BROKER_PASSWORD));
        let value: Value =
            serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        let findings = value["findings"].as_array().expect("a list");
        assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())), "{stderr}");
        let told = |finding: &Value| {
            format!("{} {}", finding["line"], finding["code"].as_str().expect("a code"))
        };
        findings.iter().map(told).collect()
    }
}

#[test]
fn lint_asks_each_cluster_for_the_roles_of_the_map() {
    for major in MAJORS {
        let clinic = Clinic::open(major);
        let map = "corp alice orders_read\ncorp bob orders_write\ncorp carol +orders_write\n";
        assert_eq!(clinic.lint(map), [""; 0], "{major}");
        let strangers = format!("{map}corp dave +nobody\n");
        assert_eq!(clinic.lint(&strangers), ["4 group-missing"], "{major}");

        clinic.dba("CREATE ROLE ruler SUPERUSER NOLOGIN; GRANT ruler TO orders_write;");
        assert_eq!(clinic.lint(map), ["2 powerful-role", "3 powerful-role"], "{major}");
        let all = "corp alice orders_read\ncorp bob all\n";
        assert_eq!(clinic.lint(all), ["2 powerful-role"], "{major}");
        assert_eq!(clinic.lint("corp alice orders_read\n"), [""; 0], "{major}");

        // By a group its members are reached, however they came to be that.
        clinic.dba("CREATE ROLE staff NOLOGIN; CREATE ROLE team NOLOGIN; GRANT staff TO team;");
        let staff = "corp alice orders_read\ncorp carol +staff\n";
        assert_eq!(clinic.lint(staff), [""; 0], "{major}");
        clinic.dba("GRANT team TO orders_write;");
        assert_eq!(clinic.lint(staff), ["2 powerful-role"], "{major}");

        clinic.dba(
            "REVOKE ruler, team FROM orders_write; ALTER ROLE orders_write RENAME TO orders_wrote;",
        );
        assert_eq!(clinic.lint(map), ["2 role-missing", "3 group-missing"], "{major}");
    }
}

#[test]
fn lint_says_when_a_cluster_cannot_be_asked() {
    let clinic = Clinic::open(16);
    clinic.dba("ALTER ROLE pgbridge NOLOGIN;");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgbridge"));
    command.env_clear().args(["map", "lint", "--clusters", "--config"]);
    command.arg(clinic.scratch.join("pgbridge.toml"));
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cluster orders cannot be asked: "), "{stderr}");
    assert!(output.stdout.is_empty());
}
