//! Regular expressions of a map: what PostgreSQL would match, or a refusal.
//!
//! PostgreSQL's "advanced" syntax (manual, 9.7.3 "POSIX Regular Expressions") is read into a tree
//! of our own. Two questions are asked of it:
//!
//! ```text
//! bytes -> options, read    what the pattern says, as a tree
//!       -> regex            does it match at all? A pattern for the `regex` crate, of byte
//!                           classes, groups, bounds and places: no character of the map reaches
//!                           that crate as syntax
//!       -> language         where can a part of it end that begins here?
//!       -> dissect          what does group 1 hold? By PostgreSQL's way, which is nobody else's
//! ```
//!
//! The map is read before any database is known, so to PostgreSQL its encoding is `SQL_ASCII` and
//! its collation C: patterns match bytes, and know the letters of ASCII only.
//!
//! Refused are back references, the older syntaxes, names of collating elements, and patterns
//! beyond the bounds below.

mod bracket;
mod classes;
mod dissect;
mod escape;
mod facts;
mod language;
mod options;
mod read;
#[cfg(test)]
mod tests;
mod tree;
mod work;

use regex::bytes::{Regex, RegexBuilder};

use super::Dialect;
use super::mistake::Flaw;
use dissect::Plan;
use language::{TooMuch, WORK};
use tree::{Node, Place, Sequence};
use work::NamesUpTo;

pub(crate) use facts::{Group1, PatternFacts};

/// Longest pattern, in bytes after the `/`.
const PATTERN_BYTES: usize = 4096;
/// Most bytes that a pattern may stand for once its bounds are written out. PostgreSQL takes
/// seconds for a few times as many, and then calls them too complex.
const PATTERN_STEPS: usize = 1024;
/// Most constraints, such as `^` or `\m`, in parts that are repeated. With twice as many PostgreSQL
/// 13 calls a pattern too complex.
const LOOPED_CONSTRAINTS: usize = 12;
/// Memory of one compiled pattern, in bytes; the bound above is met first.
const COMPILED_BYTES: usize = 4 << 20;

/// A pattern that means here what it means to PostgreSQL.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The pattern as it is written, without the `/`.
    text: Box<[u8]>,
    /// Bytes with which every name begins that matches, and with which it ends: quicker to ask
    /// than the expression.
    prefix: Box<[u8]>,
    suffix: Box<[u8]>,
    needles: Vec<Box<[u8]>>,
    group_1: Group1,
    steps: usize,
    /// None for a pattern with look-around.
    regex: Option<Regex>,
    /// None when `regex` answers all that is asked.
    plan: Option<Plan>,
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
    Fails(String),
}

impl Pattern {
    /// Reads a pattern, without the leading `/`.
    ///
    /// # Errors
    /// When PostgreSQL of the dialect refuses it, or it has a part that is not evaluated here; the
    /// offset counts from the `/`.
    pub fn compile(text: &[u8], dialect: Dialect, purpose: Use) -> Result<Self, Flaw> {
        if text.len() > PATTERN_BYTES {
            return Err(Flaw::new(
                PATTERN_BYTES,
                format!("regular expression of {} bytes, at most {PATTERN_BYTES}", text.len()),
                "split it over several lines of the map",
            )
            .until(text.len()));
        }
        let branches = read::read(text, dialect)?;
        let steps = tree::steps(&branches);
        if steps > PATTERN_STEPS {
            return Err(too_large().until(text.len()));
        }
        let nodes = branches.iter().flatten();
        if nodes.map(|node| node.constraints_in_loops(false)).sum::<usize>() > LOOPED_CONSTRAINTS {
            return Err(too_entangled().until(text.len()));
        }
        let regex = translate(&branches)?;
        let plan =
            (regex.is_none() || purpose == Use::Capture).then(|| Plan::of(&branches, dialect));
        let (prefix, suffix) = ends(&branches);
        let needles = tree::needles(&branches);
        let group_1 = facts::group_1_of_branches(&branches);
        Ok(Self { text: text.into(), prefix, suffix, needles, group_1, steps, regex, plan })
    }

    /// The pattern as it is written, without the `/`.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Runs of bytes that every name holds which matches, in lower case; they may be in either
    /// case there.
    pub fn needles(&self) -> impl Iterator<Item = &[u8]> {
        self.needles.iter().map(|needle| &**needle)
    }

