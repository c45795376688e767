//! Where the store is, and how it is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::postgres::{PostgresSettings, PostgresStore};
use super::sqlite::SqliteStore;
use super::{Store, StoreError};

/// Where the store is.
#[derive(Debug)]
pub enum StoreSettings {
    /// One SQLite file, for one broker. It is made when it is not there.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A database on PostgreSQL, for one broker or several.
    Postgres(PostgresSettings),
}

/// Its file, or its address without a secret.
impl fmt::Display for StoreSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path } => write!(formatter, "{}", path.display()),
            Self::Postgres(settings) => write!(formatter, "{}", settings.url),
        }
    }
}

/// Opens the store to serve it, and brings its schema up to date.
///
/// # Errors
/// When it cannot be used; says what to do.
pub async fn open(settings: StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match settings {
        StoreSettings::Sqlite { path } => {
            blocking(path, |path| Ok(Arc::new(SqliteStore::open(path)?))).await
        }
        StoreSettings::Postgres(settings) => Ok(Arc::new(PostgresStore::open(&settings).await?)),
    }
}

/// Opens the store to read it only, beside the brokers that serve it or without one. Whatever
/// would write is refused.
///
/// # Errors
/// When it cannot be used, or is of another version.
pub async fn open_read_only(settings: StoreSettings) -> Result<Arc<dyn Store>, StoreError> {
    match settings {
        StoreSettings::Sqlite { path } => {
            blocking(path, |path| Ok(Arc::new(SqliteStore::open_read_only(path)?))).await
        }
        StoreSettings::Postgres(settings) => {
            Ok(Arc::new(PostgresStore::open_read_only(&settings).await?))
        }
    }
}

/// Opens a file away from the threads that serve requests.
async fn blocking(
    path: PathBuf,
    open: fn(&std::path::Path) -> Result<Arc<dyn Store>, StoreError>,
) -> Result<Arc<dyn Store>, StoreError> {
    let name = path.display().to_string();
    let opened = tokio::task::spawn_blocking(move || open(&path)).await;
    opened.unwrap_or_else(|panicked| {
        Err(StoreError::Failed { path: name, doing: "opening it", source: Box::new(panicked) })
    })
}
