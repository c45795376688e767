//! The names that somebody can have: what a login lets through, and so all that a map is ever
//! asked about.

use std::sync::LazyLock;

use super::automaton::{Effort, Language, Part, Words, words_up_to};
use super::bytes::ByteSet;
use super::scan::Of;
use crate::names::{ACCOUNT_BYTES, GROUP_BYTES, is_account, is_machine};

/// A character of one byte that is no blank and no control character.
const VISIBLE: Row = &[0x21..=0x7E];
const BLANK: Row = &[0x20..=0x20];
/// Control characters of one byte, without NUL, and of two.
const CONTROL: &[Row] = &[&[0x01..=0x1F], &[0x7F..=0x7F], &[0xC2..=0xC2, 0x80..=0x9F]];
/// All other characters of UTF-8 (RFC 3629, section 4). A few are blanks; those are left to
/// [`can_be`].
const WIDE: &[Row] = &[
    &[0xC2..=0xC2, 0xA0..=0xBF],
    &[0xC3..=0xDF, 0x80..=0xBF],
    &[0xE0..=0xE0, 0xA0..=0xBF, 0x80..=0xBF],
    &[0xE1..=0xEC, 0x80..=0xBF, 0x80..=0xBF],
    &[0xED..=0xED, 0x80..=0x9F, 0x80..=0xBF],
    &[0xEE..=0xEF, 0x80..=0xBF, 0x80..=0xBF],
    &[0xF0..=0xF0, 0x90..=0xBF, 0x80..=0xBF, 0x80..=0xBF],
    &[0xF1..=0xF3, 0x80..=0xBF, 0x80..=0xBF, 0x80..=0xBF],
    &[0xF4..=0xF4, 0x80..=0x8F, 0x80..=0xBF, 0x80..=0xBF],
];

/// The bytes of a character, one after the other.
type Row = &'static [std::ops::RangeInclusive<u8>];

/// The names of people, or of groups. A name that nobody can have is looked for in no line.
pub(super) struct Names {
    of: Of,
    /// All of them, and perhaps a few more.
    language: Language,
    /// Those that only computers have.
    machines: Option<Language>,
}

impl Names {
    /// Those that are meant: always the same, so that no answer pays for them. Nothing would come only
    /// if they were too many to say, which a test would tell.
    pub fn of(of: Of) -> Option<&'static Self> {
        static PEOPLE: LazyLock<Option<Names>> = LazyLock::new(|| Names::new(Of::Person));
        static GROUPS: LazyLock<Option<Names>> = LazyLock::new(|| Names::new(Of::Group));
        match of {
            Of::Person => PEOPLE.as_ref(),
            Of::Group => GROUPS.as_ref(),
        }
    }

    fn new(of: Of) -> Option<Self> {
        let machines = match of {
            Of::Person => {
                let any = Part::Byte(ByteSet::ALL);
                let any = Part::Repeat { part: Box::new(any), min: 0, max: None };
                Some(Language::of(&Part::Row(vec![any, Part::bytes(b"$")]))?)
            }
            Of::Group => None,
        };
        Some(Self { of, language: Language::of(&names(of))?, machines })
    }

    /// Such names that are in each of `within` and in none of `without`, as
    /// [`words`](super::automaton::words) gives them. They are still to be asked for
    /// ([`can_be`]); that there is none is certain.
    pub fn words(
        &self,
        within: &[&Language],
        without: &[&Language],
        wanted: usize,
        effort: &Effort<'_>,
    ) -> Words {
        let within: Vec<&Language> = within.iter().copied().chain([&self.language]).collect();
        let without: Vec<&Language> = without.iter().copied().chain(&self.machines).collect();
        words_up_to(Some(longest(self.of)), &within, &without, wanted, effort)
    }
}

/// Bytes of the longest one.
pub(super) fn longest(of: Of) -> usize {
    match of {
        Of::Person => ACCOUNT_BYTES,
        Of::Group => GROUP_BYTES,
    }
}

/// Whether somebody can log in who is called so, or who is in a group that is called so.
pub(super) fn can_be(of: Of, name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    match of {
        Of::Person => is_account(name) && !is_machine(name),
        Of::Group => !name.is_empty() && name.len() <= longest(of) && !name.contains('\0'),
    }
}

