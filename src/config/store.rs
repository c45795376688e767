//! `[store]`: the broker's own database.

use std::path::{Path, PathBuf};

use super::reader::Table;
use super::{files, form};

/// Where leases, sessions and the audit are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The SQLite file. It is made when it is not there.
    pub path: PathBuf,
}

pub(super) fn read(table: Table<'_>) -> Option<StoreSettings> {
    let path = table.defaulted("path", "\"pgbridge.db\"", &form::path());
    let path = path.map(|path: PathBuf| files::path_to_make(&table, "path", Path::new(&path)));
    table.finish();
    Some(StoreSettings { path: path? })
}
