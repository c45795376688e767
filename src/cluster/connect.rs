//! Connections: four pools, and single ones into other databases.
//!
//! A connection goes back to its pool only through [`Borrowed::settle`], which says that no
//! transaction is open on it. Whatever else happens to the future that holds it (an error, a
//! client that went away), it is closed, and the server rolls back.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Connect, Manager, Object, Pool, PoolError, QueueMode, Runtime,
};
use futures::future::try_join_all;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Row, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, warn};

use super::error::{ClusterError, Failure, FailureKind};
use super::settings::{ClusterHost, ClusterSettings, ClusterTls};
use crate::names::{ClusterName, printable};

/// How much longer than the server's own limit an answer is waited for.
const MARGIN: Duration = Duration::from_secs(2);

/// How many dead connections in a row are replaced before one is believed to be the cluster's
/// answer.
const RETRIES: u32 = 2;

/// One catalogue query with its parameters.
pub(super) struct Query<'a> {
    pub(super) sql: &'static str,
    pub(super) parameters: &'a [&'a (dyn ToSql + Sync)],
}

impl Query<'_> {
    /// The plan is kept with the connection.
    pub(super) async fn ask(
        &self,
        client: &ClientWrapper,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = client.prepare_cached(self.sql).await?;
        client.query(&statement, self.parameters).await
    }
}

/// How to connect, and the connections kept.
pub(super) struct Connections {
    cluster: ClusterName,
    config: Config,
    tls: Tls,
    connect_timeout: Duration,
    /// The longest wait for one answer of the server.
    answer_timeout: Duration,
    issuing: Pool,
    revoking: Pool,
    removing: Pool,
    helping: Pool,
}

/// Which of the pools. Each has its own, so that a flood of issues cannot keep a revocation
/// waiting (and the other way round).
#[derive(Clone, Copy)]
pub(super) enum Lane {
    /// Issuing and renewing.
    Issue,
    /// Ending access, and reconciling.
    Revoke,
    /// Removing roles whose access has ended, which may have to wait for other people's locks.
    Remove,
    /// Ending what a statement on [`Lane::Revoke`] waits for: one connection, never held while
    /// anything is waited for.
    Help,
}

#[derive(Clone)]
enum Tls {
    Off,
    On(MakeRustlsConnect),
}

impl Connections {
    /// The pools for a cluster; nothing is connected yet.
    ///
    /// # Errors
    /// When the settings cannot be used; says what to change.
    pub(super) fn new(settings: &ClusterSettings) -> Result<Self, String> {
        let tls = tls(settings)?;
        let config = config(settings, &tls);
        let pool = |size: usize| pool(settings, &config, &tls, size);
        Ok(Self {
            cluster: settings.name.clone(),
            connect_timeout: settings.connect_timeout,
            answer_timeout: settings.statement_timeout.saturating_add(MARGIN),
            issuing: pool(settings.issue_connections)?,
            revoking: pool(settings.revoke_connections)?,
            removing: pool(settings.revoke_connections)?,
            helping: pool(1)?,
            config,
            tls,
        })
    }

