//! Connections: four pools, and single ones into other databases.
//!
//! A connection goes back to its pool only through [`Borrowed::settle`], which says that no
//! transaction is open on it. Whatever else happens to the future that holds it (an error, a
//! client that went away), it is closed, and the server rolls back.

use std::future::Future;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Connect, Manager, Object, Pool, PoolError, QueueMode, Runtime,
};
use futures::future::try_join_all;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row};

use super::error::{ClusterError, Failure, FailureKind};
use super::settings::ClusterSettings;
use crate::dial::{Patience, SessionSettings, Way};
use crate::names::ClusterName;

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
    way: Way,
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

impl Connections {
    /// The pools for a cluster; nothing is connected yet.
    ///
    /// # Errors
    /// When the settings cannot be used; says what to change.
    pub(super) fn new(settings: &ClusterSettings) -> Result<Self, String> {
        let way = Way::to(&settings.host, &settings.tls, Some(settings.name.clone()))?;
        let config = config(settings, &way);
        let pool = |size: usize| pool(settings, &config, &way, size);
        Ok(Self {
            cluster: settings.name.clone(),
            connect_timeout: settings.connect_timeout,
            answer_timeout: settings.statement_timeout.saturating_add(MARGIN),
            issuing: pool(settings.issue_connections)?,
            revoking: pool(settings.revoke_connections)?,
            removing: pool(settings.revoke_connections)?,
            helping: pool(1)?,
            config,
            way,
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

    /// The broker's login.
    pub(super) fn login(&self) -> &str {
        self.config.get_user().unwrap_or_default()
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
            other => Failure::broken(&other.to_string()),
        })
    }

    /// A connection of its own to `database`, closed on drop.
    pub(super) async fn open(&self, database: &str) -> Result<ClientWrapper, Failure> {
        let mut config = self.config.clone();
        config.dbname(database);
        let connected = timeout(self.connect_timeout, self.way.connect(&config)).await;
        let (client, task) = connected
            .map_err(|_| Failure::no_answer(self.connect_timeout))?
            .map_err(|error| Failure::with_detail(&error))?;
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
            Ok(answered) => answered.map_err(|error| Failure::with_detail(&error)),
            Err(_) => Err(Failure::no_answer(limit)),
        }
    }

    fn no_connection(&self, error: PoolError) -> ClusterError {
        let source = match error {
            PoolError::Backend(error) => Failure::with_detail(&error),
            PoolError::Timeout(_) => Failure::no_answer(self.connect_timeout),
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Failure::broken("the pool of connections is closed")
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
        object.ok_or_else(|| Failure::broken("the connection is closed"))
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
    way: &Way,
    size: usize,
) -> Result<Pool, String> {
    let manager = Manager::from_connect(
        config.clone(),
        way.clone(),
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

fn config(settings: &ClusterSettings, way: &Way) -> Config {
    let answer = settings.statement_timeout.saturating_add(MARGIN);
    let patience = Patience { connect: settings.connect_timeout, answer };
    let session = SessionSettings {
        search_path: "pg_catalog,pg_temp",
        statement: settings.statement_timeout,
        lock: settings.lock_timeout,
        idle_in_transaction: settings.statement_timeout,
    };
    let mut config = way.config(&settings.host, settings.port, patience);
    config
        .user(settings.user.as_str())
        .password(settings.password.expose())
        .dbname(settings.database.as_str())
        .application_name("pgbridge")
        .options(session.options(&[]));
    config
}
