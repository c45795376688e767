//! Rows of the catalogue, column by column.

use std::error::Error;
use std::time::SystemTime;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use super::Cluster;
use super::error::ClusterError;
use crate::lease::plan::{Named, ServerVersion};
use crate::names::{ClusterName, RoleName};

impl Cluster {
    /// The row of an answer that has one.
    pub(super) fn only<'a>(&self, rows: &'a [Row]) -> Result<&'a Row, ClusterError> {
        rows.first().ok_or_else(|| self.unreadable("an empty answer"))
    }

    pub(super) fn version(&self, row: &Row) -> Result<ServerVersion, ClusterError> {
        let number: i32 = column(&self.name, row, "version")?;
        let number = u32::try_from(number).map_err(|_| self.unreadable("version"))?;
        Ok(ServerVersion(number))
    }

    pub(super) fn time(&self, row: &Row, name: &'static str) -> Result<Timestamp, ClusterError> {
        let time: SystemTime = column(&self.name, row, name)?;
        Timestamp::try_from(time).map_err(|_| self.unreadable(name))
    }

    pub(super) fn unreadable(&self, what: &'static str) -> ClusterError {
        ClusterError::Unreadable { cluster: self.name.clone(), what }
    }
}

/// A column by its name.
///
/// # Errors
/// When it is not there or holds another type.
pub(super) fn column<'a, T: FromSql<'a>>(
    cluster: &ClusterName,
    row: &'a Row,
    name: &'static str,
) -> Result<T, ClusterError> {
    let unreadable = || ClusterError::Unreadable { cluster: cluster.clone(), what: name };
    row.try_get(name).map_err(|_| unreadable())
}

/// A text of the server that is only read or shown. One that is no UTF-8, as a database of
/// another encoding can put into shared tables, is read as far as it can be.
pub(super) struct Shown(pub(super) String);

impl<'a> FromSql<'a> for Shown {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::TEXT | Type::NAME | Type::VARCHAR)
    }
}

/// What `pg_identify_object` says of several objects, and where they are, in three columns.
pub(super) fn named(cluster: &ClusterName, row: &Row) -> Result<Vec<Named>, ClusterError> {
    let kinds: Vec<Shown> = column(cluster, row, "types")?;
    let identities: Vec<Shown> = column(cluster, row, "identities")?;
    let places: Vec<Option<Shown>> = column(cluster, row, "places")?;
    let named = |((Shown(kind), Shown(identity)), place): ((Shown, Shown), Option<Shown>)| Named {
        kind,
        identity,
        database: place.map(|Shown(place)| place),
    };
    Ok(kinds.into_iter().zip(identities).zip(places).map(named).collect())
}

/// What it says of those that are to stand in a statement, in two columns.
pub(super) fn named_portion(cluster: &ClusterName, row: &Row) -> Result<Vec<Named>, ClusterError> {
    let kinds: Vec<String> = column(cluster, row, "portion_types")?;
    let identities: Vec<String> = column(cluster, row, "portion_identities")?;
    let named = |(kind, identity)| Named { kind, identity, database: None };
    Ok(kinds.into_iter().zip(identities).map(named).collect())
}

/// What it says of one; nothing when its name is no text that could stand in a statement.
pub(super) fn named_here(row: &Row) -> Option<Named> {
    let (kind, identity) = (row.try_get("type").ok()?, row.try_get("identity").ok()?);
    Some(Named { kind, identity, database: None })
}

/// A number of rows as the server takes it.
pub(super) fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The name of a role that need not be configured, as the queries take it: empty for none.
pub(super) fn name_or_empty(role: Option<&RoleName>) -> &str {
    role.map_or("", RoleName::as_str)
}