    /// Asks all `queries` at once, in the maintenance database. A connection that turns out to be
    /// dead is replaced: asking twice changes nothing.
    ///
    /// # Errors
    /// When no connection can be made, or the server refuses or does not answer.
    pub(super) async fn read<const N: usize>(
        &self,
        lane: Lane,
        doing: &'static str,
        queries: [Query<'_>; N],
    ) -> Result<[Vec<Row>; N], ClusterError> {
        let mut tries = 0;
        loop {
            let borrowed = self.borrow(lane).await?;
            let client = borrowed.client().map_err(|failure| failure.on(&self.cluster, doing))?;
            let answers = try_join_all(queries.iter().map(|query| query.ask(client)));
            match self.bounded(self.answer_timeout, answers).await {
                Ok(rows) => {
                    borrowed.settle();
                    let unreadable = ClusterError::Unreadable {
                        cluster: self.cluster.clone(),
                        what: "another number of answers",
                    };
                    return rows.try_into().map_err(|_| unreadable);
                }
                Err(failure) if failure.kind == FailureKind::Broken && tries < RETRIES => {
                    tries += 1;
                }
                Err(failure) => {
                    if failure.kind == FailureKind::Rejected {
                        borrowed.settle();
                    }
                    return Err(failure.on(&self.cluster, doing));
                }
            }
        }
    }

    /// A connection to the maintenance database.
    pub(super) async fn borrow(&self, lane: Lane) -> Result<Borrowed, ClusterError> {
        let pool = match lane {
            Lane::Issue => &self.issuing,
            Lane::Revoke => &self.revoking,
            Lane::Remove => &self.removing,
            Lane::Help => &self.helping,
        };
        let object = pool.get().await.map_err(|error| self.no_connection(error))?;
        Ok(Borrowed { object: Some(object), settled: false })
    }

    /// A connection for changing something, which is not tried again once it is sent.
    ///
    /// # Errors
    /// When none can be had: nothing was sent, so certainly nothing was changed.
    pub(super) async fn borrow_for_change(&self, lane: Lane) -> Result<Borrowed, Failure> {
        self.borrow(lane).await.map_err(|error| match error {
            ClusterError::Unreachable { source, .. } => source,
            other => Failure::broken(other.to_string()),
        })
    }

    /// A connection of its own to `database`, closed on drop.
    pub(super) async fn open(&self, database: &str) -> Result<ClientWrapper, Failure> {
        let mut config = self.config.clone();
        config.dbname(database);
        let connecting = Dial(self.cluster.clone(), self.tls.clone());
        let connected = timeout(self.connect_timeout, connecting.connect(&config)).await;
        let (client, task) = connected
            .map_err(|_| Failure::no_answer(self.connect_timeout))?
            .map_err(|error| Failure::of(&error))?;
        Ok(ClientWrapper::new(client, task))
    }

    /// Awaits an answer of the server, but not for ever.
    ///
    /// # Errors
    /// When the server refuses, the connection breaks, or no answer comes within `limit`.
    pub(super) async fn bounded<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let limit = limit.min(self.answer_timeout);
        match timeout(limit, answer).await {
            Ok(answered) => answered.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::no_answer(limit)),
        }
    }

    fn no_connection(&self, error: PoolError) -> ClusterError {
        let source = match error {
            PoolError::Backend(error) => Failure::of(&error),
            PoolError::Timeout(_) => Failure::no_answer(self.connect_timeout),
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Failure::broken("the pool of connections is closed".to_owned())
            }
        };
        let cluster = self.cluster.clone();
        ClusterError::Unreachable { cluster, doing: "connecting", source }
    }
}

/// A connection from a pool, to be settled or closed.
pub(super) struct Borrowed {
    /// Always there until drop.
    object: Option<Object>,
    settled: bool,
}

impl Borrowed {
    /// Gives the connection back. Only after COMMIT or ROLLBACK has been answered.
    pub(super) fn settle(mut self) {
        self.settled = true;
    }

    /// The connection; nothing only while it is dropped.
    pub(super) fn client(&self) -> Result<&ClientWrapper, Failure> {
        let object = self.object.as_deref();
        object.ok_or_else(|| Failure::broken("the connection is closed".to_owned()))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && !self.settled
        {
            drop(Object::take(object));
        }
    }
}

fn pool(
    settings: &ClusterSettings,
    config: &Config,
    tls: &Tls,
    size: usize,
) -> Result<Pool, String> {
    let connect = Dial(settings.name.clone(), tls.clone());
    let manager = Manager::from_connect(
        config.clone(),
        connect,
        deadpool_postgres::ManagerConfig {
            // A connection that the server closed is seen without asking; one that hangs is
            // found by the first answer that does not come.
            recycling_method: deadpool_postgres::RecyclingMethod::Fast,
        },
    );
    let built = Pool::builder(manager)
        .max_size(size.max(1))
        // The one that was used last is the likeliest to work.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(settings.connect_timeout))
        .create_timeout(Some(settings.connect_timeout))
        .recycle_timeout(Some(settings.connect_timeout))
        .build();
    built.map_err(|error| format!("no pool of connections can be made: {error}"))
}

