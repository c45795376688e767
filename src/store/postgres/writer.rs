//! What waits to be committed goes into one transaction: each piece of work in a savepoint, then
//! the counters, then the audit records behind the head, one commit, and only then the answers.
//!
//! Two lanes. The first one takes what waits together and waits for nobody: work that meets
//! somebody else's lock is handed to the second lane, which does one piece at a time and waits. So
//! a broker that hangs in a transaction, or two that want the same leases in another order, hold
//! up their own work and no other.
//!
//! Order of locks, which is the same for everybody: leases and logins, then counters by name, then
//! the head. The head is locked last and shortest, because all brokers need it.
//!
//! Invariant: an answer is sent after the commit that it rests on is durable. A commit whose
//! answer is missing is in doubt, and never sent again.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use futures::future::join_all;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_postgres::Statement as Prepared;

use super::changes::{Changes, CounterStep, Counters, Line, Statement, append};
use super::connect::{ANSWER, LOCK, Pool, RETRIES, bounded, commit};
use super::problem::{Failure, Problem};
use crate::clock::Stopwatch;

/// Pieces of work in one transaction at most. The server keeps 64 savepoints at hand.
const BATCH: usize = 50;

/// Pieces of work that may wait in a lane.
const QUEUE: usize = 1024;

/// How long a piece of work may wait before it begins; then it is not done any more.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a caller waits for an answer, longer than [`BEGIN_WITHIN`].
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// How long the first lane waits for a lock on a lease or a login.
const SHORTLY: Duration = Duration::from_millis(100);

/// The callers' end. Its lanes end with it, after what waits.
pub(super) struct Writer(mpsc::Sender<Work>);

impl Writer {
    /// Starts both lanes, each with a pool of one connection.
    pub(super) fn start(together: Pool, alone: Pool) -> Self {
        let (contended, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(Lane { pool: alone, batch: 1, lock: LOCK, contended: None }.serve(waiting));
        let (work, waiting) = mpsc::channel(QUEUE);
        let contended = Some(contended);
        let lane = Lane { pool: together, batch: BATCH, lock: SHORTLY, contended };
        tokio::spawn(lane.serve(waiting));
        Self(work)
    }

    /// Makes `changes` and writes `records`. What has begun is done to its end, even if the caller
    /// stops waiting.
    pub(super) async fn call(&self, changes: Changes, records: Vec<Line>) -> Result<(), Problem> {
        let (answer, answered) = oneshot::channel();
        let Changes { statements, counters } = changes;
        let work = Work { statements, counters, records, waits: Stopwatch::start(), answer };
        self.0.send_timeout(work, BEGIN_WITHIN).await.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Problem::Busy,
            SendTimeoutError::Closed(_) => Problem::Stopped,
        })?;
        match timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Problem::Stopped),
            Err(_) => Err(Problem::Unanswered),
        }
    }
}

/// One piece of work.
struct Work {
    statements: Vec<Statement>,
    counters: Vec<CounterStep>,
    records: Vec<Line>,
    waits: Stopwatch,
    answer: oneshot::Sender<Result<(), Problem>>,
}

impl Work {
    fn answer(self, outcome: Result<(), Problem>) {
        // The caller may have gone away; what was done is done.
        drop(self.answer.send(outcome));
    }
}

/// One of the two.
struct Lane {
    pool: Pool,
    /// Pieces of work in one transaction at most.
    batch: usize,
    /// How long is waited for a lock on a lease or a login.
    lock: Duration,
    /// Where work goes that has met a lock; nothing on the last lane.
    contended: Option<mpsc::Sender<Work>>,
}

