//! The house has floors, and nobody may import upwards or sideways. The table is the one in the
//! crate's docs and in its design.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A part of the house: where its files are, its floor, and its place on that floor. On floor 1
/// a part may import from those before it; elsewhere parts of one floor do not know each other,
/// but for what some of them [`SHARED`].
struct Part {
    name: &'static str,
    floor: u8,
    place: u8,
}

const PARTS: [Part; 18] = [
    Part { name: "names", floor: 0, place: 0 },
    Part { name: "clock", floor: 0, place: 0 },
    Part { name: "crash", floor: 0, place: 0 },
    Part { name: "causes", floor: 0, place: 0 },
    Part { name: "auth::identity", floor: 1, place: 0 },
    Part { name: "mapping", floor: 1, place: 1 },
    Part { name: "lease", floor: 1, place: 2 },
    Part { name: "audit", floor: 1, place: 3 },
    Part { name: "auth::way", floor: 2, place: 0 },
    Part { name: "auth::ldap", floor: 2, place: 0 },
    Part { name: "auth::kerberos", floor: 2, place: 0 },
    Part { name: "dial", floor: 2, place: 0 },
    Part { name: "cluster", floor: 2, place: 0 },
    Part { name: "store", floor: 2, place: 0 },
    Part { name: "broker", floor: 3, place: 0 },
    Part { name: "config", floor: 3, place: 0 },
    Part { name: "http", floor: 4, place: 0 },
    Part { name: "cli", floor: 4, place: 0 },
];

/// What parts of one floor have in common, and they alone: what all ways in can do, and how one
/// dials a PostgreSQL server.
const SHARED: [(&str, &[&str]); 2] =
    [("auth::way", &["auth::ldap", "auth::kerberos"]), ("dial", &["cluster", "store"])];

fn part(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

/// The part that `crate::PATH…` leads to. `auth` itself only hands on what `auth::identity` has.
fn part_of_path(path: &str) -> &'static Part {
    let mut segments = path.split("::");
    let name = match (segments.next().unwrap_or_default(), segments.next()) {
        ("auth", Some("ldap")) => "auth::ldap",
        ("auth", Some("kerberos")) => "auth::kerberos",
        ("auth", Some("way")) => "auth::way",
        ("auth", _) => "auth::identity",
        (name, _) => name,
    };
    part(name).unwrap_or_else(|| panic!("`crate::{path}` leads to no part of the table"))
}

/// The part that a file under `src/` belongs to; nothing for `lib.rs`, `main.rs`, `auth/mod.rs`.
fn part_of_file(relative: &Path) -> Option<&'static Part> {
    let text = relative.with_extension("").to_string_lossy().replace('\\', "/");
    let mut segments = text.split('/');
    match (segments.next()?, segments.next()) {
        ("lib" | "main", None) | ("auth", None | Some("mod")) => None,
        ("auth", Some(module)) => {
            let name = format!("auth::{module}");
            Some(part(&name).unwrap_or_else(|| panic!("`{name}` is not in the table")))
        }
        (name, _) => Some(part(name).unwrap_or_else(|| panic!("`{name}` is not in the table"))),
    }
}

/// Every `crate::path` in the code of a file, comments left out.
fn imports(source: &str) -> BTreeSet<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut paths = BTreeSet::new();
    for line in code {
        for (begin, _) in line.match_indices("crate::") {
            let before = line[..begin].chars().next_back();
            if before
                .is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == '$')
            {
                continue;
            }
            let rest = &line[begin + "crate::".len()..];
            let end = rest
                .find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':'));
            paths.insert(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
    paths
}

fn may_import(from: &Part, to: &Part) -> bool {
    from.name == to.name
        || to.floor < from.floor
        || (from.floor == 1 && to.floor == 1 && to.place < from.place)
        || SHARED.iter().any(|(shared, by)| *shared == to.name && by.contains(&from.name))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_module_imports_from_a_higher_floor_or_a_neighbour() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in &files {
        let relative = file.strip_prefix(&root).unwrap();
        let Some(from) = part_of_file(relative) else { continue };
        seen.insert(from.name);
        for path in imports(&fs::read_to_string(file).unwrap()) {
            let to = part_of_path(&path);
            if !may_import(from, to) {
                wrong.push(format!("{} ({}) imports crate::{path}", relative.display(), from.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), PARTS.len(), "some parts of the table have no file: {seen:?}");
}

#[test]
fn an_upward_import_and_a_sideways_one_would_be_seen() {
    let import = |from: &str, line: &str| {
        let paths = imports(line);
        let path = paths.first().expect("an import");
        may_import(part(from).unwrap(), part_of_path(path))
    };
    assert!(!import("lease", "use crate::store::Store;"));
    assert!(!import("store", "use crate::cluster::{Cluster, Removal};"));
    assert!(!import("mapping", "    let x = crate::audit::cut(text);"));
    assert!(!import("broker", "use crate::config::Config;"));
    assert!(!import("cluster", "use crate::auth::ldap::LdapWay;"));
    assert!(!import("store", "use crate::auth::way::Way;"));
    assert!(!import("dial", "use crate::store::Store;"));
    assert!(!import("auth::ldap", "use crate::dial::ServerTls;"));
    assert!(import("auth::ldap", "use crate::auth::way::Way;"));
    assert!(import("auth::kerberos", "use crate::auth::way::Way;"));
    assert!(!import("auth::kerberos", "use crate::auth::ldap::LdapWay;"));
    assert!(import("store", "use crate::dial::ServerTls;"));
    assert!(import("cluster", "use crate::dial::Failure;"));
    assert!(import("broker", "use crate::auth::ldap::LdapWay;"));
    assert!(import("audit", "use crate::lease::Lease;"));
    assert!(import("store", "use crate::auth::Session;"));
    assert!(imports("// use crate::store::Store;").is_empty());
}

#[test]
fn unsafe_code_is_in_one_module_and_each_block_says_why_it_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let with_unsafe = files.iter().filter(|file| {
        let text = fs::read_to_string(file).unwrap();
        ["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"].iter().any(|it| text.contains(it))
    });
    let with_unsafe: Vec<_> = with_unsafe.map(|file| file.strip_prefix(&root).unwrap()).collect();
    assert_eq!(with_unsafe, [Path::new("auth/kerberos/gss.rs")]);
    let text = fs::read_to_string(root.join(with_unsafe[0])).unwrap();
    let blocks = text.matches("unsafe {").count() + text.matches("unsafe impl").count();
    assert_eq!(text.matches("// SAFETY: ").count(), blocks);
}
