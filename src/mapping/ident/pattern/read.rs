//! Reads a pattern into a tree, or says which part of it is not accepted and what to write.
//!
//! The syntax is that of "advanced" regular expressions (manual, 9.7.3 "POSIX Regular
//! Expressions"; `regc_lex.c` and `parseqatom` in `regcomp.c`). What PostgreSQL refuses is refused.

use super::super::Dialect;
use super::super::mistake::Flaw;
use super::bracket;
use super::escape::{self, Escape};
use super::options::{self, Options, Syntax};
use super::tree::{Direction, Look, Node, Place, Prefers, Sequence};
use crate::mapping::bytes::ByteSet;

/// Deepest nesting of groups, far below what the stack holds.
pub(super) const NESTING: usize = 50;
/// Largest bound in `{m,n}` (`DUPMAX` in PostgreSQL's `regguts.h`).
const BOUND: u32 = 255;

/// The branches of a pattern.
///
/// # Errors
/// When PostgreSQL refuses the pattern, or it has a part that is not evaluated here.
pub(super) fn read(pattern: &[u8], dialect: Dialect) -> Result<Vec<Sequence>, Flaw> {
    let (options, at) = options::read(pattern)?;
    let mut reader =
        Reader { pattern, at, options, dialect, depth: 0, captures: 0, is_looking: false };
    if options.syntax == Syntax::Literal {
        return Ok(vec![reader.literal()]);
    }
    let branches = reader.branches()?;
    match reader.peek() {
        None => Ok(branches),
        Some(_) => Err(reader.flaw("`)` closes no group", r"write `\)` for the character")),
    }
}

