//! A small reader over the parsed file. It asks for one key after the other, notes every mistake
//! and goes on, and remembers what it asked, so that the documented sample can be held against it.
//!
//! Invariant: a message names keys, places and what is expected. It never holds a value.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Kind, Note};
use super::files::Secrets;
use super::form::{self, Form};
use super::source::Source;

/// Mistakes that one file may have before the rest is not worth reading.
const SYNTAX_MISTAKES_MAX: usize = 50;

/// One file being read, and the mistakes found so far.
pub(super) struct Reader<'t> {
    file: &'t Path,
    source: &'t Source,
    others: OtherFiles,
    found: RefCell<Vec<Diagnostic>>,
    asked: RefCell<Vec<Asked>>,
    secrets: RefCell<Secrets>,
}

/// What becomes of the files that the values name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherFiles {
    /// They are opened, and must be in order.
    Opened,
    /// None is touched, and what would be in it is missing.
    LeftAlone,
}

/// A place in the file; none for what is not there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(Option<usize>);

impl Place {
    /// No place of its own: the file as a whole.
    pub(super) const NOWHERE: Self = Self(None);
}

/// What happens when a key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// That is a mistake.
    Required,
    /// This stands in its place, as it would be written.
    Default(&'static str),
    /// Nothing stands in its place, or what follows from other keys.
    Optional,
}

/// A key that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The section as it is written, `[server]`.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// What happens without it.
    pub need: Need,
}

/// What a file with no syntax error holds, and the mistakes found in it.
pub(super) struct Findings {
    pub mistakes: Vec<Diagnostic>,
    #[cfg_attr(not(test), expect(dead_code, reason = "the test of the sample reads it"))]
    pub asked: Vec<Asked>,
    /// The files with secrets that were named.
    pub secrets: Secrets,
}

impl<'t> Reader<'t> {
    /// A reader of `source`, which is the text of `file`.
    pub(super) fn new(file: &'t Path, source: &'t Source, others: OtherFiles) -> Self {
        let (found, asked, secrets) = Default::default();
        Self { file, source, others, found, asked, secrets }
    }

    /// Whether the files that values name may be opened.
    pub(super) fn opens_others(&self) -> bool {
        self.others == OtherFiles::Opened
    }

    /// Whether all of the text so far is known for what it is. Elsewhere a file may be named that holds
    /// a secret, and a map that was parsed all the same could take tokens from that.
    pub(super) fn is_understood(&self) -> bool {
        let hides = |mistake: &Diagnostic| matches!(mistake.kind, Kind::Syntax | Kind::UnknownKey);
        !self.found.borrow().iter().any(hides)
    }

