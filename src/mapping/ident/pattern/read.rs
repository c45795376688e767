//! Reads a pattern into a tree, or says which part of it is not accepted and what to write.
//!
//! Everything here is known to mean the same to PostgreSQL (`regc_lex.c`, `regcomp.c`). What is
//! not listed is refused, also where PostgreSQL would take it.

use super::super::mistake::Flaw;
use super::bytes::{ByteSet, class_escape, posix_class};
use super::tree::{Kind, Node, Sequence};

/// Deepest nesting of groups, far below what the stack holds.
const NESTING: usize = 50;
/// Largest bound in `{m,n}` (`DUPMAX` in PostgreSQL's `regguts.h`).
const BOUND: u32 = 255;

/// Reads a pattern of the form `^…$`.
pub(super) fn read(pattern: &[u8]) -> Result<Sequence, Flaw> {
    let mut reader = Reader { pattern, at: 0, depth: 0, captures: 0 };
    reader.begin()?;
    let sequence = reader.sequence()?;
    match reader.peek() {
        Some(b'$') => Ok(sequence),
        Some(b')') => Err(reader.flaw("`)` closes no group", r"write `\)` for the character")),
        Some(_) => Err(reader.flaw(
            "alternation outside a group: `^` belongs to its first branch only and `$` to its \
                 last",
            "write `^(?:…|…)$`",
        )),
        None => Err(reader.flaw(
            "the regular expression does not end with `$`, so anything may follow what it \
                 matches",
            "end it with `$`; with `.*$` when anything may follow",
        )),
    }
}

