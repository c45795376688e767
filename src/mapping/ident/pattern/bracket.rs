//! Bracket expressions (manual, 9.7.3.2 "Bracket Expressions"; `brackpart` in `regcomp.c`).

use super::super::Dialect;
use super::super::mistake::Flaw;
use super::classes::posix_class;
use super::escape::{self, Escape};
use super::options::Options;
use crate::mapping::bytes::ByteSet;

/// The bracket expression whose `[` is at `open`, and where it ends.
///
/// # Errors
/// When PostgreSQL takes it for none, or names a collating element.
pub(super) fn read(
    pattern: &[u8],
    open: usize,
    options: Options,
    dialect: Dialect,
) -> Result<(ByteSet, usize), Flaw> {
    let negated = pattern.get(open + 1) == Some(&b'^');
    let begin = open + 1 + usize::from(negated);
    let mut reader = Bracket { pattern, begin, at: begin, options, dialect };
    let mut set = ByteSet::EMPTY;
    loop {
        match reader.peek() {
            None => {
                let hint = r"close it with `]`, or write `\[` for the character";
                let flaw = Flaw::new(open, "the bracket expression is not closed", hint);
                return Err(flaw.until(pattern.len()));
            }
            Some(b']') if reader.at > begin => break,
            Some(_) => set = set.union(reader.item()?),
        }
    }
    let set = match (negated, options.stops_at_newline) {
        (true, true) => set.complement().without(b'\n'),
        (true, false) => set.complement(),
        (false, _) => set,
    };
    Ok((set, reader.at + 1))
}

struct Bracket<'pattern> {
    pattern: &'pattern [u8],
    /// The place of the first character.
    begin: usize,
    at: usize,
    options: Options,
    dialect: Dialect,
}

/// What stands within brackets.
enum Item {
    Set(ByteSet),
    /// What can begin or end a range.
    Character(u32),
}

impl<'pattern> Bracket<'pattern> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    /// Whether a `-` here makes a range. The first character and the last are themselves.
    fn is_range(&self) -> bool {
        self.peek() == Some(b'-') && self.at > self.begin && !self.rest().starts_with(b"-]")
    }

    /// A character, a range or a class.
    fn item(&mut self) -> Result<ByteSet, Flaw> {
        let at = self.at;
        if self.is_range() {
            return Err(Flaw::new(
                at,
                "`-` in the middle of a bracket expression",
                r"write `\-`, or put it first or last",
            ));
        }
        let first = match self.element()? {
            Item::Character(first) => first,
            Item::Set(_) if self.is_range() => {
                let hint = r"write `\-` for the character `-`";
                return Err(Flaw::new(self.at, "a class cannot begin a range", hint));
            }
            Item::Set(set) => return Ok(set),
        };
        if !self.is_range() {
            return Ok(self.characters(first, first));
        }
        self.at += 1;
        match self.range_end()? {
            Item::Character(last) if first <= last => Ok(self.characters(first, last)),
            _ => Err(Flaw::new(
                at,
                "not a range: it goes from one character to a later one",
                r"write `\-` for the character `-`",
            )
            .until(self.at)),
        }
    }

    /// After the `-` of a range another one is a character.
    fn range_end(&mut self) -> Result<Item, Flaw> {
        if self.peek() == Some(b'-') {
            self.at += 1;
            return Ok(Item::Character(u32::from(b'-')));
        }
        self.element()
    }

    fn characters(&self, first: u32, last: u32) -> ByteSet {
        let Ok(first) = u8::try_from(first) else { return ByteSet::EMPTY };
        let set = ByteSet::range(first, u8::try_from(last).unwrap_or(u8::MAX));
        if self.options.ignores_case { set.in_any_case() } else { set }
    }

    fn element(&mut self) -> Result<Item, Flaw> {
        let at = self.at;
        let Some(byte) = self.peek() else {
            return Err(Flaw::new(at, "the bracket expression is not closed", "close it with `]`"));
        };
        match byte {
            b'\\' => self.escape(),
            b'[' => match self.pattern.get(at + 1) {
                Some(b':') => self.class(),
                Some(mark @ (b'.' | b'=')) => self.collating(*mark),
                _ => Ok(self.character(byte)),
            },
            _ => Ok(self.character(byte)),
        }
    }

    fn character(&mut self, byte: u8) -> Item {
        self.at += 1;
        Item::Character(u32::from(byte))
    }

    fn escape(&mut self) -> Result<Item, Flaw> {
        let at = self.at;
        let (escape, end) = escape::read(self.pattern, at)?;
        self.at = end;
        match escape {
            Escape::Character(character) => Ok(Item::Character(character)),
            Escape::Class(set) => Ok(Item::Set(set)),
            Escape::NotClass(set) if self.dialect.major() >= 14 => Ok(Item::Set(set)),
            Escape::NotClass(_) => Err(Flaw::new(
                at,
                "PostgreSQL 13 has no complemented class within brackets",
                "write the alternation `(?:…|…)` of both",
            )
            .until(self.at)),
            Escape::Place(_) => Err(Flaw::new(
                at,
                "the escape asks for a place, which cannot stand within brackets",
                r"put it before or after the brackets, or leave the `\` out",
            )
            .until(self.at)),
        }
    }

    /// `[:name:]`.
    fn class(&mut self) -> Result<Item, Flaw> {
        let at = self.at;
        let name = self.delimited(b':')?;
        let known = name != b"word" || self.dialect.major() >= 14;
        match posix_class(name).filter(|_| known) {
            Some(set) if self.options.ignores_case && matches!(name, b"lower" | b"upper") => {
                Ok(Item::Set(set.in_any_case()))
            }
            Some(set) => Ok(Item::Set(set)),
            None => Err(Flaw::new(
                at,
                "PostgreSQL has no such class",
                "use alnum, alpha, ascii, blank, cntrl, digit, graph, lower, print, punct, space, \
                 upper or xdigit",
            )
            .until(self.at)),
        }
    }

    /// `[.x.]` and `[=x=]`, which are `x` in the C collation.
    fn collating(&mut self, mark: u8) -> Result<Item, Flaw> {
        let at = self.at;
        match (self.delimited(mark)?, mark) {
            ([only], b'.') => Ok(Item::Character(u32::from(*only))),
            ([only], _) => {
                let only = u32::from(*only);
                Ok(Item::Set(self.characters(only, only)))
            }
            _ => Err(Flaw::new(
                at,
                "names of collating elements are not accepted",
                r"write the character, with a `\` before it if it is special",
            )
            .until(self.at)),
        }
    }

    /// What stands between `[:` and `:]`, or between other such marks.
    fn delimited(&mut self, mark: u8) -> Result<&'pattern [u8], Flaw> {
        let begin = self.at + 2;
        let rest = self.pattern.get(begin..).unwrap_or_default();
        let Some(length) = rest.windows(2).position(|two| two == [mark, b']']) else {
            let hint = r"close it as it was opened, or write `\[` for the character";
            return Err(Flaw::new(self.at, "a class within brackets is not closed", hint));
        };
        self.at = begin + length + 2;
        Ok(rest.get(..length).unwrap_or_default())
    }
}
