//! The ident map: a `pg_ident.conf`, meaning what PostgreSQL 16 to 18 make of it.
//!
//! A line is `MAPNAME SYSTEM-USERNAME DATABASE-USERNAME` (manual, 21.2 "User Name Maps"). What is
//! read here is exact: quoting, commas, comments, continuation, literal names, `all`, and regular
//! expressions with `\1` as far as their meaning is known to be the same. The rest is refused with
//! its place, never guessed: `@file`, `include…`, `+role`, regular expressions as database users,
//! and expressions outside the subset (see [`pattern`]).
//!
//! ```text
//! bytes -> lines    logical lines, joined at `\`, each byte with its place
//!       -> tokens   fields and tokens, quotes off
//!       -> rule     three fields -> one rule; pattern/ reads its regular expression
//!       -> IdentMap all rules in file order, indexed by map and literal name
//! ```
//!
//! All or nothing: one bad line refuses the file, as in PostgreSQL.

mod lines;
mod mistake;
mod pattern;
mod rule;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::names::MapName;

pub use mistake::MapMistake;

use lines::LogicalLines;
use mistake::Flaw;
use rule::{Rule, RuleReader, SystemUser, Verdict};

/// Largest file, in bytes: some 100,000 lines.
const FILE_BYTES: usize = 8 << 20;
/// Most mistakes that are told of one file.
const MISTAKES: usize = 1000;

/// A parsed map file. Lines of each map stay in file order, since a line that fails ends the scan.
#[derive(Debug)]
pub struct IdentMap {
    file: String,
    revision: MapRevision,
    maps: BTreeMap<MapName, Rules>,
}

/// The lines of one map.
#[derive(Debug, Default)]
struct Rules {
    /// In file order.
    in_order: Vec<Rule>,
    /// Which of them name a system user literally, in file order for each name.
    literals: HashMap<Box<str>, Vec<usize>>,
    /// Which of them match a system user by a regular expression, in file order.
    patterns: Vec<usize>,
}

/// Which content of a map file: the SHA-256 of its bytes, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MapRevision(String);

/// One line of one revision, for audit and explanation. Displays as `pg_ident.conf:12`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleRef {
    /// The file, as it was named to [`IdentMap::parse`].
    pub file: String,
    /// The physical line, counted from 1; the first one of a continued line.
    pub line: u32,
}

/// What a map says of one system user and one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapDecision {
    /// This line lets the user act as the role.
    Allowed(RuleRef),
    /// No line does.
    NoMatch,
    /// This line could not be evaluated, which ends the scan: denied, whatever comes after it.
    Failed {
        /// The line.
        rule: RuleRef,
        /// Why, in PostgreSQL's words.
        reason: String,
    },
}

impl IdentMap {
    /// Reads a map. `file` is the name of the file as it is configured, for messages.
    ///
    /// # Errors
    /// When any line is not one that PostgreSQL accepts, or is not known here to mean the same.
    /// Every mistake is given, in file order, up to a thousand.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Vec<MapMistake>> {
        let mut map =
            Self { file: file.to_owned(), revision: MapRevision::of(bytes), maps: BTreeMap::new() };
        let mut mistakes = Mistakes { file, mark: 0, found: Vec::new() };
        let bytes = mistakes.whole_file(bytes);
        let mut reader = RuleReader::default();
        for line in LogicalLines::of(bytes) {
            let rule = match line.bytes.iter().position(|byte| *byte == 0) {
                Some(at) => Err(vec![nul(at)]),
                None => reader.read(line.number(), &tokens::split(&line.bytes), line.bytes.len()),
            };
            match rule {
                Ok(Some((name, rule))) => map.maps.entry(name).or_default().push(rule),
                Ok(None) => {}
                Err(flaws) => {
                    for flaw in flaws {
                        mistakes.push(line.position(flaw.at), flaw);
                    }
                }
            }
            if mistakes.found.len() >= MISTAKES {
                break;
            }
        }
        if mistakes.found.is_empty() { Ok(map) } else { Err(mistakes.found) }
    }

    /// Which content of the file this is.
    #[must_use]
    pub fn revision(&self) -> &MapRevision {
        &self.revision
    }

    /// May `system_user` act as `role` by the map named `map`?
    ///
    /// Lines are taken in file order and compared byte by byte. The first that allows it decides;
    /// one that fails before that ends the scan.
    #[must_use]
    pub fn decide(&self, map: &MapName, system_user: &str, role: &str) -> MapDecision {
        let Some(rules) = self.maps.get(map) else { return MapDecision::NoMatch };
        // PostgreSQL could not be given such a name at all.
        if system_user.contains('\0') {
            return MapDecision::NoMatch;
        }
        for rule in rules.that_may_match(system_user) {
            match rule.judge(system_user, role) {
                Verdict::Other => {}
                Verdict::Allows => return MapDecision::Allowed(self.rule_ref(rule)),
                Verdict::Fails(reason) => {
                    return MapDecision::Failed { rule: self.rule_ref(rule), reason };
                }
            }
        }
        MapDecision::NoMatch
    }

    /// Whether the file has a line for the map.
    #[must_use]
    pub fn has_map(&self, map: &MapName) -> bool {
        self.maps.contains_key(map)
    }

    /// The maps of the file, sorted by name.
    pub fn map_names(&self) -> impl Iterator<Item = &MapName> {
        self.maps.keys()
    }

    /// The lines of `map` that name a role by its letters alone (neither `all` nor `\1`), with
    /// that role, in file order.
    pub fn literal_roles(&self, map: &MapName) -> impl Iterator<Item = (u32, &str)> {
        let rules = self.maps.get(map).into_iter().flat_map(|rules| &rules.in_order);
        rules.filter_map(|rule| Some((rule.line, rule.literal_role()?)))
    }

    fn rule_ref(&self, rule: &Rule) -> RuleRef {
        RuleRef { file: self.file.clone(), line: rule.line }
    }
}

