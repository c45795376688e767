//! The ident map against real servers: what PostgreSQL makes of a pattern, and of a file.
//!
//! Cases are random. A failure prints the seed; `PGBRIDGE_SEED` repeats it, and `PGBRIDGE_CASES`
//! asks for more than the usual number of patterns or files.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::thread;

use pgbridge::mapping::{Case, Dialect, IdentMap, MapDecision, Memberships, Question as Asked};
use pgbridge::names::MapName;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::support::Postgres;

const MAJORS: [u32; 2] = [15, 16];
/// A database where PostgreSQL is as at login: bytes, and the C collation.
const DATABASE: &str = "bytes";
const MAKE_DATABASE: &str =
    "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";

/// Text to and from the server as hexadecimal digits, so that any byte can be sent.
const FUNCTIONS: &str = r#"
CREATE FUNCTION plain(hex text) RETURNS text LANGUAGE sql
RETURN convert_from(decode(hex, 'hex'), 'SQL_ASCII');

CREATE FUNCTION hex(plain text) RETURNS text LANGUAGE sql
RETURN encode(convert_to(plain, 'SQL_ASCII'), 'hex');

-- What the pattern says of the subject: error, no, unset (no group 1, or none that took part), or
-- = and group 1.
CREATE FUNCTION ask(pattern text, subject text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    groups text[];
BEGIN
    groups := regexp_match(plain(subject) COLLATE "C", plain(pattern));
    RETURN CASE
        WHEN groups IS NULL THEN 'no'
        -- Without a group there is the whole match instead: one more group tells.
        WHEN cardinality(regexp_match(plain(subject) COLLATE "C", plain(pattern) || '()')) = 1
            THEN 'unset'
        ELSE coalesce('=' || hex(groups[1]), 'unset')
    END;
EXCEPTION WHEN invalid_regular_expression THEN
    RETURN 'error ' || SQLERRM;
END $$;

-- The lines that the server reads from a map file of this content: number, map name, system
-- user and database user, which are empty for a line with a mistake.
CREATE FUNCTION lines(content text)
RETURNS TABLE (line integer, map text, system_user_name text, role text) LANGUAGE plpgsql AS $$
DECLARE
    file oid := lo_from_bytea(0, decode(content, 'hex'));
BEGIN
    PERFORM lo_export(file, current_setting('ident_file'));
    PERFORM lo_unlink(file);
    RETURN QUERY SELECT line_number, hex(map_name), hex(sys_name), hex(pg_username)
        FROM pg_ident_file_mappings;
END $$;
"#;

fn server(major: u32) -> Postgres {
    let server = Postgres::start(major);
    server.sql("postgres", MAKE_DATABASE);
    server.sql(DATABASE, FUNCTIONS);
    server
}

/// The random numbers of a test, from a seed that is printed when it fails.
fn dice() -> StdRng {
    let seed = env::var("PGBRIDGE_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| rand::rng().random::<u64>());
    println!("PGBRIDGE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn cases(usual: usize) -> usize {
    env::var("PGBRIDGE_CASES").map_or(usual, |cases| cases.parse().expect("a number"))
}

fn hex(text: &str) -> String {
    data_encoding::HEXLOWER.encode(text.as_bytes())
}

fn unhex(digits: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(digits.as_bytes()).expect("hexadecimal digits")
}

fn quoted(token: &str) -> String {
    format!("\"{}\"", token.replace('"', "\"\""))
}

fn map_of(pattern: &str, role: &str) -> Option<IdentMap> {
    let line = format!("m {} {role}\n", quoted(&format!("/{pattern}")));
    IdentMap::parse(Dialect::default(), "pg_ident.conf", line.as_bytes()).ok()
}

fn decide(map: &IdentMap, name: &MapName, system_user: &str, role: &str) -> MapDecision {
    map.decide(&Asked {
        map: name,
        system_user: system_user.as_bytes(),
        role: role.as_bytes(),
        case: Case::Sensitive,
        members: &Memberships::none(),
    })
}

fn m() -> MapName {
    "m".parse().expect("a map name")
}

/// Patterns with subjects for each, many of which match.
struct Question {
    pattern: String,
    subjects: Vec<String>,
}

/// Builds a pattern and, beside it, a text that it matches.
struct Builder<'dice> {
    dice: &'dice mut StdRng,
    captured: bool,
}

const ATOMS: [(&str, &[&str]); 20] = [
    ("a", &["a"]),
    ("b", &["b"]),
    ("ab", &["ab"]),
    ("c", &["c"]),
    ("@", &["@"]),
    ("-", &["-"]),
    ("é", &["é"]),
    (r"\.", &["."]),
    (r"\\", &["\\"]),
    (".", &["a", "b", "@", "\n", "-"]),
    ("[ab]", &["a", "b"]),
    ("[^a]", &["b", "@", "\n", "1"]),
    ("[^@]", &["a", "b", "c"]),
    ("[a-c_.-]", &["a", "c", "-", "_"]),
    ("[]^]", &["]", "^"]),
    (r"\w", &["a", "_", "1"]),
    (r"\D", &["a", "@"]),
    (r"[\d[:upper:]]", &["1", "A"]),
    ("[[:alpha:]]", &["a", "B"]),
    (r"\s", &[" ", "\u{b}", "\n"]),
];

impl Builder<'_> {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(self.dice).expect("something to choose from")
    }

    fn sequence(&mut self, depth: u32) -> (String, String) {
        let (mut pattern, mut text) = (String::new(), String::new());
        for _ in 0..self.dice.random_range(1..=4) {
            let (part, sample) = self.part(depth);
            pattern += &part;
            text += &sample;
        }
        (pattern, text)
    }

    fn part(&mut self, depth: u32) -> (String, String) {
        let (atom, sample) = if depth > 0 && self.dice.random_ratio(2, 5) {
            self.group(depth - 1)
        } else {
            let (atom, samples) = self.pick(&ATOMS);
            (atom.to_owned(), self.pick(samples).to_owned())
        };
        let (quantifier, times) = match self.dice.random_range(0..12) {
            0 | 1 => ("*", self.dice.random_range(0..4)),
            2 => ("+", self.dice.random_range(1..4)),
            3 | 4 => ("?", self.dice.random_range(0..2)),
            5 => ("{1,2}", self.dice.random_range(1..3)),
            6 => ("{0,2}", self.dice.random_range(0..3)),
            7 => ("{2}", 2),
            _ => ("", 1),
        };
        (atom + quantifier, sample.repeat(times))
    }

    fn group(&mut self, depth: u32) -> (String, String) {
        let capture = !self.captured || self.dice.random_ratio(1, 4);
        self.captured |= capture;
        let mut branches = vec![self.sequence(depth)];
        while self.dice.random_ratio(1, 3) {
            branches.push(self.sequence(depth));
        }
        let index = self.dice.random_range(0..branches.len());
        let sample = branches[index].1.clone();
        let branches: Vec<_> = branches.into_iter().map(|(pattern, _)| pattern).collect();
        let open = if capture { "(" } else { "(?:" };
        (format!("{open}{})", branches.join("|")), sample)
    }

    /// Any characters at all: what is accepted by mistake would show here.
    fn garbage(&mut self) -> String {
        const PIECES: [&str; 46] = [
            "a",
            "b",
            "c",
            "1",
            "é",
            "(",
            ")",
            "(?:",
            "(?",
            "[",
            "]",
            "[^",
            "-",
            "|",
            "*",
            "+",
            "?",
            "{",
            "}",
            "{2}",
            "{,2}",
            "{1,}",
            ",",
            "^",
            "$",
            ".",
            "\\",
            "\\d",
            "\\W",
            "\\b",
            "\\.",
            "\\1",
            "[:alpha:]",
            "[a-c]",
            "[[:digit:]",
            ":",
            "=",
            "<",
            "!",
            " ",
            "#",
            "&&",
            "@",
            "(a)",
            "(b*)",
            "(?i)",
        ];
        (0..self.dice.random_range(1..8)).map(|_| self.pick(&PIECES)).collect()
    }

    fn noise(&mut self) -> String {
        const LETTERS: [&str; 10] = ["a", "b", "ab", "c", "@", "-", ".", "1", "é", "\n"];
        (0..self.dice.random_range(0..7)).map(|_| self.pick(&LETTERS)).collect()
    }

    /// A short pattern around one group, whose parts can divide the same text in many ways.
    fn divided(&mut self) -> String {
        const PARTS: [&str; 20] = [
            "a",
            "b",
            "ab",
            ".",
            "[ab]",
            "a*",
            "b*",
            "a?",
            "b?",
            ".?",
            "[ab]*",
            "a+",
            ".*",
            "[^a]*",
            "(?:ab)*",
            "(?:ab)?",
            "(?:a|b)",
            "(?:ab|c)",
            "(?:ab|ca)",
            "a{1,2}",
        ];
        const RESTS: [&str; 6] = ["(.*)", ".*", "", "b*", "(a|ab)*c?", "[ab]*"];
        let parts = |this: &mut Self, most| -> String {
            (0..this.dice.random_range(0..=most)).map(|_| this.pick(&PARTS)).collect()
        };
        let before = parts(self, 2);
        let (first, second) = (self.pick(&PARTS), parts(self, 2));
        let inner = match self.dice.random_range(0..6) {
            0 => format!("{first}{second}|{}", self.pick(&PARTS)),
            1 => format!("(?:{first}{second})"),
            _ => format!("{first}{second}"),
        };
        let group = match self.dice.random_range(0..8) {
            0 => format!("(?:{}({inner}){})", parts(self, 1), parts(self, 1)),
            1 => format!("({inner})?"),
            _ => format!("({inner})"),
        };
        format!("{before}{group}{}", self.pick(&RESTS))
    }

    fn question(&mut self) -> Question {
        const LETTERS: [&str; 5] = ["a", "b", "a", "b", "c"];
        let mut subjects = Vec::new();
        let middle = match self.dice.random_range(0..4) {
            0 => self.garbage(),
            1 => {
                self.captured = false;
                let (pattern, sample) = self.sequence(3);
                subjects.push(format!("{sample}{}", self.noise()));
                subjects.push(sample);
                pattern
            }
            _ => {
                for _ in 0..5 {
                    let letters = (0..self.dice.random_range(1..8)).map(|_| self.pick(&LETTERS));
                    subjects.push(letters.collect());
                }
                self.divided()
            }
        };
        while subjects.len() < 8 {
            subjects.push(self.noise());
        }
        for subject in &mut subjects {
            subject.truncate(subject.floor_char_boundary(40));
        }
        Question { pattern: format!("^{middle}$"), subjects }
    }
}

