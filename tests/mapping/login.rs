//! A server whose decisions by the map are had from real logins: `cert map=…` asks the map about
//! the common name of a client's certificate and the role that is asked for.
//!
//! Whether the role exists shows only after the map has decided, so any role can be asked for.
//! Which database is asked for chooses the map: `pg_hba.conf` has a line for each.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::StreamOwned;

use super::certificate::{People, Subject, named};
use crate::support::{Postgres, SOON, wait_for};

/// PostgreSQL cuts a longer name of a role in the start-up packet.
const ROLE_BYTES: usize = 63;
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const PROTOCOL_3: [u8; 4] = [0, 3, 0, 0];

/// The database of the line that says which version of the files is loaded.
const VERSION: &str = "version_";

/// What a server said to a login, at its first word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The certificate's name may be the role.
    Allowed,
    /// The map said no.
    Denied,
    /// Something else is wrong, which is no decision.
    Otherwise(String),
}

/// How a server took a file.
#[derive(Debug)]
pub enum Loaded {
    /// It is in force.
    Whole,
    /// What was in force before still is. These are the server's words.
    Refused(String),
}

/// A server and the maps that its `pg_hba.conf` knows.
pub struct MapServer {
    pub major: u32,
    pub postgres: Postgres,
    data: PathBuf,
    main: PathBuf,
    hba: String,
    version: AtomicU32,
}

impl MapServer {
    /// Starts a server where the database `d0` asks the first of `maps`, `d1` the next.
    pub fn start(major: u32, maps: &[&str]) -> Self {
        let postgres = Postgres::start(major);
        let data = PathBuf::from(&postgres.sql("postgres", "SHOW data_directory")[0][0]);
        write(&data.join("people.pem"), People::shared().pem().as_bytes());
        postgres.set("ssl_ca_file", "people.pem");
        let lines = maps.iter().enumerate().map(|(index, map)| hba_line(index, map));
        let (main, hba) = (data.join("pg_ident.conf"), lines.collect());
        let server = Self { major, postgres, data, main, hba, version: AtomicU32::new(0) };
        assert!(matches!(server.load(b""), Loaded::Whole), "an empty map is a map");
        server
    }

    /// The file that the server reads first.
    pub fn main_file(&self) -> &Path {
        &self.main
    }

    /// Has the server read another file from now on, by its path under the directory of the data.
    pub fn move_main_file(&mut self, path: &str) {
        self.write(Path::new(path), b"");
        self.main = self.data.join(path);
        let set = format!("ALTER SYSTEM SET ident_file = '{}'", self.main.display());
        self.postgres.sql("postgres", &set);
        self.postgres.stop();
        self.postgres.start_again();
    }

    /// Adds a line to `pg_hba.conf`, which counts from the next [`Self::load`] on.
    pub fn admit(&mut self, line: &str) {
        self.hba += line;
        self.hba += "\n";
    }

    /// Writes a file beside `pg_ident.conf`, and the directories it is in.
    pub fn write(&self, name: &Path, content: &[u8]) {
        let path = self.data.join(name);
        let mut directory = path.parent().expect("a file is in a directory");
        let mut made = Vec::new();
        while !directory.exists() {
            made.push(directory);
            directory = directory.parent().expect("the data directory is there");
        }
        for directory in made.into_iter().rev() {
            fs::create_dir(directory).expect("a directory can be made");
            let entering = Permissions::from_mode(0o755);
            fs::set_permissions(directory, entering).expect("its mode can be set");
        }
        write(&path, content);
    }

    /// Has the server read `content` as its map file. It has when this returns.
    ///
    /// One signal has the server read `pg_hba.conf`, then `pg_ident.conf`, and it takes no
    /// connection meanwhile: a login that the new line for a version lets in comes after both.
    pub fn load(&self, content: &[u8]) -> Loaded {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let before = fs::metadata(self.postgres.log_file()).expect("the server logs").len();
        write(&self.main, content);
        let line = format!("hostssl {VERSION}{version} all 127.0.0.1/32 trust\n");
        let superuser = "local all postgres trust\n";
        let hba = format!("{superuser}{line}{}", self.hba);
        write(&self.data.join("pg_hba.conf"), hba.as_bytes());
        self.signal();
        let database = format!("{VERSION}{version}");
        wait_for("the files to be read", SOON, || {
            let said = self.login(&database, &named(b"anyone"), b"nobody");
            (said == Said::Allowed).then_some(())
        });
        let words = self.logged(before);
        let refused = format!("{} was not reloaded", self.refused_name());
        if words.contains(&refused) { Loaded::Refused(words) } else { Loaded::Whole }
    }

