//! The ident map: a `pg_ident.conf`, meaning what PostgreSQL 13 to 18 make of it.
//!
//! A line is `MAPNAME SYSTEM-USERNAME DATABASE-USERNAME` (manual, "User Name Maps"). What is read
//! here is exact, for each major release of its own ([`Dialect`]): quoting, commas, comments,
//! continuation, included files, literal names, `all`, `+role`, and regular expressions with `\1`
//! as far as their meaning is known to be the same. Expressions outside that are refused with
//! their place, never guessed (see [`pattern`]). What the language allows and no computer can
//! read in a sensible time is refused too: too many files, bytes, lines or expressions.
//!
//! ```text
//! files -> expand   reads the main file, and each that is included where it is included
//!       -> lines    logical lines, joined at `\`, each byte with its place
//!       -> tokens   quotes off; expand/ makes fields of them
//!       -> read     three fields -> one rule; pattern/ reads its regular expressions
//!       -> IdentMap all rules in order, indexed by map and literal name
//! ```
//!
//! All or nothing: one bad line refuses the map, as in PostgreSQL.

mod alone;
mod dialect;
mod expand;
mod index;
mod lines;
mod members;
mod mistake;
mod pattern;
mod question;
mod read;
mod rule;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod unopened;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::names::MapName;

pub(super) use alone::RoleAlone;
pub use dialect::{Dialect, DialectError};
pub(in crate::mapping) use index::Index;
pub use members::Memberships;
pub use mistake::MapMistake;
pub(crate) use pattern::{Group1, PatternFacts};
pub use question::{Case, MapDecision, Question, RuleRef};
pub use text::{MapFiles, MapRevision, MapText, RevisionBeginning};
pub use unopened::HoldsSecret;
pub use view::{Considered, DatabaseUserView, RuleView, SystemUserView, Wanted};

use expand::{Expanded, Trouble};
use mistake::{Flaw, Mistakes};
use read::{Fields, RuleReader};
use rule::{Rule, Verdict};
use text::Revision;

/// Most lines of a map. Each is asked in turn when a role is asked for.
const RULES: usize = 200_000;

/// A parsed map. Lines of each map stay in the order in which PostgreSQL reads them, since a line
/// that fails ends the scan.
#[derive(Debug)]
pub struct IdentMap {
    dialect: Dialect,
    text: MapText,
    revision: Revision,
    /// The files of the text, as lines name them, the main one first.
    files: Vec<String>,
    maps: BTreeMap<Box<[u8]>, Rules>,
    /// The groups of all `+group` lines: each decision asks for them.
    groups: BTreeSet<Box<[u8]>>,
    half_included: Vec<(Arc<str>, u32)>,
}

/// The lines of one map.
#[derive(Debug, Default)]
struct Rules {
    /// The map's name, when it can be asked for: it is not empty, and it is UTF-8.
    name: Option<MapName>,
    /// In the order of reading.
    in_order: Vec<Rule>,
    /// Which of them may be about a user.
    index: Index,
}

impl IdentMap {
    /// Reads the map whose main file is `main`, and all that it includes. `files` is asked for
    /// `main` as it stands here, and for included files by paths from the directory of `main`.
    ///
    /// # Errors
    /// When any line is not one that PostgreSQL accepts, an included file cannot be had, or a
    /// regular expression is not known here to mean the same. Every mistake is given, up to a
    /// thousand.
    pub fn load(
        dialect: Dialect,
        main: &Path,
        files: &dyn MapFiles,
    ) -> Result<Self, Vec<MapMistake>> {
        let mut maps = BTreeMap::<Box<[u8]>, Rules>::new();
        let mut reader = RuleReader::new(dialect);
        let mut count = 0;
        let mut take = |line: Fields, mistakes: &mut Mistakes| {
            count += 1;
            if count > RULES {
                let message = format!("the map has more than {RULES} lines");
                let hint = "say it in fewer lines, with groups or regular expressions";
                mistakes.push(&line.origin, Flaw::new(0, message, hint));
                return Err(Trouble::All);
            }
            match reader.read(line) {
                Ok((name, rule)) => {
                    let rules = maps.entry(name.clone()).or_insert_with(|| Rules::of(&name));
                    rules.in_order.push(rule);
                    Ok(())
                }
                Err(faults) => {
                    for (origin, flaw) in faults {
                        mistakes.push(&origin, flaw);
                    }
                    Err(Trouble::Line)
                }
            }
        };
        let expanded = expand::expand(dialect, main, files, &mut take);
        let Expanded { text, half_included } = expanded.map_err(Mistakes::into_found)?;
        maps.values_mut().for_each(Rules::index);
        let groups = maps.values().flat_map(|rules| &rules.in_order).filter_map(Rule::group);
        let groups = groups.map(Box::from).collect();
        let files = text.files().map(|(file, _)| file.to_owned()).collect();
        let revision = text.revision(dialect);
        Ok(Self { dialect, text, revision, files, maps, groups, half_included })
    }