/// Asks the server about all questions: one answer for each subject.
fn answers(server: &Postgres, questions: &[Question]) -> Vec<Vec<String>> {
    let mut answers = Vec::new();
    for some in questions.chunks(150) {
        let mut rows = Vec::new();
        for question in some {
            let subjects: Vec<_> = question.subjects.iter().map(|subject| hex(subject)).collect();
            rows.push(format!("('{}','{}')", hex(&question.pattern), subjects.join(",")));
        }
        let query = format!(
            "SELECT (SELECT string_agg(ask(pattern, subject), '|' ORDER BY place)
                     FROM unnest(string_to_array(subjects, ',')) WITH ORDINALITY s (subject, place))
             FROM (SELECT row_number() OVER (), * FROM (VALUES {}) v (pattern, subjects)) q
             ORDER BY row_number",
            rows.join(",")
        );
        let rows = server.sql(DATABASE, &query);
        assert_eq!(rows.len(), some.len());
        answers.extend(rows.iter().map(|row| row[0].split('|').map(str::to_owned).collect()));
    }
    answers
}

/// What was compared.
#[derive(Default, Debug)]
struct Tally {
    patterns: usize,
    accepted: usize,
    with_capture: usize,
    refused_here_only: usize,
    pairs: usize,
    matches: usize,
    captures: usize,
}

