//! How SQLite keeps what a row holds: times as whole nanoseconds since 1970-01-01 00:00 UTC, and
//! everything else as it is.

use jiff::Timestamp;
use rusqlite::types::FromSql;

use crate::causes::with_causes;
use crate::store::refusal::Refusal;
use crate::store::rows::Row;

/// A time as its column holds it.
pub(super) fn nanoseconds(at: Timestamp) -> Result<i64, Refusal> {
    i64::try_from(at.as_nanosecond()).map_err(|_| Refusal::Unwritable("a time after the year 2262"))
}

/// The same for a time that may be missing.
pub(super) fn nanoseconds_if(at: Option<Timestamp>) -> Result<Option<i64>, Refusal> {
    at.map(nanoseconds).transpose()
}

impl Row for rusqlite::Row<'_> {
    fn kept(&self, column: &str) -> Result<Option<&str>, String> {
        let value = self.get_ref(column).map_err(|error| with_causes(&error))?;
        value.as_str_or_null().map_err(|error| with_causes(&error))
    }

    fn meant(&self, kept: &str) -> Option<String> {
        Some(kept.to_owned())
    }

    fn number(&self, column: &str) -> Result<Option<i64>, String> {
        value(self, column)
    }

    fn oid(&self, column: &str) -> Result<Option<u32>, String> {
        value(self, column)
    }

    fn time(&self, column: &str) -> Result<Option<Timestamp>, String> {
        let kept: Option<i64> = value(self, column)?;
        let time = kept.map(|nanoseconds| Timestamp::from_nanosecond(i128::from(nanoseconds)));
        time.transpose().map_err(|error| error.to_string())
    }
}

fn value<T: FromSql>(row: &rusqlite::Row<'_>, column: &str) -> Result<T, String> {
    row.get(column).map_err(|error| with_causes(&error))
}
