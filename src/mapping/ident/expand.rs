//! From files to lines: what `@file`, `include`, `include_if_exists` and `include_dir` name is
//! read in their place (`tokenize_auth_file`, `tokenize_expand_file` and `tokenize_include_file`
//! in `hba.c`, `conffiles.c`).

use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::dialect::Dialect;
use super::lines::{LogicalLine, LogicalLines, Origin};
use super::mistake::{Flaw, Mistakes};
use super::read::{Field, Fields, Word};
use super::text::{Found, MapFiles, MapText, directory_path};
use super::tokens::Tokens;
use super::unopened::{Entry, Named, Why, flaw};

/// Most bytes of all files together, each counted as often as it is read: some 100,000 lines.
pub(super) const TEXT_BYTES: usize = 8 << 20;
/// Most files, each counted as often as it is included.
const OPENINGS: usize = 10_000;
/// Deepest nesting of files (`CONF_FILE_MAX_DEPTH` in `conffiles.h`, PostgreSQL 16 and newer).
/// Older releases have no limit, and end when they run out of files that they may open.
const NESTING: usize = 10;
/// Most bytes of a token for releases that have no limit. No name and no regular expression that
/// is accepted comes near.
const TOKEN_BYTES: usize = 65_535;
/// From this many bytes on, PostgreSQL cuts a path that begins at a directory (`MAXPGPATH`).
const PATH_BYTES: usize = 1024;

/// Takes a line of the map that includes nothing, and notes what is wrong with it. Lines come in
/// the order in which PostgreSQL reads them.
pub(super) type TakesLines<'a> = dyn FnMut(Fields, &mut Mistakes) -> Result<(), Trouble> + 'a;

/// All that was read.
pub(super) struct Expanded {
    pub text: MapText,
    /// File and line of each directive that names more than one file, of which PostgreSQL includes the
    /// first alone.
    pub half_included: Vec<(Arc<str>, u32)>,
}

/// Why reading does not go on; it is noted.
pub(super) enum Trouble {
    /// This line is broken.
    Line,
    /// A limit is met, beyond which nothing is worth reading.
    All,
}

/// Reads all that the main file leads to, and gives every line to `taker`.
///
/// # Errors
/// Every mistake, in the order in which they were found.
pub(super) fn expand<'a>(
    dialect: Dialect,
    main: &'a Path,
    files: &'a dyn MapFiles,
    taker: &'a mut TakesLines<'a>,
) -> Result<Expanded, Mistakes> {
    // What ends in `.` or `..` has no name of its own, and is no file.
    let last = main.components().next_back().map(Component::as_os_str);
    let name = last.unwrap_or_default().to_string_lossy().into_owned();
    let mut expander = Expander {
        dialect,
        files,
        directory: main.parent().unwrap_or(Path::new("")),
        text: MapText::of(&name),
        openings: 0,
        bytes: 0,
        half_included: Vec::new(),
        mistakes: Mistakes::default(),
        taker,
    };
    let file: Arc<str> = name.as_str().into();
    let place = Place { origin: &Rc::new(Origin::whole(&file)), at: 0, depth: 0 };
    let whole = match expander.open(main, &name, place, Absent::IsMistake) {
        Ok(Some(bytes)) => expander.file(&file, &bytes, 0, &mut Target::Lines),
        Ok(None) => Ok(()),
        Err(trouble) => Err(trouble),
    };
    match whole {
        Ok(()) if expander.mistakes.is_empty() => {
            Ok(Expanded { text: expander.text, half_included: expander.half_included })
        }
        _ => Err(expander.mistakes),
    }
}

struct Expander<'a> {
    dialect: Dialect,
    files: &'a dyn MapFiles,
    /// The directory of the main file.
    directory: &'a Path,
    text: MapText,
    openings: usize,
    bytes: usize,
    half_included: Vec<(Arc<str>, u32)>,
    mistakes: Mistakes,
    taker: &'a mut TakesLines<'a>,
}

/// Where lines go.
enum Target<'field> {
    /// To the taker: they are lines of the map.
    Lines,
    /// Into a field of the line whose `@file` is read, if there is one yet: only the tokens count.
    Field(&'field mut Option<Field>),
}

/// Where something is named, and how deep the file is nested in which it is.
#[derive(Clone, Copy)]
struct Place<'a> {
    origin: &'a Rc<Origin>,
    at: usize,
    depth: usize,
}

/// What it means that a file does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    IsMistake,
    IsFine,
}

