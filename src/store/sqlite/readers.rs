//! A few connections that only read. Readers never wait for the writer (write-ahead log), and
//! see every commit that was answered before they began.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::problem::Problem;
use super::writer::Limits;
use crate::store::StoreError;

/// Connections kept open.
pub(super) const READERS: usize = 4;

/// The connections that nobody uses just now.
type Idle = Arc<Mutex<Vec<Connection>>>;

#[derive(Debug)]
pub(super) struct Readers {
    path: Arc<str>,
    limits: Limits,
    idle: Idle,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, path: Arc<str>, limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Self { path, limits, idle: Arc::new(Mutex::new(connections)), permits }
    }

    /// Asks `read` on a connection of its own, away from the threads that serve requests.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.try_call(read).await.map_err(|problem| problem.into_error(&self.path, doing))
    }

    async fn try_call<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = timeout(self.limits.begin_within, permit).await;
        let permit = permit.map_err(|_| Problem::Unanswered)?.map_err(|_| Problem::Stopped)?;
        let idle = Arc::clone(&self.idle);
        let reading = spawn_blocking(move || {
            let lent = Lent::take(idle)?;
            let answer = lent.connection().and_then(read);
            drop(lent);
            drop(permit);
            answer
        });
        reading.await.unwrap_or(Err(Problem::Stopped))
    }
}

/// One connection that goes back to the others when it is done with, or when its reader panics.
struct Lent {
    connection: Option<Connection>,
    idle: Idle,
}

impl Lent {
    fn take(idle: Idle) -> Result<Self, Problem> {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Self { connection, idle })
    }

    fn connection(&self) -> Result<&Connection, Problem> {
        self.connection.as_ref().ok_or(Problem::Stopped)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}
