//! The one writer: a thread that takes all work that waits, does each piece in a savepoint of one
//! transaction, commits once and so syncs once, and only then answers each.
//!
//! Invariant: an answer is sent after the commit that it rests on is durable. After an error of
//! the disk the writer is poisoned: it answers every later call with an error, until a restart
//! reads the disk anew.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::error;

use super::problem::{Problem, ends_transaction, is_fatal};
use crate::clock::Stopwatch;
use crate::store::StoreError;

/// Pieces of work in one transaction at most.
const BATCH: usize = 128;

/// Pieces of work between two checkpoints; the log stays at some 20 MiB.
const CHECKPOINT_AFTER: usize = 1000;

/// How long things may take, and how much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Pieces of work that may wait.
    pub queue: usize,
    /// How long SQLite waits for a lock that another process holds.
    pub busy: Duration,
    /// How long a piece of work may wait before it begins; then it is not done any more.
    pub begin_within: Duration,
    /// How long a caller waits for an answer, longer than `begin_within`.
    pub answer_within: Duration,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        queue: 1024,
        busy: Duration::from_secs(5),
        begin_within: Duration::from_secs(10),
        answer_within: Duration::from_secs(20),
    };
}

/// The callers' end. Dropping it lets the thread finish what waits, and waits for that.
#[derive(Debug)]
pub(super) struct Writer {
    path: Arc<str>,
    limits: Limits,
    calls: Option<mpsc::Sender<Box<dyn Work>>>,
    poison: watch::Receiver<Option<Arc<str>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which owns `connection` from now on.
    pub(super) fn start(
        connection: Connection,
        path: Arc<str>,
        limits: Limits,
    ) -> io::Result<Self> {
        let (calls, waiting) = mpsc::channel(limits.queue);
        let (poison, poisoned) = watch::channel(None);
        let desk = Desk { connection, path: Arc::clone(&path), poison, since_checkpoint: 0 };
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || desk.serve(waiting))?;
        Ok(Self { path, limits, calls: Some(calls), poison: poisoned, thread: Some(thread) })
    }

    /// Does `work` in a savepoint; its value arrives when it is durable. What has begun is done to
    /// its end, even if the caller stops waiting.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.try_call(work).await.map_err(|problem| problem.into_error(&self.path, doing))
    }

    async fn try_call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        let (waits, begin_within) = (Stopwatch::start(), self.limits.begin_within);
        let call = Call { waits, begin_within, work: Some(work), outcome: None, answer };
        let calls = self.calls.as_ref().ok_or(Problem::Stopped)?;
        calls.send_timeout(Box::new(call), begin_within).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Problem::Busy,
            SendTimeoutError::Closed(_) => Problem::Stopped,
        })?;
        match timeout(self.limits.answer_within, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Problem::Stopped),
            Err(_) => Err(Problem::Unanswered),
        }
    }

    /// Returns when nothing can be written any more, and why.
    pub(super) async fn broken(&self) -> Problem {
        let mut poison = self.poison.clone();
        match poison.wait_for(Option::is_some).await.map(|cause| cause.clone()) {
            Ok(Some(cause)) => Problem::Poisoned(cause),
            Ok(None) | Err(_) => Problem::Stopped,
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!(store.path = %self.path, "the store's writer ended by a panic");
        }
    }
}

/// One piece of work, whatever type its value has.
trait Work: Send {
    /// Does it. An error ends the whole transaction; an outcome that is only this work's own is
    /// kept for [`Self::answer`].
    fn attempt(&mut self, connection: &Connection) -> Result<Attempted, rusqlite::Error>;

    /// Tells the caller, after the transaction has ended well or badly.
    fn answer(self: Box<Self>, end: Result<(), Problem>);
}

/// What becomes of the savepoint.
enum Attempted {
    Keep,
    TakeBack,
}

struct Call<T, W> {
    waits: Stopwatch,
    begin_within: Duration,
    work: Option<W>,
    outcome: Option<Result<T, Problem>>,
    answer: oneshot::Sender<Result<T, Problem>>,
}