impl Expander<'_> {
    /// Reads all lines of a file that is open. A broken line of the map keeps none of the others
    /// from being read, so that every mistake is told; but a field with a mistake is no field.
    fn file(
        &mut self,
        file: &Arc<str>,
        bytes: &[u8],
        depth: usize,
        target: &mut Target<'_>,
    ) -> Result<(), Trouble> {
        for line in LogicalLines::of(self.dialect, file, bytes) {
            match (self.line(&line, depth, target), &target) {
                (Err(Trouble::Line), Target::Lines) if !self.mistakes.is_full() => {}
                (Err(Trouble::Line), Target::Lines) => return Err(Trouble::All),
                (read, _) => read?,
            }
        }
        Ok(())
    }

    fn line(
        &mut self,
        line: &LogicalLine,
        depth: usize,
        target: &mut Target<'_>,
    ) -> Result<(), Trouble> {
        if let Some(at) = line.bytes.iter().position(|byte| *byte == 0) {
            return Err(self.wrong(&line.origin, nul(at)));
        }
        if let Some(most) = self.dialect.line_bytes().filter(|most| line.longest > *most) {
            let message = format!("a line of more than {most} bytes, which is too long");
            let hint = format!("PostgreSQL {} reads no longer lines: make several", self.dialect);
            return Err(self.wrong(&line.origin, Flaw::new(0, message, hint)));
        }
        let fields = self.fields(line, depth)?;
        if fields.count == 0 {
            return Ok(());
        }
        if let Some((directive, name)) = directive(&fields, self.dialect) {
            if fields.kept.iter().any(Field::is_list) {
                self.half_included.push((Arc::clone(&line.origin.file), line.origin.number()));
            }
            return self.include(directive, name, depth, target);
        }
        match target {
            Target::Lines => (self.taker)(fields, &mut self.mistakes),
            Target::Field(field) => {
                fields.kept.into_iter().for_each(|more| join(field, more));
                Ok(())
            }
        }
    }

    /// The fields of a line. Every one is read, also those that do not count.
    fn fields(&mut self, line: &LogicalLine, depth: usize) -> Result<Fields, Trouble> {
        let most = self.dialect.token_bytes().unwrap_or(TOKEN_BYTES);
        let mut tokens = Tokens::of(&line.bytes, most);
        let (mut fields, mut count, mut text_end) = (Vec::new(), 0, 0);
        while !tokens.is_at_end() {
            let Some(field) = self.field(&mut tokens, &line.origin, depth)? else { continue };
            count += 1;
            if fields.len() < 3 {
                fields.push(field);
                text_end = tokens.end();
            }
        }
        let text = line.bytes.get(..text_end).unwrap_or_default();
        let is_before = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b',');
        let begin = text.iter().take_while(is_before).count();
        Ok(Fields {
            origin: Rc::clone(&line.origin),
            kept: fields,
            count,
            text: text.get(begin..).unwrap_or_default().into(),
            open_quote: tokens.open_quote(),
            end: line.bytes.len(),
        })
    }

    /// One field, with the tokens of every `@file` in its place (`next_field_expand` in `hba.c`);
    /// nothing when there is no token, in the line or in the file.
    fn field(
        &mut self,
        tokens: &mut Tokens<'_>,
        origin: &Rc<Origin>,
        depth: usize,
    ) -> Result<Option<Field>, Trouble> {
        let mut field = None;
        loop {
            let token = match tokens.next_token() {
                Ok(Some(token)) => token,
                Ok(None) => return Ok(field),
                Err(too_long) => return Err(self.too_long(origin, too_long.begin)),
            };
            let word = Word { token, origin: Rc::clone(origin) };
            match word.token.file() {
                Some(name) => {
                    let mut target = Target::Field(&mut field);
                    self.read(&word, name, depth, Absent::IsMistake, &mut target)?;
                }
                None => join(&mut field, Field::of(word)),
            }
            if !tokens.is_at_comma() {
                return Ok(field);
            }
        }
    }

    fn include(
        &mut self,
        directive: Directive,
        word: &Word,
        depth: usize,
        target: &mut Target<'_>,
    ) -> Result<(), Trouble> {
        let name = &word.token.text;
        match directive {
            Directive::Include => self.read(word, name, depth, Absent::IsMistake, target),
            Directive::IncludeIfExists => self.read(word, name, depth, Absent::IsFine, target),
            Directive::IncludeDir => self.directory(word, depth, target),
        }
    }

    /// Reads the file `name`, which stands in `word`, into `target`.
    fn read(
        &mut self,
        word: &Word,
        name: &[u8],
        depth: usize,
        absent: Absent,
        target: &mut Target<'_>,
    ) -> Result<(), Trouble> {
        let path = self.path(word, name)?;
        self.read_path(word, path, depth, absent, target)
    }

    fn read_path(
        &mut self,
        word: &Word,
        path: String,
        depth: usize,
        absent: Absent,
        target: &mut Target<'_>,
    ) -> Result<(), Trouble> {
        let place = Place { origin: &word.origin, at: word.token.begin, depth: depth + 1 };
        let full = self.full(&path);
        let Some(bytes) = self.open(&full, &path, place, absent)? else { return Ok(()) };
        self.file(&path.into(), &bytes, place.depth, target)
    }

    /// Reads every file of a directory that ends in `.conf`, in the order of their bytes.
    fn directory(
        &mut self,
        word: &Word,
        depth: usize,
        target: &mut Target<'_>,
    ) -> Result<(), Trouble> {
        let name = &word.token.text;
        if name.iter().all(|byte| b" \t\r\n".contains(byte)) {
            let message = "the name of the directory is empty";
            let hint = "name the directory whose `.conf` files are to be read";
            return Err(self.wrong(&word.origin, Flaw::new(word.token.begin, message, hint)));
        }
        let path = self.path(word, name)?;
        let names = self.list(word, &path)?;
        let mut read = Ok(());
        for name in names {
            let file = settled(&format!("{path}/{name}"));
            match self.read_path(word, file, depth, Absent::IsMistake, target) {
                Err(Trouble::Line) => read = Err(Trouble::Line),
                other => other?,
            }
        }
        read
    }

    /// The names of a directory that are to be included, sorted.
    fn list(&mut self, word: &Word, path: &str) -> Result<Vec<String>, Trouble> {
        let key = directory_path(path);
        if let Some(Found::Directory(names)) = self.text.found(&key) {
            return Ok(names.clone());
        }
        let full = self.full(path);
        match self.files.list(&full).map_err(Why::from).and_then(included) {
            Ok(names) => {
                self.text.record(key, Found::Directory(names.clone()));
                Ok(names)
            }
            Err(why) => {
                let named = Named::by_line(path);
                let flaw = flaw(word.token.begin, Entry::Directory, named, &full, &why);
                Err(self.wrong(&word.origin, flaw))
            }
        }
    }

    /// The path that `name` means in `word`, from the directory of the main file.
    fn path(&mut self, word: &Word, name: &[u8]) -> Result<String, Trouble> {
        let wrong = |message: &str, hint: &str| Flaw::new(word.token.begin, message, hint);
        let Ok(name) = std::str::from_utf8(name) else {
            let flaw = wrong("the name of a file is not UTF-8", "rename the file");
            return Err(self.wrong(&word.origin, flaw));
        };
        if name.starts_with('/') {
            return Ok(name.to_owned());
        }
        if name.len() >= PATH_BYTES {
            let flaw = wrong("the path is too long: PostgreSQL cuts it", "use a shorter path");
            return Err(self.wrong(&word.origin, flaw));
        }
        let including: &str = &word.origin.file;
        let path = match including.rsplit_once('/') {
            Some(("", _)) => format!("/{name}"),
            Some((directory, _)) => format!("{directory}/{name}"),
            None => name.to_owned(),
        };
        Ok(if self.dialect.settles_paths() { settled(&path) } else { path })
    }

    /// Where the edge finds what is at `path`.
    fn full(&self, path: &str) -> PathBuf {
        let full = self.directory.join(path);
        let text = full.to_str().filter(|_| self.dialect.settles_paths() && !path.starts_with('/'));
        text.map_or(full.clone(), |text| settled(text).into())
    }

    /// The bytes of a file; nothing when it does not exist and need not.
    fn open(
        &mut self,
        full: &Path,
        path: &str,
        place: Place<'_>,
        absent: Absent,
    ) -> Result<Option<Arc<[u8]>>, Trouble> {
        let named = if place.depth == 0 { Named::Main } else { Named::by_line(path) };
        let unopened = |why: Why| flaw(place.at, Entry::File, named, full, &why);
        if place.depth > NESTING {
            return Err(self.wrong(place.origin, unopened(Why::TooDeep)));
        }
        self.openings += 1;
        if self.openings > OPENINGS {
            let message = format!("more than {OPENINGS} files are included");
            let flaw = Flaw::new(place.at, message, "write more lines into fewer files");
            return Err(self.enough(place.origin, flaw));
        }
        let found = match self.text.found(path) {
            Some(found) => Ok(found.clone()),
            None => self.read_once(full, path),
        };
        let why = match found {
            Ok(Found::File(bytes)) => return self.counted(bytes, place).map(Some),
            Ok(Found::Missing) if absent == Absent::IsFine => return Ok(None),
            Ok(Found::Missing) => Why::Missing,
            Ok(Found::Directory(_)) => Why::IsDirectory,
            Err(error) => error.into(),
        };
        Err(self.wrong(place.origin, unopened(why)))
    }

    /// Reads a file that was not read before. What is not there is remembered too.
    fn read_once(&mut self, full: &Path, path: &str) -> io::Result<Found> {
        let found = match self.files.read(full) {
            Ok(bytes) => Found::File(bytes.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Missing,
            Err(error) => return Err(error),
        };
        self.text.record(path.to_owned(), found.clone());
        Ok(found)
    }

    /// The bytes, when those of all files are not too many.
    fn counted(&mut self, bytes: Arc<[u8]>, place: Place<'_>) -> Result<Arc<[u8]>, Trouble> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes <= TEXT_BYTES {
            return Ok(bytes);
        }
        let hint = "split the maps over several brokers";
        let message = if place.depth == 0 {
            format!("the file has {} bytes, at most {TEXT_BYTES}", bytes.len())
        } else {
            format!("with this file the map has more than {TEXT_BYTES} bytes in all")
        };
        Err(self.enough(place.origin, Flaw::new(place.at, message, hint)))
    }

    fn too_long(&mut self, origin: &Origin, at: usize) -> Trouble {
        let most = self.dialect.token_bytes().unwrap_or(TOKEN_BYTES);
        let message = format!("a token of more than {most} bytes, which is too long");
        let hint = "look for a quote that is not closed where it should be";
        self.wrong(origin, Flaw::new(at, message, hint))
    }

    fn wrong(&mut self, origin: &Origin, flaw: Flaw) -> Trouble {
        self.mistakes.push(origin, flaw);
        if self.mistakes.is_full() { Trouble::All } else { Trouble::Line }
    }

    fn enough(&mut self, origin: &Origin, flaw: Flaw) -> Trouble {
        self.mistakes.push(origin, flaw);
        Trouble::All
    }
}