struct Reader<'pattern> {
    pattern: &'pattern [u8],
    at: usize,
    options: Options,
    dialect: Dialect,
    depth: usize,
    captures: u32,
    /// Within look-around, where parentheses capture nothing.
    is_looking: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn next_is(&mut self, expected: &[u8]) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    fn rest(&self) -> &[u8] {
        self.pattern.get(self.at..).unwrap_or_default()
    }

    fn flaw(&self, message: impl Into<String>, hint: impl Into<String>) -> Flaw {
        Flaw::new(self.at, message, hint)
    }

    fn is_expanded(&self) -> bool {
        self.options.syntax == Syntax::Expanded
    }

    fn literal(&mut self) -> Sequence {
        let rest = self.rest().iter().copied();
        rest.map(|byte| Node::Byte(self.character(u32::from(byte)))).collect()
    }

    /// A character by its number, in either case if that is asked for.
    fn character(&self, number: u32) -> ByteSet {
        match u8::try_from(number) {
            Ok(byte) if self.options.ignores_case => ByteSet::single(byte).in_any_case(),
            Ok(byte) => ByteSet::single(byte),
            Err(_) => ByteSet::EMPTY,
        }
    }

    /// Passes comments, and in expanded syntax blanks too. They may stand before anything but a
    /// `?` that belongs to a quantifier or a parenthesis.
    fn skip(&mut self) {
        loop {
            if self.next_is(b"(?#") {
                self.pass(|byte| byte != b')');
                self.next_is(b")");
            } else if self.is_expanded() && self.rest().starts_with(b"#") {
                self.pass(|byte| byte != b'\n');
            } else if self.is_expanded() && self.peek().is_some_and(is_blank) {
                self.pass(is_blank);
            } else {
                return;
            }
        }
    }

    fn pass(&mut self, which: impl Fn(u8) -> bool) {
        self.at += self.rest().iter().take_while(|byte| which(**byte)).count();
    }

    /// Branches up to a `)` or the end.
    fn branches(&mut self) -> Result<Vec<Sequence>, Flaw> {
        let mut branches = vec![self.sequence()?];
        while self.next_is(b"|") {
            branches.push(self.sequence()?);
        }
        Ok(branches)
    }

    /// Parts up to a `|`, a `)` or the end.
    fn sequence(&mut self) -> Result<Sequence, Flaw> {
        let mut sequence = Vec::new();
        loop {
            self.skip();
            match self.peek() {
                None | Some(b'|' | b')') => return Ok(sequence),
                Some(_) => {
                    let node = self.atom()?;
                    sequence.push(self.quantified(node)?);
                }
            }
        }
    }

    fn atom(&mut self) -> Result<Node, Flaw> {
        let Some(byte) = self.peek() else {
            return Err(self.flaw("the regular expression ends too early", ""));
        };
        match byte {
            b'(' => self.parenthesis(),
            b'[' => self.bracket(),
            b'\\' => self.escape(),
            b'*' | b'+' | b'?' => Err(self.flaw(
                "nothing stands before the quantifier that it could repeat",
                r"write `\*`, `\+` or `\?` for the character, or use one quantifier only",
            )),
            b'{' if self.is_bound() => Err(self.flaw(
                "nothing stands before the bound that it could repeat",
                r"write `\{` for the character",
            )),
            _ => {
                self.at += 1;
                Ok(match byte {
                    b'.' if self.options.stops_at_newline => {
                        Node::Byte(ByteSet::ALL.without(b'\n'))
                    }
                    b'.' => Node::Byte(ByteSet::ALL),
                    b'^' if self.options.has_lines => Node::Place(Place::LineBegin),
                    b'^' => Node::Place(Place::Begin),
                    b'$' if self.options.has_lines => Node::Place(Place::LineEnd),
                    b'$' => Node::Place(Place::End),
                    _ => Node::Byte(self.character(u32::from(byte))),
                })
            }
        }
    }

    fn bracket(&mut self) -> Result<Node, Flaw> {
        if self.next_is(b"[[:<:]]") {
            return Ok(Node::Place(Place::WordBegin));
        }
        if self.next_is(b"[[:>:]]") {
            return Ok(Node::Place(Place::WordEnd));
        }
        let (set, end) = bracket::read(self.pattern, self.at, self.options, self.dialect)?;
        self.at = end;
        Ok(Node::Byte(set))
    }

    fn escape(&mut self) -> Result<Node, Flaw> {
        let (escape, end) = escape::read(self.pattern, self.at)?;
        self.at = end;
        Ok(match escape {
            Escape::Character(number) => Node::Byte(self.character(number)),
            // To PostgreSQL 13 these are brackets, which stop at a newline where `.` does.
            Escape::NotClass(set) if self.options.stops_at_newline && self.dialect.major() < 14 => {
                Node::Byte(set.without(b'\n'))
            }
            Escape::Class(set) | Escape::NotClass(set) => Node::Byte(set),
            Escape::Place(place) => Node::Place(place),
        })
    }

    fn parenthesis(&mut self) -> Result<Node, Flaw> {
        let open = self.at;
        if self.depth == NESTING {
            let message = format!("groups nest deeper than {NESTING}");
            return Err(self.flaw(message, "write fewer groups"));
        }
        self.depth += 1;
        let node = if let Some((direction, wanted)) = self.look() {
            let around = std::mem::replace(&mut self.is_looking, true);
            let branches = self.branches()?;
            self.is_looking = around;
            Node::Look(Look { direction, wanted, branches })
        } else {
            let capture = self.capture()?;
            Node::Group { capture, branches: self.branches()? }
        };
        if !self.next_is(b")") {
            let hint = r"close it with `)`, or write `\(` for the character";
            return Err(Flaw::new(open, "the group is not closed", hint));
        }
        self.depth -= 1;
        Ok(node)
    }

    fn look(&mut self) -> Option<(Direction, bool)> {
        let kinds: [(&[u8], _); 4] = [
            (b"(?=", (Direction::Ahead, true)),
            (b"(?!", (Direction::Ahead, false)),
            (b"(?<=", (Direction::Behind, true)),
            (b"(?<!", (Direction::Behind, false)),
        ];
        kinds.into_iter().find_map(|(opening, kind)| self.next_is(opening).then_some(kind))
    }

    /// Passes the opening of a group; its number, if it captures.
    fn capture(&mut self) -> Result<Option<u32>, Flaw> {
        if self.next_is(b"(?:") {
            return Ok(None);
        }
        if self.rest().starts_with(b"(?") {
            return Err(self.special_group());
        }
        self.at += 1;
        if self.is_looking {
            return Ok(None);
        }
        self.captures += 1;
        Ok(Some(self.captures))
    }

    /// What is wrong with a group that begins with `(?` as none does in PostgreSQL.
    fn special_group(&self) -> Flaw {
        let (message, hint) = match self.rest().get(2) {
            Some(b'<' | b'P' | b'\'') => {
                ("PostgreSQL has no named groups", "write `(…)`; only group 1 is used, as `\\1`")
            }
            Some(b'>') => ("PostgreSQL has no atomic groups", "write `(?:…)`"),
            Some(letter) if letter.is_ascii_alphabetic() || *letter == b'-' => (
                "PostgreSQL takes options at the very beginning only",
                "write `(?i)` first, for the whole pattern, or both cases, `[Aa]`",
            ),
            _ => ("no group of PostgreSQL begins like this", r"write `\(` for the character"),
        };
        self.flaw(message, hint).until(self.at + 3)
    }

    /// `atom`, with the quantifier that follows it.
    fn quantified(&mut self, atom: Node) -> Result<Node, Flaw> {
        self.skip();
        let (min, max) = match self.peek() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') if self.is_bound() => return self.bounded(atom),
            _ => return Ok(atom),
        };
        self.can_be_repeated(&atom)?;
        self.at += 1;
        let prefers = Some(self.preference());
        Ok(Node::Repeat { node: Box::new(atom), min, max, prefers })
    }

    fn preference(&mut self) -> Prefers {
        if self.next_is(b"?") { Prefers::Shorter } else { Prefers::Longer }
    }

    fn can_be_repeated(&self, atom: &Node) -> Result<(), Flaw> {
        match atom {
            Node::Place(_) | Node::Look(_) => Err(self.flaw(
                "a quantifier after a constraint, which matches no character",
                r"put the constraint into a group, or write `\` before it for the character",
            )),
            _ => Ok(()),
        }
    }

    /// Whether a digit follows the `{` here; without one it is a character.
    fn is_bound(&self) -> bool {
        let after = self.rest().get(1..).unwrap_or_default();
        let blank = |byte: &u8| self.is_expanded() && is_blank(*byte);
        // In expanded syntax a comment may stand here too; such a pattern is refused below.
        after.iter().find(|byte| !blank(byte)).is_some_and(u8::is_ascii_digit)
    }

    /// `{m}`, `{m,}` or `{m,n}` after `atom`.
    fn bounded(&mut self, atom: Node) -> Result<Node, Flaw> {
        let open = self.at;
        self.can_be_repeated(&atom)?;
        self.at += 1;
        let bounds = self.bounds();
        let prefers = self.preference();
        let node = Box::new(atom);
        match bounds {
            // A single number prefers nothing, whatever follows it.
            Some((min, Bound::Same)) => {
                Ok(Node::Repeat { node, min, max: Some(min), prefers: None })
            }
            Some((min, Bound::Open)) => {
                Ok(Node::Repeat { node, min, max: None, prefers: Some(prefers) })
            }
            Some((min, Bound::Max(max))) if min <= max => {
                Ok(Node::Repeat { node, min, max: Some(max), prefers: Some(prefers) })
            }
            _ => Err(Flaw::new(
                open,
                format!(
                    "a bound is `{{m}}`, `{{m,}}` or `{{m,n}}`, m at most n, none above {BOUND}"
                ),
                "use `*` or `+` when there is no bound",
            )
            .until(self.at)),
        }
    }

    /// What stands between the braces, and the closing one.
    fn bounds(&mut self) -> Option<(u32, Bound)> {
        let min = self.number()?;
        self.skip_blanks();
        let bound = if self.next_is(b",") {
            self.skip_blanks();
            match self.peek() {
                Some(b'}') => Bound::Open,
                _ => Bound::Max(self.number()?),
            }
        } else {
            Bound::Same
        };
        self.skip_blanks();
        self.next_is(b"}").then_some((min, bound))
    }

    fn skip_blanks(&mut self) {
        if self.is_expanded() {
            self.pass(is_blank);
        }
    }

    /// A number up to [`BOUND`]. Zeros may stand before it.
    fn number(&mut self) -> Option<u32> {
        self.skip_blanks();
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(self.rest().get(..digits)?).ok()?;
        let number = text.parse().ok().filter(|number| *number <= BOUND)?;
        self.at += digits;
        Some(number)
    }
}

/// What stands behind the first number of a bound.
enum Bound {
    Same,
    Open,
    Max(u32),
}

/// What expanded syntax passes over.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}
