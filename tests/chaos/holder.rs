//! Whoever holds a lease: a session that runs a statement again and again, and comes back whenever
//! it is ended, until nobody lets it in any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::support::TestCa;

/// The time by the cluster's clock, at a statement that needs what `orders_read` may.
const STATEMENT: &str =
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM sales.customer LIMIT 1";

/// Between two statements, and between two log-ins.
const PACE: Duration = Duration::from_millis(30);

/// So often in a row a log-in is refused before its holder gives up.
const PATIENCE: u32 = 50;

/// What somebody was given.
#[derive(Clone)]
pub struct Held {
    pub id: String,
    pub role: String,
    pub password: String,
}

impl Held {
    /// Logs in to the cluster on `port` over TLS, as the holder of a lease does.
    pub async fn log_in(&self, port: u16) -> Result<Client, Error> {
        log_in(port, &self.role, &self.password).await
    }
}

pub async fn log_in(port: u16, role: &str, password: &str) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(role).password(password).dbname("orders");
    config.ssl_mode(SslMode::Require).connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(tls()).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn tls() -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    let pem = TestCa::shared().pem();
    let authority = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    roots.add(authority).expect("the authority can be trusted");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().expect("TLS can be set up");
    MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Whether a session becomes its group, as it can before PostgreSQL 16: then it has the rights of
/// that whatever becomes of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guise {
    Own,
    Group,
}

/// A holder at work.
pub struct Holder {
    pub held: Held,
    /// When its last statement succeeded, in microseconds by the cluster's clock.
    last: Arc<AtomicI64>,
    succeeded: Arc<AtomicU64>,
    work: JoinHandle<()>,
}

impl Holder {
    pub fn start(held: Held, port: u16, guise: Guise) -> Self {
        let (last, succeeded) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (Arc::clone(&last), Arc::clone(&succeeded));
        let work = tokio::spawn(work(held.clone(), port, guise, counts.0, counts.1));
        Self { held, last, succeeded, work }
    }

    /// One who has a password and does nothing with it.
    pub fn idle(held: Held) -> Self {
        let (last, succeeded) = (Arc::default(), Arc::default());
        Self { held, last, succeeded, work: tokio::spawn(async {}) }
    }

    pub fn is_at_work(&self) -> bool {
        !self.work.is_finished()
    }

    /// Waits until it has given up.
    pub async fn end(&mut self) {
        (&mut self.work).await.expect("a holder does not panic");
    }

    /// How many of its statements succeeded.
    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// When the last of them did, by the cluster's clock.
    pub fn last(&self) -> Timestamp {
        let micros = self.last.load(Ordering::Relaxed);
        Timestamp::from_microsecond(micros).expect("a time of these days")
    }
}

async fn work(
    held: Held,
    port: u16,
    guise: Guise,
    last: Arc<AtomicI64>,
    succeeded: Arc<AtomicU64>,
) {
    let mut refused = 0;
    while refused < PATIENCE {
        tokio::time::sleep(PACE).await;
        let Ok(session) = held.log_in(port).await else {
            refused += 1;
            continue;
        };
        refused = 0;
        if guise == Guise::Group {
            let _ = session.batch_execute("SET ROLE orders_read").await;
        }
        // A session that lost its rights and not its life goes on trying.
        while !session.is_closed() {
            if let Ok(row) = session.query_one(STATEMENT, &[]).await {
                last.fetch_max(row.get(0), Ordering::Relaxed);
                succeeded.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(PACE).await;
        }
    }
}
