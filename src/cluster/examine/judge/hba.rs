//! `pg_hba.conf`, line by line, for those lines that a lease role may come in by.

use std::net::IpAddr;

use super::super::Expected;
use super::super::facts::{Facts, HbaLine};
use super::super::finding::{Check, Finding};
use super::seen;

const CHECK: Check = Check::HbaFile;

pub(super) fn judge(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    seen(CHECK, &facts.hba, |lines| match lines {
        Some(lines) => judge_lines(expected, lines),
        None => vec![hidden(expected)],
    })
}

fn hidden(expected: &Expected) -> Finding {
    let user = expected.user.quoted();
    let why = "The file was tried from this machine only (see the checks `login-…`); lines for other \
               networks were not seen.";
    Finding::note(CHECK, "could not look: the login may not read pg_hba_file_rules", why)
        .mend(format!("GRANT SELECT ON pg_catalog.pg_hba_file_rules TO {user};"))
        .mend(format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO {user};"))
        .mend("-- or look yourself, as a superuser:")
        .mend("SELECT line_number, type, database, user_name, address, auth_method, error FROM pg_hba_file_rules;")
}

fn judge_lines(expected: &Expected, lines: &[HbaLine]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut closed = Closed::default();
    for line in lines {
        if let Some(error) = &line.error {
            let seen = format!("{}: {error}", place(line));
            let why = "The server does not take the file as it is now: it goes by the one before.";
            findings.push(
                Finding::fail(CHECK, seen, why)
                    .mend(format!("# {}: a line that the server understands", place(line))),
            );
            continue;
        }
        if !may_be_a_lease(expected, line) || closed.covers(line) {
            continue;
        }
        closed.close(expected, line);
        findings.extend(weakness(line));
    }
    if findings.is_empty() {
        let seen = "lease roles come in by TLS and SCRAM, or not at all";
        findings.push(Finding::pass(CHECK, seen));
    }
    findings
}

fn place(line: &HbaLine) -> String {
    let file = line.file.as_deref().unwrap_or("pg_hba.conf");
    let file = file.rsplit('/').next().unwrap_or(file);
    format!("{file}:{}", line.line)
}

/// The line as the file has it, more or less.
fn shown(line: &HbaLine) -> String {
    let address = match (&line.address, &line.netmask) {
        (Some(address), Some(netmask)) => format!(" {address} {netmask}"),
        (Some(address), None) => format!(" {address}"),
        (None, _) => String::new(),
    };
    let (databases, users) = (line.databases.join(","), line.users.join(","));
    format!("{}: {} {databases} {users}{address} {}", place(line), line.kind, line.method)
}

/// Whether the line is for a role whose name begins like ours, or for members of what is lent, on
/// a database that is none of replication's. In doubt it is.
fn may_be_a_lease(expected: &Expected, line: &HbaLine) -> bool {
    let of_database = |name: &String| name != "replication";
    line.databases.iter().any(of_database)
        && line.users.iter().any(|user| fits_a_lease(expected, user))
}

fn fits_a_lease(expected: &Expected, user: &str) -> bool {
    let prefix = expected.role_prefix.as_str();
    if let Some(pattern) = user.strip_prefix('/') {
        let sample = format!("{prefix}alice_abcdefghijklmnop");
        // What this engine cannot read, the server's may.
        return regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(&sample));
    }
    // A group may hold lease roles by way of others, so every group counts.
    user == "all" || user.starts_with('+') || user.starts_with(prefix)
}

/// By which ways no lease role gets to the lines that follow.
#[derive(Default)]
struct Closed {
    local: bool,
    tls: bool,
    clear: bool,
}

impl Closed {
    fn ways(line: &HbaLine) -> (bool, bool, bool) {
        match line.kind.as_str() {
            "local" => (true, false, false),
            "hostssl" => (false, true, false),
            "hostnossl" => (false, false, true),
            _ => (false, true, true),
        }
    }

    fn covers(&self, line: &HbaLine) -> bool {
        let (local, tls, clear) = Self::ways(line);
        (!local || self.local) && (!tls || self.tls) && (!clear || self.clear)
    }

    /// A line that fits every lease role from everywhere, to every database, is the last for it.
    fn close(&mut self, expected: &Expected, line: &HbaLine) {
        let all_roles = ["all".to_owned(), format!("/^{}", expected.role_prefix.as_str())];
        let everybody = line.users.iter().any(|user| all_roles.contains(user));
        let everywhere = match line.address.as_deref() {
            None => line.kind == "local",
            Some(address) => {
                ["all", "0.0.0.0/0", "::/0"].contains(&address)
                    || line.netmask.as_deref() == Some("0.0.0.0")
            }
        };
        // A net of all addresses is one of IPv4 or of IPv6, and not both: only `all` is.
        let all = everywhere && (line.kind == "local" || line.address.as_deref() == Some("all"));
        if everybody && all && line.databases.iter().any(|database| database == "all") {
            let (local, tls, clear) = Self::ways(line);
            self.local |= local;
            self.tls |= tls;
            self.clear |= clear;
        }
    }
}

/// What is wrong with a line that a lease role may come in by.
fn weakness(line: &HbaLine) -> Option<Finding> {
    let local = line.kind == "local";
    let loopback = local || is_loopback(line);
    let seen = shown(line);
    let finding = match line.method.as_str() {
        "reject" | "peer" | "cert" => return None,
        "scram-sha-256" if local || is_protected(line) => return None,
        "scram-sha-256" if loopback => Finding::warn(
            CHECK,
            seen,
            "A lease role gets in without TLS, on the server's own machine.",
        ),
        "scram-sha-256" => Finding::fail(CHECK, seen, "A lease role gets in without TLS."),
        "trust" if local => Finding::fail(
            CHECK,
            seen,
            "Whoever is on the server's machine is any role by its name alone.",
        ),
        "trust" => {
            Finding::fail(CHECK, seen, "Whoever comes from there is any role by its name alone.")
        }
        "md5" => Finding::fail(
            CHECK,
            seen,
            "A role that gives itself an MD5 password gets in by that, and not by SCRAM.",
        ),
        "password" => Finding::fail(
            CHECK,
            seen,
            "The client tells the password itself, to whoever answers, and not a proof of it.",
        ),
        "ident" => Finding::fail(CHECK, seen, "The client's own machine says which role it is."),
        _ => Finding::warn(
            CHECK,
            seen,
            "Another than the server decides who gets in, so the end of a lease may not count.",
        ),
    };
    Some(finding.mend(format!("# {}: {}", place(line), better(line))))
}

fn better(line: &HbaLine) -> String {
    let kind = if line.kind == "local" { "local" } else { "hostssl" };
    format!("{kind}, scram-sha-256; or `pgbridge doctor --print-hba` before it")
}

/// Whether nobody on the way can read along: TLS, or the encryption of Kerberos.
fn is_protected(line: &HbaLine) -> bool {
    ["hostssl", "hostgssenc"].contains(&line.kind.as_str())
}

fn is_loopback(line: &HbaLine) -> bool {
    let address = line.address.as_deref().unwrap_or_default();
    let address = address.split('/').next().unwrap_or_default();
    address == "samehost"
        || address == "localhost"
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
