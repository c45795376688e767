//! A server and ourselves, asked the same.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pgbridge::mapping::{
    Case, Dialect, IdentMap, MapDecision, MapFiles, MapMistake, Memberships, Question,
};
use pgbridge::names::MapName;

use super::login::{Loaded, MapServer, Said, cut};

/// Logins under way at once at one server.
const AT_ONCE: usize = 4;

/// The files of a server, as they are on disk; the main file may have another text.
struct OnDisk<'a> {
    main: &'a Path,
    text: Option<&'a [u8]>,
}

impl OnDisk<'_> {
    /// Paths of included files begin at the directory of the main file.
    fn whole_path(&self, path: &Path) -> PathBuf {
        self.main.parent().expect("a file is in a directory").join(path)
    }
}

impl MapFiles for OnDisk<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.whole_path(path);
        match self.text {
            // A map may include itself.
            Some(text) if path == self.main => Ok(text.to_vec()),
            _ => fs::read(path),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.whole_path(directory))? {
            let entry = entry?;
            if !fs::metadata(entry.path())?.is_dir() {
                names.push(entry.file_name());
            }
        }
        Ok(names)
    }
}

pub fn dialect(major: u32) -> Dialect {
    major.try_into().expect("a major that the tests have")
}

pub fn map_name(name: &str) -> MapName {
    name.parse().expect("a map name")
}

/// A question to both: by which map, who, as whom.
#[derive(Clone, Debug)]
pub struct Asked {
    pub map: usize,
    pub user: Vec<u8>,
    pub role: Vec<u8>,
}

/// A server with the maps it knows, and what its roles are to each other.
pub struct Oracle {
    pub server: MapServer,
    maps: Vec<MapName>,
    members: Memberships,
}

impl Oracle {
    /// A server of `major`, whose roles `sql` makes.
    pub fn start(major: u32, maps: &[&str], sql: &str) -> Self {
        let server = MapServer::start(major, maps);
        if !sql.is_empty() {
            server.postgres.sql("postgres", sql);
        }
        let names = server.postgres.sql("postgres", "SELECT rolname FROM pg_roles").concat();
        let edges = server.postgres.sql(
            "postgres",
            "SELECT member.rolname, granted.rolname FROM pg_auth_members
             JOIN pg_roles member ON member.oid = member
             JOIN pg_roles granted ON granted.oid = roleid",
        );
        let edges = edges.into_iter().map(|row| (row[0].clone(), row[1].clone()));
        let members = Memberships::of_edges(names, edges);
        let maps = maps.iter().map(|name| map_name(name)).collect();
        Self { server, maps, members }
    }

    pub fn dialect(&self) -> Dialect {
        dialect(self.server.major)
    }

    /// What we make of the files that the server has.
    pub fn ours(&self) -> Result<IdentMap, Vec<MapMistake>> {
        let main = self.server.main_file();
        IdentMap::load(self.dialect(), main, &OnDisk { main, text: None })
    }

    /// What we make of `text` in the place of the server's file, which stays.
    pub fn ours_of(&self, text: &[u8]) -> Result<IdentMap, Vec<MapMistake>> {
        let main = self.server.main_file();
        IdentMap::load(self.dialect(), main, &OnDisk { main, text: Some(text) })
    }

    pub fn decide(&self, map: &IdentMap, asked: &Asked) -> MapDecision {
        map.decide(&Question {
            map: &self.maps[asked.map],
            system_user: &asked.user,
            role: cut(&asked.role),
            case: Case::Sensitive,
            members: &self.members,
        })
    }

    pub fn name(&self, map: usize) -> &MapName {
        &self.maps[map]
    }

    /// The server's answers, in the order of the questions.
    pub fn ask(&self, questions: &[Asked]) -> Vec<Said> {
        let next = AtomicUsize::new(0);
        let mut answers: Vec<_> = thread::scope(|scope| {
            let workers = (0..AT_ONCE).map(|_| {
                scope.spawn(|| {
                    let mut said = Vec::new();
                    while let Some((index, asked)) = {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        questions.get(index).map(|asked| (index, asked))
                    } {
                        said.push((index, self.server.ask(asked.map, &asked.user, &asked.role)));
                    }
                    said
                })
            });
            let workers: Vec<_> = workers.collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("no login panics")).collect()
        });
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, said)| said).collect()
    }

    /// Both are given `text` and then asked: what each says of the file and of the question, the
    /// same or not.
    pub fn both(&self, text: &[u8], asked: &Asked) -> (Result<Said, String>, Option<MapDecision>) {
        let theirs = match self.server.load(text) {
            Loaded::Whole => Ok(self.server.ask(asked.map, &asked.user, &asked.role)),
            Loaded::Refused(words) => Err(words),
        };
        let ours = self.ours().ok().map(|map| self.decide(&map, asked));
        (theirs, ours)
    }
}

/// Whether both say yes, or both say no.
pub fn agree(said: &Said, decision: &MapDecision) -> bool {
    match said {
        Said::Allowed => matches!(decision, MapDecision::Allowed(_)),
        Said::Denied => !matches!(decision, MapDecision::Allowed(_)),
        Said::Otherwise(_) => false,
    }
}

/// Bytes as they can be read and typed again.
pub fn shown(bytes: &[u8]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}

/// The smallest text found, by leaving out lines and then bytes, for which `fails` still holds.
pub fn shrink(text: &[u8], mut fails: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    const TRIES: usize = 600;
    let mut tries = 0;
    let mut best = text.to_vec();
    for by_line in [true, false] {
        let mut at = 0;
        while at < best.len() && tries < TRIES {
            let end = match best[at..].iter().position(|byte| *byte == b'\n') {
                Some(length) if by_line => at + length + 1,
                None if by_line => best.len(),
                _ => at + 1,
            };
            let less = [&best[..at], &best[end..]].concat();
            tries += 1;
            if fails(&less) {
                best = less;
            } else {
                at = end;
            }
        }
    }
    best
}

/// All mistakes, a line each.
pub fn listed(mistakes: &[MapMistake]) -> String {
    mistakes.iter().fold(String::new(), |mut text, mistake| {
        let _ = writeln!(text, "{mistake}");
        text
    })
}