impl<T, W> Work for Call<T, W>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, Problem> + Send,
{
    fn attempt(&mut self, connection: &Connection) -> Result<Attempted, rusqlite::Error> {
        // Whoever waited so long has been told, or will be, that it did not happen.
        let in_time = self.waits.elapsed() < self.begin_within;
        let outcome = match self.work.take() {
            Some(work) if in_time => work(connection),
            _ => Err(Problem::Busy),
        };
        match outcome {
            Err(Problem::Engine(error)) if ends_transaction(&error) => Err(error),
            Err(problem) => {
                self.outcome = Some(Err(problem));
                Ok(Attempted::TakeBack)
            }
            Ok(value) => {
                self.outcome = Some(Ok(value));
                Ok(Attempted::Keep)
            }
        }
    }

    fn answer(self: Box<Self>, end: Result<(), Problem>) {
        let Self { outcome, answer, .. } = *self;
        let outcome = end.and_then(|()| outcome.unwrap_or(Err(Problem::Stopped)));
        // The caller may have gone away; what was done is done.
        drop(answer.send(outcome));
    }
}

/// The thread's end.
struct Desk {
    connection: Connection,
    path: Arc<str>,
    poison: watch::Sender<Option<Arc<str>>>,
    since_checkpoint: usize,
}

impl Desk {
    fn serve(mut self, mut waiting: mpsc::Receiver<Box<dyn Work>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.write(batch);
        }
    }

    fn write(&mut self, mut batch: Vec<Box<dyn Work>>) {
        let cause = self.poison.borrow().clone();
        if let Some(cause) = cause {
            for work in batch {
                work.answer(Err(Problem::Poisoned(Arc::clone(&cause))));
            }
            return;
        }
        match self.transaction(&mut batch).map_err(Arc::new) {
            Ok(()) => {
                self.since_checkpoint += batch.len();
                for work in batch {
                    work.answer(Ok(()));
                }
                self.checkpoint_if_due();
            }
            Err(error) => {
                self.poison_if_fatal(&error);
                for work in batch {
                    work.answer(Err(Problem::NotCommitted(Arc::clone(&error))));
                }
            }
        }
    }

    fn transaction(&self, batch: &mut [Box<dyn Work>]) -> Result<(), rusqlite::Error> {
        self.execute("BEGIN IMMEDIATE")?;
        let done = batch
            .iter_mut()
            .try_for_each(|work| self.savepoint(work.as_mut()))
            .and_then(|()| self.execute("COMMIT"));
        if done.is_err() && !self.connection.is_autocommit() {
            // What failed first is what is told. If this fails too, the next BEGIN will say so.
            drop(self.execute("ROLLBACK"));
        }
        done
    }

    fn savepoint(&self, work: &mut dyn Work) -> Result<(), rusqlite::Error> {
        self.execute("SAVEPOINT work")?;
        if let Attempted::TakeBack = work.attempt(&self.connection)? {
            self.execute("ROLLBACK TO work")?;
        }
        self.execute("RELEASE work")
    }

    /// Moves what was committed from the log into the file, so that the log stays short. Nobody
    /// waits for it but the next to write.
    fn checkpoint_if_due(&mut self) {
        if self.since_checkpoint < CHECKPOINT_AFTER {
            return;
        }
        self.since_checkpoint = 0;
        let moved = self.connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)");
        if let Err(error) = moved.and_then(|mut statement| statement.query_row([], |_| Ok(()))) {
            error!(store.path = %self.path, %error, "the store's log was not moved into its file");
            self.poison_if_fatal(&error);
        }
    }

    fn poison_if_fatal(&self, cause: &rusqlite::Error) {
        if is_fatal(cause) {
            error!(
                store.path = %self.path,
                error = %cause,
                "the store's disk failed: nothing more is written until pgbridge is restarted"
            );
            // Closing the file would write the log into it and sync again, and this time the
            // system may say that all is well.
            let kept = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            if let Err(error) = self.connection.set_db_config(kept, true) {
                error!(store.path = %self.path, %error, "the log cannot be left as it is");
            }
            self.poison.send_replace(Some(cause.to_string().into()));
        }
    }

    fn execute(&self, sql: &'static str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }
}
