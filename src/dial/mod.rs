//! Connections to PostgreSQL servers, one at a time: where a server is, what protects the way
//! there, when a way that is dead is given up, and what of a failure may be said.
//!
//! The store and the clusters both dial here, so that neither is protected less than the other.
//! What a session is for (its login, its pool, what it asks first) is theirs.
//!
//! ```text
//! host     where a server listens, and whether that is this machine
//! tls      what protects the way there
//! failure  what the driver or the server reported, as far as it may be logged
//! ```
//!
//! - TLS 1.2 or newer, the certificate checked to its root and the host against it; without TLS
//!   only where nothing leaves the machine.
//! - A server that is gone is noticed within 45 s by a connection that waits for nothing, and
//!   within the limit of an answer by one that waits for it.

mod failure;
mod host;
mod tls;

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Socket};
use tracing::{debug, warn};

pub use self::failure::{Failure, FailureKind};
pub use self::host::{Host, HostError};
pub use self::tls::ServerTls;
use self::tls::Tls;
pub(crate) use self::tls::trusted;
use crate::names::{ClusterName, printable};

/// How long a connection may be silent until its server is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(30);

/// How long that is repeated after, and how often, until the connection is given up.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const ASK_TIMES: u32 = 3;

/// Sets what only newer servers have, and what would end a session in the middle of its work. An
/// older server would refuse it as an option of the connection. Where those options have not
/// arrived a pooler stands between, and the session is somebody else's too: it is left as it is.
const SINCE_17: &str = "SELECT pg_catalog.set_config('transaction_timeout', '0', false) \
                        WHERE pg_catalog.current_setting('enable_seqscan') = 'off'";

/// How long things may take on the way to a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until there is a connection. A name may lead to two addresses of which the first is dead, so
    /// one address gets half of it.
    pub(crate) connect: Duration,
    /// Until what was sent is acknowledged: as long as an answer is waited for.
    pub(crate) answer: Duration,
}

/// What every session begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionSettings {
    /// Where names are looked for that stand alone.
    pub(crate) search_path: &'static str,
    /// How long the server may work on one statement.
    pub(crate) statement: Duration,
    /// How long a statement may wait for a lock.
    pub(crate) lock: Duration,
    /// How long a transaction may stay open without a statement.
    pub(crate) idle_in_transaction: Duration,
}

impl SessionSettings {
    /// As options of the connection, and `more` of the same kind (`name=value`). What a DBA set for
    /// the login or the database does not reach us: options of the connection win over both (manual,
    /// `ALTER ROLE`).
    pub(crate) fn options(self, more: &[String]) -> String {
        let of_all = [
            format!("search_path={}", self.search_path),
            format!("statement_timeout={}", milliseconds(self.statement)),
            format!("lock_timeout={}", milliseconds(self.lock)),
            format!(
                "idle_in_transaction_session_timeout={}",
                milliseconds(self.idle_in_transaction)
            ),
            "client_min_messages=warning".to_owned(),
            "default_transaction_read_only=off".to_owned(),
            "default_transaction_isolation=read\\ committed".to_owned(),
            "standard_conforming_strings=on".to_owned(),
            "DateStyle=ISO".to_owned(),
            "TimeZone=UTC".to_owned(),
            // Plans are kept, and must be good when there are many rows, however few there were
            // when they were made.
            "enable_seqscan=off".to_owned(),
            "jit=off".to_owned(),
        ];
        let all = of_all.iter().chain(more).map(|setting| format!("-c {setting}"));
        all.collect::<Vec<_>>().join(" ")
    }
}

/// A limit as the server takes it. To the server 0 is no limit at all.
fn milliseconds(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// The way to one server.
#[derive(Clone)]
pub(crate) struct Way {
    tls: Tls,
    /// Whose server it is, for the log; the store's if nobody's.
    cluster: Option<ClusterName>,
}

impl Way {
    /// The way to `host`, a server of `cluster` or of the store; nothing is connected yet.
    ///
    /// # Errors
    /// When it is protected too little, or not as it was asked for; says what to change.
    pub(crate) fn to(
        host: &Host,
        tls: &ServerTls,
        cluster: Option<ClusterName>,
    ) -> Result<Self, String> {
        Ok(Self { tls: Tls::to(host, tls)?, cluster })
    }

    /// What the driver needs to know to go it; the login is missing.
    pub(crate) fn config(&self, host: &Host, port: u16, patience: Patience) -> Config {
        let mut config = Config::new();
        match host {
            Host::Name(name) => config.host(name),
            Host::Address(address) => config.host(address.to_string()),
            Host::Socket(path) => config.host_path(path),
        };
        config
            .port(port)
            .connect_timeout(patience.connect / 2)
            .tcp_user_timeout(patience.answer)
            .keepalives(true)
            .keepalives_idle(SILENCE)
            .keepalives_interval(ASK_AGAIN)
            .keepalives_retries(ASK_TIMES);
        match self.tls {
            Tls::Off => config.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable),
            // Not required: a server certificate signed with Ed25519 has no channel binding at all.
            Tls::On(_) => config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Prefer),
        };
        config
    }
}

