//! What the server is and how it is set.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, date};

use super::super::Expected;
use super::super::facts::{Direction, Facts, Replicas, Server};
use super::super::finding::{Check, Finding};
use super::super::prepare::SIXTEEN;
use super::seen;

/// A major version that is supported.
struct Release {
    major: u32,
    /// The newest minor release that was known when this was written.
    minor: u32,
    /// The day of its last release (postgresql.org, "Versioning Policy").
    last_day: Date,
}

const RELEASES: [Release; 6] = [
    Release { major: 13, minor: 23, last_day: date(2025, 11, 13) },
    Release { major: 14, minor: 23, last_day: date(2026, 11, 12) },
    Release { major: 15, minor: 18, last_day: date(2027, 11, 11) },
    Release { major: 16, minor: 14, last_day: date(2028, 11, 9) },
    Release { major: 17, minor: 10, last_day: date(2029, 11, 8) },
    Release { major: 18, minor: 4, last_day: date(2030, 11, 14) },
];

/// A difference of clocks that matters.
const SKEW_MAX: Duration = Duration::from_secs(30);

pub(super) fn judge(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    seen(Check::Version, &facts.server, |server| {
        let mut findings = vec![version(server.version)];
        findings.extend(minor_release(server.version, facts.now));
        findings.push(map_release(expected, server.version));
        findings.push(standby(server));
        findings.push(clock(expected, server));
        findings
    })
}

fn version(version: u32) -> Finding {
    let shown = format!("PostgreSQL {}.{}", version / 10_000, version % 10_000);
    match version / 10_000 {
        16..=18 => Finding::pass(Check::Version, shown),
        13..=15 => Finding::warn(
            Check::Version,
            shown,
            "Before 16, CREATEROLE is as good as superuser (it can become every role but one), and a \
             lease role can SET ROLE to the role it was lent and leave things behind as that.",
        )
        .mend("-- PostgreSQL 16 or newer; until then guard the broker's login like a superuser's"),
        ..13 => Finding::fail(Check::Version, shown, "Leases were never tried on it.")
            .mend("-- PostgreSQL 13 to 18, better 16 or newer"),
        19.. => Finding::warn(Check::Version, shown, "It is newer than what leases were tried on.")
            .mend("# a newer pgbridge"),
    }
}

fn minor_release(version: u32, now: Timestamp) -> Option<Finding> {
    let (major, minor) = (version / 10_000, version % 10_000);
    let release = RELEASES.iter().find(|release| release.major == major)?;
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    Some(if today > release.last_day {
        Finding::warn(
            Check::MinorRelease,
            format!("PostgreSQL {major} has had its last release, on {}", release.last_day),
            "Holes in it are not closed any more.",
        )
        .mend("-- a newer major version")
    } else if minor < release.minor {
        Finding::warn(
            Check::MinorRelease,
            format!("{major}.{minor}, and there is {major}.{}", release.minor),
            "Holes that are public by now are closed in the newer one.",
        )
        .mend("-- the newest minor release; it needs a restart and nothing else")
    } else {
        Finding::pass(Check::MinorRelease, "none newer that this pgbridge knows of")
    })
}

/// The map is pgbridge's own. But people prove it on a server, copy its lines from there and back,
/// and expect of `+role` what that server would do.
fn map_release(expected: &Expected, version: u32) -> Finding {
    let (check, major) = (Check::MapRelease, version / 10_000);
    match (expected.written_release, expected.map_read_as) {
        (Some(written), _) if written.major() != major => Finding::warn(
            check,
            format!("the configuration says PostgreSQL {written}, and the server is {major}"),
            "The map is read as the oldest release that is written for a cluster.",
        )
        .mend(format!("# postgres = {major} in this [[cluster]] of the configuration")),
        (_, read_as) if read_as.major() > major => Finding::warn(
            check,
            format!("the map is read as PostgreSQL {read_as} reads it, and the server is {major}"),
            "The same lines can mean something else there: before 16 `all`, `+role` and `include` \
             are names like any other, and before 14 no line is joined to the next.",
        )
        .mend(format!("# postgres = {major} in this [[cluster]] or in [map] of the configuration")),
        (_, read_as) => {
            Finding::pass(check, format!("the map is read as PostgreSQL {read_as} reads it"))
        }
    }
}

fn standby(server: &Server) -> Finding {
    if server.standby {
        let why = "Roles can be made and dropped on the primary only.";
        Finding::fail(Check::Standby, "the server is a standby in recovery", why)
            .mend("# host in [[cluster]]: the primary, or a name that follows it")
    } else {
        Finding::pass(Check::Standby, "the server is a primary")
    }
}