impl Lane {
    async fn serve(self, mut waiting: mpsc::Receiver<Work>) {
        while let Some(first) = waiting.recv().await {
            let mut batch = vec![first];
            while batch.len() < self.batch
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            // Whoever waited so long has been told, or will be, that it did not happen.
            let (begun, late): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|work| work.waits.elapsed() < BEGIN_WITHIN);
            for work in late {
                work.answer(Err(Problem::Busy));
            }
            if !begun.is_empty() {
                self.write(begun).await;
            }
        }
    }

    async fn write(&self, batch: Vec<Work>) {
        match self.transaction_or_again(&batch).await {
            Ok(outcomes) => {
                for (work, outcome) in batch.into_iter().zip(outcomes) {
                    self.finish(work, outcome);
                }
            }
            Err(problem) => {
                let cause = Arc::new(problem);
                for work in batch {
                    work.answer(Err(Problem::Shared(Arc::clone(&cause))));
                }
            }
        }
    }

    /// Answers, or hands on what somebody else's lock was in the way of.
    fn finish(&self, work: Work, outcome: Result<(), Problem>) {
        match (&self.contended, outcome) {
            (Some(contended), Err(problem)) if problem.is_contention() => {
                if let Err(refused) = contended.try_send(work) {
                    refused.into_inner().answer(Err(problem));
                }
            }
            (_, outcome) => work.answer(outcome),
        }
    }

    /// A connection that is lost before COMMIT was sent is replaced: nothing was committed on it.
    async fn transaction_or_again(
        &self,
        batch: &[Work],
    ) -> Result<Vec<Result<(), Problem>>, Problem> {
        let mut tries = 0;
        loop {
            match self.transaction(batch).await {
                Err(problem) if problem.is_lost_connection() && tries < RETRIES => tries += 1,
                end => return end,
            }
        }
    }

    /// What became of each piece of work, once it is durable. An error is about all of them.
    async fn transaction(&self, batch: &[Work]) -> Result<Vec<Result<(), Problem>>, Problem> {
        let borrowed = self.pool.borrow().await?;
        let client = borrowed.client()?;
        // While a savepoint has failed, the server takes no new statement.
        let prepared = prepare(client, batch).await?;
        self.pool.begin_on(client, self.lock).await?;
        let mut savepoint = "SAVEPOINT work";
        let mut outcomes = Vec::with_capacity(batch.len());
        for (work, prepared) in batch.iter().zip(&prepared) {
            let outcome = flight(client, savepoint, &work.statements, prepared).await?;
            savepoint = match outcome {
                Ok(()) => "RELEASE work; SAVEPOINT work",
                Err(_) => "ROLLBACK TO work",
            };
            outcomes.push(outcome);
        }
        let kept: Vec<&Work> = batch
            .iter()
            .zip(&outcomes)
            .filter(|(_, end)| end.is_ok())
            .map(|(work, _)| work)
            .collect();
        if kept.is_empty() {
            bounded(ANSWER, client.batch_execute("ROLLBACK")).await?;
        } else {
            finish(client, savepoint, &kept).await?;
            commit(client).await?;
        }
        borrowed.settle();
        Ok(outcomes)
    }
}

/// The statements of each piece of work, known to the server.
async fn prepare(client: &ClientWrapper, batch: &[Work]) -> Result<Vec<Vec<Prepared>>, Problem> {
    let mut all = Vec::with_capacity(batch.len());
    for work in batch {
        all.push(known(client, &work.statements).await?);
    }
    Ok(all)
}

async fn known(client: &ClientWrapper, statements: &[Statement]) -> Result<Vec<Prepared>, Problem> {
    let mut known = Vec::with_capacity(statements.len());
    for statement in statements {
        known.push(bounded(ANSWER, client.prepare_cached(statement.sql)).await?);
    }
    Ok(known)
}

/// Sends `before` and all `statements` at once, in this order, and judges their answers. The inner
/// outcome is theirs; an outer error is of what comes before, or of the connection.
async fn flight(
    client: &ClientWrapper,
    before: &str,
    statements: &[Statement],
    prepared: &[Prepared],
) -> Result<Result<(), Problem>, Problem> {
    let values: Vec<_> = statements.iter().map(Statement::values).collect();
    // `join_all` begins them in their order.
    let asked =
        prepared.iter().zip(&values).map(|(prepared, values)| client.query(prepared, values));
    let both = async { Ok(futures::join!(client.batch_execute(before), join_all(asked))) };
    let (before, answers) = bounded(ANSWER, both).await?;
    before?;
    for (statement, answer) in statements.iter().zip(answers) {
        let answer = answer.map_err(|error| Failure::of(&error));
        match statement.judge(answer) {
            Ok(()) => {}
            Err(problem) if problem.is_lost_connection() => return Err(problem),
            // Those behind it have failed only because it has.
            Err(problem) => return Ok(Err(problem)),
        }
    }
    Ok(Ok(()))
}

/// The counters and the records of what was kept. Here the whole time is waited for a lock.
async fn finish(client: &ClientWrapper, savepoint: &str, kept: &[&Work]) -> Result<(), Problem> {
    let mut counters = Counters::default();
    for work in kept {
        counters.add(&work.counters);
    }
    let mut statements = counters.statements();
    let records: Vec<&Line> = kept.iter().flat_map(|work| &work.records).collect();
    if !records.is_empty() {
        statements.extend(append(&records));
    }
    let before =
        format!("{savepoint}; RELEASE work; SET LOCAL lock_timeout = {}", LOCK.as_millis());
    // The savepoint that failed last goes first: in it nothing can be prepared.
    bounded(ANSWER, client.batch_execute(&before)).await?;
    let prepared = known(client, &statements).await?;
    flight(client, "", &statements, &prepared).await?
}
