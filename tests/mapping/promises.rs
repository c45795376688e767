//! What holds for any map and any question, whatever bytes they are made of. Tests ask it of random
//! bytes, and so does the fuzzer, which takes this file as it is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use pgbridge::mapping::{
    Case, Considered, Dialect, IdentMap, MapDecision, MapFiles, MapText, Memberships, Question,
};

/// A map's files, and a question. The main file is `pg_ident.conf`, the others are `a`, `b.conf` and
/// `d/c.conf`.
#[derive(Debug)]
pub struct Anything<'bytes> {
    pub dialect: Dialect,
    pub files: [&'bytes [u8]; 4],
    pub user: &'bytes [u8],
    pub role: &'bytes [u8],
    pub case: Case,
}

const MAIN: &str = "pg_ident.conf";
const NAMES: [&str; 4] = [MAIN, "a", "b.conf", "d/c.conf"];

struct InMemory<'bytes>(BTreeMap<PathBuf, &'bytes [u8]>);

impl MapFiles for InMemory<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.0.get(path).map(|bytes| bytes.to_vec());
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let files = self.0.keys().filter(|path| path.parent() == Some(directory));
        Ok(files.filter_map(|path| path.file_name()).map(OsString::from).collect())
    }
}

impl Anything<'_> {
    /// Asks everything of it twice. Gives whether the map can be read at all.
    ///
    /// # Panics
    /// When a promise is broken.
    pub fn keeps_all_promises(&self) -> bool {
        let files = NAMES.iter().zip(self.files).map(|(name, bytes)| (PathBuf::from(name), bytes));
        let files = InMemory(files.collect());
        let map = match IdentMap::load(self.dialect, Path::new(MAIN), &files) {
            Ok(map) => map,
            Err(mistakes) => {
                assert!(!mistakes.is_empty(), "refused for nothing");
                let again = IdentMap::load(self.dialect, Path::new(MAIN), &files);
                assert_eq!(again.err(), Some(mistakes), "refused for another reason");
                return false;
            }
        };
        self.is_read_again_from_what_was_read(&map);
        for name in map.map_names() {
            let decision = self.decide(&map, name);
            assert_eq!(self.scan(&map, name), decision, "the lines say otherwise");
            assert_eq!(self.decide(&map, name), decision, "decided otherwise");
        }
        true
    }

    fn question<'a>(
        &'a self,
        map: &'a pgbridge::names::MapName,
        members: &'a Memberships,
    ) -> Question<'a> {
        Question { map, system_user: self.user, role: self.role, case: self.case, members }
    }

    fn members(&self) -> Memberships {
        let role = String::from_utf8_lossy(self.role);
        Memberships::of_edges([&*role], [(&*role, "g")])
    }

    fn decide(&self, map: &IdentMap, name: &pgbridge::names::MapName) -> MapDecision {
        map.decide(&self.question(name, &self.members()))
    }

    /// The decision, from what each line says of the question.
    fn scan(&self, map: &IdentMap, name: &pgbridge::names::MapName) -> MapDecision {
        let members = self.members();
        let question = self.question(name, &members);
        if self.user.contains(&0) || self.role.contains(&0) {
            return MapDecision::NoMatch;
        }
        for rule in map.rules(name) {
            match rule.consider(&question) {
                Considered::OtherUser | Considered::OtherRole { .. } => {}
                Considered::Allows { .. } => return MapDecision::Allowed(rule.reference()),
                Considered::Fails { reason } => {
                    return MapDecision::Failed { rule: rule.reference(), reason };
                }
            }
        }
        MapDecision::NoMatch
    }

    /// A revision that was stored is the same map years later.
    fn is_read_again_from_what_was_read(&self, map: &IdentMap) {
        let stored = serde_json::to_vec(map.text()).expect("what was read can be stored");
        let text: MapText = serde_json::from_slice(&stored).expect("what was stored can be read");
        let again = IdentMap::load(self.dialect, text.main(), &text).expect("it was read before");
        assert_eq!(again.revision(), map.revision());
        assert!(again.map_names().eq(map.map_names()), "other maps");
        for name in map.map_names() {
            let lines = |map: &IdentMap| -> Vec<_> {
                let rules = map.rules(name);
                rules.map(|rule| (rule.reference(), rule.text().into_owned())).collect()
            };
            assert_eq!(lines(&again), lines(map), "other lines");
            assert_eq!(self.decide(&again, name), self.decide(map, name), "decided otherwise");
        }
    }
}
