//! Runs what `lease::plan` made. The only module that changes anything on a cluster.
//!
//! The statements of a plan go to the server in one message, which the server runs as one
//! transaction: all or nothing, and no transaction is ever open between two messages
//! (manual, "Message Flow", "Multiple Statements in a Simple Query").

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::SimpleQueryMessage;

use super::connect::{Borrowed, Connections, Lane};
use super::error::{Failure, FailureKind};
use crate::crash::{self, Place};
use crate::lease::plan::{CHECK_FAILED, Statement};

/// `SET LOCAL` lines that begin every transaction, so that nothing a DBA set for the login or the
/// database reaches it, nor anything that a pooler between us and the server left behind.
pub(super) struct Limits(String);

impl Limits {
    pub(super) fn new(statement: Duration, lock: Duration) -> Self {
        Self(format!(
            "SET LOCAL search_path = pg_catalog, pg_temp;\n\
             SET LOCAL statement_timeout = {statement};\n\
             SET LOCAL lock_timeout = {lock};\n",
            statement = statement.as_millis().min(2_147_483_647),
            lock = lock.as_millis().min(2_147_483_647),
        ))
    }

    /// One message for all `statements`.
    fn message(&self, statements: &[Statement]) -> String {
        let mut message = self.0.clone();
        for statement in statements {
            message.push_str(statement.sql());
            message.push_str(";\n");
        }
        message
    }
}

/// A statement that the server refused, and why.
pub(super) struct Refused {
    pub(super) statement: Statement,
    pub(super) failure: Failure,
}

/// Rows of a message, as text.
pub(super) type Answer = Vec<SimpleQueryMessage>;

impl Connections {
    /// Runs `statements` as one transaction in the maintenance database.
    ///
    /// # Errors
    /// [`FailureKind::Rejected`] when the server refused: nothing was changed. Else nobody knows.
    pub(super) async fn apply(
        &self,
        lane: Lane,
        limits: &Limits,
        statements: &[Statement],
    ) -> Result<Answer, Failure> {
        let borrowed = self.borrow_for_change(lane).await?;
        self.apply_in(borrowed, limits, statements, Duration::MAX).await
    }

    /// Runs `statements` as one transaction on a connection of a pool, and gives it back. Waits for
    /// `within` at most, and never longer than for any answer.
    pub(super) async fn apply_in(
        &self,
        borrowed: Borrowed,
        limits: &Limits,
        statements: &[Statement],
        within: Duration,
    ) -> Result<Answer, Failure> {
        let answered = self.apply_on(borrowed.client()?, limits, statements, within).await;
        if answered.as_ref().err().is_none_or(|failure| failure.kind == FailureKind::Rejected) {
            borrowed.settle();
        }
        answered
    }

    /// Runs `statements` as one transaction on `client`.
    pub(super) async fn apply_on(
        &self,
        client: &ClientWrapper,
        limits: &Limits,
        statements: &[Statement],
        within: Duration,
    ) -> Result<Answer, Failure> {
        let message = limits.message(statements);
        self.bounded(within, client.simple_query(&message)).await
    }

    /// Runs the first `vital` of `statements`, and of the others as many as the server lets us,
    /// in one transaction. Gives those that it did not.
    ///
    /// # Errors
    /// When one of the vital ones is refused, or a check of the plan fails: nothing was changed
    /// ([`FailureKind::Rejected`]). Or when the connection fails.
    pub(super) async fn apply_what_can_be(
        &self,
        lane: Lane,
        limits: &Limits,
        statements: &[Statement],
        vital: usize,
    ) -> Result<Vec<Refused>, Failure> {
        let borrowed = self.borrow_for_change(lane).await?;
        let (first, others) = statements.split_at(vital.min(statements.len()));
        let mut refused = Vec::new();
        let judge = |statement: &Statement, failure: Failure| {
            // A role that is gone or renamed is not what the plan was made from either.
            if failure.is_one_of(&[CHECK_FAILED, "42704"]) {
                return Then::Undo(failure);
            }
            refused.push(Refused { statement: statement.clone(), failure });
            Then::GoOn
        };
        let (client, commit) = (borrowed.client()?, Place::RevokePiecemealCommit);
        let done = self.one_by_one(client, limits, (first, others), commit, judge).await;
        // The connection is kept: when every other of the server is taken, nobody gets a new one.
        if done.as_ref().err().is_none_or(|failure| failure.kind == FailureKind::Rejected) {
            borrowed.settle();
        }
        done.map(|_| refused)
    }

    /// Runs `first` and then each of `others` by itself, in one transaction. One on whose object
    /// something rests still (2BP01) is passed over. Gives how many were done.
    ///
    /// # Errors
    /// When one of `first` is refused, and then nothing was changed; one of the others for another
    /// reason, and then those before it are done; or the connection fails.
    pub(super) async fn apply_each(
        &self,
        client: &ClientWrapper,
        limits: &Limits,
        first: &[Statement],
        others: &[Statement],
    ) -> Result<usize, Failure> {
        let mut stopped = None;
        let judge = |_: &Statement, failure: Failure| {
            if failure.is_one_of(&["2BP01"]) {
                return Then::GoOn;
            }
            stopped = Some(failure);
            Then::Commit
        };
        let commit = Place::RevokeDropSomeCommit;
        let done = self.one_by_one(client, limits, (first, others), commit, judge).await?;
        stopped.map_or(Ok(done), Err)
    }

    /// Runs all of the first statements and then each of the others by itself, in one transaction;
    /// `refused` says what becomes of it when one of the others is refused. Gives how many of those
    /// were done. After [`FailureKind::Rejected`] the transaction is rolled back.
    async fn one_by_one(
        &self,
        client: &ClientWrapper,
        limits: &Limits,
        (first, others): (&[Statement], &[Statement]),
        commit: Place,
        mut refused: impl FnMut(&Statement, Failure) -> Then,
    ) -> Result<usize, Failure> {
        let run = |sql: String| async move {
            self.bounded(Duration::MAX, client.batch_execute(&sql)).await
        };
        let undone = |failure: Failure| async {
            match failure.kind {
                FailureKind::Rejected => run("ROLLBACK".to_owned()).await.err().unwrap_or(failure),
                FailureKind::Broken | FailureKind::TimedOut => failure,
            }
        };
        if let Err(failure) = run(format!("BEGIN;\n{}", limits.message(first))).await {
            return Err(undone(failure).await);
        }
        let mut done = 0;
        for statement in others {
            let sql = format!("SAVEPOINT one;\n{};\nRELEASE one", statement.sql());
            let failure = match run(sql).await {
                Ok(()) => {
                    done += 1;
                    continue;
                }
                Err(failure) if failure.kind == FailureKind::Rejected => failure,
                Err(failure) => return Err(failure),
            };
            // Refused when the savepoint was not set: then nothing of it can go on.
            if let Err(failure) = run("ROLLBACK TO one".to_owned()).await {
                return Err(undone(failure).await);
            }
            match refused(statement, failure) {
                Then::GoOn => {}
                Then::Commit => break,
                Then::Undo(failure) => return Err(undone(failure).await),
            }
        }
        crash::at(commit);
        run("COMMIT".to_owned()).await?;
        Ok(done)
    }
}

/// What becomes of a transaction in which the server has refused a statement.
enum Then {
    /// The next statement is run.
    GoOn,
    /// Nothing more is run, and what was done stays.
    Commit,
    /// Nothing stays: a check says that the world is not what the plan was made from.
    Undo(Failure),
}
