//! The configuration: one TOML file, read into settings, or refused with every mistake in it.
//!
//! ```text
//! source      the text, bounded in size and depth
//! reader      asks for keys, notes mistakes with line and column
//! form        what a value looks like, in words and in code
//! files       what the configuration names on disk
//! server log store broker session lockout map access ldap cluster    one section each
//! ```
//!
//! Invariants:
//! - A configuration is accepted whole or not at all; there is no default for what is written
//!   wrongly, and no key that is not read.
//! - No message holds a value of the file, and none holds a line of it: only keys, places, and
//!   what is expected. So whatever was pasted into the file stays there.
//! - Secrets stand in files of their own that only the broker's user may read, and that no map reads.
//! - An empty list never means "any".
//!
//! The reader remembers each key that it asked for, with its default. A test holds
//! `config/pgbridge.toml` against that, so the sample documents every key and no other.

mod access;
mod broker;
mod cluster;
mod diagnostic;
mod files;
mod form;
mod ldap;
mod lockout;
mod log;
mod map;
mod map_settings;
mod policy;
mod reader;
mod server;
mod session;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use crate::auth::ldap::LdapSettings;
use crate::auth::{Lockout, SessionTimes};
use crate::mapping::{Dialect, MapSource, Maps, Policy, Target};
use crate::names::{Ttl, WayName};

pub use crate::store::StoreSettings;
pub use broker::BrokerSettings;
pub use cluster::ClusterEntry;
pub use diagnostic::{Diagnostic, Note, Position};
pub use log::{LogFormat, LogLevel, LogSettings};
pub use map::MapDisk;
pub use map_settings::MapSettings;
pub use server::{ServerSettings, Transport};

use diagnostic::Kind;
use map::{MapFile, NamedMap};
use reader::{Findings, OtherFiles, Reader, Table, Unique};
use source::{FILE_BYTES_MAX, Source, Unreadable};

/// All settings of a broker. Every file that they name was there and in order when they were read.
pub struct Config {
    /// Where people and programs reach the broker.
    pub server: ServerSettings,
    /// What the broker says about its work.
    pub log: LogSettings,
    /// The broker's own database.
    pub store: StoreSettings,
    /// How leases are made and ended.
    pub broker: BrokerSettings,
    /// How long a login is remembered.
    pub session: SessionTimes,
    /// When logins are refused without asking the directory.
    pub lockout: Lockout,
    /// Who may become what: the map file, which way in uses which map, and the profiles.
    pub policy: Policy,
    /// Where the map is read from again when its files have changed.
    pub map_source: MapSource,
    /// How often it is looked whether they have.
    pub map_reload_every: Ttl,
    /// The ways in, at least one, in the order of the file.
    pub ways: Vec<LdapSettings>,
    /// The clusters, at least one, in the order of the file.
    pub clusters: Vec<ClusterEntry>,
    /// What is allowed and probably not meant, sorted by place.
    pub notes: Vec<Note>,
}

/// Reads the configuration in `path`, and every file that it names.
///
/// # Errors
/// When anything in it is wrong: every mistake, sorted by file and place.
pub fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    settled(path, read(path, bytes_of(path)?, OtherFiles::Opened, sections))
}

/// Reads where the store is, for who may read nothing else: no other section is looked at, and
/// no other file opened.
///
/// # Errors
/// When the file cannot be read or is not TOML, or `[store]` in it is wrong.
pub fn store_only(path: &Path) -> Result<StoreSettings, Vec<Diagnostic>> {
    let section = |root: Table<'_>| store::read_existing(root.section("store", "[store]"));
    settled(path, read(path, bytes_of(path)?, OtherFiles::Opened, section))
}

/// Reads what comparing and checking maps needs: which maps are used for what, and what is lent. No
/// other file is opened, and none of the secrets has to be there.
///
/// # Errors
/// When the file cannot be read or is not TOML, one of those keys is missing, any value is wrong, or
/// any key is not known: it may be one of those, mistyped.
pub fn map_only(path: &Path) -> Result<MapSettings, Vec<Diagnostic>> {
    understood(path, |root| map_settings::read(&root))
}

