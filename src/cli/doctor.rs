//! `pgbridge doctor`: each cluster is held against what the configuration expects of it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use serde::Serialize;

use super::args::{Doctor, DoctorAnswer};
use super::exit::Exit;
use super::failure::Failure;
use super::operate::configuration;
use super::terminal::{self, Shown, pasted, safe_json};
use crate::clock::Clock;
use crate::cluster::{
    Check, ClusterError, Examination, Examiner, Finding, HbaServer, StorePlace, Verdict,
};
use crate::config::Config;
use crate::lease::MarkerKey;
use crate::names::{ClusterName, printable_sql};
use crate::store::StoreSettings;
use crate::store::postgres::PostgresSettings;

/// Why nothing was examined or printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoctorError {
    #[error("the configuration has no cluster {0}")]
    NoCluster(ClusterName),
    #[error("the marker key cannot be read")]
    Key(#[source] io::Error),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// What was found on one cluster.
#[derive(Serialize)]
struct Report<'a> {
    cluster: &'a ClusterName,
    place: String,
    findings: Vec<Finding>,
}

/// Examines the clusters, or prints what prepares them.
pub(super) async fn run(doctor: Doctor, clock: &Clock) -> Result<Exit, Failure> {
    let answer = doctor.answer();
    let config = configuration(&doctor.config.config)?;
    let examinations = examinations(config, doctor.cluster.as_ref())?;
    match answer {
        DoctorAnswer::Text | DoctorAnswer::Json => {
            let reports = join_all(examinations.iter().map(|one| report(one, clock))).await;
            print(&reports, answer)
        }
        DoctorAnswer::Hba => {
            let lines =
                join_all(examinations.iter().map(|one| hba(one, doctor.major, clock))).await;
            done(&lines.join("\n"))
        }
        DoctorAnswer::Sql => {
            let scripts: Vec<String> = examinations.iter().map(Examination::preparation).collect();
            done(&shown_alike(&scripts.join("\n")))
        }
    }
}

/// One for each cluster of the configuration, or for the one that was named.
pub(super) fn examinations(
    config: Config,
    only: Option<&ClusterName>,
) -> Result<Vec<Examination>, DoctorError> {
    let Config { broker, policy, clusters, store, .. } = config;
    let place = place(&store);
    let key = marker_key(&broker.marker_key_file)?.map(Arc::new);
    let role_prefix = broker.terms.role_prefix;
    let mut examinations = Vec::new();
    for entry in clusters {
        let name = &entry.settings.name;
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let lent = policy.targets.iter().filter(|target| target.cluster == *name);
        let profiles = lent.flat_map(|target| target.profiles.iter().cloned()).collect();
        let examiner = Examiner {
            broker: broker.id.clone(),
            key: key.clone(),
            role_prefix: role_prefix.clone(),
            max_clock_skew: broker.max_clock_skew,
            store: place.clone(),
            map_read_as: policy.map.dialect(),
            written_release: entry.postgres,
        };
        let one = Examination::new(&entry.settings, entry.client, profiles, examiner)?;
        examinations.push(one);
    }
    match only {
        Some(only) if examinations.is_empty() => Err(DoctorError::NoCluster(only.clone())),
        _ => Ok(examinations),
    }
}

/// Where the store is, when it is on a server.
fn place(store: &StoreSettings) -> Option<StorePlace> {
    match store {
        StoreSettings::Sqlite { .. } => None,
        StoreSettings::Postgres(PostgresSettings { url, .. }) => Some(StorePlace {
            servers: url.hosts().to_vec(),
            user: url.user().clone(),
            database: url.database().clone(),
        }),
    }
}

/// The key of the marks. The broker makes it at its first start, so it may be missing.
fn marker_key(path: &Path) -> Result<Option<MarkerKey>, DoctorError> {
    match fs::read_to_string(path) {
        // What is no key was refused when the configuration was read.
        Ok(text) => Ok(MarkerKey::from_hex(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DoctorError::Key(error)),
    }
}

async fn report<'a>(examination: &'a Examination, clock: &Clock) -> Report<'a> {
    let findings = examination.examine(clock).await;
    Report { cluster: examination.cluster(), place: examination.place(), findings }
}

