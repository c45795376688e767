//! Maps and names of hostile size and shape. Each is read and asked in a process of its own, whose
//! memory is measured when it ends: in a decision or in a refusal, and in bounded memory.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use pgbridge::mapping::{Case, Dialect, IdentMap, MapFiles, Memberships, Question};

use super::oracle::map_name;

/// Most memory that reading and asking may take, in KiB. A test process has some 20,000 of its own.
const MOST_MEMORY: u64 = 256_000;
/// Which case the child process is to try.
const CASE: &str = "PGBRIDGE_HOSTILE_CASE";

/// A map and whom to ask about.
struct Hostile {
    main: Vec<u8>,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Names that a directory lists; each is a file with a line.
    listed: u32,
    user: Vec<u8>,
    role: Vec<u8>,
}

impl MapFiles for Hostile {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("pg_ident.conf") {
            return Ok(self.main.clone());
        }
        if path.starts_with("listed") {
            return Ok(b"m nobody nobody\n".to_vec());
        }
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Ok((0..self.listed).map(|number| format!("{number}.conf").into()).collect())
    }
}

fn of(main: impl Into<Vec<u8>>) -> Hostile {
    let (user, role) = (b"u".to_vec(), b"r".to_vec());
    Hostile { main: main.into(), files: BTreeMap::new(), listed: 0, user, role }
}

/// One line with an expression, and a user to try it on.
fn pattern(pattern: impl AsRef<str>, user: impl Into<Vec<u8>>) -> Hostile {
    Hostile { user: user.into(), ..of(format!("m \"/{}\" \\1\n", pattern.as_ref())) }
}

fn with_files<const N: usize>(main: &str, files: [(String, String); N]) -> Hostile {
    let files = files.into_iter().map(|(name, text)| (name.into(), text.into_bytes()));
    Hostile { files: files.collect(), ..of(main) }
}

/// Ten files, each of which names the next one `times` times.
fn towers(directive: &str, times: usize) -> Hostile {
    let name = |level: usize| format!("level{level}");
    let text = |level: usize| match level {
        9 => "m nobody nobody\n".to_owned(),
        _ => format!("{directive}{}\n", name(level + 1)).repeat(times),
    };
    let files = std::array::from_fn::<_, 10, _>(|level| (name(level), text(level)));
    with_files(&format!("{directive}level0\n"), files)
}

/// Lines each with an expression of its own, and a user to try them all on.
fn numbered(lines: u32, pattern: &str, user: &str) -> Hostile {
    let text = (0..lines).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "m \"/^{pattern}-{number}$\" \\1");
        text
    });
    Hostile { user: user.into(), ..of(text) }
}

type Make = fn() -> Hostile;

const NAME_BYTES: usize = 5000;

