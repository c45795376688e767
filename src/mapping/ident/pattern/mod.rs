//! Regular expressions in the system-user field: what PostgreSQL would match, or a refusal.
//!
//! The reader knows a part of PostgreSQL's "advanced" syntax (manual, 9.7.3 "POSIX Regular
//! Expressions") whose meaning it can keep, and refuses everything else. What it accepts becomes
//! a tree of our own, from which a pattern for the `regex` crate is written that uses nothing but
//! byte classes, groups and bounds. No character of the map reaches that crate as syntax.

mod bytes;
mod capture;
mod read;
mod tree;

use regex::bytes::{Regex, RegexBuilder};

use super::dialect::Dialect;
use super::mistake::Flaw;
use tree::{Kind, Node};

/// Longest pattern, in bytes after the `/`.
const PATTERN_BYTES: usize = 4096;
/// Most bytes that a pattern may stand for once its bounds are written out. PostgreSQL takes
/// seconds for a few times as many, and then calls them too complex.
const PATTERN_STEPS: usize = 1024;
/// Memory of one compiled pattern, in bytes; the bound above is met first.
const COMPILED_BYTES: usize = 4 << 20;

/// A pattern that means here what it means to PostgreSQL.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The pattern as it is written, without the `/`.
    text: Box<[u8]>,
    /// Bytes with which every match begins, and with which it ends: quicker to ask than the
    /// expression.
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    steps: usize,
    regex: Regex,
}

/// What group 1 is used for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Use {
    /// Nothing: only whether a name matches is asked.
    Match,
    /// It becomes part of the role.
    Capture,
}

/// What a pattern says of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Match<'name> {
    No,
    /// The name matches; group 1 holds these bytes, unless there is none or it took no part.
    Yes(Option<&'name [u8]>),
    /// It could not be found out, for this reason.
    #[expect(dead_code, reason = "for what a pattern may meet while it is matched")]
    Fails(String),
}

impl Pattern {
    /// Reads a pattern, without the leading `/`.
    ///
    /// # Errors
    /// When its meaning is not known to be PostgreSQL's; the offset counts from the `/`.
    pub fn compile(text: &[u8], _dialect: Dialect, purpose: Use) -> Result<Self, Flaw> {
        if text.len() > PATTERN_BYTES {
            return Err(Flaw::new(
                PATTERN_BYTES,
                format!("regular expression of {} bytes, at most {PATTERN_BYTES}", text.len()),
                "split it over several lines of the map",
            ));
        }
        let tree = read::read(text)?;
        let steps = tree.iter().fold(0, |sum: usize, node| sum.saturating_add(node.steps()));
        if steps > PATTERN_STEPS {
            return Err(too_large());
        }
        if purpose == Use::Capture {
            capture::check(&tree)?;
        }
        let mut translated = String::from(r"\A(?:");
        for node in &tree {
            node.write(&mut translated);
        }
        translated.push_str(r")\z");
        let regex = RegexBuilder::new(&translated)
            .unicode(false)
            .size_limit(COMPILED_BYTES)
            .build()
            .map_err(|_| too_large())?;
        let prefix = tree.iter().map_while(literal).collect();
        let mut suffix: Box<[u8]> = tree.iter().rev().map_while(literal).collect();
        suffix.reverse();
        Ok(Self { text: text.into(), prefix, suffix, steps, regex })
    }

    /// The pattern as it is written, without the `/`.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Bytes that it stands for, which its memory grows with.
    pub fn steps(&self) -> usize {
        self.steps
    }

    pub fn matches<'name>(&self, name: &'name [u8], purpose: Use) -> Match<'name> {
        if !name.starts_with(&self.prefix) || !name.ends_with(&self.suffix) {
            return Match::No;
        }
        match purpose {
            Use::Match if self.regex.is_match(name) => Match::Yes(None),
            Use::Match => Match::No,
            Use::Capture => match self.regex.captures(name) {
                Some(captures) => Match::Yes(captures.get(1).map(|group| group.as_bytes())),
                None => Match::No,
            },
        }
    }
}

fn literal(node: &Node) -> Option<u8> {
    match &node.kind {
        Kind::Byte(set) => set.only(),
        Kind::Group { .. } | Kind::Repeat { .. } => None,
    }
}

fn too_large() -> Flaw {
    Flaw::new(
        0,
        format!("the bounds of the regular expression stand for more than {PATTERN_STEPS} bytes"),
        "use `*` or `+` instead of large bounds",
    )
}
