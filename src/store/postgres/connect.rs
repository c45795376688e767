//! Connections to the server that takes writes, each checked before its first use.
//!
//! A connection goes back to its pool only through [`Borrowed::settle`], which says that no
//! transaction is open on it. Whatever else happens to the future that holds it, it is closed,
//! and the server rolls back.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Config, NoTls, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, warn};
use uuid::Uuid;

use super::problem::{Failure, Problem, Unfit};
use super::schema::{self, Known};
use super::settings::{PostgresSettings, StoreHost, StoreTls};
use crate::names::printable;

/// How long one server may take until a connection to it is made and checked.
const CONNECT: Duration = Duration::from_secs(5);

/// How long the server may work on one statement.
const STATEMENT: Duration = Duration::from_secs(10);

/// How long a statement may wait for a lock. Longer than [`IDLE`]: when a broker hangs in the
/// middle of a transaction, the server ends that one, and who waits for it goes on.
pub(super) const LOCK: Duration = Duration::from_secs(6);

/// How long a transaction may stay open without a statement. The work of a broker that was
/// stopped or cut off is rolled back then.
const IDLE: Duration = Duration::from_secs(4);

/// How long an answer is waited for: a little more than the server may take.
pub(super) const ANSWER: Duration = Duration::from_secs(12);

/// How long a free connection is waited for.
const WAIT: Duration = Duration::from_secs(10);

/// How many lost connections in a row are replaced before that is believed to be the answer.
pub(super) const RETRIES: u32 = 2;

/// The values of one statement.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Awaits an answer of the server, but not for ever.
pub(super) async fn bounded<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match timeout(limit, answer).await {
        Ok(answered) => answered.map_err(|error| Failure::of(&error)),
        Err(_) => Err(Failure::no_answer(limit)),
    }
}

/// Asks one statement, whose plan is kept with the connection.
pub(super) async fn ask(
    client: &ClientWrapper,
    sql: &str,
    values: Values<'_>,
) -> Result<Vec<Row>, Failure> {
    let asked = async { client.query(&client.prepare_cached(sql).await?, values).await };
    bounded(ANSWER, asked).await
}

/// How to connect.
pub(super) struct Dial {
    /// Each server, by its name and how it is reached.
    servers: Vec<(String, Config)>,
    tls: Tls,
    /// A word that each session is given at its start and must find again.
    word: String,
}

#[derive(Clone)]
enum Tls {
    Off,
    On(MakeRustlsConnect),
}

impl Dial {
    /// Nothing is connected yet.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, Problem> {
        let tls = tls(settings).map_err(Problem::Settings)?;
        let word = Uuid::new_v4().simple().to_string();
        let servers = settings.url.hosts.iter().map(|(host, port)| {
            let name = match host {
                StoreHost::Network(name) => name.clone(),
                StoreHost::Socket(path) => path.display().to_string(),
            };
            (name, config(settings, host, *port, &tls, &word))
        });
        Ok(Self { servers: servers.collect(), tls, word })
    }

    /// A connection to the first server that takes writes.
    ///
    /// # Errors
    /// When none does: why, for each of them.
    pub(super) async fn connect(&self) -> Result<ClientWrapper, Problem> {
        let mut refusals = Vec::new();
        for (name, config) in &self.servers {
            match timeout(CONNECT, self.connect_to(config)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(problem)) => refusals.push((name, problem)),
                Err(_) => refusals.push((name, Failure::no_answer(CONNECT).into())),
            }
        }
        if refusals.len() == 1
            && let Some((_, problem)) = refusals.pop()
        {
            return Err(problem);
        }
        let told = |(name, problem): (&String, Problem)| match problem {
            Problem::Failed(failure) => format!("{name}: {failure}"),
            problem => format!("{name}: {problem}"),
        };
        Err(Problem::Nowhere(refusals.into_iter().map(told).collect::<Vec<_>>().join("; ")))
    }

    async fn connect_to(&self, config: &Config) -> Result<ClientWrapper, Problem> {
        let client = match &self.tls {
            Tls::Off => dial(config, NoTls).await?,
            Tls::On(tls) => dial(config, tls.clone()).await?,
        };
        self.check(&client).await?;
        Ok(client)
    }

    /// Whether the server is what a store needs, and the session what was asked for.
    async fn check(&self, client: &ClientWrapper) -> Result<(), Problem> {
        const SQL: &str = "SELECT current_setting('server_version_num')::int4 / 10000, \
                           current_setting('server_encoding'), \
                           pg_is_in_recovery(), \
                           current_setting('synchronous_commit'), \
                           coalesce(current_setting('pgbridge.session', true), '')";
        let row = client.query_one(SQL, &[]).await?;
        let major: i32 = row.try_get(0)?;
        let encoding: String = row.try_get(1)?;
        if major < 13 {
            return Err(Unfit::Old(major).into());
        }
        if encoding != "UTF8" {
            return Err(Unfit::Encoding(encoding).into());
        }
        self.judge(&row, 2)
    }

    /// Judges three columns of `row` from `first` on: whether the server is in recovery,
    /// `synchronous_commit`, and the word of the session. They are read with every change.
    pub(super) fn judge(&self, row: &Row, first: usize) -> Result<(), Problem> {
        let word: String = row.try_get(first + 2)?;
        if word != self.word {
            return Err(Unfit::Pooled.into());
        }
        if row.try_get(first)? {
            return Err(Unfit::Standby.into());
        }
        let synchronous: String = row.try_get(first + 1)?;
        if synchronous != "on" {
            return Err(Unfit::Asynchronous(synchronous).into());
        }
        Ok(())
    }
}