fn config(settings: &ClusterSettings, tls: &Tls) -> Config {
    let mut config = Config::new();
    match &settings.host {
        ClusterHost::Name(name) => config.host(name),
        ClusterHost::Address(address) => config.host(address.to_string()),
        ClusterHost::Socket(path) => config.host_path(path),
    };
    config
        .port(settings.port)
        .user(settings.user.as_str())
        .password(settings.password.expose())
        .dbname(settings.database.as_str())
        .application_name("pgbridge")
        .options(options(settings))
        .connect_timeout(settings.connect_timeout)
        .tcp_user_timeout(settings.statement_timeout.saturating_add(MARGIN))
        .keepalives(true)
        .keepalives_idle(Duration::from_mins(1))
        .keepalives_interval(Duration::from_secs(10))
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
fn options(settings: &ClusterSettings) -> String {
    let [statement, lock] = [settings.statement_timeout, settings.lock_timeout]
        .map(|limit| u32::try_from(limit.as_millis()).unwrap_or(i32::MAX.unsigned_abs()));
    let idle = statement;
    [
        "search_path=pg_catalog,pg_temp".to_owned(),
        format!("statement_timeout={statement}"),
        format!("lock_timeout={lock}"),
        format!("idle_in_transaction_session_timeout={idle}"),
        "client_min_messages=warning".to_owned(),
        "default_transaction_read_only=off".to_owned(),
        "default_transaction_isolation=read\\ committed".to_owned(),
        "standard_conforming_strings=on".to_owned(),
        "DateStyle=ISO".to_owned(),
        "TimeZone=UTC".to_owned(),
        // The plan of a catalogue query is kept, and must be good when there are many roles,
        // however few there were when it was made.
        "enable_seqscan=off".to_owned(),
        "jit=off".to_owned(),
    ]
    .map(|setting| format!("-c {setting}"))
    .join(" ")
}

fn tls(settings: &ClusterSettings) -> Result<Tls, String> {
    match (&settings.tls, &settings.host) {
        (ClusterTls::VerifyFull { .. }, ClusterHost::Socket(_)) => Ok(Tls::Off),
        (ClusterTls::VerifyFull { roots }, _) => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("TLS cannot be set up: {error}"))?
                .with_root_certificates(trusted(roots.as_deref())?)
                .with_no_client_auth();
            Ok(Tls::On(MakeRustlsConnect::new(config)))
        }
        (ClusterTls::Disabled, host) if host.is_local() => Ok(Tls::Off),
        (ClusterTls::Disabled, host) => Err(format!(
            "sslmode \"disable\" would send the broker's login in the clear to {host}, which is \
             not loopback: use \"verify-full\""
        )),
    }
}

pub(super) fn trusted(roots: Option<&str>) -> Result<RootCertStore, String> {
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
struct Dial(ClusterName, Tls);

type Connected = (Client, JoinHandle<()>);

impl Connect for Dial {
    fn connect(
        &self,
        config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<Connected, tokio_postgres::Error>> + Send + '_>> {
        let (config, cluster) = (config.clone(), self.0.clone());
        Box::pin(async move {
            match &self.1 {
                Tls::Off => dial(cluster, &config, NoTls).await,
                Tls::On(tls) => dial(cluster, &config, tls.clone()).await,
            }
        })
    }
}

async fn dial<T>(
    cluster: ClusterName,
    config: &Config,
    tls: T,
) -> Result<Connected, tokio_postgres::Error>
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
                    debug!(%cluster, code = notice.code().code(), notice = printable(notice.message()), "the server notes");
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(%cluster, cause = %Failure::of(&error), "a connection broke");
                    return;
                }
            }
        }
    });
    Ok((client, task))
}
