//! `pg_hba.conf`, line by line, for those lines that a lease role may come in by.
//!
//! `pg_hba_file_rules` does not show quotes, and a word in quotes is a name: `"all"` is a role or a
//! database of that name. So where a word may be either, a line that lets in is taken for the wider
//! one, and nothing passes because a line before it keeps lease roles out; that is told.

use std::net::IpAddr;

use super::super::Expected;
use super::super::facts::{Database, Facts, HbaLine};
use super::super::finding::{Check, Finding};
use super::super::read::HBA_LINES;
use super::seen;

const CHECK: Check = Check::HbaFile;

pub(super) fn judge(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    let leases = Leases::of(expected, facts);
    seen(CHECK, &facts.hba, |lines| match lines {
        Some(lines) => judge_lines(&leases, lines),
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

fn judge_lines(leases: &Leases<'_>, lines: &[HbaLine]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut closed = Closed::default();
    let mut behind = None;
    for line in lines {
        if let Some(error) = &line.error {
            findings.push(not_understood(line, error));
            continue;
        }
        findings.extend(leases.no_pattern_yet(line));
        if !leases.may_fit(line) {
            continue;
        }
        if let Some(closing) = closed.closing(line) {
            if behind.is_none() && weakness(line).is_some() {
                behind = Some(kept_out(closing, line));
            }
            continue;
        }
        if leases.all_fit(line) {
            closed.close(line);
        }
        findings.extend(weakness(line));
    }
    findings.extend(behind);
    if lines.len() >= HBA_LINES {
        let seen = format!("only its first {HBA_LINES} lines were looked at");
        let why = "What the others let in is not known.";
        findings.push(Finding::warn(CHECK, seen, why).mend("# pg_hba.conf: fewer lines"));
    }
    if findings.is_empty() {
        let seen = "lease roles come in by TLS and SCRAM, or not at all";
        findings.push(Finding::pass(CHECK, seen));
    }
    findings
}

fn not_understood(line: &HbaLine, error: &str) -> Finding {
    let seen = format!("{}: {error}", place(line));
    let why = "The server does not take the file as it is now: it goes by the one before.";
    Finding::fail(CHECK, seen, why)
        .mend(format!("# {}: a line that the server understands", place(line)))
}

/// A weak line that only counts if the one before it is not what it seems.
fn kept_out(closing: &HbaLine, line: &HbaLine) -> Finding {
    let seen = format!("{} keeps lease roles from {}", place(closing), shown(line));
    let why = "It does unless a word of it, such as `all`, is in quotes: then it is a name, and the \
               server shows no quotes.";
    Finding::note(CHECK, seen, why)
        .mend(format!("# {}: no quotes, or no such line after it", place(closing)))
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

/// What is known of lease roles, and of the server that reads the file.
struct Leases<'a> {
    prefix: &'a str,
    /// The server's major version, if it is known.
    major: Option<u32>,
    /// Whether a database has the name `replication`, or nobody knows.
    replication_is_a_database: bool,
}

impl<'a> Leases<'a> {
    fn of(expected: &'a Expected, facts: &Facts) -> Self {
        let is_one = |databases: &Vec<Database>| {
            databases.iter().any(|database| database.known && database.name == "replication")
        };
        Self {
            prefix: expected.role_prefix.as_str(),
            major: facts.server.as_ref().ok().map(|server| server.version / 10_000),
            replication_is_a_database: facts.databases.as_ref().map_or(true, is_one),
        }
    }

    /// Whether the line is for a role whose name begins like ours, or for members of what is lent,
    /// on a database that is none of replication's. In doubt it is.
    fn may_fit(&self, line: &HbaLine) -> bool {
        let of_database = |name: &String| name != "replication" || self.replication_is_a_database;
        line.is_cut
            || line.databases.iter().any(of_database)
                && line.users.iter().any(|user| self.may_be_one(user))
    }

    fn may_be_one(&self, user: &str) -> bool {
        if let Some(pattern) = user.strip_prefix('/') {
            return self.knows_patterns() != Some(false) && self.pattern_may_fit(pattern);
        }
        // A group may hold lease roles by way of others, so every group counts.
        user == "all" || user.starts_with('+') || user.starts_with(self.prefix)
    }

    /// Whether a user or database that begins with `/` is a regular expression there: before 16 it
    /// is a name like any other.
    fn knows_patterns(&self) -> Option<bool> {
        self.major.map(|major| major >= 16)
    }

    /// Whether the server may find `pattern` in the name of some lease role: not if all it fits
    /// begins with other letters.
    fn pattern_may_fit(&self, pattern: &str) -> bool {
        let Some(rest) = pattern.strip_prefix('^').filter(|rest| !rest.contains('|')) else {
            return true;
        };
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let (plain, rest) =
            rest.split_at(rest.find(|letter| !is_plain(letter)).unwrap_or(rest.len()));
        // What follows may say that the last letter need not be there.
        let optional = rest.starts_with(['*', '?', '{']);
        let plain = plain.get(..plain.len().saturating_sub(usize::from(optional))).unwrap_or("");
        plain.starts_with(self.prefix) || self.prefix.starts_with(plain)
    }

    /// Whether the line fits every lease role from everywhere, to every database, so that it is the
    /// last for it.
    fn all_fit(&self, line: &HbaLine) -> bool {
        let pattern = format!("/^{}", self.prefix);
        let of_everybody = |user: &String| {
            user == "all" || (*user == pattern && self.knows_patterns() == Some(true))
        };
        // A net of all addresses is one of IPv4 or of IPv6, and not both: only `all` is.
        let from_everywhere = line.kind == "local" || line.address.as_deref() == Some("all");
        from_everywhere
            && line.users.iter().any(of_everybody)
            && line.databases.iter().any(|database| database == "all")
    }

    /// A line with a pattern on a server that takes it for a name.
    fn no_pattern_yet(&self, line: &HbaLine) -> Option<Finding> {
        let is_meant = line.users.iter().chain(&line.databases).any(|name| name.starts_with('/'));
        if !is_meant || self.knows_patterns() != Some(false) {
            return None;
        }
        let why = "Before 16 what begins with `/` is no pattern but a name, which nobody has: the \
                   line is for nobody.";
        let mend = "`+` and the roles that are lent, as `pgbridge doctor --print-hba` has it";
        let mend = format!("# {}: {mend}", place(line));
        Some(Finding::warn(CHECK, shown(line), why).mend(mend))
    }
}

/// The ways that a connection can come: over the socket, with TLS, in clear, with the encryption of
/// Kerberos.
const WAYS: usize = 4;

/// By which ways no lease role gets to the lines that follow, and which line keeps it from there.
#[derive(Default)]
struct Closed<'a>([Option<&'a HbaLine>; WAYS]);

impl<'a> Closed<'a> {
    fn ways(line: &HbaLine) -> [bool; WAYS] {
        match line.kind.as_str() {
            "local" => [true, false, false, false],
            "hostssl" => [false, true, false, false],
            "hostnossl" => [false, false, true, true],
            "hostgssenc" => [false, false, false, true],
            "hostnogssenc" => [false, true, true, false],
            _ => [false, true, true, true],
        }
    }

    /// A line that keeps lease roles from `line`, by whichever way it is for.
    fn closing(&self, line: &HbaLine) -> Option<&'a HbaLine> {
        let ways = self.0.iter().zip(Self::ways(line)).filter(|(_, is_way)| *is_way);
        ways.map(|(closing, _)| *closing).reduce(Option::and).flatten()
    }

    /// No lease role gets past `line`.
    fn close(&mut self, line: &'a HbaLine) {
        for (closing, is_way) in self.0.iter_mut().zip(Self::ways(line)) {
            *closing = closing.or(is_way.then_some(line));
        }
    }
}

