//! From the fields of a line to a rule, and what a rule says (`parse_ident_line` and
//! `check_ident_usermap` in `hba.c`, PostgreSQL 16 to 18).

use std::collections::HashMap;
use std::sync::Arc;

use crate::names::MapName;

use super::mistake::Flaw;
use super::pattern::{Match, Pattern, Use};
use super::tokens::{Field, Fields, Token};

/// Longest token, in bytes: what PostgreSQL 13 to 15 read since their releases of August 2023.
const TOKEN_BYTES: usize = 10_239;
/// Most different regular expressions in one file: each takes some 20 kilobytes of memory.
const PATTERNS: usize = 10_000;
/// Most bytes that they may stand for in all, their bounds written out.
const STEPS: usize = 500_000;

/// One line of a map.
#[derive(Debug)]
pub(super) struct Rule {
    /// Number of its first physical line.
    pub line: u32,
    pub system_user: SystemUser,
    database_user: DatabaseUser,
}

#[derive(Debug)]
pub(super) enum SystemUser {
    /// Compared byte by byte; neither `all` nor `+` is special here.
    Literal(Box<str>),
    /// `/…`, quoted or not.
    Pattern(Arc<Pattern>),
}

#[derive(Debug)]
enum DatabaseUser {
    /// `all`, not quoted: any role.
    Any,
    Literal(Box<str>),
    /// The first `\1` of a line whose system user is a pattern stands for group 1. What comes of
    /// it is compared literally, never read as `all`.
    WithCapture {
        before: Box<str>,
        after: Box<str>,
    },
}

/// What one rule says of one system user and role.
pub(super) enum Verdict {
    Other,
    Allows,
    /// PostgreSQL ends the whole scan here with a denial, for this reason.
    Fails(String),
}

impl Rule {
    /// The role, when the line names one by its letters alone.
    pub fn literal_role(&self) -> Option<&str> {
        match &self.database_user {
            DatabaseUser::Literal(role) => Some(role),
            DatabaseUser::Any | DatabaseUser::WithCapture { .. } => None,
        }
    }

    pub fn judge(&self, system_user: &str, role: &str) -> Verdict {
        let purpose = self.database_user.purpose();
        let capture = match &self.system_user {
            SystemUser::Literal(name) if **name == *system_user => None,
            SystemUser::Literal(_) => return Verdict::Other,
            SystemUser::Pattern(pattern) => {
                match pattern.matches(system_user.as_bytes(), purpose) {
                    Match::No => return Verdict::Other,
                    Match::Yes(capture) => capture,
                }
            }
        };
        let allowed = match (&self.database_user, capture) {
            (DatabaseUser::Any, _) => true,
            (DatabaseUser::Literal(name), _) => **name == *role,
            (DatabaseUser::WithCapture { before, after }, Some(capture)) => {
                is_joined(role.as_bytes(), [before.as_bytes(), capture, after.as_bytes()])
            }
            (DatabaseUser::WithCapture { before, after }, None) => {
                return Verdict::Fails(self.no_capture(before, after));
            }
        };
        if allowed { Verdict::Allows } else { Verdict::Other }
    }

    /// The reason in PostgreSQL's words.
    fn no_capture(&self, before: &str, after: &str) -> String {
        let pattern = match &self.system_user {
            SystemUser::Literal(name) => name,
            SystemUser::Pattern(pattern) => pattern.text(),
        };
        format!(
            "regular expression \"{pattern}\" has no subexpressions as requested by \
                 backreference \
             in \"{before}\\1{after}\""
        )
    }
}

impl DatabaseUser {
    fn purpose(&self) -> Use {
        match self {
            Self::WithCapture { .. } => Use::Capture,
            Self::Any | Self::Literal(_) => Use::Match,
        }
    }
}

/// Whether `whole` is the `parts` one after another. A capture may hold a piece of a UTF-8
/// character; joined to text it is no text, and so equals no role.
fn is_joined(whole: &[u8], parts: [&[u8]; 3]) -> bool {
    let mut rest = Some(whole);
    for part in parts {
        rest = rest.and_then(|rest| rest.strip_prefix(part));
    }
    rest.is_some_and(<[u8]>::is_empty)
}

/// Reads lines, and keeps each regular expression once however many lines use it.
#[derive(Default)]
pub(super) struct RuleReader {
    patterns: HashMap<(String, Use), Arc<Pattern>>,
    /// What the patterns stand for in all.
    steps: usize,
}

impl RuleReader {
    /// The rule of a line and the map that it belongs to; nothing for an empty line.
    ///
    /// # Errors
    /// When the line is not one that PostgreSQL accepts, or when it is not known here to mean
    /// the same. Offsets count from the beginning of the logical line, whose end is `end`.
    pub fn read(
        &mut self,
        number: u32,
        line: &Fields,
        end: usize,
    ) -> Result<Option<(MapName, Rule)>, Vec<Flaw>> {
        let tokens = line.fields.iter().flatten();
        let flaws: Vec<_> = tokens.filter_map(refused_token).collect();
        if !flaws.is_empty() {
            return Err(flaws);
        }
        let (map, system_user, database_user) = match line.fields.as_slice() {
            [] => return Ok(None),
            // PostgreSQL ignores further fields without a word.
            [map, system_user, database_user, ..] => (map, system_user, database_user),
            few => return Err(vec![missing_entry(few, line.open_quote, end)]),
        };
        // All three are looked at before the first mistake is given back.
        let map = single(map).and_then(map_name);
        let database_user = single(database_user).and_then(|token| {
            refused_database_user(token)?;
            Ok((token, text(token)?))
        });
        let wants_capture = matches!(&database_user, Ok((_, name)) if name.contains("\\1"));
        let purpose = if wants_capture { Use::Capture } else { Use::Match };
        let system_user = single(system_user).and_then(|token| self.system_user(token, purpose));
        match (map, system_user, database_user) {
            (Ok(map), Ok(system_user), Ok((token, name))) => {
                let database_user = database_user_of(token, name, &system_user);
                Ok(Some((map, Rule { line: number, system_user, database_user })))
            }
            (map, system_user, database_user) => {
                Err([map.err(), system_user.err(), database_user.err()]
                    .into_iter()
                    .flatten()
                    .collect())
            }
        }
    }