fn clock(expected: &Expected, server: &Server) -> Finding {
    let skew = server.skew;
    if skew.at_least <= SKEW_MAX {
        return Finding::pass(Check::Clock, "as the broker's, within 30 s");
    }
    let direction = match skew.direction {
        Direction::Ahead => "ahead of",
        Direction::Behind => "behind",
    };
    let apart = skew.at_least.as_secs();
    let seen = format!("the server's clock is {apart} s {direction} the broker's");
    let finding = if skew.at_least > expected.max_clock_skew {
        let why = "That is more than `max_clock_skew` in [broker], so nothing is issued there.";
        Finding::fail(Check::Clock, seen, why)
    } else {
        let why = "The audit and the server's log do not fit together; much more, and nothing is \
                   issued.";
        Finding::warn(Check::Clock, seen, why)
    };
    finding.mend("-- the same time source for both machines (chrony, systemd-timesyncd)")
}

/// Settings that have nothing to do with the log.
pub(super) fn judge_settings(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    let becomes_group = facts.server.as_ref().is_ok_and(|server| !has_options(server.version));
    let mut findings = seen(Check::Ssl, &facts.settings, |settings| {
        let mut findings = vec![
            ssl(expected, settings),
            password_encryption(settings),
            listen_addresses(settings),
            authentication_timeout(settings),
            durability(settings),
            prepared_transactions(settings, becomes_group),
        ];
        findings.extend(tls_minimum(settings));
        findings
    });
    let settings = facts.settings.as_ref().ok();
    findings
        .extend(seen(Check::Replicas, &facts.replicas, |found| vec![replicas(*found, settings)]));
    findings
}

type Settings = BTreeMap<String, String>;

/// The value of a parameter; nothing is an empty text.
pub(super) fn value<'a>(settings: &'a Settings, name: &str) -> &'a str {
    settings.get(name).map_or("", String::as_str)
}

/// A statement that sets a parameter for good.
pub(super) fn set(name: &str, value: &str) -> String {
    format!("ALTER SYSTEM SET {name} = {value};")
}

pub(super) const RELOAD: &str = "SELECT pg_reload_conf();";

fn ssl(expected: &Expected, settings: &Settings) -> Finding {
    if value(settings, "ssl") == "on" {
        return Finding::pass(Check::Ssl, "ssl = on");
    }
    if expected.clients_stay_local() {
        let why = "Clients are told to do without TLS, on this machine only.";
        return Finding::note(Check::Ssl, "ssl = off", why);
    }
    let why = "What lease roles read and write crosses the network in clear.";
    Finding::fail(Check::Ssl, "ssl = off", why)
        .mend("-- with the server's certificate and key in its data directory:")
        .mend(set("ssl_cert_file", "'server.crt'"))
        .mend(set("ssl_key_file", "'server.key'"))
        .mend(set("ssl", "on"))
        .mend(RELOAD)
}

/// By the setting; what the server does is tried at its door.
fn tls_minimum(settings: &Settings) -> Option<Finding> {
    let minimum = value(settings, "ssl_min_protocol_version");
    match minimum {
        _ if value(settings, "ssl") != "on" => None,
        // The login may not see it.
        "" => None,
        "TLSv1.2" | "TLSv1.3" => {
            let seen = format!("ssl_min_protocol_version = {minimum}");
            Some(Finding::pass(Check::TlsMinimum, seen))
        }
        _ => Some(old_tls(format!("ssl_min_protocol_version = {minimum}"))),
    }
}

pub(super) fn old_tls(seen: impl AsRef<str>) -> Finding {
    const WHY: &str = "TLS before 1.2 can be broken by who sits on the way.";
    Finding::warn(Check::TlsMinimum, seen, WHY)
        .mend(set("ssl_min_protocol_version", "'TLSv1.2'"))
        .mend(RELOAD)
}

fn password_encryption(settings: &Settings) -> Finding {
    let method = value(settings, "password_encryption");
    let seen = format!("password_encryption = {method}");
    if method == "scram-sha-256" {
        return Finding::pass(Check::PasswordEncryption, seen);
    }
    Finding::warn(
        Check::PasswordEncryption,
        seen,
        "The broker's own verifiers are SCRAM, but whoever changes a password gets an MD5 hash, \
         which is as good as the password for who reads it.",
    )
    .mend(set("password_encryption", "'scram-sha-256'"))
    .mend(RELOAD)
}