impl Tally {
    fn compare(&mut self, question: &Question, answers: &[String]) {
        self.patterns += 1;
        let Some(whole) = map_of(&question.pattern, "r") else {
            self.refused_here_only += usize::from(!answers[0].starts_with("error"));
            return;
        };
        self.accepted += 1;
        let capturing = map_of(&question.pattern, "\\1");
        self.with_capture += usize::from(capturing.is_some());
        for (subject, answer) in question.subjects.iter().zip(answers) {
            let place = format!("{:?} on {subject:?}: PostgreSQL says {answer}", question.pattern);
            assert!(!answer.starts_with("error"), "{place}");
            self.pairs += 1;
            let decision = decide(&whole, &m(), subject, "r");
            let allowed = matches!(decision, MapDecision::Allowed(_));
            assert_eq!(allowed, answer != "no", "{place}, here {decision:?}");
            self.matches += usize::from(allowed);
            if let (true, Some(map)) = (allowed, &capturing) {
                self.captures += usize::from(answer != "unset");
                compare_capture(map, subject, answer, &place);
            }
        }
    }
}

/// Tries every piece of the subject as a role: only the one that the server names is allowed.
fn compare_capture(map: &IdentMap, subject: &str, answer: &str, place: &str) {
    let ends = (0..=subject.len()).filter(|end| subject.is_char_boundary(*end));
    let ends: Vec<_> = ends.collect();
    let pieces: BTreeSet<_> = ends
        .iter()
        .flat_map(|begin| ends.iter().filter_map(move |end| subject.get(*begin..*end)))
        .collect();
    for piece in pieces {
        let decision = decide(map, &m(), subject, piece);
        let same = match answer.strip_prefix('=') {
            Some(group) if unhex(group) == piece.as_bytes() => {
                matches!(decision, MapDecision::Allowed(_))
            }
            Some(_) => decision == MapDecision::NoMatch,
            None => matches!(decision, MapDecision::Failed { .. }),
        };
        assert!(same, "{place}, here {decision:?} as {piece:?}");
    }
}

