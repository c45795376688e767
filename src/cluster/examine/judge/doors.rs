//! What the server asked for at its door.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::super::Expected;
use super::super::finding::{Check, Finding, Verdict};
use super::super::knock::{Answer, Certificate, Fit, Guest, Opened, Way};
use super::super::prepare::{HbaServer, rejecting};
use super::super::wire::Demand;
use super::listed;
use super::server::old_tls;
use crate::cluster::client::ClientSslMode;
use crate::names::printable;

/// `SQLSTATE` of a refusal by `pg_hba.conf`: no line fits, or one that says `reject`.
const NO_LINE: &str = "28000";

/// A certificate that ends sooner is worth a warning.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What the findings are about what was asked for at all doors.
pub(in super::super) fn doors(
    expected: &Expected,
    version: Option<u32>,
    doors: &[Opened],
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for door in doors {
        findings.extend(answers(expected, version, door));
        findings.extend(door.broken.as_ref().map(|why| untried(door, why)));
        if door.guest == Guest::Clients {
            let certificate = door.certificate.as_ref();
            findings.extend(certificate.map(|seen| self::certificate(expected, seen, now)));
        }
        findings.extend(door.old_tls.map(|spoken| oldest_tls(door, spoken)));
    }
    findings
}

fn at(door: &Opened) -> String {
    match door.guest {
        Guest::Clients => format!("at {}", door.place),
        Guest::Broker => format!("at {} (the broker's way)", door.place),
    }
}

fn untried(door: &Opened, why: &str) -> Finding {
    let seen = format!("could not be tried {}: {why}", at(door));
    Finding::warn(
        Check::LoginByTls,
        seen,
        "What pg_hba.conf lets in there is not known; clients may reach it from elsewhere.",
    )
    .mend("# run `pgbridge doctor` where that place can be reached, or mend client_host and client_port")
}

fn oldest_tls(door: &Opened, spoken: bool) -> Finding {
    if spoken {
        old_tls(format!("TLS 1.1 is spoken {}", at(door)))
    } else {
        Finding::pass(Check::TlsMinimum, format!("TLS 1.1 is refused {}", at(door)))
    }
}

/// One finding for all databases where the same was answered.
fn answers(expected: &Expected, version: Option<u32>, door: &Opened) -> Vec<Finding> {
    let mut alike: BTreeMap<(Way, Answer), Vec<&str>> = BTreeMap::new();
    for (way, database, answer) in &door.answers {
        alike.entry((*way, kind(answer))).or_default().push(database);
    }
    let findings = alike.into_iter().map(|((way, answer), databases)| {
        let place = format!("{} for {}", at(door), listed(&databases));
        judge(expected, door, way, &answer, &place).mended(expected, version)
    });
    findings.collect()
}

/// The answer without what differs from database to database: the server names it where it refuses.
fn kind(answer: &Answer) -> Answer {
    match answer {
        Answer::Asked(Demand::Refused(code, _)) if code == NO_LINE => {
            Answer::Asked(Demand::Refused(code.clone(), String::new()))
        }
        answer => answer.clone(),
    }
}

/// A finding, and whether `pg_hba.conf` mends it.
enum Judged {
    As(Finding),
    ByHba(Finding),
}

impl Judged {
    fn mended(self, expected: &Expected, version: Option<u32>) -> Finding {
        match self {
            Self::As(finding) => finding,
            Self::ByHba(finding) => {
                let major = version.map_or(16, |version| version / 10_000);
                let server = HbaServer { major, broker_address: None };
                finding
                    .mend("# the line of pg_hba.conf that let this in: hostssl and scram-sha-256, or none. Or before it:")
                    .mend_all(rejecting(expected, server))
                    .mend("# after the lines that `pgbridge doctor --print-hba` prints; then SELECT pg_reload_conf();")
            }
        }
    }
}

