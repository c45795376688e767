//! Names that PostgreSQL knows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::quoting;

/// Bytes of a name that PostgreSQL keeps (`NAMEDATALEN` - 1).
const NAME_BYTES: usize = 63;
/// Longest name of a role, in bytes.
pub const ROLE_BYTES: usize = NAME_BYTES;

/// Name of a PostgreSQL role, byte for byte as it stands in `pg_roles.rolname`.
///
/// Invariant: 1 to 63 bytes, no NUL, not a name that the server keeps for itself (`public`,
/// `none`, `pg_*`). The server cuts a longer name with a NOTICE and no error, so two long names
/// can become one role: hence the limit is checked here and not left to `CREATE ROLE`. Case
/// counts: `Bob` is not `bob`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleName(String);

/// Why a text is no role name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleNameError {
    /// The text is empty.
    #[error("a role name needs at least one character")]
    Empty,
    /// The text is longer than the server keeps.
    #[error("role name has {bytes} bytes, PostgreSQL keeps at most 63")]
    TooLong {
        /// Length of the text in bytes.
        bytes: usize,
    },
    /// The text holds a NUL byte.
    #[error("a role name cannot hold a NUL byte")]
    Nul,
    /// The server keeps the name for itself.
    #[error("role name `{0}` is reserved by PostgreSQL")]
    Reserved(String),
}

impl RoleName {
    /// The name as it stands in the catalogue.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as an identifier in a statement. DDL takes no `$1`, so this and
    /// [`Self::literal`] are the only ways a name gets into SQL text.
    #[must_use]
    pub fn quoted(&self) -> String {
        quoting::identifier(&self.0)
    }

    /// The name as a string constant in a statement.
    #[must_use]
    pub fn literal(&self) -> String {
        quoting::literal(&self.0)
    }
}

impl FromStr for RoleName {
    type Err = RoleNameError;

    fn from_str(text: &str) -> Result<Self, RoleNameError> {
        if text.is_empty() {
            return Err(RoleNameError::Empty);
        }
        if text.len() > NAME_BYTES {
            return Err(RoleNameError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(RoleNameError::Nul);
        }
        if text == "public" || text == "none" || text.starts_with("pg_") {
            return Err(RoleNameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

text_conversions!(RoleName);

/// Name of a database, byte for byte as it stands in `pg_database.datname`.
///
/// Invariant: 1 to 63 bytes, no NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseName(String);

/// Why a text is no database name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseNameError {
    /// The text is empty.
    #[error("a database name needs at least one character")]
    Empty,
    /// The text is longer than the server keeps.
    #[error("database name has {bytes} bytes, PostgreSQL keeps at most 63")]
    TooLong {
        /// Length of the text in bytes.
        bytes: usize,
    },
    /// The text holds a NUL byte.
    #[error("a database name cannot hold a NUL byte")]
    Nul,
}

impl DatabaseName {
    /// The name as it stands in the catalogue.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseName {
    type Err = DatabaseNameError;

    fn from_str(text: &str) -> Result<Self, DatabaseNameError> {
        if text.is_empty() {
            return Err(DatabaseNameError::Empty);
        }
        if text.len() > NAME_BYTES {
            return Err(DatabaseNameError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(DatabaseNameError::Nul);
        }
        Ok(Self(text.to_owned()))
    }
}

text_conversions!(DatabaseName);

/// OID of a role (`pg_roles.oid`). A name can be changed or taken again, an OID with our marker
/// on it cannot be confused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RoleOid(pub u32);

impl fmt::Display for RoleOid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, because: RoleNameError) {
        assert_eq!(text.parse::<RoleName>(), Err(because));
    }

    #[test]
    fn a_name_the_server_would_cut_is_refused_and_one_it_keeps_is_not() {
        refused(&"a".repeat(64), RoleNameError::TooLong { bytes: 64 });
        assert!("a".repeat(63).parse::<RoleName>().is_ok());
    }

    #[test]
    fn names_the_server_keeps_for_itself_are_refused() {
        refused("public", RoleNameError::Reserved("public".into()));
        refused("none", RoleNameError::Reserved("none".into()));
        refused("pg_monitor", RoleNameError::Reserved("pg_monitor".into()));
        assert!("Public".parse::<RoleName>().is_ok());
        assert!("pgmonitor".parse::<RoleName>().is_ok());
    }

    #[test]
    fn an_empty_name_and_a_nul_are_refused() {
        refused("", RoleNameError::Empty);
        refused("a\0b", RoleNameError::Nul);
        assert!("a b".parse::<RoleName>().is_ok());
    }

    #[test]
    fn a_hostile_name_stays_one_identifier() {
        let name: RoleName = "we\"ird'x\n".parse().unwrap();
        assert_eq!(name.quoted(), "\"we\"\"ird'x\n\"");
        assert_eq!(name.literal(), "'we\"ird''x\n'");
    }

    #[test]
    fn a_database_name_follows_the_same_limits() {
        assert!("a".repeat(64).parse::<DatabaseName>().is_err());
        assert!("".parse::<DatabaseName>().is_err());
        assert!("a\0".parse::<DatabaseName>().is_err());
        assert!("orders".parse::<DatabaseName>().is_ok());
    }
}
