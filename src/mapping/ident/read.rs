//! From the fields of a line to a rule (`parse_ident_line` in `hba.c`).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::dialect::Dialect;
use super::lines::Origin;
use super::mistake::{Fault, Flaw};
use super::pattern::{Pattern, Use};
use super::rule::{DatabaseUser, Rule, SystemUser, Written};
use super::tokens::Token;

/// Most different regular expressions in one map: each takes some 20 kilobytes of memory.
const PATTERNS: usize = 10_000;
/// Most bytes that they may stand for in all, their bounds written out.
const STEPS: usize = 500_000;

/// A token, and the line that it stands in.
pub(super) struct Word {
    pub token: Token,
    pub origin: Rc<Origin>,
}

impl Word {
    fn fault(&self, at: usize, message: impl Into<String>, hint: &str) -> Fault {
        (Rc::clone(&self.origin), Flaw::new(at, message, hint))
    }
}

/// One field: the tokens that commas join, those of `@file` included. Only whether there are
/// several matters, so no more than two are kept.
pub(super) struct Field {
    pub first: Word,
    second: Option<Word>,
}

impl Field {
    pub fn of(first: Word) -> Self {
        Self { first, second: None }
    }

    pub fn push(&mut self, word: Word) {
        self.second.get_or_insert(word);
    }

    pub fn append(&mut self, other: Self) {
        self.push(other.first);
    }

    /// Whether it has more values than one.
    pub fn is_list(&self) -> bool {
        self.second.is_some()
    }

    /// The one token of a field of the line that begins at `line`.
    fn single(&self, line: &Rc<Origin>) -> Result<&Word, Fault> {
        let Some(second) = &self.second else { return Ok(&self.first) };
        let is_in_line = |word: &Word| Rc::ptr_eq(&word.origin, line);
        let hint = if is_in_line(&self.first) && is_in_line(second) {
            "write one line for each value; quote a value that holds a comma, such as a regular \
             expression with `{1,3}`"
        } else {
            "a field has one value, also from an `@file`: write a line of the map for each, and \
             quote a value that holds a blank or a comma"
        };
        Err(second.fault(second.token.begin, "multiple values in one field", hint))
    }
}

/// The fields of a line. PostgreSQL ignores those beyond the third without a word, so only their
/// number is kept.
pub(super) struct Fields {
    pub origin: Rc<Origin>,
    /// The first three of them.
    pub kept: Vec<Field>,
    /// All of them.
    pub count: usize,
    /// The first three as they are written.
    pub text: Box<[u8]>,
    /// Where a quote was opened that the line does not close.
    pub open_quote: Option<usize>,
    /// Where the line ends.
    pub end: usize,
}

/// Reads lines, and keeps each regular expression once however many lines use it.
pub(super) struct RuleReader {
    dialect: Dialect,
    patterns: HashMap<(Vec<u8>, Use), Arc<Pattern>>,
    /// What the patterns stand for in all.
    steps: usize,
}

