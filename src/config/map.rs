//! `[map]`: the file that says who may act as which role.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Kind, Note, Position};
use super::files::{self, Privacy};
use super::form;
use super::reader::{Place, Reader, Table};
use crate::mapping::{
    Case, DatabaseUserView, Dialect, IdentMap, MapMistake, Maps, Policy, RuleView,
};
use crate::names::MapName;

/// The parsed map, and its file as mistakes name it. Nothing when it could not be read or has
/// mistakes, which are noted beside those of the configuration.
pub(super) fn read(table: Table<'_>) -> Option<(IdentMap, String)> {
    let file: Option<PathBuf> = table.required("file", &form::path());
    let map = file.and_then(|file| parse(&table, &file));
    table.finish();
    map
}

fn parse(table: &Table<'_>, file: &Path) -> Option<(IdentMap, String)> {
    let path = table.reader().resolve(file);
    let bytes = files::read(table, "file", &path, Privacy::Public)?;
    // Decisions name the file as the configuration does, people who mend it need the path.
    let name = file.display().to_string();
    let shown = path.display().to_string();
    match IdentMap::parse(Dialect::default(), &name, &bytes) {
        Ok(map) => Some((map, shown)),
        Err(mistakes) => {
            for mistake in mistakes {
                let file = if mistake.file == name { shown.clone() } else { mistake.file.clone() };
                table.reader().elsewhere(diagnostic(mistake, file));
            }
            None
        }
    }
}

fn diagnostic(mistake: MapMistake, file: String) -> Diagnostic {
    let MapMistake { line, column, message, hint, .. } = mistake;
    let hint = Some(hint).filter(|hint| !hint.is_empty());
    Diagnostic { file, position: Some(Position { line, column }), message, hint, kind: Kind::Fit }
}

/// A map that a section names, to be looked for in the file once that is read.
pub(super) struct NamedMap {
    name: MapName,
    place: Place,
    what: String,
}

/// The keys `map` and `group_map` of a section.
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
    Maps { map: read("map"), group_map: read("group_map"), case: Case::Sensitive }
}

/// Notes every name that the map file has no line for: such a map lets nobody in, so it is a slip.
pub(super) fn hold_against(reader: &Reader<'_>, map: &IdentMap, named: &[NamedMap]) {
    for NamedMap { name, place, what } in named {
        if !map.has_map(name) {
            let message = format!("{what} names a map that has no line in the map file");
            reader.mistake(*place, message, "map names are compared letter by letter");
        }
    }
}

/// The lines of the ways' maps that name a role which no cluster lends: they allow nothing, most
/// likely by a slip. `file` names the map file in the notes. The maps of the broker's own duties
/// name no roles of clusters.
pub(super) fn lines_without_effect(policy: &Policy, file: &str) -> Vec<Note> {
    let both = |maps: &Maps| [maps.map.clone(), maps.group_map.clone()];
    let duties = both(&policy.access);
    let ways = policy.ways.values().flat_map(both).filter(|name| !duties.contains(name)).flatten();
    let lent: BTreeSet<&str> = policy
        .targets
        .iter()
        .flat_map(|target| &target.profiles)
        .map(|profile| profile.role.as_str())
        .collect();
    let message = "no cluster lends this role, so the line allows nothing";
    let is_lent = |rule: &RuleView<'_>| match rule.database_user() {
        DatabaseUserView::Literal(role) => {
            std::str::from_utf8(role).is_ok_and(|role| lent.contains(role))
        }
        _ => true,
    };
    let of_map = |name: &MapName| -> Vec<Note> {
        let lines = policy.map.rules(name).filter(|rule| !is_lent(rule));
        let line = |rule: RuleView<'_>| rule.reference().line;
        lines.map(|rule| Note { file: file.to_owned(), line: line(rule), message }).collect()
    };
    let notes: BTreeSet<Note> = ways.flat_map(|name| of_map(&name)).collect();
    notes.into_iter().collect()
}
