//! Revisions of the map that were in force, kept so that decisions by them can be explained.

use jiff::Timestamp;

use super::{Store, StoreError};
use crate::mapping::{Dialect, IdentMap, MapMistake, MapRevision, MapText};

/// One revision of the map as it was read, so that decisions by it can be explained later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMap {
    /// What leases and audit records name.
    pub revision: MapRevision,
    /// In whose language it was read.
    pub dialect: Dialect,
    /// Its files, byte for byte.
    pub text: MapText,
    /// When a broker first took it.
    pub first_used_at: Timestamp,
}

impl StoredMap {
    /// The map, read again.
    ///
    /// # Errors
    /// When this version cannot read it, although the one that took it could.
    pub fn map(&self) -> Result<IdentMap, Vec<MapMistake>> {
        IdentMap::load(self.dialect, self.text.main(), &self.text)
    }

    /// The map as it was when it was kept; nothing when this version does not read the same from it.
    #[must_use]
    pub fn as_kept(&self) -> Option<IdentMap> {
        let map = self.map().ok().filter(|map| map.is_revision(&self.revision))?;
        Some(map.called(&self.revision))
    }
}

/// The map of this revision; nothing when it was not kept, or when this version does not read the
/// same map from what was kept.
///
/// # Errors
/// When the engine fails, or what it keeps cannot be read.
pub async fn kept_map(
    store: &dyn Store,
    revision: &MapRevision,
) -> Result<Option<IdentMap>, StoreError> {
    Ok(store.map_revision(revision).await?.and_then(|stored| stored.as_kept()))
}