fn judge(expected: &Expected, door: &Opened, way: Way, answer: &Answer, place: &str) -> Judged {
    let check = match way {
        Way::Tls | Way::Socket => Check::LoginByTls,
        Way::Clear => Check::LoginInClear,
    };
    let demand = match answer {
        Answer::NoTls => return Judged::As(no_tls(expected, place)),
        Answer::Asked(demand) => demand,
    };
    match demand {
        Demand::Scram if way == Way::Clear => in_clear(expected, door, place),
        Demand::Scram => Judged::As(Finding::pass(check, format!("SCRAM is asked for {place}"))),
        Demand::Refused(code, message) => Judged::As(refused(check, way, code, message, place)),
        Demand::Nothing => Judged::ByHba(Finding::fail(
            check,
            format!("nothing is asked for {place}"),
            "Whoever knows the name of a role is that role, without a password and after its end: a \
             lease role, and as the line stands perhaps every other.",
        )),
        Demand::Password => Judged::ByHba(Finding::fail(
            check,
            format!("the password is asked for in clear {place}"),
            "The password is told to whoever answers there, and where it is checked elsewhere (ldap, \
             pam, radius) the end of a lease does not count.",
        )),
        Demand::Md5 => Judged::ByHba(Finding::fail(
            check,
            format!("an MD5 of the password is asked for {place}"),
            "A hash that is read once is good for logging in ever after.",
        )),
        Demand::Ticket | Demand::Unknown(_) => Judged::ByHba(Finding::warn(
            check,
            format!("no password is asked for {place}, but another proof"),
            "The password of a lease does not get in there, and its end may not count.",
        )),
    }
}

fn in_clear(expected: &Expected, door: &Opened, place: &str) -> Judged {
    let seen = format!("SCRAM is asked for without TLS {place}");
    if expected.clients_stay_local() && door.local {
        let why = "Clients are told to do without TLS, on this machine only.";
        return Judged::As(Finding::note(Check::LoginInClear, seen, why));
    }
    let why = "A client that does not insist on TLS is let in, and what it reads and writes can be \
               read and changed on the way.";
    Judged::ByHba(Finding::fail(Check::LoginInClear, seen, why))
}

fn no_tls(expected: &Expected, place: &str) -> Finding {
    let seen = format!("there is no TLS {place}");
    if expected.clients_stay_local() {
        let why = "Clients are told to do without TLS, on this machine only.";
        return Finding::note(Check::LoginByTls, seen, why);
    }
    let why = "Clients that insist on TLS, as they are told to, do not get in; others go in clear.";
    Finding::fail(Check::LoginByTls, seen, why)
        .mend("-- ssl = on, with a certificate; see check `ssl`")
}

fn refused(check: Check, way: Way, code: &str, message: &str, place: &str) -> Finding {
    if code != NO_LINE {
        let message = printable(message);
        let seen = format!("could not be tried {place}: {message} (SQLSTATE {code})");
        return Finding::warn(check, seen, "What pg_hba.conf lets in there is not known.");
    }
    if way == Way::Clear {
        return Finding::pass(check, format!("nobody gets in without TLS {place}"));
    }
    let why = "A name that is no role gets no further than this. Right where lines of pg_hba.conf go by \
               group or by network and clients come from elsewhere; else no lease can be used.";
    Finding::note(check, format!("pg_hba.conf has no line for this machine {place}"), why)
}

fn certificate(expected: &Expected, seen: &Certificate, now: Timestamp) -> Finding {
    const CHECK: Check = Check::Certificate;
    const WHY: &str = "Clients check it as they are told to, and do not connect.";
    let mode = expected.client.sslmode;
    let mend = "-- a certificate for `client_host` from an authority that clients trust (ca_file)";
    match (&seen.fit, mode) {
        (Fit::Bad(why), ClientSslMode::VerifyFull | ClientSslMode::VerifyCa)
        | (Fit::OtherName(why), ClientSslMode::VerifyFull) => {
            return Finding::fail(CHECK, why, WHY).mend(mend);
        }
        _ => {}
    }
    let Some(end) = seen.expires_at else {
        return Finding::warn(CHECK, "its end cannot be read", WHY).mend(mend);
    };
    let day = end.strftime("%Y-%m-%d");
    if end.duration_since(now) < SOON {
        return Finding::warn(CHECK, format!("it ends on {day}"), WHY)
            .mend("-- a new one before then");
    }
    let finding = Finding::pass(CHECK, format!("good until {day}"));
    let why = match (&seen.fit, mode) {
        (Fit::Untried, _) => {
            "What clients check it against is on their machines only, so it was not tried."
        }
        (_, ClientSslMode::Require | ClientSslMode::Prefer | ClientSslMode::Disable) => {
            "Clients are told not to check it, so whoever sits on the way can be the server."
        }
        _ => return finding,
    };
    Finding { verdict: Verdict::Note, why: Some(why), ..finding }
}
