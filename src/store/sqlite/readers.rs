//! A few connections that only read. Readers never wait for the writer (write-ahead log), and
//! see every commit that was answered before they began.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::problem::Problem;
use super::writer::Limits;
use crate::store::StoreError;

/// Connections kept open.
pub(super) const READERS: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    path: Arc<str>,
    limits: Limits,
    /// The connections that nobody uses just now.
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, path: Arc<str>, limits: Limits) -> Self {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Self { path, limits, idle: Arc::new(Mutex::new(connections)), permits }
    }

    /// Asks for one row by an index, on the calling thread if a connection is free.
    ///
    /// That takes some 3 microseconds out of memory; handing it to another thread and back takes
    /// over 50 on a busy machine, and a session is looked up for every request. It cannot wait for
    /// a lock: while we are connected, nobody else can lock a write-ahead log against its readers.
    pub(super) async fn look_up<T: Send + 'static>(
        &self,
        doing: &'static str,
        read: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return self.call(doing, read).await;
        };
        Lent::ask(&self.idle, permit, read).map_err(|problem| problem.into_error(&self.path, doing))
    }

    /// Asks for any number of rows, away from the threads that serve requests.
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
        let reading = spawn_blocking(move || Lent::ask(&idle, permit, read));
        reading.await.unwrap_or(Err(Problem::Stopped))
    }
}

/// One connection that goes back to the others when it is done with, or when its reader panics.
struct Lent<'idle> {
    connection: Option<Connection>,
    idle: &'idle Mutex<Vec<Connection>>,
}

impl<'idle> Lent<'idle> {
    /// Asks on one of the idle connections, of which `permit` keeps one for us.
    fn ask<T>(
        idle: &'idle Mutex<Vec<Connection>>,
        permit: OwnedSemaphorePermit,
        read: impl FnOnce(&Connection) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let lent = Self { connection, idle };
        let answer = lent.connection.as_ref().ok_or(Problem::Stopped).and_then(read);
        // The connection is back before its permit is.
        drop(lent);
        drop(permit);
        answer
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}
