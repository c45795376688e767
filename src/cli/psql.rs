//! psql with a role that lives as long as psql does.
//!
//! The password is in psql's environment and nowhere else: arguments can be read by everybody on
//! the machine, and a file would stay. Whatever ends psql or pgbridge in good order also ends the
//! lease; what does not (SIGKILL, loss of power) leaves it to end by itself.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Pid, Signal as Kill, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::answers::Lease;
use super::args::Psql;
use super::client::{Client, ClientError};
use super::credential::Credential;
use super::exit::Exit;
use super::failure::Failure;
use super::state::StateDir;
use super::terminal::{note, warn};
use super::{in_one_line, login, person, table};
use crate::clock::Clock;
use crate::names::{LeaseId, Ttl};

/// How long psql may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(5);

/// Attempts to revoke, one second apart, before the lease is left to end by itself.
const REVOKE_ATTEMPTS: u32 = 3;

/// Gets a role, runs psql with it, keeps the role alive while psql runs, and revokes it.
pub(super) async fn run(state: &StateDir, psql: Psql, clock: &Clock) -> Result<Exit, Failure> {
    let program = find("psql").ok_or(Failure::NoPsql)?;
    let mut signals = Signals::watch().map_err(Failure::Signals)?;
    let client = tokio::select! {
        client = login::connect(state, clock) => client?,
        exit = signals.any() => return Ok(exit),
    };
    let role = tokio::select! {
        role = person::role_of(&client, &psql.wish) => role?,
        exit = signals.any() => return Ok(exit),
    };
    // From here a lease may exist: a signal is looked at once the answer is there.
    let asked_at = clock.now();
    let answer = client.issue(&person::wish(&psql.wish, &role)).await?;
    let credential = person::accept(&client, &answer, state).await?;
    drop(answer);
    let lease = credential.issued.lease.clone();
    let outcome = if let Some(exit) = signals.seen() {
        Ok(exit)
    } else {
        let keeping = Keeping::begin(&lease, psql.wish.ttl, asked_at);
        attend(&program, &psql, credential, &mut signals, keep(&client, keeping, clock)).await
    };
    give_back(&client, &lease).await;
    outcome
}

/// Runs psql until it ends, with `keeping` beside it.
async fn attend(
    program: &PathBuf,
    psql: &Psql,
    credential: Credential,
    signals: &mut Signals,
    keeping: impl Future<Output = ()>,
) -> Result<Exit, Failure> {
    note(format!("{}, renewed while psql runs", credential.issued.lease.role_name));
    let mut child = spawn(program, psql, &credential).map_err(Failure::PsqlNotStarted)?;
    drop(credential);
    let mut keeping = std::pin::pin!(keeping);
    let mut kept = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            kill = signals.ending() => break end(&mut child, kill).await,
            () = &mut keeping, if !kept => kept = true,
        }
    };
    status.map(Exit::from).map_err(Failure::PsqlNotStarted)
}

fn spawn(program: &PathBuf, psql: &Psql, credential: &Credential) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    for name in credential.strangers() {
        command.env_remove(name);
    }
    // Debian's wrapper of psql would look for a cluster of this machine.
    command.env_remove("PGCLUSTER");
    command
        .args(&psql.args)
        .envs(credential.variables())
        .env("PGPASSWORD", credential.issued.password.expose())
        .env("PGAPPNAME", format!("pgbridge psql {}", credential.issued.lease.id))
        // An encryption by Kerberos in place of TLS would pass by the check of the certificate.
        .env("PGGSSENCMODE", "disable")
        .kill_on_drop(true)
        .spawn()
}

/// Passes the signal on, and insists when psql does not end.
async fn end(child: &mut Child, kill: Kill) -> std::io::Result<ExitStatus> {
    let process = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(process) = process {
        // It may have ended meanwhile, and is not reaped before it is waited for.
        let _ = kill_process(process, kill);
    }
    tokio::select! {
        status = child.wait() => status,
        () = sleep(GRACE) => {
            child.start_kill()?;
            child.wait().await
        }
    }
}

/// Ends the lease. A second Ctrl-C, SIGTERM or SIGHUP leaves it to end by itself.
async fn give_back(client: &Client, lease: &Lease) {
    let Ok(mut signals) = Signals::watch() else { return };
    let outcome = tokio::select! {
        outcome = revoke(client, lease.id) => outcome.map_err(|failure| in_one_line(&failure)),
        _ = signals.any() => Err("interrupted".to_owned()),
    };
    if let Err(reason) = outcome {
        warn(format!(
            "lease {} could not be revoked, it ends by itself at {}: {reason}",
            lease.id, lease.expires_at
        ));
    }
}

async fn revoke(client: &Client, lease: LeaseId) -> Result<(), ClientError> {
    let mut attempt = 1;
    loop {
        match client.revoke(lease).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.is_passing() && attempt < REVOKE_ATTEMPTS => {
                attempt += 1;
                sleep(Duration::from_secs(1)).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The signals that would end pgbridge before the lease is revoked.
///
/// Ctrl-C and Ctrl-\ reach psql too, which is in the same process group: they are psql's to
/// handle, and here only kept from ending pgbridge. A handler is not inherited by psql, an
/// ignored signal would be.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGHUP: what ends pgbridge also when psql does not end by itself.
    async fn ending(&mut self) -> Kill {
        tokio::select! {
            _ = self.terminate.recv() => Kill::TERM,
            _ = self.hangup.recv() => Kill::HUP,
        }
    }

    /// Waits for any of them, and gives the exit code of a process that it ends.
    async fn any(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::INTERRUPTED,
            _ = self.quit.recv() => Exit::Program(131),
            _ = self.terminate.recv() => Exit::Program(143),
            _ = self.hangup.recv() => Exit::Program(129),
        }
    }

    /// The same for one that came already, without waiting.
    fn seen(&mut self) -> Option<Exit> {
        use futures::FutureExt;

        self.any().now_or_never()
    }
}

/// The end of a lease as this machine's clock sees it, and when to move it.
///
/// The two clocks need not agree: the lease's length is taken from the broker's times, and counted
/// from before it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keeping {
    lease: LeaseId,
    ttl: Option<Ttl>,
    /// The end by the broker's clock.
    expires_at: Timestamp,
    /// The end by this machine's clock.
    ends_at: Timestamp,
    /// When to renew next.
    due_at: Timestamp,
}

