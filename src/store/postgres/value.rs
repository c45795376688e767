//! Values as the server keeps them: texts without NUL, and times to the microsecond.

use std::error::Error;

use jiff::Timestamp;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// Stands for a NUL, followed by `0`, and for itself, doubled.
const ESCAPE: char = '\u{2400}';

/// `text` as it is kept. PostgreSQL's text can hold every character but NUL, and nothing may be
/// lost or mean another text: `␀0` is a NUL, `␀␀` is a `␀`.
pub(super) fn escaped(text: &str) -> String {
    let doubled = text.replace(ESCAPE, "\u{2400}\u{2400}");
    doubled.replace('\0', "\u{2400}0")
}

/// The text that [`escaped`] has made this of; nothing when it has not.
pub(super) fn unescaped(kept: &str) -> Option<String> {
    let mut text = String::with_capacity(kept.len());
    let mut letters = kept.chars();
    while let Some(letter) = letters.next() {
        text.push(match letter {
            ESCAPE => match letters.next()? {
                '0' => '\0',
                ESCAPE => ESCAPE,
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(text)
}

/// A moment as `timestamptz` keeps it: whole microseconds since 2000-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(i64);

/// 2000-01-01 00:00 UTC in microseconds since 1970.
const EPOCH: i128 = 946_684_800_000_000;

impl Moment {
    /// The last whole microsecond that is not after `at`.
    pub(super) fn not_after(at: Timestamp) -> Self {
        Self::of(at.as_nanosecond().div_euclid(1000))
    }

    /// The first whole microsecond that is not before `at`.
    pub(super) fn not_before(at: Timestamp) -> Self {
        Self::of(at.as_nanosecond().div_euclid(1000) + i128::from(at.as_nanosecond() % 1000 != 0))
    }

    fn of(microseconds: i128) -> Self {
        // A `Timestamp` ends with the year 9999, which fits by far.
        Self(i64::try_from(microseconds - EPOCH).unwrap_or(i64::MAX))
    }

    /// The time it stands for.
    ///
    /// # Errors
    /// When it is infinite, or beyond the years that a `Timestamp` knows.
    pub(super) fn time(self) -> Result<Timestamp, jiff::Error> {
        Timestamp::from_nanosecond((i128::from(self.0) + EPOCH) * 1000)
    }
}

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'row> FromSql<'row> for Moment {
    fn from_sql(_: &Type, raw: &'row [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMPTZ);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_nul_and_its_own_sign_are_written_otherwise() {
        for (text, kept) in [
            ("CORP\\alice 'x' ä", "CORP\\alice 'x' ä"),
            ("a\0b", "a␀0b"),
            ("␀0", "␀␀0"),
            ("\0␀", "␀0␀␀"),
        ] {
            assert_eq!(escaped(text), kept);
            assert_eq!(unescaped(kept).as_deref(), Some(text));
        }
        for never_made in ["␀", "a␀1", "␀␀␀"] {
            assert_eq!(unescaped(never_made), None, "{never_made}");
        }
    }

    proptest! {
        #[test]
        fn every_text_reads_back_and_holds_no_nul(text in "[\\x00\u{2400}0a\\\\]{0,12}|\\PC{0,20}") {
            let kept = escaped(&text);
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(unescaped(&kept), Some(text));
        }
    }

    #[test]
    fn a_time_keeps_its_microseconds_and_ends_no_later() {
        let at = |nanoseconds| Timestamp::from_nanosecond(nanoseconds).unwrap();
        for (time, after, before) in [
            (1_800_000_000_000_001_000, 1_800_000_000_000_001_000, 1_800_000_000_000_001_000),
            (1_800_000_000_000_001_001, 1_800_000_000_000_001_000, 1_800_000_000_000_002_000),
            (-1_001, -2_000, -1_000),
            (-1_000, -1_000, -1_000),
        ] {
            assert_eq!(Moment::not_after(at(time)).time().ok(), Some(at(after)), "{time}");
            assert_eq!(Moment::not_before(at(time)).time().ok(), Some(at(before)), "{time}");
        }
        assert!(Moment(i64::MAX).time().is_err());
        assert!(Moment(i64::MIN).time().is_err());
    }
}
