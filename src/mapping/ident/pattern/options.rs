//! What stands before a pattern proper: a director, and options such as `(?i)` (manual, 9.7.3.5
//! "Regular Expression Metasyntax"; `prefixes` in `regc_lex.c`).

use super::super::mistake::Flaw;

/// How a pattern is to be read.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// `(?i)`: ASCII letters match in either case.
    pub ignores_case: bool,
    /// `(?n)` and `(?p)`: `.` and complemented brackets do not match a newline.
    pub stops_at_newline: bool,
    /// `(?n)` and `(?w)`: `^` and `$` match at newlines too.
    pub has_lines: bool,
    pub syntax: Syntax,
}

/// What the characters of a pattern mean.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    #[default]
    Usual,
    /// `(?x)`: blanks and comments mean nothing.
    Expanded,
    /// `***=` and `(?q)`: every character stands for itself.
    Literal,
}

/// The options of a pattern, and where the pattern proper begins.
///
/// # Errors
/// When PostgreSQL has no such director or option, or the syntax that one asks for is not read
/// here.
pub(super) fn read(pattern: &[u8]) -> Result<(Options, usize), Flaw> {
    let mut at = 0;
    if pattern.starts_with(b"***") {
        match pattern.get(3) {
            Some(b'=') => {
                return Ok((Options { syntax: Syntax::Literal, ..Options::default() }, 4));
            }
            Some(b':') => at = 4,
            _ => {
                return Err(Flaw::new(
                    0,
                    "`***` begins no director that PostgreSQL knows",
                    r"write `***=` before a name that is meant literally, or `\*` for the character",
                )
                .until(3));
            }
        }
    }
    let rest = pattern.get(at..).unwrap_or_default();
    match rest {
        [b'(', b'?', letter, ..] if letter.is_ascii_alphabetic() => letters(pattern, at + 2),
        _ => Ok((Options::default(), at)),
    }
}

fn letters(pattern: &[u8], mut at: usize) -> Result<(Options, usize), Flaw> {
    let mut options = Options::default();
    while let Some(letter) = pattern.get(at).filter(|byte| byte.is_ascii_alphabetic()) {
        match letter {
            b'c' => options.ignores_case = false,
            b'i' => options.ignores_case = true,
            b'm' | b'n' => (options.stops_at_newline, options.has_lines) = (true, true),
            b'p' => (options.stops_at_newline, options.has_lines) = (true, false),
            b'q' => options.syntax = Syntax::Literal,
            b's' => (options.stops_at_newline, options.has_lines) = (false, false),
            b't' | b'x' if options.syntax == Syntax::Literal => {}
            b't' => options.syntax = Syntax::Usual,
            b'w' => (options.stops_at_newline, options.has_lines) = (false, true),
            b'x' => options.syntax = Syntax::Expanded,
            b'b' | b'e' => {
                return Err(Flaw::new(
                    at,
                    "the option asks for a syntax that is not read here",
                    "leave it out, and write the pattern in the usual syntax",
                ));
            }
            b'P' => {
                return Err(Flaw::new(
                    at,
                    "PostgreSQL has no named groups",
                    r"write `(…)`; only group 1 is used, as `\1`",
                ));
            }
            _ => return Err(no_option(at)),
        }
        at += 1;
    }
    if pattern.get(at) != Some(&b')') {
        return Err(no_option(at));
    }
    Ok((options, at + 1))
}

fn no_option(at: usize) -> Flaw {
    Flaw::new(
        at,
        "PostgreSQL has no such option",
        "write `(?i)` at the beginning, for the whole pattern; the letters are c, i, m, n, p, q, \
         s, t, w and x",
    )
}