    /// Reads a map that stands in `bytes` alone, and can include nothing. `file` is the name of
    /// the file, for messages.
    ///
    /// # Errors
    /// As [`Self::load`], and when a line includes a file.
    pub fn parse(dialect: Dialect, file: &str, bytes: &[u8]) -> Result<Self, Vec<MapMistake>> {
        let main = Path::new(file);
        Self::load(dialect, main, &Alone { main, bytes })
    }

    /// The same map, whose lines are told to stand where `shown` says of each file. For showing it
    /// only: what was read, and which revision that is, stays.
    #[must_use]
    pub fn shown_at(mut self, shown: impl Fn(&str) -> String) -> Self {
        let mut names = BTreeMap::<Arc<str>, Arc<str>>::new();
        let rules = self.maps.values_mut().flat_map(|rules| &mut rules.in_order);
        let included = self.half_included.iter_mut().map(|(file, _)| file);
        for named in rules.map(|rule| &mut rule.file).chain(included) {
            let file = Arc::clone(named);
            *named = Arc::clone(names.entry(file).or_insert_with_key(|file| shown(file).into()));
        }
        self.files = self.text.files().map(|(file, _)| shown(file)).collect();
        self
    }

    /// Every file that was read, with its bytes, as lines name it.
    pub fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        let bytes = self.text.files().map(|(_, bytes)| bytes);
        self.files.iter().cloned().zip(bytes)
    }

    /// The lines that name several files to include, of which PostgreSQL includes the first alone.
    pub fn half_included(&self) -> impl Iterator<Item = RuleRef> {
        let places = self.half_included.iter();
        places.map(|(file, line)| RuleRef { file: file.to_string(), line: *line })
    }

    /// Whose reading of the language this is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// All that was read: [`Self::load`] makes the same map of it again.
    #[must_use]
    pub fn text(&self) -> &MapText {
        &self.text
    }

    /// Which content, read by which dialect, this is.
    #[must_use]
    pub fn revision(&self) -> &MapRevision {
        &self.revision.now
    }

    /// Whether it is this content that is called `revision`, or was when the name of the main file
    /// counted.
    #[must_use]
    pub fn is_revision(&self, revision: &MapRevision) -> bool {
        [&self.revision.now, &self.revision.formerly].contains(&revision)
    }

    /// The same map by the revision that it was kept as, if that is one of this content.
    #[must_use]
    pub fn called(mut self, revision: &MapRevision) -> Self {
        if self.is_revision(revision) {
            self.revision.now = revision.clone();
        }
        self
    }

    /// Whether a line of `file` here is one of `other` there, where the same content is read by
    /// whatever name of the main file.
    #[must_use]
    pub fn is_same_file(&self, file: &str, other: &str) -> bool {
        let is_main = |file: &str| self.files.first().is_some_and(|main| main == file);
        let is_known = |file: &str| self.files.iter().any(|known| known == file);
        file == other || (is_main(file) && !is_known(other))
    }

    /// May the system user act as the role?
    ///
    /// Lines are taken in order. The first that allows it decides; one that fails before that ends
    /// the scan.
    #[must_use]
    pub fn decide(&self, question: &Question<'_>) -> MapDecision {
        match self.first(question) {
            Some((rule, Verdict::Fails(reason))) => {
                MapDecision::Failed { rule: RuleView(rule).reference(), reason }
            }
            Some((rule, _)) => MapDecision::Allowed(RuleView(rule).reference()),
            None => MapDecision::NoMatch,
        }
    }

    /// What group 1 of the pattern holds of the system user, when the line that lets them act as
    /// the role uses it.
    #[must_use]
    pub fn capture(&self, question: &Question<'_>) -> Option<Vec<u8>> {
        match RuleView(self.first(question)?.0).consider(question) {
            Considered::Allows { capture } => capture,
            _ => None,
        }
    }

    /// The line that decides, and what it says: it allows, or it fails.
    fn first<'a>(&'a self, question: &Question<'a>) -> Option<(&'a Rule, Verdict<'a>)> {
        let mut rules = self.rules_of(question.map)?.that_may_match(question.system_user);
        rules.find_map(|rule| match rule.judge(question) {
            Verdict::OtherUser | Verdict::OtherRole(_) => None,
            decides => Some((rule, decides)),
        })
    }

    /// The lines of `map`, in the order in which they are asked.
    pub fn rules(&self, map: &MapName) -> impl ExactSizeIterator<Item = RuleView<'_>> {
        let rules = self.rules_of(map).map(|rules| rules.in_order.as_slice());
        rules.unwrap_or_default().iter().map(RuleView)
    }

    /// The lines of `map` that may be about `system_user`, in order, each with its place among
    /// [`Self::rules`]. All others are about others, whatever is asked.
    pub(in crate::mapping) fn rules_about(
        &self,
        map: &MapName,
        system_user: &[u8],
    ) -> impl Iterator<Item = (usize, RuleView<'_>)> {
        let rules = self.rules_of(map);
        let places = rules.map(|rules| rules.index.that_may_match(system_user));
        let rules = rules.map(|rules| rules.in_order.as_slice()).unwrap_or_default();
        let places = places.unwrap_or_default().into_iter();
        places.filter_map(|place| Some((place, RuleView(rules.get(place)?))))
    }

    /// Whether there is a line for the map.
    #[must_use]
    pub fn has_map(&self, map: &MapName) -> bool {
        self.rules_of(map).is_some()
    }

    /// The maps that can be asked for, sorted by name.
    pub fn map_names(&self) -> impl Iterator<Item = &MapName> {
        self.maps.values().filter_map(|rules| rules.name.as_ref())
    }

    /// The lines of maps that cannot be asked for: their name is empty, or it is not UTF-8.
    pub fn never_asked(&self) -> impl Iterator<Item = RuleView<'_>> {
        let nameless = self.maps.values().filter(|rules| rules.name.is_none());
        nameless.flat_map(|rules| &rules.in_order).map(RuleView)
    }

    /// The groups of all `+group` lines: their members must be asked of the cluster. A `+` alone
    /// has no group, and so no members.
    #[must_use]
    pub fn asked_groups(&self) -> BTreeSet<&[u8]> {
        self.groups.iter().map(|group| &**group).collect()
    }

    fn rules_of(&self, map: &MapName) -> Option<&Rules> {
        self.maps.get(map.as_str().as_bytes())
    }
}

impl Rules {
    fn of(name: &[u8]) -> Self {
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        Self { name, ..Self::default() }
    }

    fn index(&mut self) {
        self.index = Index::of(self.in_order.iter().map(RuleView));
    }

    /// The lines that may be about `system_user`, in order: all others are not.
    fn that_may_match(&self, system_user: &[u8]) -> impl Iterator<Item = &Rule> {
        let places = self.index.that_may_match(system_user);
        places.into_iter().filter_map(|place| self.in_order.get(place))
    }
}

/// One file that is not in any directory.
struct Alone<'a> {
    main: &'a Path,
    bytes: &'a [u8],
}

impl MapFiles for Alone<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.main { Ok(self.bytes.to_vec()) } else { Err(alone()) }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Err(alone())
    }
}

fn alone() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "no files can be included here")
}