    /// Bytes that it stands for, which its memory grows with.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Whether a match gives `\1` something.
    pub fn group_1(&self) -> Group1 {
        self.group_1
    }

    /// Whether there may be names that are too much for it.
    pub fn can_fail(&self) -> bool {
        self.plan.is_some()
    }

    /// Whether a name of at most so many bytes may be too much for it.
    pub fn may_give_up(&self, bytes: usize) -> bool {
        // Where a match begins the expression tells.
        let begins = if self.regex.is_some() { 1 } else { bytes.saturating_add(1) };
        let most = |plan: &Plan| plan.most_work(begins, NamesUpTo { bytes });
        self.plan.as_ref().is_some_and(|plan| most(plan) > WORK)
    }

    /// What the pattern says of a name. Group 1 is known only to a pattern that was compiled for
    /// it.
    pub fn matches<'name>(&self, name: &'name [u8], purpose: Use) -> Match<'name> {
        if !name.starts_with(&self.prefix) || !name.ends_with(&self.suffix) {
            return Match::No;
        }
        match (&self.regex, &self.plan, purpose) {
            (Some(regex), _, Use::Match) | (Some(regex), None, _) => {
                if regex.is_match(name) {
                    Match::Yes(None)
                } else {
                    Match::No
                }
            }
            // Where the first match begins is a question with one answer too.
            (Some(regex), Some(plan), Use::Capture) => match regex.find(name) {
                Some(found) => self.taken_apart(plan, name, found.start()),
                None => Match::No,
            },
            (None, Some(plan), _) => self.taken_apart(plan, name, 0),
            // A pattern without the one has the other.
            (None, None, _) => Match::No,
        }
    }

    /// What the pattern says of a name, and what group 1 holds, looked for from `begin`.
    fn taken_apart<'name>(&self, plan: &Plan, name: &'name [u8], begin: usize) -> Match<'name> {
        match plan.find(name, begin) {
            Ok(found) => found,
            // An index of lines leaves such a name out and never comes here: the answer must be one.
            Err(TooMuch) if !self.has_needles(name) => Match::No,
            Err(TooMuch) => {
                Match::Fails("the name is too long for the regular expression".to_owned())
            }
        }
    }

    /// Whether the name holds all that every match holds.
    fn has_needles(&self, name: &[u8]) -> bool {
        let mut needles = self.needles.iter().filter(|needle| !needle.is_empty());
        needles
            .all(|needle| name.windows(needle.len()).any(|part| part.eq_ignore_ascii_case(needle)))
    }
}

/// The pattern for the `regex` crate, unless that cannot say it.
fn translate(branches: &[Sequence]) -> Result<Option<Regex>, Flaw> {
    let mut translated = String::new();
    if !tree::write(branches, &mut translated) {
        return Ok(None);
    }
    let mut builder = RegexBuilder::new(&translated);
    // What the map says of newlines is written out in its sets.
    builder.unicode(false).size_limit(COMPILED_BYTES);
    builder.build().map(Some).map_err(|_| too_large())
}

/// The bytes that every name begins and ends with that matches.
fn ends(branches: &[Sequence]) -> (Box<[u8]>, Box<[u8]>) {
    let [branch] = branches else { return Default::default() };
    let prefix = match branch.split_first() {
        Some((Node::Place(Place::Begin), rest)) => rest.iter().map_while(Node::literal).collect(),
        _ => Box::default(),
    };
    let mut suffix: Box<[u8]> = match branch.split_last() {
        Some((Node::Place(Place::End), rest)) => {
            rest.iter().rev().map_while(Node::literal).collect()
        }
        _ => Box::default(),
    };
    suffix.reverse();
    (prefix, suffix)
}

fn too_large() -> Flaw {
    Flaw::new(
        0,
        format!("the bounds of the regular expression stand for more than {PATTERN_STEPS} bytes"),
        "use `*` or `+` instead of large bounds",
    )
}

fn too_entangled() -> Flaw {
    Flaw::new(
        0,
        format!(
            "more than {LOOPED_CONSTRAINTS} constraints, such as `^` or `\\m`, stand in parts that \
             are repeated; PostgreSQL may call that too complex"
        ),
        "write the constraints before or after what is repeated",
    )
}