/// A few connections that are kept. The one that was used last is the likeliest to work, so it is
/// used first.
pub(super) struct Pool {
    dial: Arc<Dial>,
    known: Known,
    idle: Mutex<Vec<ClientWrapper>>,
    permits: Semaphore,
}

impl Pool {
    /// A pool of at most `size` connections; nothing is connected yet.
    pub(super) fn new(dial: Arc<Dial>, known: Known, size: usize) -> Self {
        Self { dial, known, idle: Mutex::default(), permits: Semaphore::new(size) }
    }

    /// A connection that was not closed when it was last looked at, or a new one.
    pub(super) async fn borrow(&self) -> Result<Borrowed<'_>, Problem> {
        let permit = timeout(WAIT, self.permits.acquire()).await;
        let permit = permit.map_err(|_| Problem::Busy)?.map_err(|_| Problem::Stopped)?;
        while let Some(client) = self.lock().pop() {
            if !client.is_closed() {
                return Ok(Borrowed { client: Some(client), pool: self, _permit: permit });
            }
        }
        let client = self.dial.connect().await?;
        schema::check(&client, &self.dial, self.known).await?;
        Ok(Borrowed { client: Some(client), pool: self, _permit: permit })
    }

    /// Closes the connections that nobody uses when the server that they lead to seems to be gone:
    /// each of them might have to be waited for in turn.
    fn forget_if_gone(&self, problem: &Problem) {
        if problem.is_outage() {
            self.lock().clear();
        }
    }

    /// Asks `sql`. A connection that turns out to be lost is replaced: asking twice changes nothing.
    pub(super) async fn read(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Problem> {
        let mut tries = 0;
        loop {
            let borrowed = self.borrow().await?;
            match ask(borrowed.client()?, sql, values).await {
                Ok(rows) => {
                    borrowed.settle();
                    return Ok(rows);
                }
                Err(failure) => {
                    let problem = Problem::Failed(failure);
                    self.forget_if_gone(&problem);
                    if !problem.is_lost_connection() || tries == RETRIES {
                        return Err(problem);
                    }
                    tries += 1;
                }
            }
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, Problem> {
        let mut tries = 0;
        loop {
            let borrowed = self.borrow().await?;
            match schema::begin(borrowed.client()?, &self.dial, self.known, LOCK).await {
                Ok(()) => return Ok(Transaction(borrowed)),
                Err(problem) => {
                    self.forget_if_gone(&problem);
                    if !problem.is_lost_connection() || tries == RETRIES {
                        return Err(problem);
                    }
                    tries += 1;
                }
            }
        }
    }

    /// Begins a transaction on `client`, which waits for locks at most `lock`.
    pub(super) async fn begin_on(
        &self,
        client: &ClientWrapper,
        lock: Duration,
    ) -> Result<(), Problem> {
        schema::begin(client, &self.dial, self.known, lock).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ClientWrapper>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection from a pool, to be settled or closed.
pub(super) struct Borrowed<'pool> {
    /// Always there until drop.
    client: Option<ClientWrapper>,
    pool: &'pool Pool,
    _permit: SemaphorePermit<'pool>,
}

impl Borrowed<'_> {
    /// Gives the connection back. Only after COMMIT or ROLLBACK has been answered.
    pub(super) fn settle(mut self) {
        self.pool.lock().extend(self.client.take());
    }

    /// The connection; nothing only while it is dropped.
    pub(super) fn client(&self) -> Result<&ClientWrapper, Problem> {
        self.client.as_ref().ok_or(Problem::Stopped)
    }
}

/// An open transaction. If it is dropped, its connection is closed and nothing of it has happened.
pub(super) struct Transaction<'pool>(Borrowed<'pool>);

impl Transaction<'_> {
    /// Asks one statement of it.
    pub(super) async fn ask(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Problem> {
        Ok(ask(self.0.client()?, sql, values).await?)
    }

    /// Makes it durable.
    pub(super) async fn commit(self) -> Result<(), Problem> {
        commit(self.0.client()?).await?;
        self.0.settle();
        Ok(())
    }

    /// Takes all of it back.
    pub(super) async fn roll_back(self) -> Result<(), Problem> {
        bounded(ANSWER, self.0.client()?.batch_execute("ROLLBACK")).await?;
        self.0.settle();
        Ok(())
    }
}

/// Sends COMMIT. Every statement before it must have been answered well: the server would answer
/// a COMMIT of what has failed with a ROLLBACK, and the driver would not tell.
pub(super) async fn commit(client: &ClientWrapper) -> Result<(), Problem> {
    use super::problem::FailureKind::Rejected;
    match bounded(ANSWER, client.batch_execute("COMMIT")).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.kind == Rejected => Err(Problem::Failed(failure)),
        Err(failure) => Err(Problem::InDoubt(failure)),
    }
}

