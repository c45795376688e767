//! What a backslash makes of what follows it (manual, 9.7.3.3 "Regular Expression Escapes";
//! `lexescape` in `regc_lex.c`).

use super::super::mistake::Flaw;
use super::classes::class_escape;
use super::tree::Place;
use crate::mapping::bytes::ByteSet;

/// What an escape stands for.
pub(super) enum Escape {
    /// A character by its number; those above 255 match no byte.
    Character(u32),
    /// `\d`, `\s` and `\w`.
    Class(ByteSet),
    /// `\D`, `\S` and `\W`.
    NotClass(ByteSet),
    Place(Place),
}

/// The escape whose backslash is at `at`, and where it ends.
///
/// # Errors
/// When PostgreSQL has no such escape, or it refers back to a group.
pub(super) fn read(pattern: &[u8], at: usize) -> Result<(Escape, usize), Flaw> {
    let Some(letter) = pattern.get(at + 1).copied() else {
        let hint = r"write `\\` for the character";
        return Err(Flaw::new(at, r"a `\` at the end escapes nothing", hint));
    };
    let simple = |escape| Ok((escape, at + 2));
    let character = |byte: u8| simple(Escape::Character(u32::from(byte)));
    match letter {
        _ if !letter.is_ascii_alphanumeric() => character(letter),
        b'a' => character(0x07),
        b'b' => character(0x08),
        b'B' => character(b'\\'),
        b'e' => character(0x1B),
        b'f' => character(0x0C),
        b'n' => character(b'\n'),
        b'r' => character(b'\r'),
        b't' => character(b'\t'),
        b'v' => character(0x0B),
        b'c' => match pattern.get(at + 2) {
            Some(control) => Ok((Escape::Character(u32::from(control & 0o37)), at + 3)),
            None => Err(refused(at, letter)),
        },
        b'x' => number(pattern, at, 16, 1, 255),
        b'u' => number(pattern, at, 16, 4, 4),
        b'U' => number(pattern, at, 16, 8, 8),
        b'0' => Ok(octal(pattern, at)),
        b'A' => simple(Escape::Place(Place::Begin)),
        b'Z' => simple(Escape::Place(Place::End)),
        b'm' => simple(Escape::Place(Place::WordBegin)),
        b'M' => simple(Escape::Place(Place::WordEnd)),
        b'y' => simple(Escape::Place(Place::WordBorder)),
        b'Y' => simple(Escape::Place(Place::NoWordBorder)),
        _ => match class_escape(letter.to_ascii_lowercase()) {
            Some(set) if letter.is_ascii_lowercase() => simple(Escape::Class(set)),
            Some(set) => simple(Escape::NotClass(set.complement())),
            None => Err(refused(at, letter)),
        },
    }
}

/// A character by its number: digits behind the letter of the escape, as many as there are up to
/// `most`.
fn number(
    pattern: &[u8],
    at: usize,
    base: u32,
    least: usize,
    most: usize,
) -> Result<(Escape, usize), Flaw> {
    let begin = at + 2;
    let (number, digits) = digits(pattern.get(begin..).unwrap_or_default(), base, most);
    // The largest that PostgreSQL takes; a number that it has no room for wraps around.
    if digits < least || number > 0x7FFF_FFFE {
        return Err(Flaw::new(
            at,
            "not the number of a character",
            r"write `\xHH`, `\uHHHH` or `\UHHHHHHHH` with hexadecimal digits",
        )
        .until(begin + digits));
    }
    Ok((Escape::Character(number), begin + digits))
}

/// Up to three octal digits that make a byte.
fn octal(pattern: &[u8], at: usize) -> (Escape, usize) {
    let rest = pattern.get(at + 1..).unwrap_or_default();
    let (number, digits) = match digits(rest, 8, 3) {
        (number, _) if number > 0xFF => (number >> 3, 2),
        found => found,
    };
    (Escape::Character(number), at + 1 + digits)
}

fn digits(text: &[u8], base: u32, most: usize) -> (u32, usize) {
    let digits = text.iter().take(most).map_while(|byte| char::from(*byte).to_digit(base));
    digits.fold((0, 0), |(number, count): (u32, usize), digit| {
        (number.wrapping_mul(base).wrapping_add(digit), count + 1)
    })
}

fn refused(at: usize, letter: u8) -> Flaw {
    let (message, hint) = match letter {
        b'1'..=b'9' => (
            "back references inside the regular expression are not accepted",
            "write one line of the map for each case",
        ),
        b'z' => (r"PostgreSQL has no `\z`", "write `$` or `\\Z` at the end"),
        b'G' => (r"PostgreSQL has no `\G`", "write `^` or `\\A` at the beginning"),
        b'Q' | b'E' => (
            r"PostgreSQL has no `\Q…\E`",
            r"put a `\` before each special character, or `***=` before a pattern that has none",
        ),
        b'p' | b'P' => (
            "PostgreSQL has no classes of Unicode",
            "write the characters, or a class such as `[[:alpha:]]`, which is ASCII",
        ),
        b'h' => (r"PostgreSQL has no `\h`", "write `[[:blank:]]`"),
        _ => ("PostgreSQL has no such escape", r"leave the `\` out"),
    };
    Flaw::new(at, message, hint).until(at + 2)
}
