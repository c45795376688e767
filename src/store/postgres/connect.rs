//! Connections to the server that takes writes, each checked before its first use.
//!
//! A connection goes back to its pool only through [`Borrowed::settle`], which says that no
//! transaction is open on it. Whatever else happens to the future that holds it, it is closed,
//! and the server rolls back.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Connect};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row};
use uuid::Uuid;

use super::problem::{Failure, Problem, Unfit};
use super::schema::{self, Known};
use super::settings::{PostgresSettings, place};
use crate::dial::{Host, Patience, SessionSettings, Way};

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
    servers: Vec<Server>,
    /// A word that each session is given at its start and must find again.
    word: String,
}

/// One server of the store, and how it is reached.
struct Server {
    place: String,
    way: Way,
    config: Config,
}

impl Dial {
    /// Nothing is connected yet.
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, Problem> {
        let word = Uuid::new_v4().simple().to_string();
        let servers = settings.url.hosts().iter().map(|(host, port)| {
            let way = Way::to(host, &settings.tls, None)?;
            let config = config(settings, &way, host, *port, &word);
            Ok(Server { place: place(host, *port), way, config })
        });
        Ok(Self { servers: servers.collect::<Result<_, _>>().map_err(Problem::Settings)?, word })
    }

    /// A connection to the first server that takes writes.
    ///
    /// # Errors
    /// When none does: why, for each of them.
    pub(super) async fn connect(&self) -> Result<ClientWrapper, Problem> {
        let mut refusals = Vec::new();
        for server in &self.servers {
            match timeout(CONNECT, self.connect_to(server)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(problem)) => refusals.push((&server.place, problem)),
                Err(_) => refusals.push((&server.place, Failure::no_answer(CONNECT).into())),
            }
        }
        if refusals.len() == 1
            && let Some((_, problem)) = refusals.pop()
        {
            return Err(problem);
        }
        let told = |(place, problem): (&String, Problem)| match problem {
            Problem::Failed(failure) => format!("{place}: {failure}"),
            problem => format!("{place}: {problem}"),
        };
        Err(Problem::Nowhere(refusals.into_iter().map(told).collect::<Vec<_>>().join("; ")))
    }

    async fn connect_to(&self, server: &Server) -> Result<ClientWrapper, Problem> {
        let (client, task) = server.way.connect(&server.config).await?;
        let client = ClientWrapper::new(client, task);
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

    /// Whether what came to `problem` may be tried once more, which is counted in `tries`. When the
    /// server seems to be gone, so are the connections that nobody uses: each of them might have to
    /// be waited for in turn.
    ///
    /// # Errors
    /// The problem, when another connection would be of no use.
    fn once_more(&self, tries: &mut u32, problem: Problem) -> Result<(), Problem> {
        if problem.is_outage() {
            self.lock().clear();
        }
        if !problem.is_lost_connection() || *tries == RETRIES {
            return Err(problem);
        }
        *tries += 1;
        Ok(())
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
                Err(failure) => self.once_more(&mut tries, failure.into())?,
            }
        }
    }

    /// Begins a transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, Problem> {
        let mut tries = 0;
        loop {
            let borrowed = self.borrow().await?;
            match self.begin_on(borrowed.client()?, LOCK).await {
                Ok(()) => return Ok(Transaction(borrowed)),
                Err(problem) => self.once_more(&mut tries, problem)?,
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

/// How a session at the store is made.
fn config(settings: &PostgresSettings, way: &Way, host: &Host, port: u16, word: &str) -> Config {
    let session = SessionSettings {
        // `pg_catalog` is searched before these without being named.
        search_path: "pgbridge,pg_temp",
        statement: STATEMENT,
        lock: LOCK,
        idle_in_transaction: IDLE,
    };
    let own = ["synchronous_commit=on".to_owned(), format!("pgbridge.session={word}")];
    let mut config = way.config(host, port, Patience { connect: CONNECT, answer: ANSWER });
    if let Some(password) = &settings.password {
        config.password(password.expose());
    }
    config
        .user(settings.url.user().as_str())
        .dbname(settings.url.database().as_str())
        .application_name("pgbridge store")
        .options(session.options(&own))
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}