#[test]
fn patterns_match_and_capture_as_postgresql_does() {
    let mut dice = dice();
    let questions: Vec<_> = {
        let mut builder = Builder { dice: &mut dice, captured: false };
        (0..cases(4000)).map(|_| builder.question()).collect()
    };
    thread::scope(|scope| {
        for major in MAJORS {
            let questions = &questions;
            scope.spawn(move || {
                let answers = answers(&server(major), questions);
                let mut tally = Tally::default();
                for (question, answers) in questions.iter().zip(&answers) {
                    tally.compare(question, answers);
                }
                println!("PostgreSQL {major}: {tally:?}");
                assert!(tally.pairs >= 4 * questions.len(), "too few pairs: {tally:?}");
                assert!(tally.captures >= questions.len() / 2, "too few captures: {tally:?}");
            });
        }
    });
}

/// A map file of a few random lines, most of them whole, in the oddest writing.
fn random_file(dice: &mut StdRng) -> String {
    const PLAIN: [&str; 12] =
        ["a", "b", "m", "é", "al", "+", "@", "a.b", "\\", "\\\\", "\"\"", "\""];
    const QUOTED: [&str; 9] = ["a", " ", "#", ",", "\"\"", "\t", "\\", "/x", "é"];
    const BLANKS: [&str; 8] = [" ", " ", " ", "\t", "\r", "  ", " \\\n", "\\\n "];
    let mut file = String::new();
    for _ in 0..dice.random_range(1..5) {
        for _ in 0..[2, 3, 3, 3, 3, 3, 3, 3, 3, 4][dice.random_range(0..10)] {
            file += ["", "", "", "", "", "", ",", "#"][dice.random_range(0..8)];
            match dice.random_range(0..4) {
                0 => {
                    let inner: String = (0..dice.random_range(0..4))
                        .map(|_| QUOTED[dice.random_range(0..QUOTED.len())])
                        .collect();
                    let _ = write!(file, "\"{inner}\"");
                }
                1 => {
                    file += PLAIN[dice.random_range(0..PLAIN.len())];
                    file += PLAIN[dice.random_range(0..PLAIN.len())];
                }
                _ => file += PLAIN[dice.random_range(0..4)],
            }
            file += BLANKS[dice.random_range(0..BLANKS.len())];
        }
        file += ["\n", "\r\n", "\n\n", " # c\n", "\\\n", "\\\n\n", ""][dice.random_range(0..7)];
    }
    file
}