impl Keeping {
    fn begin(lease: &Lease, ttl: Option<Ttl>, asked_at: Timestamp) -> Self {
        let length = lease.requested_at.duration_until(lease.expires_at);
        let ends_at = asked_at.saturating_add(length).unwrap_or(Timestamp::MAX);
        let due_at = between(asked_at, ends_at, 2, 3);
        Self { lease: lease.id, ttl, expires_at: lease.expires_at, ends_at, due_at }
    }

    /// The broker has moved the end. Nothing when it has not: the lease is at its ceiling.
    fn renewed(self, lease: &Lease, now: Timestamp) -> Option<Self> {
        let moved = self.expires_at.duration_until(lease.expires_at);
        if moved <= SignedDuration::ZERO || lease.expires_at >= lease.ceiling {
            return None;
        }
        let ends_at = self.ends_at.saturating_add(moved).unwrap_or(Timestamp::MAX);
        let due_at = between(now, ends_at, 2, 3);
        Some(Self { expires_at: lease.expires_at, ends_at, due_at, ..self })
    }

    /// The broker did not answer. Nothing when the end is past.
    fn later(self, now: Timestamp) -> Option<Self> {
        let soonest = now.saturating_add(SignedDuration::from_secs(2)).unwrap_or(Timestamp::MAX);
        let due_at = between(now, self.ends_at, 1, 6).max(soonest);
        (now < self.ends_at).then_some(Self { due_at, ..self })
    }
}

/// The time that lies `part` of `whole` on the way from `start` to `end`.
fn between(start: Timestamp, end: Timestamp, part: i32, whole: i32) -> Timestamp {
    let way = start.duration_until(end) / whole * part;
    start.saturating_add(way).unwrap_or(end)
}

/// Renews the lease again and again; returns when it cannot be renewed any more.
async fn keep(client: &Client, mut keeping: Keeping, clock: &Clock) {
    loop {
        until(keeping.due_at, clock).await;
        let renewed = client.renew(keeping.lease, keeping.ttl).await;
        let lease = renewed.and_then(|answer| answer.read::<Lease>());
        let now = clock.now();
        let next = match lease {
            Ok(lease) => keeping.renewed(&lease, now).ok_or_else(|| {
                let ends = table::time(lease.expires_at, now);
                format!("the role cannot be renewed any further, it ends {ends}")
            }),
            Err(failure) if failure.is_passing() => keeping
                .later(now)
                .ok_or_else(|| format!("the role has ended: {}", in_one_line(&failure))),
            Err(failure) => Err(format!(
                "the role cannot be renewed, it ends {}: {}",
                table::time(keeping.ends_at, now),
                in_one_line(&failure)
            )),
        };
        match next {
            Ok(next) => keeping = next,
            Err(reason) => {
                warn(reason);
                return;
            }
        }
    }
}

/// Waits until `due`. Looks at the clock now and then: a timer stands still while the machine
/// sleeps, a lease does not.
async fn until(due: Timestamp, clock: &Clock) {
    const LOOK: Duration = Duration::from_secs(20);
    while let Ok(left) = Duration::try_from(clock.now().duration_until(due)) {
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}

/// The program of this name in `PATH`.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|directory| !directory.as_os_str().as_bytes().is_empty())
        .map(|directory| directory.join(name))
        .find(|program| {
            program
                .metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::credential::tests::credential;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn lease(requested: i64, expires: i64, ceiling: i64) -> Lease {
        let lease = credential("x").issued.lease.clone();
        Lease {
            requested_at: at(requested),
            expires_at: at(expires),
            ceiling: at(ceiling),
            ..lease
        }
    }

    #[test]
    fn a_lease_is_renewed_after_two_thirds_of_it_whatever_the_other_clock_says() {
        // The broker's clock is an hour ahead.
        let keeping = Keeping::begin(&lease(3600, 4500, 9999), None, at(0));
        assert_eq!((keeping.ends_at, keeping.due_at), (at(900), at(600)));
        let keeping = keeping.renewed(&lease(3600, 5100, 9999), at(600)).unwrap();
        assert_eq!((keeping.ends_at, keeping.due_at), (at(1500), at(1200)));
    }

    #[test]
    fn a_lease_at_its_ceiling_is_not_renewed_again() {
        let keeping = Keeping::begin(&lease(0, 900, 2000), None, at(0));
        assert!(keeping.renewed(&lease(0, 1500, 2000), at(600)).is_some());
        assert_eq!(keeping.renewed(&lease(0, 900, 2000), at(600)), None);
        assert_eq!(keeping.renewed(&lease(0, 2000, 2000), at(600)), None);
    }

    #[test]
    fn a_broker_that_is_away_is_asked_again_until_the_lease_has_ended() {
        let keeping = Keeping::begin(&lease(0, 900, 2000), None, at(0));
        let keeping = keeping.later(at(600)).unwrap();
        assert_eq!(keeping.due_at, at(650));
        assert_eq!(keeping.later(at(899)).unwrap().due_at, at(901));
        assert_eq!(keeping.later(at(900)), None);
    }
}