/// A connection, and the task that drives it.
type Connected = (Client, JoinHandle<()>);

impl Connect for Way {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>> {
        let config = config.clone();
        Box::pin(async move {
            let cluster = self.cluster.clone();
            match &self.tls {
                Tls::Off => dial(&config, NoTls, cluster).await,
                Tls::On(tls) => dial(&config, tls.clone(), cluster).await,
            }
        })
    }
}

async fn dial<T>(
    config: &Config,
    tls: T,
    cluster: Option<ClusterName>,
) -> Result<Connected, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket> + Send,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, mut connection) = config.connect(tls).await?;
    let major = connection.parameter("server_version").map(major);
    // The driver's own loop would log every notice at level info.
    let task = tokio::spawn(async move {
        let cluster = cluster.as_ref().map(tracing::field::display);
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => {
                    let (code, notice) = (notice.code().code(), printable(notice.message()));
                    debug!(cluster, code, notice, "the server notes");
                }
                Ok(_) => {}
                Err(error) => {
                    let cause = Failure::of(&error);
                    if let Some(cluster) = &cluster {
                        warn!(%cluster, %cause, "a connection broke");
                    } else {
                        warn!(%cause, "a connection to the store broke");
                    }
                    return;
                }
            }
        }
    });
    if major.is_some_and(|major| major >= 17) {
        client.batch_execute(SINCE_17).await?;
    }
    Ok((client, task))
}

/// The major version in what a server says of itself, such as `17.2 (Debian 17.2-1)` or `18beta1`;
/// 0 when there is none.
fn major(version: &str) -> u32 {
    let end = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { connect: Duration::from_secs(5), answer: Duration::from_secs(12) };

    fn config(host: &str, tls: &ServerTls) -> Config {
        let host = host.parse().unwrap();
        Way::to(&host, tls, None).unwrap().config(&host, 5433, PATIENCE)
    }

    #[test]
    fn no_connection_waits_for_ever_for_a_server_that_is_gone() {
        for host in ["localhost", "127.0.0.1", "/run/postgresql"] {
            let config = config(host, &ServerTls::Disabled);
            assert_eq!(config.get_connect_timeout(), Some(&(PATIENCE.connect / 2)), "{host}");
            assert_eq!(config.get_tcp_user_timeout(), Some(&PATIENCE.answer), "{host}");
            assert!(config.get_keepalives(), "{host}");
            let asked = config.get_keepalives_interval().unwrap() * ASK_TIMES;
            assert_eq!(config.get_keepalives_retries(), Some(ASK_TIMES), "{host}");
            assert_eq!(config.get_keepalives_idle() + asked, Duration::from_secs(45), "{host}");
        }
    }

    #[test]
    fn the_major_version_is_read_from_what_a_server_says_of_itself() {
        for (said, read) in
            [("13.14", 13), ("17.2 (Debian 17.2-1)", 17), ("18beta1", 18), ("18", 18), ("new", 0)]
        {
            assert_eq!(major(said), read, "{said}");
        }
    }

    #[test]
    fn tls_is_never_left_to_what_the_server_offers() {
        let roots = rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap().cert.pem();
        let verified = ServerTls::VerifyFull { roots: Some(roots) };
        for (host, tls, mode) in [
            ("db", &verified, SslMode::Require),
            ("127.0.0.1", &verified, SslMode::Require),
            ("/run/postgresql", &verified, SslMode::Disable),
            ("127.0.0.1", &ServerTls::Disabled, SslMode::Disable),
        ] {
            assert_eq!(config(host, tls).get_ssl_mode(), mode, "{host}");
        }
    }

    #[test]
    fn every_session_brings_its_own_limits_and_none_of_them_is_no_limit() {
        let settings = |statement| SessionSettings {
            search_path: "pg_catalog,pg_temp",
            statement,
            lock: Duration::from_secs(6),
            idle_in_transaction: Duration::from_secs(4),
        };
        let options = settings(Duration::from_secs(10)).options(&["a.b=c".to_owned()]);
        for option in [
            "search_path=pg_catalog,pg_temp",
            "statement_timeout=10000",
            "lock_timeout=6000",
            "idle_in_transaction_session_timeout=4000",
            "default_transaction_read_only=off",
            "a.b=c",
        ] {
            assert!(
                options.split("-c ").any(|found| found.trim() == option),
                "{option}: {options}"
            );
        }
        for (limit, told) in [(Duration::ZERO, 1), (Duration::MAX, i32::MAX)] {
            let options = settings(limit).options(&[]);
            assert!(options.contains(&format!("statement_timeout={told} ")), "{options}");
        }
    }
}
