//! `[map]`: the files that say who may act as which role.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Kind, Note, Position};
use super::files::{self, Privacy, Secrets};
use super::form;
use super::reader::{Place, Reader, Table};
use crate::mapping::{
    AccessMaps, Case, DatabaseUserView, Dialect, IdentMap, MapFiles, MapMistake, Maps, Policy,
    RuleRef, RuleView,
};
use crate::names::{MapName, Ttl};

/// The files of a map on disk: regular files of at most 8 MiB each, and none of the secrets of the
/// configuration, if there is one.
#[derive(Clone, Debug, Default)]
pub struct MapDisk {
    secrets: Secrets,
}

impl MapDisk {
    /// All files but `secrets`.
    pub(super) fn but(secrets: Secrets) -> Self {
        Self { secrets }
    }
}

impl MapFiles for MapDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let read = files::read_beside(path, files::FILE_BYTES_MAX, &self.secrets);
        read.map(|(_, bytes)| bytes.to_vec())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            // A link is what it leads to. One that leads nowhere is a name like any other, so
            // that reading it fails, as in PostgreSQL.
            if !fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir()) {
                names.push(entry.file_name());
            }
        }
        Ok(names)
    }
}

/// The map on disk, with the bytes of its main file, which were read before.
struct Opened<'a> {
    main: &'a Path,
    bytes: &'a [u8],
    disk: &'a MapDisk,
}

impl MapFiles for Opened<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.main { Ok(self.bytes.to_vec()) } else { self.disk.read(path) }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(directory)
    }
}

/// A map, and where its main file is.
pub(super) struct MapFile {
    pub map: IdentMap,
    pub path: PathBuf,
    /// Where all of it is.
    pub disk: MapDisk,
    /// How often it is looked whether the files have changed.
    pub reload_every: Ttl,
}

impl MapFile {
    /// The file that a line stands in, as mistakes name it.
    fn file_of(&self, rule: &RuleRef) -> String {
        shown(&self.path, &rule.file)
    }
}

/// A file of the map whose main file is `main`, as people find it.
fn shown(main: &Path, file: &str) -> String {
    main.parent().unwrap_or(Path::new("")).join(file).display().to_string()
}

/// The parsed map. Nothing when it could not be read or has mistakes, which are noted beside those
/// of the configuration, or when some of that was not understood. It is read after all that names a
/// secret. Unless its section says so, it is read as the oldest of `clusters` reads it: a line of a
/// newer release would let nobody in there.
pub(super) fn read(table: Table<'_>, clusters: &[Dialect]) -> Option<MapFile> {
    let file: Option<PathBuf> = table.required("file", &form::path());
    let dialect = dialect(&table, clusters);
    let reload_every = table.defaulted("reload_every", "\"5s\"", &form::duration("1s", "1h"));
    let map = file.zip(reload_every);
    let map = map.and_then(|(file, every)| parse(&table, &file, dialect, every));
    table.finish();
    map
}

/// Whose reading of the map counts: what is written, or else that of the oldest cluster.
pub(super) fn dialect(table: &Table<'_>, clusters: &[Dialect]) -> Dialect {
    let written = table.optional("postgres", &form::number(13, 18));
    written.or(clusters.iter().min().copied()).unwrap_or_default()
}

fn parse(table: &Table<'_>, file: &Path, dialect: Dialect, reload_every: Ttl) -> Option<MapFile> {
    let path = table.reader().resolve(file);
    let bytes = files::read(table, "file", &path, Privacy::Shown)?;
    if !table.reader().is_understood() {
        return None;
    }
    let disk = MapDisk::but(table.reader().secrets());
    let files = Opened { main: &path, bytes: &bytes, disk: &disk };
    match IdentMap::load(dialect, &path, &files) {
        Ok(map) => Some(MapFile { map, path, disk, reload_every }),
        Err(mistakes) => {
            for mistake in mistakes {
                let file = shown(&path, &mistake.file);
                table.reader().elsewhere(diagnostic(mistake, file));
            }
            None
        }
    }
}

fn diagnostic(mistake: MapMistake, file: String) -> Diagnostic {
    let MapMistake { line, column, end_column, message, hint, closed, .. } = mistake;
    let hint = Some(hint).filter(|hint| !hint.is_empty());
    let position = Some(Position { line, column, end_column });
    Diagnostic { file, position, message, hint, closed, kind: Kind::Fit }
}

/// A map that a section names, to be looked for in the file once that is read.
pub(super) struct NamedMap {
    name: MapName,
    place: Place,
    what: String,
}