/// Puts the tokens of `more` behind those of `field`.
fn join(field: &mut Option<Field>, more: Field) {
    match field {
        Some(field) => field.append(more),
        None => *field = Some(more),
    }
}

#[derive(Clone, Copy)]
enum Directive {
    Include,
    IncludeIfExists,
    IncludeDir,
}

/// The directive of a line with two fields, quoted or not, and the file that it names.
fn directive(line: &Fields, dialect: Dialect) -> Option<(Directive, &Word)> {
    let mut words = line.kept.iter().map(|field| &field.first);
    let directive = match words.next()?.token.text.as_slice() {
        _ if !dialect.includes() || line.count != 2 => return None,
        b"include" => Directive::Include,
        b"include_if_exists" => Directive::IncludeIfExists,
        b"include_dir" => Directive::IncludeDir,
        _ => return None,
    };
    Some((directive, words.next()?))
}

/// What of a directory's names is included (`GetConfFilesInDir` in `conffiles.c`), sorted.
fn included(names: Vec<OsString>) -> Result<Vec<String>, Why> {
    let is_included = |name: &OsString| {
        let name = name.as_encoded_bytes();
        name.len() >= 6 && !name.starts_with(b".") && name.ends_with(b".conf")
    };
    let as_text = |name: OsString| match name.into_string() {
        Ok(name) if !name.contains('\n') => Ok(name),
        _ => Err(Why::OddName),
    };
    let mut names: Vec<_> =
        names.into_iter().filter(is_included).map(as_text).collect::<Result<_, _>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The path without `.`, `..` and doubled `/` (`canonicalize_path` in `path.c`). What leads out
/// of where a relative path begins stays, and `.` is where it begins.
fn settled(path: &str) -> String {
    let mut settled = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => match settled.components().next_back() {
                Some(Component::Normal(_)) => drop(settled.pop()),
                Some(Component::RootDir) => {}
                _ => settled.push(".."),
            },
            part => settled.push(part),
        }
    }
    let settled = settled.to_string_lossy().into_owned();
    if settled.is_empty() { ".".to_owned() } else { settled }
}

fn nul(at: usize) -> Flaw {
    let message = "a NUL byte: PostgreSQL would not read the rest of the line, or join lines \
                   at it";
    Flaw::new(at, message, "save the file as plain text")
}