const CASES: [(&str, Make); 65] = [
    ("ten megabytes of lines", || of("m alice alice\n".repeat(750_000))),
    ("eight megabytes of lines", || {
        of("maps alice@example.com the_role_of_alice\n".repeat(199_000))
    }),
    ("ten megabytes of line ends", || of("\n".repeat(10 << 20))),
    ("seven megabytes of line ends", || of("\n".repeat(7 << 20))),
    ("seven megabytes of joined lines", || of("\\\n".repeat(7 << 19))),
    ("seven megabytes of joined words", || of("m u r\\\n".repeat(1 << 20))),
    ("seven megabytes of commas", || of(",".repeat(7 << 20))),
    ("seven megabytes of quotes", || of("\"".repeat(7 << 20))),
    ("seven megabytes of blanks", || of(" ".repeat(7 << 20))),
    ("seven megabytes of comment", || of(format!("m u r #{}", "c".repeat(7 << 20)))),
    ("seven megabytes of fields", || of(format!("m u r {}", "x ".repeat(7 << 19)))),
    ("seven megabytes of one field", || of(format!("m u r {}", "x,".repeat(7 << 19)))),
    ("seven megabytes of mistakes", || of("x\n".repeat(7 << 19))),
    ("seven megabytes of nothing", || of("\0".repeat(7 << 20))),
    ("a map of a megabyte", || of(format!("{} u r\n", "n".repeat(1 << 20)))),
    ("a user of a megabyte", || of(format!("m {} r\n", "n".repeat(1 << 20)))),
    ("a role of a megabyte", || of(format!("m u {}\n", "n".repeat(1 << 20)))),
    ("a quoted user of a megabyte", || of(format!("m \"{}\" r\n", "n\"\"".repeat(1 << 20)))),
    ("a group of a megabyte", || of(format!("m u +{}\n", "n".repeat(1 << 20)))),
    ("a file of a megabyte", || of(format!("m @{} r\n", "n".repeat(1 << 20)))),
    ("a path of a megabyte", || of(format!("include {}\n", "d/".repeat(1 << 19)))),
    ("an expression of a megabyte", || pattern("^a".repeat(1 << 19), "a")),
    ("a role's expression of a megabyte", || of(format!("m u /{}\n", "a".repeat(1 << 20)))),
    ("200,000 parentheses", || pattern("(".repeat(200_000), "u")),
    ("200,000 nested groups", || pattern(["(".repeat(200_000), ")".repeat(200_000)].concat(), "u")),
    ("10,000 nested groups", || pattern(["(".repeat(10_000), ")".repeat(10_000)].concat(), "u")),
    ("1,000 nested groups", || {
        pattern(["^", &"(".repeat(1000), "u", &")".repeat(1000), "$"].concat(), "u")
    }),
    ("1,000 nested stars", || {
        pattern(["^", &"(?:".repeat(1000), "u", &")*".repeat(1000), "$"].concat(), "u")
    }),
    ("200,000 open brackets", || pattern("[".repeat(200_000), "u")),
    ("30,000 branches", || pattern(format!("^({}u)$", "a|".repeat(30_000)), "u")),
    ("200,000 branches of nothing", || pattern("|".repeat(200_000), "u")),
    ("20,000 groups", || pattern(format!("^{}$", "(u?)".repeat(15_000)), "u")),
    ("100,000 includes", || {
        let lines = (0..100_000).fold(String::new(), |mut text, number| {
            let _ = writeln!(text, "include_if_exists f{number}");
            text
        });
        of(lines)
    }),
    ("100,000 files of a directory", || Hostile { listed: 100_000, ..of("include_dir listed\n") }),
    ("a file that includes itself", || of("include pg_ident.conf\n")),
    ("a file that includes itself often", || of("include pg_ident.conf\n".repeat(1000))),
    ("a word that is its own file", || {
        with_files("m @loop r\n", [("loop".into(), "@loop".into())])
    }),
    ("two files that include each other", || {
        let files = [("a".into(), "include b\n".into()), ("b".into(), "include a\n".into())];
        with_files("include a\n", files)
    }),
    ("a tower of files, ten each", || towers("include ", 10)),
    ("a tower of words, ten each", || towers("m @", 10)),
    ("a tower of lists, ten each", || towers("@", 10)),
    ("stars of a star", || pattern("^(a*)*b$", "a".repeat(NAME_BYTES))),
    ("one or two", || pattern("^(a|aa)+$", ["a".repeat(NAME_BYTES), "b".into()].concat())),
    ("one or two, to the end", || pattern("^(a|aa)+$", "a".repeat(NAME_BYTES))),
    ("optional then wanted", || pattern("^(a?){100}a{100}$", "a".repeat(100))),
    ("many stars", || pattern("^(.*)(.*)(.*)(.*)(.*)(.*)(.*)x$", "a".repeat(NAME_BYTES))),
    ("many stars without anchors", || {
        pattern("(.*)a(.*)b(.*)c(.*)d(.*)e", "abcd".repeat(NAME_BYTES / 4))
    }),
    ("shortest of many", || pattern("^(.*?)(.*?)(.*?)(.*?)$", "a".repeat(NAME_BYTES))),
    ("bounds of bounds", || pattern("^((a{255}){255}){255}$", "a".repeat(NAME_BYTES))),
    ("bounds from nothing", || pattern("^((a{0,255}){0,255}){0,255}$", "a".repeat(NAME_BYTES))),
    ("bounds of 255 in a row", || {
        pattern(format!("^({})$", "a{0,255}".repeat(100)), "a".repeat(NAME_BYTES))
    }),
    ("a repeated group", || pattern("^(.*)\\1\\1$", "a".repeat(NAME_BYTES + 1))),
    ("a repeated group that is not", || pattern("^(a*)(a*)\\1\\2b$", "a".repeat(300))),
    ("a look ahead of all", || pattern("^(?=(a+)+b)(a*)$", "a".repeat(NAME_BYTES))),
    ("far from the end", || pattern("^(.*)a.{200}$", "ab".repeat(NAME_BYTES / 2))),
    ("200,000 lines with an expression", || of("m /^(.*)@x$ \\1\n".repeat(199_000))),
    ("100,000 lines with an expression each", || numbered(100_000, "(.*)", "u-99999")),
    ("9,000 lines with a large expression each", || {
        let user = ["a".repeat(200), "1".repeat(200), "-x".into()].concat();
        numbered(9000, "([a-z]{1,200}[0-9]{1,200}[a-z]{0,200})", &user)
    }),
    ("9,000 lines with an expression that remembers much", || {
        numbered(9000, "(.*a.{90})", &"ab".repeat(300))
    }),
    ("800 lines with a large expression each", || {
        let user = ["a".repeat(200), "1".repeat(200), "-x".into()].concat();
        numbered(800, "([a-z]{1,200}[0-9]{1,200}[a-z]{0,200})", &user)
    }),
    ("5,000 lines with an expression that remembers much", || {
        numbered(5000, "(.*a.{90})", &"ab".repeat(300))
    }),
    ("9,000 lines that look ahead", || numbered(9000, "(?=.*a.{40})(.*)", &"ab".repeat(50))),
    ("50 nested stars", || {
        let text = ["^", &"(".repeat(49), "a*", &")*".repeat(49), "$"].concat();
        pattern(text, "a".repeat(NAME_BYTES))
    }),
    ("an expression of 4,000 bytes", || {
        pattern(format!("^({})*$", "(a|aa?)+b?".repeat(399)), "ab".repeat(NAME_BYTES / 2))
    }),
    ("long names", || {
        let (user, role) = ("n".repeat(1 << 20).into_bytes(), "r".repeat(1 << 20).into_bytes());
        Hostile { user, role, ..of("m /^([a-z]*)$ \\1\nm n r\nm u all\nm n /r\n") }
    }),
];

