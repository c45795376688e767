//! `[store]`: the broker's own database.

use std::path::PathBuf;

use super::reader::Table;
use super::{files, form};

/// Where leases, sessions and the audit are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The SQLite file. It is made when it is not there.
    pub path: PathBuf,
}

pub(super) fn read(table: Table<'_>) -> Option<StoreSettings> {
    let path = path(&table).map(|path| files::path_to_make(&table, "path", &path));
    table.finish();
    Some(StoreSettings { path: path? })
}

/// The same for who only reads the store: whether it could be made is no matter.
pub(super) fn read_existing(table: Table<'_>) -> Option<StoreSettings> {
    let path = path(&table).map(|path| table.reader().resolve(&path));
    table.finish();
    Some(StoreSettings { path: path? })
}

fn path(table: &Table<'_>) -> Option<PathBuf> {
    table.defaulted("path", "\"pgbridge.db\"", &form::path())
}