impl RuleReader {
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, patterns: HashMap::new(), steps: 0 }
    }

    /// The rule of a line, and the name of the map that it belongs to.
    ///
    /// # Errors
    /// When the line is not one that PostgreSQL accepts, or when a regular expression is not known
    /// here to mean the same.
    pub fn read(&mut self, line: Fields) -> Result<(Box<[u8]>, Rule), Vec<Fault>> {
        let [map, system_user, database_user] = line.kept.as_slice() else {
            return Err(vec![self.missing_entry(&line)]);
        };
        let is_quoted = |field: &Field| field.first.token.quoted;
        let written = Written {
            extra_field: line.count > line.kept.len(),
            user_quoted: is_quoted(system_user),
            role_quoted: is_quoted(database_user),
        };
        // All three are looked at before the first mistake is given back.
        let map = map.single(&line.origin).map(|word| word.token.text.as_slice().into());
        let database_user = database_user.single(&line.origin);
        let is_name = |word: &&Word| self.kind(&word.token) == Kind::Name;
        let name = database_user.as_ref().ok().copied().filter(is_name);
        let wants_capture = name.is_some_and(|word| capture_at(&word.token.text).is_some());
        let purpose = if wants_capture { Use::Capture } else { Use::Match };
        let system_user =
            system_user.single(&line.origin).and_then(|word| self.system_user(word, purpose));
        let is_pattern = matches!(system_user, Ok(SystemUser::Pattern(_)));
        let database_user = database_user.and_then(|word| self.database_user(word, is_pattern));
        match (map, system_user, database_user) {
            (Ok(map), Ok(system_user), Ok(database_user)) => {
                let (file, number) = (Arc::clone(&line.origin.file), line.origin.number());
                let text = line.text;
                Ok((map, Rule { file, line: number, text, system_user, database_user, written }))
            }
            (map, system_user, database_user) => {
                let faults = [map.err(), system_user.err(), database_user.err()];
                Err(faults.into_iter().flatten().collect())
            }
        }
    }

    /// What a token is as a database user.
    fn kind(&self, token: &Token) -> Kind {
        match token.text.as_slice() {
            _ if !self.dialect.keywords() => Kind::Name,
            [b'+', ..] if !token.quoted => Kind::Group,
            b"all" if !token.quoted => Kind::All,
            [b'/', ..] => Kind::Pattern,
            _ => Kind::Name,
        }
    }

    fn system_user(&mut self, word: &Word, purpose: Use) -> Result<SystemUser, Fault> {
        match word.token.text.strip_prefix(b"/") {
            Some(_) => self.pattern(word, purpose).map(SystemUser::Pattern),
            None => Ok(SystemUser::Literal(word.token.text.as_slice().into())),
        }
    }

    fn database_user(&mut self, word: &Word, is_pattern: bool) -> Result<DatabaseUser, Fault> {
        let text = word.token.text.as_slice();
        Ok(match self.kind(&word.token) {
            Kind::All => DatabaseUser::All,
            Kind::Group => DatabaseUser::MemberOf(text.get(1..).unwrap_or_default().into()),
            Kind::Pattern => DatabaseUser::Pattern(self.pattern(word, Use::Match)?),
            Kind::Name => match capture_at(text).filter(|_| is_pattern) {
                Some((before, after)) => {
                    DatabaseUser::WithCapture { before: before.into(), after: after.into() }
                }
                None => DatabaseUser::Literal(text.into()),
            },
        })
    }

    /// The pattern of a word that begins with `/`.
    fn pattern(&mut self, word: &Word, purpose: Use) -> Result<Arc<Pattern>, Fault> {
        let text = word.token.text.get(1..).unwrap_or_default();
        let key = (text.to_vec(), purpose);
        if let Some(known) = self.patterns.get(&key) {
            return Ok(Arc::clone(known));
        }
        if self.patterns.len() >= PATTERNS || self.steps > STEPS {
            return Err(word.fault(
                word.token.begin,
                "too many different regular expressions in one file",
                "use fewer expressions that match more, or literal names",
            ));
        }
        let compiled = Pattern::compile(text, self.dialect, purpose).map_err(|flaw| {
            let (at, last) = (word.token.offset(flaw.at + 1), word.token.offset(flaw.last + 1));
            (Rc::clone(&word.origin), Flaw { at, last, ..flaw })
        })?;
        self.steps = self.steps.saturating_add(compiled.steps());
        let pattern = Arc::new(compiled);
        self.patterns.insert(key, Arc::clone(&pattern));
        Ok(pattern)
    }

    fn missing_entry(&self, line: &Fields) -> Fault {
        let first = line.kept.first().map(|field| &field.first);
        let is_include = |word: &&Word| {
            let words = ["include", "include_if_exists", "include_dir"];
            words.iter().any(|name| name.as_bytes() == word.token.text)
        };
        let comma = line.kept.iter().find_map(|field| field.second.as_ref());
        let message = "missing entry: the line has fewer than three fields";
        let own = |at, hint: &str| (Rc::clone(&line.origin), Flaw::new(at, message, hint));
        if let (2, Some(word)) = (line.count, first.filter(is_include)) {
            let hint =
                format!("PostgreSQL {} includes no files: that is for 16 and newer", self.dialect);
            word.fault(word.token.begin, message, &hint)
        } else if let Some(quote) = line.open_quote {
            own(quote, "close the quote: the token runs to the end of the line")
        } else if let Some(word) = comma {
            let hint = "a comma joins what is on both sides of it into one field: leave it out, \
                        or quote it";
            word.fault(word.token.begin, message, hint)
        } else {
            own(line.end, "a line has three fields: map name, system user, database user")
        }
    }
}

/// What a token is as a database user.
#[derive(PartialEq, Eq)]
enum Kind {
    All,
    Group,
    Pattern,
    Name,
}

/// What stands before and after the first `\1` of a name.
fn capture_at(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = name.windows(2).position(|pair| pair == br"\1")?;
    name.split_at_checked(at).map(|(before, rest)| (before, rest.get(2..).unwrap_or_default()))
}