/// The child's part: reads and asks, then says how it ended and how much memory it took.
#[test]
#[ignore = "a part of another test, which runs it with a case"]
fn one_hostile_map() {
    let index: usize = env::var(CASE).expect("a case").parse().expect("its number");
    let hostile = CASES[index].1();
    for dialect in [Dialect::ALL[0], Dialect::ALL[5]] {
        println!("{dialect}: {}", outcome(dialect, &hostile));
    }
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    println!("PEAK {}", peak.trim().trim_end_matches(" kB"));
}

fn outcome(dialect: Dialect, hostile: &Hostile) -> String {
    let map = match IdentMap::load(dialect, Path::new("pg_ident.conf"), hostile) {
        Ok(map) => map,
        Err(mistakes) => {
            let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
            let short: String = first.chars().take(120).collect();
            return format!("{} mistakes, at first {short}", mistakes.len());
        }
    };
    let decision = map.decide(&Question {
        map: &map_name("m"),
        system_user: &hostile.user,
        role: &hostile.role,
        case: Case::Insensitive,
        members: &Memberships::none(),
    });
    let decision = format!("{decision:?}");
    decision.chars().take(120).collect()
}

#[test]
fn hostile_maps_end_in_a_decision_or_a_refusal_in_bounded_memory() {
    let next = Mutex::new(0..CASES.len());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(index) = { next.lock().expect("no child panics here").next() } {
                    try_case(index);
                }
            });
        }
    });
}

fn try_case(index: usize) {
    let (title, _) = CASES[index];
    let mut child = Command::new(env::current_exe().expect("a test is a program"));
    child.args(["--exact", "mapping::hostile::one_hostile_map", "--ignored", "--nocapture"]);
    let output = child.env(CASE, index.to_string()).output().expect("it can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{title}: {}\n{said}\n{words}", output.status);
    let peak = said.lines().find_map(|line| line.strip_prefix("PEAK ")).expect("it says so");
    let peak: u64 = peak.trim().parse().expect("a number");
    let outcomes = said.lines().filter(|line| line.starts_with("13: ") || line.starts_with("18: "));
    println!("{title}: {peak} KiB\n  {}", outcomes.collect::<Vec<_>>().join("\n  "));
    assert!(peak < MOST_MEMORY, "{title}: {peak} KiB");
}