/// Reads what questions to the map need: the map, which way in uses which, and what is lent. The
/// map's files are opened and no other, so none of the secrets has to be there. One that is there is
/// not opened for the map either.
///
/// # Errors
/// When the file cannot be read or is not TOML, one of those keys is missing, any value is wrong, any
/// key is not known, or the map has a mistake. The map is read only when the rest is understood.
pub fn policy_only(path: &Path) -> Result<Policy, Vec<Diagnostic>> {
    understood(path, |root| policy::read(&root))
}

/// Reads with `section` what it needs. What does not fit together otherwise is for `check` to tell;
/// but a key that is not known or has a wrong value may be one of those that are needed, and an
/// answer without it would be another one. It may also be one that names a secret: then no other file
/// is opened.
fn understood<T>(
    path: &Path,
    section: impl FnOnce(Table<'_>) -> Option<T>,
) -> Result<T, Vec<Diagnostic>> {
    let bytes = bytes_of(path)?;
    let (_, whole) = read(path, bytes.clone(), OtherFiles::LeftAlone, sections);
    let Findings { mistakes, secrets, .. } = whole;
    let not_understood = |mistake: &Diagnostic| {
        matches!(mistake.kind, Kind::Syntax | Kind::Value | Kind::UnknownKey)
    };
    let unclear: Vec<Diagnostic> = mistakes.into_iter().filter(not_understood).collect();
    let others = if unclear.is_empty() { OtherFiles::Opened } else { OtherFiles::LeftAlone };
    let (needed, mut findings) = read(path, bytes, others, |root| {
        root.reader().note_secrets(secrets);
        section(root)
    });
    findings.mistakes.extend(unclear);
    findings.mistakes.sort();
    findings.mistakes.dedup();
    settled(path, (needed, findings))
}

const NO_PIPE: &str = "write it into a file and name that: a configuration is read more than once, and \
                       what it names is looked for beside it";

fn bytes_of(path: &Path) -> Result<Vec<u8>, Vec<Diagnostic>> {
    let unread = |error: std::io::Error| {
        let (message, hint) = match error.kind() {
            ErrorKind::InvalidInput => ("is no regular file".to_owned(), Some(NO_PIPE)),
            ErrorKind::IsADirectory => ("is no regular file".to_owned(), None),
            ErrorKind::NotFound => ("cannot be read: no such file".to_owned(), None),
            kind => (format!("cannot be read: {kind}"), None),
        };
        let closed = (error.kind() == ErrorKind::PermissionDenied).then(|| path.to_owned());
        let hint = hint.map(str::to_owned);
        vec![Diagnostic { hint, closed, ..whole_file(path, message) }]
    };
    files::read_bounded(path, FILE_BYTES_MAX).map(|(_, bytes)| bytes.to_vec()).map_err(unread)
}

fn whole_file(path: &Path, message: String) -> Diagnostic {
    let file = path.display().to_string();
    Diagnostic { file, position: None, message, hint: None, closed: None, kind: Kind::Fit }
}

/// What was read, when no mistake was found in it.
fn settled<T>(path: &Path, (read, findings): (Option<T>, Findings)) -> Result<T, Vec<Diagnostic>> {
    match read {
        Some(settings) if findings.mistakes.is_empty() => Ok(settings),
        _ if findings.mistakes.is_empty() => {
            Err(vec![whole_file(path, "cannot be used".to_owned())])
        }
        _ => Err(findings.mistakes),
    }
}

/// Reads `bytes` as the configuration in `path`, of which `sections` takes what it needs.
fn read<T>(
    path: &Path,
    bytes: Vec<u8>,
    others: OtherFiles,
    sections: impl FnOnce(Table<'_>) -> Option<T>,
) -> (Option<T>, Findings) {
    let (source, problem) = Source::new(bytes);
    let reader = Reader::new(path, &source, others);
    match problem {
        Some(Unreadable::NotUtf8(offset)) => reader.unreadable(offset, "not UTF-8 from here on"),
        Some(Unreadable::TooDeep(offset)) => {
            reader.unreadable(offset, "more tables or lists inside each other than there can be");
        }
        None => {}
    }
    if problem.is_some() {
        return (None, reader.finish());
    }
    let (tree, errors) = DeTable::parse_recoverable(source.text());
    reader.syntax_errors(&errors);
    let settings = sections(Table::root(&reader, tree.get_ref()));
    (settings, reader.finish())
}

fn sections(root: Table<'_>) -> Option<Config> {
    let reader = root.reader();
    let mut named = Vec::new();
    let server = server::read(root.section("server", "[server]"));
    let log = log::read(root.section("log", "[log]"));
    let store = store::read(root.section("store", "[store]"));
    let broker = broker::read(root.section("broker", "[broker]"));
    let session = session::read(root.section("session", "[session]"));
    let lockout = lockout::read(root.section("lockout", "[lockout]"));
    let access = access::read(root.section("access", "[access]"), &mut named);
    let ways = ways(&root, &mut named, session);
    let mut dialects = Vec::new();
    let clusters = clusters(&root, &mut dialects);
    let map = root.section("map", "[map]");
    root.finish();
    let map = map::read(map, &dialects);
    if let Some(map) = &map {
        map::hold_against(reader, map, &named, &access);
    }
    let Ways { settings: ways, maps, mut notes } = ways?;
    let (clusters, targets) = clusters?;
    let MapFile { map, path: main, disk, reload_every: map_reload_every } = map?;
    let policy = Policy { map, ways: maps, access, targets };
    notes.extend(map::lines_without_effect(&policy, &main));
    let (dialect, files) = (policy.map.dialect(), Arc::new(disk));
    notes.sort();
    Some(Config {
        server: server?,
        log: log?,
        store: store?,
        broker: broker?,
        session: session?,
        lockout: lockout?,
        policy,
        map_source: MapSource { dialect, main, files },
        map_reload_every,
        ways,
        clusters,
        notes,
    })
}

/// The ways in.
#[derive(Default)]
struct Ways {
    settings: Vec<LdapSettings>,
    /// The maps that each uses.
    maps: BTreeMap<WayName, Maps>,
    notes: Vec<Note>,
}

/// Every directory, and the maps of each.
fn ways(
    root: &Table<'_>,
    named: &mut Vec<NamedMap>,
    session: Option<SessionTimes>,
) -> Option<Ways> {
    let lifetime = session.map(|times| times.absolute);
    let mut names = Unique::default();
    let sections = root.sections("ldap", "[[ldap]]", "nobody could log in").into_iter();
    let read: Vec<_> =
        sections.map(|table| ldap::read(table, &mut names, named, lifetime)).collect();
    let directories: Vec<ldap::Directory> = read.into_iter().collect::<Option<_>>()?;
    let mut all = Ways::default();
    for ldap::Directory { settings, maps, note } in directories {
        all.maps.insert(settings.name.clone(), maps);
        all.settings.push(settings);
        all.notes.extend(note);
    }
    Some(all)
}

/// Every cluster, and what each lends. The releases that are written go to `dialects`, also those
/// of a cluster with mistakes.
fn clusters(
    root: &Table<'_>,
    dialects: &mut Vec<Dialect>,
) -> Option<(Vec<ClusterEntry>, Vec<Target>)> {
    let mut names = Unique::default();
    let sections = root.sections("cluster", "[[cluster]]", "there is nothing to lend").into_iter();
    let read: Vec<_> = sections.map(|table| cluster::read(table, &mut names, dialects)).collect();
    let clusters: Vec<_> = read.into_iter().collect::<Option<_>>()?;
    Some(clusters.into_iter().unzip())
}