/// People are not called by blanks alone, and by no control characters; nobody looks at the names of
/// groups, which the directory makes.
fn names(of: Of) -> Part {
    let any = |rows: Vec<Row>, min| {
        let part = Box::new(Part::Branches(rows.into_iter().map(character).collect()));
        Part::Repeat { part, min, max: None }
    };
    let visible = || [VISIBLE].into_iter().chain(WIDE.iter().copied());
    let all = || visible().chain([BLANK]);
    match of {
        Of::Person => {
            let first = Part::Branches(visible().map(character).collect());
            Part::Row(vec![any(vec![BLANK], 0), first, any(all().collect(), 0)])
        }
        Of::Group => any(all().chain(CONTROL.iter().copied()).collect(), 1),
    }
}

fn character(row: Row) -> Part {
    let byte = |range: &std::ops::RangeInclusive<u8>| {
        Part::Byte(ByteSet::range(*range.start(), *range.end()))
    };
    Part::Row(row.iter().map(byte).collect())
}

/// Why nobody has the name: as the end of a sentence that says so.
pub(super) fn why_nobodys(of: Of, name: &[u8]) -> &'static str {
    match std::str::from_utf8(name) {
        Err(_) => "it is not UTF-8",
        Ok(text) if text.len() > longest(of) => "it is too long",
        Ok(text) if text.trim().is_empty() => "it is blank",
        Ok(text) if text.chars().any(char::is_control) => "it holds a control character",
        Ok(_) => "it is a computer's, for its `$`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_row(rows: impl IntoIterator<Item = Row>, bytes: &[u8]) -> bool {
        rows.into_iter().any(|row| {
            row.len() == bytes.len()
                && row.iter().zip(bytes).all(|(range, byte)| range.contains(byte))
        })
    }

    #[test]
    fn every_character_stands_in_its_row() {
        let mut buffer = [0; 4];
        for letter in '\u{1}'..=char::MAX {
            let bytes = letter.encode_utf8(&mut buffer).as_bytes();
            let is_control = is_row(CONTROL.iter().copied(), bytes);
            let is_other = is_row(WIDE.iter().copied().chain([VISIBLE, BLANK]), bytes);
            assert_eq!((is_control, is_other), (letter.is_control(), !letter.is_control()));
        }
    }

    /// Whether a pattern that matches nothing but the name matches a name that somebody can have.
    fn found(of: Of, name: &[u8]) -> bool {
        let effort = Effort::default();
        let names = Names::of(of).unwrap();
        let own = Language::of(&Part::bytes(name)).unwrap();
        match names.words(&[&own], &[], 1, &effort) {
            Words::Some(found) => found == [name] && can_be(of, name),
            Words::None => {
                assert!(!can_be(of, name), "{name:?}");
                false
            }
            Words::NotFound => panic!("the walk did not end"),
        }
    }

    #[test]
    fn names_that_no_login_lets_through_are_nobodys() {
        let long = |bytes: usize| "é".repeat(bytes / 2).into_bytes();
        for good in [&b"alice"[..], b" a", "jürgen".as_bytes(), "\u{10ffff}".as_bytes(), &long(256)]
        {
            assert!(found(Of::Person, good) && found(Of::Group, good), "{good:?}");
        }
        let no_account = [&b" "[..], b"a\n", b"\x7f", b"\xc2\x85", b"host$", "\u{a0}".as_bytes()];
        for bad in no_account.into_iter().chain([&long(258)[..], &long(1024)]) {
            assert!(!found(Of::Person, bad), "{bad:?}");
            assert!(found(Of::Group, bad), "{bad:?}");
        }
        for bad in [&b"\xff"[..], b"\xc3", b"a\xed\xa0\x80", b"\xc0\xaf", &long(1026)] {
            assert!(!found(Of::Person, bad) && !found(Of::Group, bad), "{bad:?}");
        }
    }

    #[test]
    fn it_is_said_why_a_name_is_nobodys() {
        let long = "a".repeat(257);
        for (name, why) in [
            (&b"\xff"[..], "it is not UTF-8"),
            (b"  ", "it is blank"),
            (b"a\x01", "it holds a control character"),
            (b"host$", "it is a computer's, for its `$`"),
            (long.as_bytes(), "it is too long"),
        ] {
            assert!(!can_be(Of::Person, name));
            assert_eq!(why_nobodys(Of::Person, name), why);
        }
    }
}