    /// The path that a value names: relative ones begin at the file's own directory.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.file.parent().map_or_else(|| path.to_owned(), |directory| directory.join(path))
    }

    /// Notes that a value names a file with a secret, whether that is opened or not.
    pub(super) fn note_secret(&self, path: &Path) {
        self.secrets.borrow_mut().add(path);
    }

    /// Notes what was named where the file was read before.
    pub(super) fn note_secrets(&self, secrets: Secrets) {
        self.secrets.replace(secrets);
    }

    /// The files with secrets that were named so far.
    pub(super) fn secrets(&self) -> Secrets {
        self.secrets.borrow().clone()
    }

    /// Notes the errors of the parser: their messages only, which hold nothing of the text.
    pub(super) fn syntax_errors(&self, errors: &[toml::de::Error]) {
        for error in errors.iter().take(SYNTAX_MISTAKES_MAX) {
            let place = Place(Some(error.span().map_or(0, |span| span.start)));
            self.note(Kind::Syntax, place, format!("not TOML: {}", error.message()), None);
        }
        if errors.len() > SYNTAX_MISTAKES_MAX {
            let more = format!("{} more errors like these", errors.len() - SYNTAX_MISTAKES_MAX);
            self.note(Kind::Syntax, Place::NOWHERE, more, None);
        }
    }

    /// Notes what makes the text unreadable at `offset`.
    pub(super) fn unreadable(&self, offset: usize, message: &str) {
        self.note(Kind::Syntax, Place(Some(offset)), message.to_owned(), None);
    }

    /// Notes that things do not fit together at `place`; an empty hint is none.
    pub(super) fn mistake(&self, place: Place, message: impl Into<String>, hint: &str) {
        let hint = Some(hint.to_owned()).filter(|hint| !hint.is_empty());
        self.note(Kind::Fit, place, message.into(), hint);
    }

    /// What is to be noted when this user may not read the file at `closed`, which `place` names.
    pub(super) fn closed(
        &self,
        place: Place,
        closed: &Path,
        message: String,
        hint: &str,
    ) -> Diagnostic {
        let diagnostic = self.diagnostic(Kind::Fit, place, message, Some(hint.to_owned()));
        Diagnostic { closed: Some(closed.to_owned()), ..diagnostic }
    }

    /// Notes a mistake in another file, or one that was made before.
    pub(super) fn elsewhere(&self, mistake: Diagnostic) {
        self.found.borrow_mut().push(mistake);
    }

    /// What is allowed at `place` and probably not meant.
    pub(super) fn odd(&self, place: Place, message: &'static str) -> Note {
        Note { file: self.file.display().to_string(), line: self.line(place), message }
    }

    /// The line of `place`, for messages about a second place.
    pub(super) fn line(&self, place: Place) -> u32 {
        place.0.map_or(0, |offset| self.source.position(offset).line)
    }

    fn note(&self, kind: Kind, place: Place, message: String, hint: Option<String>) {
        self.found.borrow_mut().push(self.diagnostic(kind, place, message, hint));
    }

    fn diagnostic(
        &self,
        kind: Kind,
        place: Place,
        message: String,
        hint: Option<String>,
    ) -> Diagnostic {
        let position = place.0.map(|offset| self.source.position(offset));
        let file = self.file.display().to_string();
        Diagnostic { file, position, message, hint, closed: None, kind }
    }

    fn ask(&self, section: &'static str, key: &'static str, need: Need) {
        let asked = Asked { section, key, need };
        let mut all = self.asked.borrow_mut();
        if !all.contains(&asked) {
            all.push(asked);
        }
    }

    /// Everything found, sorted by place. After a syntax error only what is certain is kept: what
    /// stands on a line of its own and is wrong by itself. A key that seems missing or unknown may
    /// be a key of the broken line.
    pub(super) fn finish(self) -> Findings {
        let mut mistakes = self.found.into_inner();
        let broken = mistakes.iter().filter(|mistake| mistake.kind == Kind::Syntax);
        let broken: Vec<_> = broken.map(|mistake| mistake.position.map(|at| at.line)).collect();
        if !broken.is_empty() {
            mistakes.retain(|mistake| match mistake.kind {
                Kind::Syntax => true,
                Kind::Value => !broken.contains(&mistake.position.map(|at| at.line)),
                Kind::UnknownKey | Kind::Fit => false,
            });
        }
        mistakes.sort();
        mistakes.dedup();
        let (asked, secrets) = (self.asked.into_inner(), self.secrets.into_inner());
        Findings { mistakes, asked, secrets }
    }
}

/// One section: its keys, and those asked for.
pub(super) struct Table<'t> {
    reader: &'t Reader<'t>,
    title: &'static str,
    place: Place,
    entries: BTreeMap<&'t str, Entry<'t>>,
    known: RefCell<Vec<&'static str>>,
}

#[derive(Clone, Copy)]
struct Entry<'t> {
    key: Place,
    value: &'t Spanned<DeValue<'t>>,
}

impl Entry<'_> {
    fn place(&self) -> Place {
        Place(Some(self.value.span().start))
    }
}

impl<'t> Table<'t> {
    /// The whole file as one table.
    pub(super) fn root(reader: &'t Reader<'t>, table: &'t DeTable<'t>) -> Self {
        Self::new(reader, "the configuration", Place::NOWHERE, Some(table))
    }

    fn new(
        reader: &'t Reader<'t>,
        title: &'static str,
        place: Place,
        table: Option<&'t DeTable<'t>>,
    ) -> Self {
        let entry = |(key, value): (&'t Spanned<_>, &'t Spanned<DeValue<'t>>)| {
            let name: &std::borrow::Cow<'t, str> = key.get_ref();
            (name.as_ref(), Entry { key: Place(Some(key.span().start)), value })
        };
        let entries = table.into_iter().flat_map(DeTable::iter).map(entry).collect();
        Self { reader, title, place, entries, known: RefCell::default() }
    }

    /// The file that this section is part of.
    pub(super) fn reader(&self) -> &'t Reader<'t> {
        self.reader
    }