    fn signal(&self) {
        let pid = self.postgres.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-HUP", &pid]).status();
        assert!(sent.expect("there is kill").success(), "the server is gone");
    }

    /// What the server has logged from byte `from` on.
    fn logged(&self, from: u64) -> String {
        let mut log = File::open(self.postgres.log_file()).expect("the server logs");
        log.seek(SeekFrom::Start(from)).expect("a file has places");
        let mut words = Vec::new();
        log.read_to_end(&mut words).expect("a log can be read");
        String::from_utf8_lossy(&words).into_owned()
    }

    /// How the server calls the file that it has not read: by its whole path from 16 on.
    fn refused_name(&self) -> String {
        if self.major >= 16 { self.main.display().to_string() } else { "pg_ident.conf".to_owned() }
    }

    /// Asks by the map of `index` whether a person of this common name may be `role`.
    pub fn ask(&self, index: usize, common_name: &[u8], role: &[u8]) -> Said {
        self.login(&format!("d{index}"), &named(common_name), role)
    }

    /// Logs in, up to the server's decision.
    pub fn login(&self, database: &str, subject: &Subject, role: &[u8]) -> Said {
        let said = self.try_login(database, subject, role);
        said.unwrap_or_else(|error| Said::Otherwise(error.to_string()))
    }

    fn try_login(&self, database: &str, subject: &Subject, role: &[u8]) -> std::io::Result<Said> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.postgres.port()))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        stream.set_nodelay(true)?;
        stream.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Ok(Said::Otherwise("no TLS".to_owned()));
        }
        let mut stream = StreamOwned::new(People::shared().session(subject), stream);
        // A start-up packet of 10,000 bytes is answered with the end of the connection.
        let role = &role[..role.len().min(10 * ROLE_BYTES)];
        stream.write_all(&start_up(database, role))?;
        first_word(&mut stream)
    }
}

/// The part of a role's name that a server of any of the majors sees.
pub fn cut(role: &[u8]) -> &[u8] {
    &role[..role.len().min(ROLE_BYTES)]
}

fn hba_line(index: usize, map: &str) -> String {
    format!("hostssl d{index} all 127.0.0.1/32 cert \"map={}\"\n", map.replace('"', "\"\""))
}

/// Writes a file that the server may read, whoever it runs as.
fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("a file can be written");
    // A file that the server has made is its own already.
    let _ = fs::set_permissions(path, Permissions::from_mode(0o644));
}

fn start_up(database: &str, role: &[u8]) -> Vec<u8> {
    let parts: [&[u8]; 6] =
        [&PROTOCOL_3, b"user\0", role, b"\0database\0", database.as_bytes(), b"\0\0"];
    let body = parts.concat();
    let length = u32::try_from(body.len() + 4).expect("a short packet").to_be_bytes();
    [&length, &body[..]].concat()
}

/// Reads the first message that decides.
fn first_word(stream: &mut impl Read) -> std::io::Result<Said> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let mut body = vec![0; u32::from_be_bytes(length).saturating_sub(4) as usize];
    stream.read_exact(&mut body)?;
    let said = match (kind, &body[..]) {
        (b'R', [0, 0, 0, 0]) => Said::Allowed,
        (b'E', fields) if fields.windows(MAP_SAID_NO.len()).any(|part| part == MAP_SAID_NO) => {
            Said::Denied
        }
        _ => Said::Otherwise(String::from_utf8_lossy(&body).replace('\0', " ")),
    };
    Ok(said)
}

const MAP_SAID_NO: &[u8] = b"certificate authentication failed for user";