fn print(reports: &[Report<'_>], answer: DoctorAnswer) -> Result<Exit, Failure> {
    let text = match answer {
        DoctorAnswer::Json => json(reports),
        _ => reports.iter().map(text).collect::<Vec<_>>().join("\n"),
    };
    terminal::answer(&text).map_err(Failure::Output)?;
    let failed = |report: &Report<'_>| count(report, Verdict::Fail) > 0;
    Ok(if reports.iter().any(failed) { Exit::Failed } else { Exit::Done })
}

fn count(report: &Report<'_>, verdict: Verdict) -> usize {
    report.findings.iter().filter(|finding| finding.verdict == verdict).count()
}

fn json(reports: &[Report<'_>]) -> String {
    let value = serde_json::json!({ "clusters": reports });
    safe_json(&format!("{value:#}"))
}

/// One line a check; below what is not as it should be, why that matters and what mends it.
fn text(report: &Report<'_>) -> String {
    let mut text = format!("cluster {} at {}\n", report.cluster, Shown::new(&report.place));
    let width = |check: Check| check.as_str().len();
    let widest = report.findings.iter().map(|finding| width(finding.check)).max().unwrap_or(0);
    for finding in &report.findings {
        let (verdict, check) = (finding.verdict.as_str(), finding.check);
        let _ = writeln!(text, "  {verdict}  {check:<widest$}  {}", Shown::new(&finding.seen));
        if let Some(why) = finding.why {
            for line in wrapped(why) {
                let _ = writeln!(text, "        {line}");
            }
        }
        for line in &finding.mend {
            let _ = writeln!(text, "            {}", pasted(line));
        }
    }
    let [passed, notes, warnings, failed] =
        [Verdict::Pass, Verdict::Note, Verdict::Warn, Verdict::Fail]
            .map(|verdict| count(report, verdict));
    let warned = if warnings == 1 { "warning" } else { "warnings" };
    let noted = if notes == 1 { "note" } else { "notes" };
    let _ =
        writeln!(text, "{passed} passed, {notes} {noted}, {warnings} {warned}, {failed} failed");
    text
}

/// A sentence in lines that fit beside the margin.
fn wrapped(text: &str) -> Vec<String> {
    const WIDTH: usize = 88;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The lines for a server of the major version that was named, or else of that which it has.
async fn hba(examination: &Examination, major: Option<u32>, clock: &Clock) -> String {
    if let Some(major) = major {
        return examination.hba(HbaServer { major, broker_address: None });
    }
    match examination.ask_for_hba(clock).await {
        Ok((major, address)) => {
            examination.hba(HbaServer { major, broker_address: address.as_deref() })
        }
        Err(why) => {
            let why = Shown::new(why);
            let lines = examination.hba(HbaServer { major: 16, broker_address: None });
            format!(
                "# The cluster could not be asked for its version ({why}); older than 16: --major 15\n{lines}"
            )
        }
    }
}

/// A script of SQL that is the same where nothing can be seen of some letters.
fn shown_alike(script: &str) -> String {
    if io::stdout().is_terminal() { printable_sql(script) } else { script.to_owned() }
}

/// A script is printed as it is: a line of it that was changed to be shown would be another one.
/// On a terminal nothing in it may steer that.
fn done(script: &str) -> Result<Exit, Failure> {
    let shown: String = if io::stdout().is_terminal() {
        script.lines().fold(String::new(), |mut shown, line| {
            let _ = writeln!(shown, "{}", Shown::new(line));
            shown
        })
    } else {
        script.to_owned()
    };
    terminal::answer(&shown).map_err(Failure::Output)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(
        check: Check,
        verdict: Verdict,
        why: Option<&'static str>,
        mend: &[&str],
    ) -> Finding {
        let mend = mend.iter().map(|line| (*line).to_owned()).collect();
        Finding { check, verdict, seen: "seen\u{1b}[2J".into(), why, mend }
    }

    fn report(cluster: &ClusterName) -> Report<'_> {
        let findings = vec![
            finding(Check::Ssl, Verdict::Pass, None, &[]),
            finding(Check::Version, Verdict::Warn, Some("Because."), &["ALTER\nSYSTEM;"]),
            finding(Check::GroupRole, Verdict::Fail, Some("So."), &[]),
        ];
        Report { cluster, place: "127.0.0.1:5432".into(), findings }
    }

    #[test]
    fn a_report_is_one_line_a_check_with_reason_and_remedy_below() {
        let name = "orders".parse().unwrap();
        let expected = "cluster orders at 127.0.0.1:5432
  pass  ssl         seen\\u{1b}[2J
  warn  version     seen\\u{1b}[2J
        Because.
            ALTER\\nSYSTEM;
  FAIL  group-role  seen\\u{1b}[2J
        So.
1 passed, 0 notes, 1 warning, 1 failed
";
        assert_eq!(text(&report(&name)), expected);
    }

    #[test]
    fn a_program_reads_the_same_findings() {
        let name = "orders".parse().unwrap();
        let json = json(&[report(&name)]);
        assert!(!json.contains('\u{1b}'), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let second = &value["clusters"][0]["findings"][1];
        let expected = serde_json::json!({
            "check": "version", "verdict": "warn", "seen": "seen\u{1b}[2J", "why": "Because.",
            "mend": ["ALTER\nSYSTEM;"],
        });
        assert_eq!(*second, expected);
    }
}