impl Rules {
    fn push(&mut self, rule: Rule) {
        let index = self.in_order.len();
        match &rule.system_user {
            SystemUser::Literal(name) => {
                self.literals.entry(name.clone()).or_default().push(index);
            }
            SystemUser::Pattern(_) => self.patterns.push(index),
        }
        self.in_order.push(rule);
    }

    /// The lines that name `system_user` and those with a regular expression, in file order.
    fn that_may_match(&self, system_user: &str) -> impl Iterator<Item = &Rule> {
        let named = self.literals.get(system_user).map_or(&[][..], Vec::as_slice);
        let mut literals = named.iter().peekable();
        let mut patterns = self.patterns.iter().peekable();
        std::iter::from_fn(move || {
            let index = match (literals.peek(), patterns.peek()) {
                (Some(literal), Some(pattern)) if literal < pattern => literals.next(),
                (_, Some(_)) => patterns.next(),
                (_, None) => literals.next(),
            };
            self.in_order.get(*index?)
        })
    }
}

impl MapRevision {
    fn of(bytes: &[u8]) -> Self {
        Self(HEXLOWER.encode(digest(&SHA256, bytes).as_ref()))
    }

    /// 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MapRevision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// The mistakes of one file, in file order.
struct Mistakes<'file> {
    file: &'file str,
    /// Bytes of a byte order mark that the first line begins with, and that is not read with it.
    mark: u32,
    found: Vec<MapMistake>,
}

impl Mistakes<'_> {
    fn push(&mut self, (line, column): (u32, u32), flaw: Flaw) {
        let Flaw { message, hint, .. } = flaw;
        let column = if line == 1 { column + self.mark } else { column };
        self.found.push(MapMistake { file: self.file.to_owned(), line, column, message, hint });
    }

    /// What of the file can be read line by line: nothing when it is too large, and not its
    /// byte order mark.
    fn whole_file<'bytes>(&mut self, bytes: &'bytes [u8]) -> &'bytes [u8] {
        if bytes.len() > FILE_BYTES {
            let message = format!("the file has {} bytes, at most {FILE_BYTES}", bytes.len());
            self.push((1, 1), Flaw::new(0, message, "split the maps over several brokers"));
            return &[];
        }
        let Some(rest) = bytes.strip_prefix(b"\xEF\xBB\xBF") else { return bytes };
        let message = "the file begins with a byte order mark, which PostgreSQL reads as a \
             part of the first map name";
        self.push(
            (1, 1),
            Flaw::new(0, message, "save the file as UTF-8 without a byte order mark"),
        );
        self.mark = 3;
        rest
    }
}

fn nul(at: usize) -> Flaw {
    let message = "a NUL byte: PostgreSQL would not read the rest of the line, or join lines \
         at it";
    Flaw::new(at, message, "save the file as plain UTF-8 text")
}