    fn system_user(&mut self, token: &Token, purpose: Use) -> Result<SystemUser, Flaw> {
        let name = text(token)?;
        let Some(pattern) = name.strip_prefix('/') else {
            return Ok(SystemUser::Literal(name.into()));
        };
        let key = (pattern.to_owned(), purpose);
        if let Some(known) = self.patterns.get(&key) {
            return Ok(SystemUser::Pattern(Arc::clone(known)));
        }
        if self.patterns.len() >= PATTERNS || self.steps > STEPS {
            return Err(Flaw::new(
                token.begin,
                "too many different regular expressions in one file",
                "use fewer expressions that match more, or literal names",
            ));
        }
        let compiled = Pattern::compile(pattern, purpose)
            .map_err(|flaw| Flaw { at: token.offset(flaw.at + 1), ..flaw })?;
        self.steps = self.steps.saturating_add(compiled.steps());
        let pattern = Arc::new(compiled);
        self.patterns.insert(key, Arc::clone(&pattern));
        Ok(SystemUser::Pattern(pattern))
    }
}

/// What no token of a line may be, whatever its field.
fn refused_token(token: &Token) -> Option<Flaw> {
    if !token.quoted && token.text.len() > 1 && token.text.starts_with(b"@") {
        return Some(Flaw::new(
            token.begin,
            "`@file` is not supported: its names are not read",
            "write the names as lines of the map; quote the token, `\"@…\"`, for a name that \
                 begins with `@`",
        ));
    }
    (token.text.len() > TOKEN_BYTES).then(|| {
        let bytes = token.text.len();
        let message = format!("a token of {bytes} bytes, at most {TOKEN_BYTES}");
        Flaw::new(token.begin, message, "look for a quote that is not closed where it should be")
    })
}

fn missing_entry(fields: &[Field], open_quote: Option<usize>, end: usize) -> Flaw {
    let first = fields.first().and_then(|field| field.first());
    let is_include = |token: &&Token| {
        matches!(token.text.as_slice(), b"include" | b"include_if_exists" | b"include_dir")
    };
    if let (2, Some(token)) = (fields.len(), first.filter(is_include)) {
        return Flaw::new(
            token.begin,
            format!("`{}` is not supported", String::from_utf8_lossy(&token.text)),
            "write the lines of the included file here",
        );
    }
    let comma = fields.iter().find_map(|field| field.get(1));
    let (at, hint) = if let Some(quote) = open_quote {
        (quote, "close the quote: the token runs to the end of the line")
    } else if let Some(token) = comma {
        (
            token.begin,
            "a comma joins what is on both sides of it into one field: leave it out, or quote it",
        )
    } else {
        (end, "a line has three fields: map name, system user, database user")
    };
    Flaw::new(at, "missing entry: the line has fewer than three fields", hint)
}

/// The one token of a field.
fn single(field: &Field) -> Result<&Token, Flaw> {
    match field.as_slice() {
        [only] => Ok(only),
        several => Err(Flaw::new(
            several.get(1).map_or(0, |token| token.begin),
            "multiple values in one field",
            "write one line for each value; quote a value that holds a comma, such as a \
                 regular expression with `{1,3}`",
        )),
    }
}

fn text(token: &Token) -> Result<&str, Flaw> {
    std::str::from_utf8(&token.text).map_err(|error| {
        Flaw::new(
            token.offset(error.valid_up_to()),
            "bytes that are not UTF-8: PostgreSQL compares bytes, and names are UTF-8 here",
            "save the file as UTF-8",
        )
    })
}

fn map_name(token: &Token) -> Result<MapName, Flaw> {
    text(token)?.parse().map_err(|_| {
        let hint = "give the map a name: one without a name is never asked";
        Flaw::new(token.begin, "an empty map name", hint)
    })
}

/// What is special as a database user since PostgreSQL 16, and not evaluated here.
fn refused_database_user(token: &Token) -> Result<(), Flaw> {
    match token.text.first() {
        Some(b'+') if !token.quoted => Err(Flaw::new(
            token.begin,
            "`+role` is not supported as a database user: memberships are not asked",
            "name the role itself; quote it, `\"+…\"`, for a role whose name begins with `+`",
        )),
        Some(b'/') => Err(Flaw::new(
            token.offset(0),
            "a regular expression is not supported as a database user",
            "name the role, use `\\1`, or write `all`",
        )),
        _ => Ok(()),
    }
}

fn database_user_of(token: &Token, name: &str, system_user: &SystemUser) -> DatabaseUser {
    let capture = match system_user {
        SystemUser::Pattern(_) => name.split_once("\\1"),
        SystemUser::Literal(_) => None,
    };
    match capture {
        Some((before, after)) => {
            DatabaseUser::WithCapture { before: before.into(), after: after.into() }
        }
        None if name == "all" && !token.quoted => DatabaseUser::Any,
        None => DatabaseUser::Literal(name.into()),
    }
}
