//! Where the map is read from again and again, and whether it is still what it was.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

use super::{Dialect, IdentMap, MapFiles, MapMistake};

/// Where the map is read from. Cloning gives the same place.
#[derive(Clone)]
pub struct MapSource {
    /// In whose language it is read.
    pub dialect: Dialect,
    /// The main file, as [`IdentMap::load`] takes it.
    pub main: PathBuf,
    /// The files.
    pub files: Arc<dyn MapFiles + Send + Sync>,
}

/// What came of reading the map once.
#[derive(Debug)]
pub struct MapReading {
    /// The map, or every mistake in it.
    pub map: Result<IdentMap, Vec<MapMistake>>,
    /// All that was seen of the files meanwhile.
    pub look: MapLook,
}

/// All that was asked of the files of a map, and the hash of what each answer was. As long as
/// they answer the same, reading the map would give the same, mistakes too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapLook(Vec<(Asked, Vec<u8>)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    File(PathBuf),
    Directory(PathBuf),
}

impl MapSource {
    /// Reads the map.
    #[must_use]
    pub fn read(&self) -> MapReading {
        let files = Noting { files: &*self.files, look: Mutex::default() };
        let map = IdentMap::load(self.dialect, &self.main, &files);
        MapReading { map, look: files.into_look() }
    }

    /// Whether the files still look like `look`: those that were there, those that were not, and
    /// what was in each directory.
    #[must_use]
    pub fn still_looks_like(&self, look: &MapLook) -> bool {
        look.0.iter().all(|(asked, answer)| {
            let now = match asked {
                Asked::File(path) => of_file(&self.files.read(path)),
                Asked::Directory(path) => of_directory(&self.files.list(path)),
            };
            now == *answer
        })
    }
}

impl fmt::Debug for MapSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dialect, main, .. } = self;
        formatter
            .debug_struct("MapSource")
            .field("dialect", dialect)
            .field("main", main)
            .finish_non_exhaustive()
    }
}

/// Files that are read, and what they answered.
struct Noting<'files> {
    files: &'files dyn MapFiles,
    look: Mutex<MapLook>,
}

impl Noting<'_> {
    fn note(&self, asked: Asked, answer: Vec<u8>) {
        self.look.lock().unwrap_or_else(PoisonError::into_inner).0.push((asked, answer));
    }

    fn into_look(self) -> MapLook {
        self.look.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MapFiles for Noting<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let answer = self.files.read(path);
        self.note(Asked::File(path.to_owned()), of_file(&answer));
        answer
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let answer = self.files.list(directory);
        self.note(Asked::Directory(directory.to_owned()), of_directory(&answer));
        answer
    }
}

fn of_file(answer: &io::Result<Vec<u8>>) -> Vec<u8> {
    match answer {
        Ok(bytes) => digest(&SHA256, bytes).as_ref().to_vec(),
        Err(failed) => of_failure(failed),
    }
}

fn of_directory(answer: &io::Result<Vec<OsString>>) -> Vec<u8> {
    match answer {
        Ok(names) => {
            let mut names: Vec<&[u8]> = names.iter().map(|name| name.as_encoded_bytes()).collect();
            names.sort_unstable();
            digest(&SHA256, &names.join(&b"\0"[..])).as_ref().to_vec()
        }
        Err(failed) => of_failure(failed),
    }
}

/// Shorter than a hash, so it is never taken for one.
fn of_failure(failed: &io::Error) -> Vec<u8> {
    let mut text = failed.kind().to_string().into_bytes();
    text.truncate(31);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Files by their paths; a directory ends with `/` and lists what begins with its path.
    #[derive(Default)]
    struct Files(Mutex<BTreeMap<String, Vec<u8>>>);

    impl Files {
        fn set(&self, path: &str, text: &str) {
            self.0.lock().unwrap().insert(path.to_owned(), text.as_bytes().to_vec());
        }

        fn remove(&self, path: &str) {
            self.0.lock().unwrap().remove(path);
        }
    }

    impl MapFiles for Files {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let files = self.0.lock().unwrap();
            files.get(path.to_str().unwrap()).cloned().ok_or(io::ErrorKind::NotFound.into())
        }

        fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
            let files = self.0.lock().unwrap();
            let start = format!("{}/", directory.to_str().unwrap().trim_end_matches('/'));
            let names = files.keys().filter_map(|path| path.strip_prefix(&start));
            Ok(names.map(OsString::from).collect())
        }
    }

    type Change = fn(&Files);

    fn source() -> (Arc<Files>, MapSource) {
        let files = Arc::new(Files::default());
        files.set(
            "pg_ident.conf",
            "corp alice orders_read\ninclude_if_exists more.conf\ninclude_dir conf.d\n",
        );
        files.set("conf.d/a.conf", "corp bob orders_read\n");
        let main = "pg_ident.conf".into();
        let read_from = Arc::clone(&files) as Arc<dyn MapFiles + Send + Sync>;
        (files, MapSource { dialect: Dialect::default(), main, files: read_from })
    }

    #[test]
    fn a_map_looks_the_same_until_something_that_it_is_read_from_changes() {
        let (files, source) = source();
        let reading = source.read();
        let revision = reading.map.unwrap().revision().clone();
        assert!(source.still_looks_like(&reading.look));
        files.set("unrelated.conf", "corp mallory orders_read\n");
        assert!(source.still_looks_like(&reading.look));

        let changes: [(Change, Change); 4] = [
            (
                |files| files.set("more.conf", "corp carol orders_read\n"),
                |files| {
                    files.remove("more.conf");
                },
            ),
            (
                |files| files.set("conf.d/b.conf", "corp carol orders_read\n"),
                |files| {
                    files.remove("conf.d/b.conf");
                },
            ),
            (
                |files| files.set("conf.d/a.conf", "corp bob all\n"),
                |files| {
                    files.set("conf.d/a.conf", "corp bob orders_read\n");
                },
            ),
            (
                |files| files.remove("conf.d/a.conf"),
                |files| {
                    files.set("conf.d/a.conf", "corp bob orders_read\n");
                },
            ),
        ];
        for (change, take_back) in changes {
            change(&files);
            assert!(!source.still_looks_like(&reading.look));
            assert_ne!(*source.read().map.unwrap().revision(), revision);
            take_back(&files);
            assert!(source.still_looks_like(&reading.look));
            assert_eq!(*source.read().map.unwrap().revision(), revision);
        }
    }

    #[test]
    fn a_map_that_cannot_be_read_looks_the_same_until_it_changes_too() {
        let (files, source) = source();
        files.set("conf.d/a.conf", "corp bob\n");
        let bad = source.read();
        assert!(bad.map.is_err());
        assert!(source.still_looks_like(&bad.look));
        files.remove("pg_ident.conf");
        assert!(!source.still_looks_like(&bad.look));
        let missing = source.read();
        assert!(missing.map.is_err());
        assert!(source.still_looks_like(&missing.look));
        assert_ne!(missing.look, bad.look);
    }
}