/// The keys `map`, `group_map` and `caseins_users` of a section.
pub(super) fn maps(table: &Table<'_>, named: &mut Vec<NamedMap>) -> Maps {
    let form =
        form::parsed::<MapName>("the name of a map: its lines in the map file begin with it");
    let mut read = |key| {
        let name: Option<MapName> = table.optional(key, &form);
        if let Some(name) = name.clone() {
            let what = format!("`{key}` in {}", table.title());
            named.push(NamedMap { name, place: table.place_of(key), what });
        }
        name
    };
    let (map, group_map) = (read("map"), read("group_map"));
    let case = match table.defaulted("caseins_users", "false", &form::flag()) {
        Some(true) => Case::Insensitive,
        Some(false) | None => Case::Sensitive,
    };
    Maps { map, group_map, case }
}

/// Notes every name that the map file has no line for: such a map lets nobody in, so it is a slip.
/// And every `+role` in a map of the broker's own duties: those are no roles of any cluster, so
/// nobody could be asked who is a member.
pub(super) fn hold_against(
    reader: &Reader<'_>,
    map: &MapFile,
    named: &[NamedMap],
    access: &AccessMaps,
) {
    for NamedMap { name, place, what } in named {
        if !map.map.has_map(name) {
            let message = format!("{what} names a map that has no line in the map file");
            reader.mistake(*place, message, "map names are compared letter by letter");
        }
    }
    for name in [&access.map, &access.group_map].into_iter().flatten() {
        let asks =
            |rule: &RuleView<'_>| matches!(rule.database_user(), DatabaseUserView::MemberOf(_));
        for rule in map.map.rules(name).filter(asks) {
            reader.elsewhere(asks_nobody(map, &rule.reference()));
        }
    }
}

fn asks_nobody(map: &MapFile, rule: &RuleRef) -> Diagnostic {
    Diagnostic {
        file: map.file_of(rule),
        position: Some(Position::at(rule.line, 1)),
        message: "`+role` in a map of [access]: the broker's own duties are roles of no cluster, \
                  so nobody can be asked who is a member"
            .to_owned(),
        hint: Some("write `auditor` or `operator`, or use another map".to_owned()),
        closed: None,
        kind: Kind::Fit,
    }
}

const NOT_LENT: &str = "no cluster lends this role, so the line allows nothing";
const UNUSABLE: &str = "nobody uses a map without a name, or with one that is not UTF-8";
const MARKED: &str =
    "the file begins with a byte order mark, which is a part of this map's name: save it without";

/// The lines that allow nothing, most likely by a slip.
pub(super) fn lines_without_effect(policy: &Policy, path: &Path) -> Vec<Note> {
    let note = |rule: RuleView<'_>, message| {
        let rule = rule.reference();
        Note { file: shown(path, &rule.file), line: rule.line, message }
    };
    let mut notes: BTreeSet<Note> =
        policy.map.never_asked().map(|rule| note(rule, UNUSABLE)).collect();
    for name in policy.map.map_names().filter(|name| name.as_str().starts_with('\u{FEFF}')) {
        notes.extend(policy.map.rules(name).take(1).map(|rule| note(rule, MARKED)));
    }
    notes.extend(lines_of_no_role(policy).into_iter().map(|rule| note(rule, NOT_LENT)));
    notes.into_iter().collect()
}

/// The lines of the ways' maps that name a role which no cluster lends. The maps of the broker's
/// own duties name no roles of clusters.
fn lines_of_no_role(policy: &Policy) -> Vec<RuleView<'_>> {
    let both = |maps: &Maps| [maps.map.clone(), maps.group_map.clone()];
    let duties = both(&policy.access);
    let is_lent = |rule: &RuleView<'_>, case: Case| match rule.database_user() {
        DatabaseUserView::Literal(name) => {
            let mut lent = policy.targets.iter().flat_map(|target| &target.profiles);
            lent.any(|profile| case.is_same(name, profile.role.as_str().as_bytes()))
        }
        _ => true,
    };
    let named = policy.ways.values().flat_map(|maps| {
        both(maps)
            .into_iter()
            .filter(|name| !duties.contains(name))
            .flatten()
            .map(|name| (name, maps.case))
    });
    let named: Vec<(MapName, Case)> = named.collect();
    named
        .iter()
        .flat_map(|(name, case)| policy.map.rules(name).filter(|rule| !is_lent(rule, *case)))
        .collect()
}