struct Reader<'pattern> {
    pattern: &'pattern [u8],
    at: usize,
    depth: usize,
    captures: u32,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
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

    /// The `^`, and nothing before it.
    fn begin(&mut self) -> Result<(), Flaw> {
        if self.next_is(b"^") {
            return Ok(());
        }
        Err(if self.rest().starts_with(b"***") {
            self.flaw("directors (`***=`, `***:`) are not accepted", "write the pattern as `^…$`")
        } else if self.rest().starts_with(b"(?") && !self.rest().starts_with(b"(?:") {
            self.special_group()
        } else {
            self.flaw(
                "the regular expression does not begin with `^`: it would be found anywhere",
                "begin it with `^`; with `^.*` when anything may come before",
            )
        })
    }

    /// Parts up to a `|`, a `)`, the final `$` or the end.
    fn sequence(&mut self) -> Result<Sequence, Flaw> {
        let mut sequence = Vec::new();
        while let Some(byte) = self.peek() {
            match byte {
                b'|' | b')' => break,
                b'$' if self.depth == 0 && self.rest().len() == 1 => break,
                _ => {
                    let atom = self.atom()?;
                    sequence.push(self.quantified(atom)?);
                }
            }
        }
        Ok(sequence)
    }

    fn atom(&mut self) -> Result<Node, Flaw> {
        let at = self.at;
        let kind = match self.peek() {
            Some(b'(') => self.group()?,
            Some(b'[') => Kind::Byte(self.bracket()?),
            Some(b'\\') => Kind::Byte(self.escape()?),
            Some(b'.') => {
                self.at += 1;
                Kind::Byte(ByteSet::ALL)
            }
            Some(b'^' | b'$') => {
                return Err(self.flaw(
                    "an anchor inside the regular expression",
                    r"keep one `^` first and one `$` last; `\^` and `\$` are the characters",
                ));
            }
            Some(b'*' | b'+' | b'?') => {
                return Err(self.flaw(
                    "nothing stands before the quantifier",
                    r"write `\*`, `\+` or `\?` for the character",
                ));
            }
            Some(b'{') => {
                return Err(
                    self.flaw("`{` without a bound after a part", r"write `\{` for the character")
                );
            }
            Some(byte) => {
                self.at += 1;
                Kind::Byte(ByteSet::single(byte))
            }
            None => return Err(self.flaw("the regular expression ends too early", "")),
        };
        Ok(Node { at, kind })
    }

    fn group(&mut self) -> Result<Kind, Flaw> {
        let open = self.at;
        if self.rest().starts_with(b"(?") && !self.rest().starts_with(b"(?:") {
            return Err(self.special_group());
        }
        if self.depth == NESTING {
            return Err(
                self.flaw(format!("groups nest deeper than {NESTING}"), "write fewer groups")
            );
        }
        self.depth += 1;
        let capture = if self.next_is(b"(?:") {
            None
        } else {
            self.at += 1;
            self.captures += 1;
            Some(self.captures)
        };
        let mut branches = vec![self.branch()?];
        while self.next_is(b"|") {
            branches.push(self.branch()?);
        }
        if !self.next_is(b")") {
            let hint = r"close it with `)`, or write `\(` for the character";
            return Err(Flaw::new(open, "the group is not closed", hint));
        }
        self.depth -= 1;
        Ok(Kind::Group { capture, branches })
    }

    fn branch(&mut self) -> Result<Sequence, Flaw> {
        let branch = self.sequence()?;
        if branch.is_empty() && self.peek().is_some() {
            return Err(
                self.flaw("an empty group or branch", "write `(?:…)?` for what may be absent")
            );
        }
        Ok(branch)
    }

    /// What is wrong with a group that begins with `(?` but not with `(?:`.
    fn special_group(&self) -> Flaw {
        let rest = self.rest();
        let begins = |heads: &[&str]| heads.iter().any(|head| rest.starts_with(head.as_bytes()));
        if begins(&["(?=", "(?!", "(?<=", "(?<!"]) {
            self.flaw(
                "look-ahead and look-behind are not accepted",
                "say what may stand there with brackets, or with one line for each case",
            )
        } else if begins(&["(?<", "(?P"]) {
            self.flaw(
                "PostgreSQL has no named groups",
                "write `(…)`; only group 1 is used, as `\\1`",
            )
        } else if begins(&["(?>"]) {
            self.flaw("PostgreSQL has no atomic groups", "write `(?:…)`")
        } else if begins(&["(?#"]) {
            self.flaw(
                "comments inside the expression are not accepted",
                "write the comment after `#` at the end of the line",
            )
        } else {
            self.flaw(
                "options such as `(?i)` are not accepted",
                "write both cases, `[Aa]`, or one line for each spelling",
            )
        }
    }

    /// `atom`, with the quantifier that follows it.
    fn quantified(&mut self, atom: Node) -> Result<Node, Flaw> {
        let at = self.at;
        let (min, max) = match self.peek() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') => self.bounds()?,
            _ => return Ok(atom),
        };
        if self.at == at {
            self.at += 1;
        }
        if self.pattern.get(atom.at).is_some_and(|byte| !byte.is_ascii()) {
            return Err(Flaw::new(
                at,
                "a quantifier after a character outside ASCII: PostgreSQL would repeat its \
                     last byte",
                "put the character into a group, `(?:…)`",
            ));
        }
        match self.peek() {
            Some(b'?') => Err(self.flaw(
                "non-greedy quantifiers are not accepted: one changes the whole branch",
                "leave the `?` out; say what may not be passed, `[^@]*` instead of `.*?`",
            )),
            Some(b'*' | b'+' | b'{') => Err(self.flaw(
                "a quantifier after a quantifier, which PostgreSQL refuses",
                "use one quantifier, or a group between: `(?:…)`",
            )),
            _ => Ok(Node { at: atom.at, kind: Kind::Repeat { node: Box::new(atom), min, max } }),
        }
    }

    /// `{m}`, `{m,}` or `{m,n}`.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), Flaw> {
        let open = self.at;
        self.at += 1;
        let Some(min) = self.number() else {
            let hint = r"write `{0,n}` for at most n, or `\{` for the character";
            return Err(Flaw::new(open, "`{` without a number is a character to PostgreSQL", hint));
        };
        let max = if self.next_is(b",") {
            if self.peek() == Some(b'}') { None } else { Some(self.number()) }
        } else {
            Some(Some(min))
        };
        let closed = self.next_is(b"}");
        match max {
            None if closed && min <= BOUND => Ok((min, None)),
            Some(Some(max)) if closed && min <= max && (1..=BOUND).contains(&max) => {
                Ok((min, Some(max)))
            }
            _ => Err(Flaw::new(
                open,
                format!(
                    "a bound is `{{m}}`, `{{m,}}` or `{{m,n}}`, m at most n, n from 1 to {BOUND}"
                ),
                "use `*` or `+` when there is no bound",
            )),
        }
    }

    /// A number of one to three digits.
    fn number(&mut self) -> Option<u32> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = self.rest().get(..digits).filter(|text| (1..=3).contains(&text.len()))?;
        let number = std::str::from_utf8(text).ok()?.parse().ok()?;
        self.at += digits;
        Some(number)
    }

    /// A backslash and what follows it, outside brackets.
    fn escape(&mut self) -> Result<ByteSet, Flaw> {
        let at = self.at;
        self.at += 1;
        let Some(letter) = self.next() else {
            let hint = r"write `\\` for the character";
            return Err(Flaw::new(at, r"a `\` at the end escapes nothing", hint));
        };
        if let Some(class) = class_escape(letter.to_ascii_lowercase()) {
            let negated = letter.is_ascii_uppercase();
            return Ok(if negated { class.complement() } else { class });
        }
        if is_escapable(letter) {
            return Ok(ByteSet::single(letter));
        }
        let (message, hint) = refused_escape(letter);
        Err(Flaw::new(at, message, hint))
    }

    /// `[…]`.
    fn bracket(&mut self) -> Result<ByteSet, Flaw> {
        let open = self.at;
        self.at += 1;
        let negated = self.next_is(b"^");
        let first = self.at;
        let mut set = ByteSet::EMPTY;
        loop {
            match self.peek() {
                None => {
                    let hint = r"close it with `]`, or write `\[` for the character";
                    return Err(Flaw::new(open, "the bracket expression is not closed", hint));
                }
                Some(b']') if self.at > first => {
                    self.at += 1;
                    return Ok(if negated { set.complement() } else { set });
                }
                Some(_) => set = set.union(self.bracket_item(first)?),
            }
        }
    }

    /// A character, a range or a class within brackets that begin at `first`.
    fn bracket_item(&mut self, first: usize) -> Result<ByteSet, Flaw> {
        let at = self.at;
        if self.rest().starts_with(b"[") {
            let class = self.posix()?;
            return self.no_range_after(class);
        }
        if self.peek() == Some(b'-') && at > first && !self.rest().starts_with(b"-]") {
            return Err(self.flaw(
                "`-` in the middle of a bracket expression",
                r"write `\-`, or put it first or last",
            ));
        }
        let begin = match self.bracket_byte()? {
            Element::Class(class) => return self.no_range_after(class),
            Element::Byte(byte) => byte,
        };
        if self.peek() != Some(b'-') || self.rest().starts_with(b"-]") {
            return Ok(ByteSet::single(begin));
        }
        self.at += 1;
        let plain =
            !matches!(self.peek(), Some(b'-' | b'[')) && self.pattern.get(at) != Some(&b'-');
        match (plain, plain.then(|| self.bracket_byte()).transpose()?) {
            (true, Some(Element::Byte(end))) if begin <= end => Ok(ByteSet::range(begin, end)),
            _ => Err(Flaw::new(
                at,
                "not a range: it goes from one character to a later one",
                r"write `\-` for the character `-`",
            )),
        }
    }

    fn no_range_after(&self, class: ByteSet) -> Result<ByteSet, Flaw> {
        if self.peek() == Some(b'-') && !self.rest().starts_with(b"-]") {
            return Err(
                self.flaw("a class cannot begin a range", r"write `\-` for the character `-`")
            );
        }
        Ok(class)
    }

    /// A character or escape within brackets.
    fn bracket_byte(&mut self) -> Result<Element, Flaw> {
        let at = self.at;
        let Some(byte) = self.next() else {
            return Err(Flaw::new(at, "the bracket expression is not closed", "close it with `]`"));
        };
        if !byte.is_ascii() {
            return Err(Flaw::new(
                at,
                "a character outside ASCII in brackets: PostgreSQL would match each of its bytes",
                "write an alternation, `(?:é|è)`",
            ));
        }
        if byte != b'\\' {
            return Ok(Element::Byte(byte));
        }
        match self.next() {
            Some(letter) if is_escapable(letter) => Ok(Element::Byte(letter)),
            Some(letter) => class_escape(letter).map(Element::Class).ok_or_else(|| {
                Flaw::new(
                    at,
                    "this escape is not accepted in a bracket expression",
                    r"`\d`, `\s`, `\w` and escaped punctuation are",
                )
            }),
            None => Err(Flaw::new(
                at,
                r"a `\` at the end escapes nothing",
                r"write `\\` for the character",
            )),
        }
    }

    /// `[:name:]` within brackets.
    fn posix(&mut self) -> Result<ByteSet, Flaw> {
        let at = self.at;
        if !self.next_is(b"[:") {
            return Err(
                self.flaw("`[` within a bracket expression", r"write `\[` for the character")
            );
        }
        let length = self.rest().iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        let class = self.rest().get(..length).and_then(posix_class);
        self.at += length;
        match class {
            Some(class) if self.next_is(b":]") => Ok(class),
            _ => Err(Flaw::new(
                at,
                "not an accepted class",
                "use alnum, alpha, blank, digit, graph, lower, print, punct, space, upper or \
                     xdigit",
            )),
        }
    }
}