/// A line as the server reads it.
#[derive(Debug)]
struct Row {
    line: u32,
    map: String,
    system_user: String,
    role: String,
}

/// Reads each file on the server: its rows, or `None` when it has a mistake.
fn read_files(server: &Postgres, files: &[String]) -> Vec<Option<Vec<Row>>> {
    let mut read = Vec::new();
    for some in files.chunks(300) {
        let values: Vec<_> = some.iter().map(|file| format!("'{}'", hex(file))).collect();
        let query = format!(
            "SELECT coalesce(string_agg(CASE WHEN line IS NOT NULL THEN
                        concat_ws(',', line, coalesce(map, 'error'), system_user_name, role)
                    END, '|' ORDER BY line), '')
             FROM unnest(ARRAY[{}]) WITH ORDINALITY f (content, place)
             LEFT JOIN LATERAL lines(content) ON true
             GROUP BY place ORDER BY place",
            values.join(",")
        );
        for row in server.sql(DATABASE, &query) {
            let rows = row[0].split('|').filter(|row| !row.is_empty());
            read.push(rows.map(row_of).collect());
        }
    }
    assert_eq!(read.len(), files.len());
    read
}

fn row_of(text: &str) -> Option<Row> {
    let fields: Vec<_> = text.split(',').collect();
    let [line, map, system_user, role] = fields[..] else {
        return None;
    };
    let text = |digits| String::from_utf8(unhex(digits)).expect("the file is UTF-8");
    Some(Row {
        line: line.parse().expect("a line number"),
        map: text(map),
        system_user: text(system_user),
        role: text(role),
    })
}

/// Whether the file says something that the rows do not show: quoted or not, a role of `+x` is
/// `+x` in them. It may be refused here too, for a regular expression.
fn says_more(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.role.starts_with(['+', '/']) || row.system_user.starts_with('/'))
}

/// Every name of the file is tried with every other: only what the server reads is allowed.
fn compare_file(file: &str, map: &IdentMap, rows: &[Row]) {
    for asked in rows {
        let Ok(name) = asked.map.parse::<MapName>() else { continue };
        for (system_user, role) in rows.iter().flat_map(|user| {
            rows.iter().map(move |role| (user.system_user.as_str(), role.role.as_str()))
        }) {
            let line = rows.iter().find(|row| {
                row.map == asked.map && row.system_user == system_user && row.role == role
            });
            let decision = decide(map, &name, system_user, role);
            let found = match &decision {
                MapDecision::Allowed(rule) => Some(rule.line),
                MapDecision::NoMatch | MapDecision::Failed { .. } => None,
            };
            let place = format!("{file:?}\n{system_user:?} as {role:?} by {name}: {rows:?}");
            assert_eq!(found, line.map(|row| row.line), "{place}");
        }
    }
}

#[test]
fn files_are_read_as_postgresql_reads_them() {
    let mut dice = dice();
    let files: Vec<_> = (0..cases(2000)).map(|_| random_file(&mut dice)).collect();
    thread::scope(|scope| {
        for major in MAJORS {
            let files = &files;
            scope.spawn(move || {
                let (mut whole, mut more, mut refused) = (0, 0, 0);
                for (file, rows) in files.iter().zip(read_files(&server(major), files)) {
                    let dialect = Dialect::try_from(major).expect("a dialect");
                    let ours = IdentMap::parse(dialect, "pg_ident.conf", file.as_bytes());
                    match (ours, rows) {
                        (_, Some(rows)) if says_more(&rows) => more += 1,
                        (Ok(map), Some(rows)) => {
                            compare_file(file, &map, &rows);
                            whole += 1;
                        }
                        (Err(_), None) => refused += 1,
                        (ours, rows) => panic!("{file:?}\nserver {rows:?}\nhere {ours:?}"),
                    }
                }
                println!(
                    "PostgreSQL {major}: {whole} files alike, {refused} refused, {more} say more"
                );
                assert!(
                    whole >= files.len() / 5 && refused > 0,
                    "{whole} alike, {refused} refused"
                );
            });
        }
    });
}
