//! Facts in, findings out. Nothing here asks anybody anything.

mod databases;
mod doors;
mod hba;
mod leases;
mod logs;
mod rights;
mod server;

use std::fmt::Write as _;

use super::Expected;
use super::facts::{Facts, Looked};
use super::finding::{Check, Finding};
use crate::cluster::error::Failure;

pub(super) use doors::doors;

/// What the findings are about a cluster that the broker can log in to.
pub(super) fn inside(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![Finding::pass(Check::Reach, reached(expected))];
    findings.push(Finding::pass(Check::Pooler, "a session of its own"));
    findings.extend(server::judge(expected, facts));
    findings.extend(rights::judge(expected, facts));
    findings.extend(databases::judge(expected, facts));
    findings.extend(server::judge_settings(expected, facts));
    findings.extend(logs::judge(facts));
    findings.extend(hba::judge(expected, facts));
    findings.extend(leases::judge(expected, facts));
    findings
}

fn reached(expected: &Expected) -> String {
    format!("{} logs in to {}", expected.user, expected.maintenance)
}

/// A pooler that gives sessions away.
pub(super) fn shared(how: &str) -> Finding {
    Finding::fail(
        Check::Pooler,
        how,
        "Through a pooler that shares sessions, or that drops the settings they begin with, the \
         broker's limits and prepared statements are not there when they are needed; nothing else \
         was looked at.",
    )
    .mend("# host and port in [[cluster]]: the server itself; client_host and client_port: the pooler")
    .mend("# or, in the pooler, for the broker's login: pool_mode = session")
}

/// A server that did not let the broker in.
pub(super) fn out_of_reach(expected: &Expected, failure: &Failure) -> Finding {
    const WHY: &str = "The broker cannot log in, so nothing can be lent or taken back there.";
    // What pgbouncer says when a connection begins with settings.
    if failure.text.contains("startup parameter") {
        return shared(&failure.to_string());
    }
    let finding = Finding::fail(Check::Reach, failure.to_string(), WHY);
    let user = expected.user.quoted();
    match failure.code.as_deref() {
        Some("28P01") => finding
            .mend("-- the password in `password_file` is not that of the login, or there is no such login:")
            .mend(format!("\\password {user}")),
        Some("28000") => finding
            .mend("-- there is no such login, it has no LOGIN, or pg_hba.conf has no line for it:")
            .mend("-- see `pgbridge doctor --print-sql` and `--print-hba`"),
        Some("42501") => {
            let database = crate::names::identifier(expected.maintenance.as_str());
            finding.mend(format!("GRANT CONNECT ON DATABASE {database} TO {user};"))
        }
        Some("3D000") => finding.mend("# database in [[cluster]]: one that exists"),
        Some("53300") => {
            finding.mend("-- every connection is taken: raise max_connections, or end some")
        }
        _ => finding.mend("# host, port, ca_file in [[cluster]], and whether the server runs"),
    }
}

/// The findings about what was seen, or one that says why it could not be.
fn seen<T>(
    check: Check,
    looked: &Looked<T>,
    judge: impl FnOnce(&T) -> Vec<Finding>,
) -> Vec<Finding> {
    const WHY: &str = "What cannot be seen cannot be vouched for.";
    match looked {
        Ok(facts) => judge(facts),
        Err(failure) => vec![Finding::warn(check, format!("could not look: {failure}"), WHY)],
    }
}

/// Names as a person lists them, the first few.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let mut list = names.iter().take(SHOWN).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = write!(list, " and {more} more");
    }
    list
}

#[cfg(test)]
mod tests;