    /// The section as it is written.
    pub(super) fn title(&self) -> &'static str {
        self.title
    }

    /// Where the section begins.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Where the value of `key` stands, or the section when it is not written.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.entries.get(key).map_or(self.place, Entry::place)
    }

    /// Whether `key` is written, rightly or wrongly.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of `key` when it is written and a string. Not for messages.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.entries.get(key).and_then(|entry| entry.value.get_ref().as_str())
    }

    /// Notes that the value of `key` does not fit; `what` goes on after the key's name.
    pub(super) fn mistake(&self, key: &str, what: &str, hint: &str) {
        let message = format!("`{key}` in {} {what}", self.title);
        self.reader.mistake(self.place_of(key), message, hint);
    }

    /// A key that must be written. Nothing when it is not, or is wrong; that is noted.
    pub(super) fn required<T>(&self, key: &'static str, form: &Form<T>) -> Option<T> {
        let entry = self.ask(key, Need::Required)?;
        self.read(key, entry.value, form)
    }

    /// A key with a default, given as it would be written. Nothing when it is written and wrong.
    pub(super) fn defaulted<T>(
        &self,
        key: &'static str,
        default: &'static str,
        form: &Form<T>,
    ) -> Option<T> {
        if let Some(entry) = self.ask(key, Need::Default(default)) {
            return self.read(key, entry.value, form);
        }
        let value = DeValue::parse(default).ok();
        value.and_then(|value| form.read(value.get_ref()))
    }

    /// A key that may be left out. Nothing too when it is wrong; that is noted.
    pub(super) fn optional<T>(&self, key: &'static str, form: &Form<T>) -> Option<T> {
        let entry = self.ask(key, Need::Optional)?;
        self.read(key, entry.value, form)
    }

    /// A list that must be written and may not be empty.
    pub(super) fn required_list<T>(&self, key: &'static str, form: &Form<T>) -> Option<Vec<T>> {
        let entry = self.ask(key, Need::Required)?;
        self.read_full_list(key, entry.value, form)
    }

    /// A list that may be left out, but if it is written it may not be empty.
    pub(super) fn optional_list<T>(&self, key: &'static str, form: &Form<T>) -> Option<Vec<T>> {
        let entry = self.ask(key, Need::Optional)?;
        self.read_full_list(key, entry.value, form)
    }

    /// A list with a default, given as it would be written; an empty one allows nothing.
    pub(super) fn defaulted_list<T>(
        &self,
        key: &'static str,
        default: &'static str,
        form: &Form<T>,
    ) -> Option<Vec<T>> {
        if let Some(entry) = self.ask(key, Need::Default(default)) {
            return self.read_list(key, entry.value, form);
        }
        let value = DeValue::parse(default).ok()?;
        self.read_list(key, &value, form)
    }

    /// A table of names and values, `{ name = "value" }`, in the order of the names. Each name is
    /// given to `name_form` as if it were a string.
    pub(super) fn pairs<N, V>(
        &self,
        key: &'static str,
        name_form: &Form<N>,
        value_form: &Form<V>,
    ) -> Option<Vec<(N, V)>> {
        let Some(entry) = self.ask(key, Need::Default("{}")) else { return Some(Vec::new()) };
        let DeValue::Table(table) = entry.value.get_ref() else {
            let what = "must be a table such as { name = \"value\" }";
            self.wrong(key, entry.value, what, form::TABLE, None);
            return None;
        };
        let mut pairs = Some(Vec::new());
        for (name, value) in table {
            let as_value = DeValue::String(name.get_ref().clone());
            let read = name_form.read(&as_value);
            if read.is_none() {
                let message =
                    format!("each name in `{key}` in {} must be {}", self.title, name_form.what());
                let hint = name_form.hint().map(str::to_owned);
                self.reader.note(Kind::Value, Place(Some(name.span().start)), message, hint);
            }
            let pair = read.zip(self.read(key, value, value_form));
            pairs = pairs.zip(pair).map(|(mut pairs, pair)| {
                pairs.push(pair);
                pairs
            });
        }
        pairs
    }

    /// The section `key`, empty when it is not written.
    pub(super) fn section(&self, key: &'static str, title: &'static str) -> Table<'t> {
        self.known.borrow_mut().push(key);
        let Some(entry) = self.entries.get(key) else {
            return Table::new(self.reader, title, Place::NOWHERE, None);
        };
        let table = entry.value.get_ref().as_table();
        if table.is_none() {
            let message = format!("`{key}` must be one section, written as {title}");
            self.reader.note(Kind::Value, entry.place(), message, None);
        }
        Table::new(self.reader, title, entry.place(), table)
    }

    /// The sections `[[key]]`: at least one, or that is noted with `without`.
    pub(super) fn sections(
        &self,
        key: &'static str,
        title: &'static str,
        without: &str,
    ) -> Vec<Table<'t>> {
        self.known.borrow_mut().push(key);
        let Some(entry) = self.entries.get(key) else {
            self.reader.mistake(self.place, format!("there is no {title}: {without}"), ADD_ONE);
            return Vec::new();
        };
        let DeValue::Array(array) = entry.value.get_ref() else {
            let message = format!("`{key}` must be a list of sections, each written as {title}");
            let hint = Some("with two brackets: there may be several of them".to_owned());
            self.reader.note(Kind::Value, entry.place(), message, hint);
            return Vec::new();
        };
        if array.is_empty() {
            self.reader.mistake(entry.place(), format!("there is no {title}: {without}"), ADD_ONE);
        }
        let mut tables = Vec::new();
        for element in array {
            let place = Place(Some(element.span().start));
            if let DeValue::Table(table) = element.get_ref() {
                tables.push(Table::new(self.reader, title, place, Some(table)));
            } else {
                let message = format!("each of `{key}` must be a section, written as {title}");
                self.reader.note(Kind::Value, place, message, None);
            }
        }
        tables
    }

    /// Ends the section: every key that was not asked for is unknown.
    pub(super) fn finish(self) {
        let known = self.known.into_inner();
        for (name, entry) in &self.entries {
            if !known.contains(name) {
                let shown = form::shown_key(name);
                let message = format!("{shown} is no key of {}", self.title);
                let hint = form::key_hint(name, &known);
                self.reader.note(Kind::UnknownKey, entry.key, message, hint);
            }
        }
    }

    fn ask(&self, key: &'static str, need: Need) -> Option<Entry<'t>> {
        self.known.borrow_mut().push(key);
        self.reader.ask(self.title, key, need);
        let entry = self.entries.get(key).copied();
        if entry.is_none() && need == Need::Required {
            let message = format!("`{key}` is missing in {}", self.title);
            self.reader.note(Kind::Fit, self.place, message, None);
        }
        entry
    }

    fn read<T>(&self, key: &str, value: &Spanned<DeValue<'_>>, form: &Form<T>) -> Option<T> {
        let read = form.read(value.get_ref());
        if read.is_none() {
            let what = format!("must be {}", form.what());
            self.wrong(key, value, &what, form.type_name(), form.hint());
        }
        read
    }

    fn read_list<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        form: &Form<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(array) = value.get_ref() else {
            let what = format!("must be a list of which each is {}", form.what());
            self.wrong(key, value, &what, form::LIST, Some(IN_BRACKETS));
            return None;
        };
        // Every element is read, so that every mistake is noted.
        let read: Vec<Option<T>> =
            array.iter().map(|element| self.read(key, element, form)).collect();
        read.into_iter().collect()
    }

    fn read_full_list<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        form: &Form<T>,
    ) -> Option<Vec<T>> {
        let list = self.read_list(key, value, form)?;
        if list.is_empty() {
            self.wrong(key, value, "may not be empty", form::LIST, Some(EMPTY_LIST));
            return None;
        }
        Some(list)
    }

    /// Notes a wrong value, and its type if that is what is wrong.
    fn wrong(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        what: &str,
        wanted: &str,
        hint: Option<&str>,
    ) {
        let found = form::type_name(value.get_ref());
        let found = if found == wanted { String::new() } else { format!(", not {found}") };
        let message = format!("`{key}` in {} {what}{found}", self.title);
        let place = Place(Some(value.span().start));
        self.reader.note(Kind::Value, place, message, hint.map(str::to_owned));
    }
}

/// Values that may stand only once, and where each stood first.
pub(super) struct Unique<T>(Vec<(T, Place)>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Clone + PartialEq> Unique<T> {
    /// Notes it when `key` of `table` has a value that stood before.
    pub(super) fn claim(&mut self, table: &Table<'_>, key: &str, value: &T) {
        if let Some((_, first)) = self.0.iter().find(|(earlier, _)| earlier == value) {
            let what = format!("is taken: it stands in line {} too", table.reader.line(*first));
            table.mistake(key, &what, "each may stand once");
        }
        self.0.push((value.clone(), table.place_of(key)));
    }
}

const IN_BRACKETS: &str = "a list stands in brackets, even if it holds one thing";
const ADD_ONE: &str = "the sample config/pgbridge.toml shows one";
const EMPTY_LIST: &str =
    "an empty list means nobody or nothing, never any; remove the key or fill it";
