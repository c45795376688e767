//! Whose reading of the language it is: a major release of PostgreSQL.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A major release of PostgreSQL, 13 to 18: a map means what that release makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Dialect(u32);

/// Why a text or a number is no dialect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a map is read as PostgreSQL 13, 14, 15, 16, 17 or 18 reads it")]
pub struct DialectError;

impl Dialect {
    /// Every dialect, from old to new.
    pub const ALL: [Self; 6] = [Self(13), Self(14), Self(15), Self(16), Self(17), Self(18)];

    /// The major release.
    #[must_use]
    pub fn major(self) -> u32 {
        self.0
    }

    /// A backslash at the end of a line joins the next one to it (14 and newer).
    pub(super) fn joins_lines(self) -> bool {
        self.0 >= 14
    }

    /// Most bytes of a physical line, its line end included (13 only: `MAX_LINE` in `hba.c`).
    pub(super) fn line_bytes(self) -> Option<usize> {
        (self.0 < 14).then_some(20_478)
    }

    /// Most bytes of a token (15 and older: `MAX_TOKEN` in `hba.c` since August 2023).
    pub(super) fn token_bytes(self) -> Option<usize> {
        (self.0 < 16).then_some(10_239)
    }

    /// Paths are made shorter before they are opened, so that `x/..` is nothing even where `x` is
    /// a link (15 and newer).
    pub(super) fn settles_paths(self) -> bool {
        self.0 >= 15
    }

    /// `include`, `include_if_exists` and `include_dir` read other files (16 and newer).
    pub(in crate::mapping) fn includes(self) -> bool {
        self.0 >= 16
    }

    /// `all`, `+role` and `/regex` mean something as a database user (16 and newer).
    pub(super) fn keywords(self) -> bool {
        self.0 >= 16
    }
}

impl Default for Dialect {
    /// 16, the first release with the language of today.
    fn default() -> Self {
        Self(16)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Dialect {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Self, DialectError> {
        Self::ALL.into_iter().find(|dialect| dialect.to_string() == text).ok_or(DialectError)
    }
}

impl TryFrom<u32> for Dialect {
    type Error = DialectError;

    fn try_from(major: u32) -> Result<Self, DialectError> {
        Self::ALL.into_iter().find(|dialect| dialect.0 == major).ok_or(DialectError)
    }
}

impl From<Dialect> for u32 {
    fn from(dialect: Dialect) -> Self {
        dialect.0
    }
}
