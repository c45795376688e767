//! The ident map. (being written)
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::MapName;

/// Map.
#[derive(Debug)]
pub struct IdentMap {
    revision: MapRevision,
}
impl IdentMap {
    /// Parse.
    pub fn parse(_file: &str, _bytes: &[u8]) -> Result<Self, Vec<MapMistake>> {
        Ok(Self { revision: MapRevision(String::new()) })
    }
    /// Revision.
    #[must_use]
    pub fn revision(&self) -> &MapRevision {
        &self.revision
    }
    /// Decide.
    #[must_use]
    pub fn decide(&self, _map: &MapName, _system_user: &str, _role: &str) -> MapDecision {
        MapDecision::NoMatch
    }
    /// Has.
    #[must_use]
    pub fn has_map(&self, _map: &MapName) -> bool {
        true
    }
}
/// Rev.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MapRevision(String);
impl fmt::Display for MapRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
/// Rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleRef {
    /// File.
    pub file: String,
    /// Line.
    pub line: u32,
}
impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
/// Decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapDecision {
    /// Allowed.
    Allowed(RuleRef),
    /// No.
    NoMatch,
    /// Failed.
    Failed {
        /// Rule.
        rule: RuleRef,
        /// Reason.
        reason: String,
    },
}
/// Mistake.
#[derive(Debug)]
pub struct MapMistake {
    /// File.
    pub file: String,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
    /// Message.
    pub message: String,
    /// Hint.
    pub hint: String,
}