/// What is wrong with a line that a lease role may come in by.
fn weakness(line: &HbaLine) -> Option<Finding> {
    let local = line.kind == "local";
    let loopback = local || is_loopback(line);
    let seen = shown(line);
    let finding = match line.method.as_str() {
        "peer" | "cert" if has_map(line) => Finding::warn(
            CHECK,
            seen,
            "A map, which was not looked at, says who is which role: it must name no lease role.",
        ),
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

/// Whether others may come in than those who have the role's own name.
fn has_map(line: &HbaLine) -> bool {
    line.options.iter().any(|option| option.starts_with("map="))
}

fn is_loopback(line: &HbaLine) -> bool {
    let address = line.address.as_deref().unwrap_or_default();
    let (address, length) = match address.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (address, None),
    };
    let is_narrow = |address: IpAddr| match (address, length, &line.netmask) {
        (IpAddr::V4(_), Some(length), _) => length.parse::<u8>().is_ok_and(|length| length >= 8),
        (IpAddr::V6(_), Some(length), _) => length == "128",
        (_, None, None) => true,
        (IpAddr::V4(_), None, Some(mask)) => mask.starts_with("255."),
        (IpAddr::V6(_), None, Some(mask)) => *mask == "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    };
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback() && is_narrow(address);
    address == "samehost"
        || address == "localhost"
        || address.parse::<IpAddr>().is_ok_and(is_loopback)
}