fn listen_addresses(settings: &Settings) -> Finding {
    let addresses = value(settings, "listen_addresses");
    let everywhere =
        addresses.split(',').any(|address| ["*", "0.0.0.0", "::"].contains(&address.trim()));
    let seen = format!("listen_addresses = '{addresses}'");
    if !everywhere {
        return Finding::pass(Check::ListenAddresses, seen);
    }
    Finding::warn(
        Check::ListenAddresses,
        seen,
        "The server listens on every network of its machine, so pg_hba.conf alone keeps strangers out.",
    )
    .mend("-- the addresses that clients and the broker use, such as; it needs a restart:")
    .mend(set("listen_addresses", "'localhost, 10.0.0.5'"))
}

fn authentication_timeout(settings: &Settings) -> Finding {
    let seconds: u32 = value(settings, "authentication_timeout").parse().unwrap_or_default();
    let seen = format!("authentication_timeout = {seconds} s");
    if seconds <= 60 {
        return Finding::pass(Check::AuthenticationTimeout, seen);
    }
    Finding::warn(
        Check::AuthenticationTimeout,
        seen,
        "Who does not even log in can hold all connections for that long, the broker's too.",
    )
    .mend(set("authentication_timeout", "'30s'"))
    .mend(RELOAD)
}

fn durability(settings: &Settings) -> Finding {
    let off: Vec<String> = ["fsync", "full_page_writes", "synchronous_commit"]
        .into_iter()
        .filter(|name| value(settings, name) == "off")
        .map(|name| format!("{name} = off"))
        .collect();
    if off.is_empty() {
        return Finding::pass(Check::Durability, "a crash undoes nothing");
    }
    let names = ["fsync", "full_page_writes", "synchronous_commit"];
    let names = names.into_iter().filter(|name| value(settings, name) == "off");
    Finding::warn(
        Check::Durability,
        off.join(", "),
        "After a crash of the server, roles that were dropped can be back until the next comparison, \
         and roles that were handed out gone.",
    )
    .mend_all(names.map(|name| set(name, "on")))
    .mend(RELOAD)
}

fn prepared_transactions(settings: &Settings, becomes_group: bool) -> Finding {
    let most = value(settings, "max_prepared_transactions");
    let seen = format!("max_prepared_transactions = {most}");
    if most == "0" {
        return Finding::pass(Check::PreparedTransactions, seen);
    }
    let finding = if becomes_group {
        Finding::warn(
            Check::PreparedTransactions,
            seen,
            "Before 16 a lease role can become its group and prepare a transaction as that: it \
             outlives the lease with its locks. The broker rolls back one that keeps a lease role \
             locked; any other only its group or a superuser can end.",
        )
    } else {
        Finding::note(
            Check::PreparedTransactions,
            seen,
            "A lease role can leave a prepared transaction behind, with its locks; the broker \
             rolls it back before the role is dropped.",
        )
    };
    finding
        .mend("-- if nothing of yours prepares transactions; it needs a restart:")
        .mend(set("max_prepared_transactions", "0"))
}

fn replicas(found: Replicas, settings: Option<&Settings>) -> Finding {
    let Replicas { attached, synchronous, hidden } = found;
    if attached == 0 {
        return Finding::pass(Check::Replicas, "none attached now");
    }
    let names = settings.map_or("", |settings| value(settings, "synchronous_standby_names"));
    let commit = settings.map_or("", |settings| value(settings, "synchronous_commit"));
    let waits = !names.is_empty() && !["off", "local"].contains(&commit);
    let state = if hidden > 0 {
        format!("{attached} attached; their state is hidden from a login without pg_monitor")
    } else {
        format!("{attached} attached, {synchronous} of them synchronous")
    };
    let seen = format!("{state}; synchronous_standby_names = '{names}'");
    if waits && (synchronous > 0 || hidden > 0) {
        return Finding::pass(Check::Replicas, seen);
    }
    Finding::warn(
        Check::Replicas,
        seen,
        "After a fail-over to a copy that lags behind, a role that was dropped last can be back, \
         until the broker compares the next time; and one that was handed out last is gone.",
    )
    .mend("-- the names of two or more standbys, so that commits wait for one of them:")
    .mend(set("synchronous_standby_names", "'ANY 1 (standby1, standby2)'"))
    .mend(RELOAD)
}

/// Whether memberships have options.
pub(super) fn has_options(version: u32) -> bool {
    version >= SIXTEEN
}