/// What stands within brackets.
enum Element {
    Byte(u8),
    Class(ByteSet),
}

/// Escaped ASCII punctuation, and an escaped blank, are the character itself.
fn is_escapable(byte: u8) -> bool {
    byte.is_ascii_punctuation() || byte == b' '
}

/// Why the escape of `letter` is not accepted, and what to write instead.
fn refused_escape(letter: u8) -> (&'static str, &'static str) {
    match letter {
        b'b' => (
            r"`\b` is a backspace to PostgreSQL, not the border of a word",
            "leave it out: the pattern is held by `^` and `$`",
        ),
        b'B' => (r"`\B` is a backslash to PostgreSQL", r"write `\\`"),
        b'm' | b'M' | b'y' | b'Y' => (
            "borders of words are not accepted",
            "say which characters may stand there, with a bracket expression",
        ),
        b'A' => (r"`\A` is not accepted", "write `^` at the beginning"),
        b'Z' => (r"`\Z` is not accepted", "write `$` at the end"),
        b'z' => (r"PostgreSQL has no `\z`", "write `$` at the end"),
        b'1'..=b'9' => (
            "back references inside the regular expression are not accepted",
            "write one line of the map for each case",
        ),
        b'0' | b'x' | b'u' | b'U' | b'c' | b'e' | b'a' | b'f' | b'n' | b'r' | b't' | b'v' => (
            "escapes for characters by number or name are not accepted",
            "write the character itself, in quotes if it is a blank",
        ),
        b'Q' | b'E' => (r"PostgreSQL has no `\Q…\E`", r"put a `\` before each special character"),
        b'p' | b'P' => (
            "PostgreSQL has no classes of Unicode",
            "write the characters, or a class such as `[[:alpha:]]`, which is ASCII",
        ),
        _ if !letter.is_ascii() => ("only ASCII punctuation can be escaped", r"leave the `\` out"),
        _ => ("PostgreSQL has no such escape", r"leave the `\` out"),
    }
}
