//! What the server writes down that it should not, or does not that it should.

use std::collections::BTreeMap;

use super::super::facts::Facts;
use super::super::finding::{Check, Finding};
use super::seen;
use super::server::{RELOAD, set, value};

type Settings = BTreeMap<String, String>;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    seen(Check::StatementLog, &facts.settings, |settings| {
        let mut findings = vec![statements(settings), parameters(settings), logins(settings)];
        findings.extend(statistics(settings));
        findings.extend(pgaudit(settings));
        findings
    })
}

/// A parameter that is a number; what cannot be read is -1, "off" for all of these.
fn number(settings: &Settings, name: &str) -> f64 {
    value(settings, name).parse().unwrap_or(-1.0)
}

fn statements(settings: &Settings) -> Finding {
    let mut leaks: Vec<(String, String)> = Vec::new();
    let mut leak = |name: &str, safe: &str| {
        leaks.push((format!("{name} = {}", value(settings, name)), set(name, safe)));
    };
    if !["none", ""].contains(&value(settings, "log_statement")) {
        leak("log_statement", "'none'");
    }
    let is_all = |name: &str| (0.0..1.0).contains(&number(settings, name));
    if is_all("log_min_duration_statement") {
        leak("log_min_duration_statement", "'1s'");
    }
    if is_all("log_min_duration_sample") && number(settings, "log_statement_sample_rate") > 0.0 {
        leak("log_min_duration_sample", "'1s'");
    }
    if number(settings, "log_transaction_sample_rate") > 0.0 {
        leak("log_transaction_sample_rate", "0");
    }
    if leaks.is_empty() {
        return Finding::pass(Check::StatementLog, "statements are not logged as a rule");
    }
    let seen: Vec<&str> = leaks.iter().map(|(seen, _)| seen.as_str()).collect();
    Finding::warn(
        Check::StatementLog,
        seen.join(", "),
        "The broker sends verifiers and never a password, but who changes a password by ALTER ROLE \
         writes it into the server's log in clear; psql's \\password does not.",
    )
    .mend("-- where the log may not hold passwords; or keep the log as one keeps passwords:")
    .mend_all(leaks.iter().map(|(_, mend)| mend.clone()))
    .mend(RELOAD)
}

fn parameters(settings: &Settings) -> Finding {
    const NAME: &str = "log_parameter_max_length_on_error";
    let seen = format!("{NAME} = {}", value(settings, NAME));
    if ["0", ""].contains(&value(settings, NAME)) {
        return Finding::pass(Check::ParameterLog, seen);
    }
    let why = "Values that were meant to stay out of the log, since they are no part of a statement, \
               are written into it when the statement fails.";
    Finding::warn(Check::ParameterLog, seen, why).mend(set(NAME, "0")).mend(RELOAD)
}

fn logins(settings: &Settings) -> Finding {
    let prefix = value(settings, "log_line_prefix");
    let mut missing = Vec::new();
    if ["off", ""].contains(&value(settings, "log_connections")) {
        missing.push("log_connections = off".to_owned());
    }
    // %h and %r are the client's address, %p and %c its process.
    let shows = |letters: &[&str]| letters.iter().any(|letter| prefix.contains(letter));
    if ![&["%u"][..], &["%d"], &["%h", "%r"], &["%p", "%c"]].into_iter().all(shows) {
        missing.push(format!("log_line_prefix = '{prefix}'"));
    }
    if missing.is_empty() {
        return Finding::pass(
            Check::LoginLog,
            "log-ins are logged, with role, database and address",
        );
    }
    Finding::note(
        Check::LoginLog,
        missing.join(", "),
        "The audit says who was given which role; what the role then did can be told only if the \
         server's log names it.",
    )
    .mend(set("log_connections", "'on'"))
    .mend(set("log_line_prefix", "'%m [%p] %q%u@%d %h '"))
    .mend(RELOAD)
}

/// Nothing when the library is not loaded.
fn statistics(settings: &Settings) -> Option<Finding> {
    const NAME: &str = "pg_stat_statements.track_utility";
    let track = settings.get(NAME)?;
    let seen = format!("{NAME} = {track}");
    if track == "off" {
        return Some(Finding::pass(Check::StatStatements, seen));
    }
    let why = "An ALTER ROLE … PASSWORD in clear stays in pg_stat_statements, for everybody who is a \
               member of pg_read_all_stats.";
    let finding = Finding::warn(Check::StatStatements, seen, why);
    Some(finding.mend(set(NAME, "off")).mend(RELOAD))
}

/// Nothing when the library is not loaded.
fn pgaudit(settings: &Settings) -> Option<Finding> {
    let classes = settings.get("pgaudit.log")?;
    let parameters = value(settings, "pgaudit.log_parameter");
    let seen = format!("pgaudit.log = '{classes}', pgaudit.log_parameter = {parameters}");
    if parameters != "on" {
        return Some(Finding::pass(Check::PgAudit, seen));
    }
    let why = "Values that are bound to statements go into the log, whatever they are.";
    let finding = Finding::warn(Check::PgAudit, seen, why);
    Some(finding.mend(set("pgaudit.log_parameter", "off")).mend(RELOAD))
}
