use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::store::conformance::conformance;

async fn fresh() -> (Arc<dyn Store>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("store.db")).unwrap();
    (Arc::new(store), directory)
}

conformance!(fresh);