fn config(
    settings: &PostgresSettings,
    host: &StoreHost,
    port: u16,
    tls: &Tls,
    word: &str,
) -> Config {
    let mut config = Config::new();
    match host {
        StoreHost::Network(name) => config.host(name),
        StoreHost::Socket(path) => config.host_path(path),
    };
    if let Some(password) = &settings.password {
        config.password(password.expose());
    }
    config
        .port(port)
        .user(settings.url.user.as_str())
        .dbname(settings.url.database.as_str())
        .application_name("pgbridge store")
        .options(options(word))
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(CONNECT)
        .tcp_user_timeout(ANSWER)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(30))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    match tls {
        Tls::Off => config.ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Disable),
        // Not required: a server certificate signed with Ed25519 has no channel binding at all.
        Tls::On(_) => config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Prefer),
    };
    config
}

/// Settings of every session, so that what a DBA set for the login or the database does not reach
/// us: options of the connection win over both (manual, `ALTER ROLE`).
fn options(word: &str) -> String {
    [
        // `pg_catalog` is searched before these without being named.
        "search_path=pgbridge,pg_temp".to_owned(),
        "synchronous_commit=on".to_owned(),
        format!("statement_timeout={}", STATEMENT.as_millis()),
        format!("lock_timeout={}", LOCK.as_millis()),
        format!("idle_in_transaction_session_timeout={}", IDLE.as_millis()),
        "client_min_messages=warning".to_owned(),
        "default_transaction_read_only=off".to_owned(),
        "default_transaction_isolation=read\\ committed".to_owned(),
        "standard_conforming_strings=on".to_owned(),
        "DateStyle=ISO".to_owned(),
        "TimeZone=UTC".to_owned(),
        // Plans are kept, and must be good when there are many leases, however few there were
        // when they were made.
        "enable_seqscan=off".to_owned(),
        "jit=off".to_owned(),
        format!("pgbridge.session={word}"),
    ]
    .map(|setting| format!("-c {setting}"))
    .join(" ")
}

fn tls(settings: &PostgresSettings) -> Result<Tls, String> {
    match &settings.tls {
        StoreTls::VerifyFull { .. } if settings.url.is_socket() => Ok(Tls::Off),
        StoreTls::VerifyFull { roots } => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("TLS cannot be set up: {error}"))?
                .with_root_certificates(trusted(roots.as_deref())?)
                .with_no_client_auth();
            Ok(Tls::On(MakeRustlsConnect::new(config)))
        }
        StoreTls::Disabled if settings.url.is_local() => Ok(Tls::Off),
        StoreTls::Disabled => Err("sslmode \"disable\" would send the store's login in the clear \
                                   to another machine: use \"verify-full\""
            .to_owned()),
    }
}

fn trusted(roots: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate =
                    certificate.map_err(|error| format!("the root certificate: {error}"))?;
                let added = store.add(certificate);
                added.map_err(|error| format!("the root certificate: {error}"))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err("no root certificate to check the server against: name one as ca_file".into());
    }
    Ok(store)
}

/// Makes one connection and drives it.
async fn dial<T>(config: &Config, tls: T) -> Result<ClientWrapper, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket> + Send,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, mut connection) = config.connect(tls).await?;
    // The driver's own loop would log every notice at level info.
    let task = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => {
                    debug!(
                        code = notice.code().code(),
                        notice = printable(notice.message()),
                        "the store's server notes"
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(cause = %Failure::of(&error), "a connection to the store broke");
                    return;
                }
            }
        }
    });
    Ok(ClientWrapper::new(client, task))
}
