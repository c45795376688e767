//! How PostgreSQL keeps what a row holds: texts without NUL, and times to the microsecond.

use jiff::Timestamp;
use tokio_postgres::types::FromSql;

use super::value::{Moment, unescaped};
use crate::causes::with_causes;
use crate::store::rows::Row;

impl Row for tokio_postgres::Row {
    fn kept(&self, column: &str) -> Result<Option<&str>, String> {
        value(self, column)
    }

    fn meant(&self, kept: &str) -> Option<String> {
        unescaped(kept)
    }

    fn number(&self, column: &str) -> Result<Option<i64>, String> {
        value(self, column)
    }

    fn oid(&self, column: &str) -> Result<Option<u32>, String> {
        value(self, column)
    }

    fn time(&self, column: &str) -> Result<Option<Timestamp>, String> {
        let kept: Option<Moment> = value(self, column)?;
        kept.map(Moment::time).transpose().map_err(|error| error.to_string())
    }
}

fn value<'row, T: FromSql<'row>>(
    row: &'row tokio_postgres::Row,
    column: &str,
) -> Result<T, String> {
    row.try_get(column).map_err(|error| with_causes(&error))
}
