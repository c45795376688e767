//! Regular expressions against real servers: whether they match, and what group 1 holds.

use std::thread;

use pgbridge::mapping::{Case, Considered, Dialect, IdentMap, Memberships, Question};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::oracle::map_name;
use super::{DATABASE, cases, dice, server};
use crate::support::Postgres;

const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];
/// Patterns for one run; each has [`SUBJECTS`] subjects.
const PATTERNS: usize = 4000;
const SUBJECTS: usize = 8;

/// A pattern, with subjects many of which match.
struct Asked {
    pattern: Vec<u8>,
    subjects: Vec<String>,
}

/// Builds a pattern and, beside it, a text that it matches.
pub(super) struct Builder<'dice> {
    pub dice: &'dice mut StdRng,
}

/// Parts of one character, with what they match.
const ATOMS: [(&str, &[&str]); 33] = [
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
    (r"\W", &["@", "-", "\n"]),
    (r"[\d[:upper:]]", &["1", "A"]),
    ("[[:alpha:]]", &["a", "B"]),
    (r"\s", &[" ", "\u{b}", "\n"]),
    ("A", &["A"]),
    ("[A-C]", &["A", "B"]),
    (r"\x61", &["a"]),
    (r"\n", &["\n"]),
    (r"[\n@]", &["\n", "@"]),
    ("[[:punct:]]", &["@", "-"]),
    ("[[:lower:]]", &["a"]),
    ("[é-]", &["-"]),
    ("[[.-.]a]", &["-", "a"]),
    ("[[=a=]]", &["a"]),
    ("[a-]", &["a", "-"]),
    (r"[\w-]", &["a", "-"]),
];

const PLACES: [&str; 10] =
    ["^", "$", r"\A", r"\Z", r"\m", r"\M", r"\y", r"\Y", "[[:<:]]", "[[:>:]]"];

/// Quantifiers, and how often they repeat.
const QUANTIFIERS: [(&str, usize, usize); 11] = [
    ("*", 0, 3),
    ("+", 1, 3),
    ("?", 0, 1),
    ("{1,2}", 1, 2),
    ("{0,2}", 0, 2),
    ("{2}", 2, 2),
    ("{1,1}", 1, 1),
    ("{0,1}", 0, 1),
    ("{0}", 0, 0),
    ("{1,}", 1, 3),
    ("{2,3}", 2, 3),
];

const OPTIONS: &str = "(?i) (?n) (?p) (?w) (?x) (?xi) (?s) (?q) (?in) ***= ***: ***:(?i)";

/// Of these anything at all is made: what is accepted by mistake would show.
const PIECES: &str = r"a b c 1 é ( ) (?: (? [ ] [^ - | * + ? { } {2} {,2} {1,} , ^ $ . \ \d \W \b \.
    \1 [:alpha:] [a-c] [[:digit:] : = < ! # && @ (a) (b*) (?i) (?=a) (?#x) *? +? ?? {1,2}? [[:<:]]
    [.a.] [=b=] \x4 \u0041 \0 \07 \B \e \cA \Z (?<= (?! [\W] [a-\d] [--a] [a--] ]-a ***: ***= {0}
    [[:word:]]";

/// Parts that can divide the same text in many ways.
const DIVISIBLE: &str = "a b ab . [ab] a* b* a? b? .? [ab]* a+ .* [^a]* (?:ab)* (?:ab)? (?:a|b) \
    (?:ab|c) (?:ab|ca) a{1,2} a*? .*? b?? (?:a|ab) (?:ab)*? (?:a*?|b) [ab]+? (?:a|ab){1,2}";

impl Builder<'_> {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(self.dice).expect("something to choose from")
    }

    /// One of the words of a list.
    fn word(&mut self, list: &'static str) -> &'static str {
        self.pick(&list.split_whitespace().collect::<Vec<_>>())
    }

    fn words(&mut self, list: &'static str, count: usize) -> String {
        (0..count).map(|_| self.word(list)).collect()
    }

    pub fn sequence(&mut self, depth: u32) -> (String, String) {
        let (mut pattern, mut text) = (String::new(), String::new());
        for _ in 0..self.dice.random_range(1..=4) {
            let (part, sample) = self.part(depth);
            pattern += &part;
            text += &sample;
        }
        (pattern, text)
    }

    fn part(&mut self, depth: u32) -> (String, String) {
        let (atom, sample) = match self.dice.random_range(0..100) {
            0..38 if depth > 0 => self.group(depth - 1),
            38..44 => return (self.pick(&PLACES).to_owned(), String::new()),
            44..49 if depth > 0 => {
                let look = self.pick(&["(?=", "(?!", "(?<=", "(?<!"]);
                return (format!("{look}{})", self.sequence(depth - 1).0), String::new());
            }
            _ => {
                let (atom, samples) = self.pick(&ATOMS);
                (atom.to_owned(), self.pick(samples).to_owned())
            }
        };
        if self.dice.random_ratio(11, 20) {
            return (atom, sample);
        }
        let (quantifier, least, most) = self.pick(&QUANTIFIERS);
        let short = if self.dice.random_ratio(3, 10) { "?" } else { "" };
        let times = self.dice.random_range(least..=most);
        (format!("{atom}{quantifier}{short}"), sample.repeat(times))
    }

    fn group(&mut self, depth: u32) -> (String, String) {
        let open = self.pick(&["(", "(", "(?:"]);
        let mut branches = vec![self.sequence(depth)];
        while self.dice.random_ratio(1, 3) {
            let empty = self.dice.random_ratio(1, 10);
            branches.push(if empty { Default::default() } else { self.sequence(depth) });
        }
        let index = self.dice.random_range(0..branches.len());
        let sample = branches[index].1.clone();
        let branches: Vec<_> = branches.into_iter().map(|(pattern, _)| pattern).collect();
        (format!("{open}{})", branches.join("|")), sample)
    }

    fn noise(&mut self) -> String {
        const LETTERS: [&str; 13] =
            ["a", "b", "ab", "c", "@", "-", ".", "1", "é", "\n", "A", "_", "aB"];
        (0..self.dice.random_range(0..8)).map(|_| self.pick(&LETTERS)).collect()
    }

    /// Up to `most` parts that can divide a text in many ways.
    fn divisible(&mut self, most: usize) -> String {
        let count = self.dice.random_range(0..=most);
        self.words(DIVISIBLE, count)
    }

    /// A short pattern around one group, whose parts can divide the same text in many ways.
    fn divided(&mut self) -> String {
        let before = self.divisible(2);
        let first = self.word(DIVISIBLE).to_owned() + &self.divisible(2);
        let inner = match self.dice.random_range(0..6) {
            0 => format!("{first}|{}", self.word(DIVISIBLE)),
            1 => format!("(?:{first})"),
            _ => first,
        };
        let group = match self.dice.random_range(0..9) {
            0 => format!("(?:{}({inner}){})", self.divisible(1), self.divisible(1)),
            1 => format!("({inner})?"),
            2 => format!("({inner})*"),
            3 => format!("({inner})+"),
            4 => {
                let times = self.pick(&["", "*", "+", "?", "*?", "{1,1}?"]);
                format!("(?:x|({inner})|{}){times}", self.divisible(2))
            }
            5 => format!("((?:{inner}){{1,1}}?)"),
            _ => format!("({inner})"),
        };
        let rest = self.pick(&["(.*)", ".*", "", "b*", "(a|ab)*c?", "[ab]*", "(.*?)", "$", r"\M"]);
        format!("{before}{group}{rest}")
    }

    /// A pattern and the subjects that come with it.
    fn pattern(&mut self) -> (String, Vec<String>) {
        match self.dice.random_range(0..5) {
            0 => {
                let count = self.dice.random_range(1..8);
                (self.words(PIECES, count), Vec::new())
            }
            1 | 2 => {
                let (pattern, sample) = self.sequence(3);
                let noisy = [sample.clone() + &self.noise(), self.noise() + &sample];
                (pattern, [noisy.as_slice(), &[sample]].concat())
            }
            _ => {
                let mut letters = || -> String {
                    let count = self.dice.random_range(1..9);
                    (0..count).map(|_| self.pick(&["a", "b", "a", "b", "c"])).collect()
                };
                let subjects = (0..5).map(|_| letters()).collect();
                (self.divided(), subjects)
            }
        }
    }

    fn asked(&mut self) -> Asked {
        let (mut pattern, mut subjects) = self.pattern();
        if self.dice.random_ratio(2, 5) {
            pattern = format!("^{pattern}$");
        }
        if self.dice.random_ratio(3, 20) {
            pattern.insert_str(0, self.word(OPTIONS));
        }
        while subjects.len() < SUBJECTS {
            subjects.push(self.noise());
        }
        for subject in &mut subjects {
            subject.truncate(subject.floor_char_boundary(40));
        }
        let mut pattern = pattern.into_bytes();
        if self.dice.random_ratio(1, 20) {
            let place = self.dice.random_range(0..=pattern.len());
            pattern.insert(place, self.pick(&[0xC3, 0xFF, 0x80, 0xA9]));
        }
        Asked { pattern, subjects }
    }
}

/// Asks the server about all patterns: one answer for each subject.
fn answers(server: &Postgres, asked: &[Asked]) -> Vec<Vec<String>> {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let mut answers = Vec::new();
    for some in asked.chunks(150) {
        let mut rows = Vec::new();
        for Asked { pattern, subjects } in some {
            let subjects: Vec<_> = subjects.iter().map(|text| hex(text.as_bytes())).collect();
            rows.push(format!("('{}','{}')", hex(pattern), subjects.join(",")));
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

/// A map of one line that gives group 1 as the role; `None` when the pattern is refused.
fn map_of(pattern: &[u8], dialect: Dialect) -> Option<IdentMap> {
    let mut line = b"m \"/".to_vec();
    for byte in pattern {
        line.extend(std::iter::repeat_n(*byte, if *byte == b'"' { 2 } else { 1 }));
    }
    line.extend(b"\" \\1\n");
    IdentMap::parse(dialect, "pg_ident.conf", &line).ok()
}

/// What the map says of a subject, in the words of the function `ask`.
fn says(map: &IdentMap, subject: &str) -> String {
    let (m, members) = (map_name("m"), Memberships::none());
    let question = Question {
        map: &m,
        system_user: subject.as_bytes(),
        role: b"",
        case: Case::Sensitive,
        members: &members,
    };
    let rule = map.rules(&m).next().expect("a line");
    match rule.consider(&question) {
        Considered::OtherUser => "no".to_owned(),
        Considered::Fails { reason } if reason.contains("has no subexpressions") => {
            "unset".to_owned()
        }
        Considered::Fails { reason } => reason,
        Considered::OtherRole { capture, .. } | Considered::Allows { capture } => {
            let capture = capture.expect("what group 1 holds");
            format!("={}", data_encoding::HEXLOWER.encode(&capture))
        }
    }
}

/// What was compared.
#[derive(Default, Debug)]
struct Tally {
    patterns: usize,
    refused_by_both: usize,
    refused_here_only: usize,
    pairs: usize,
    matches: usize,
    captures: usize,
}

impl Tally {
    fn compare(&mut self, asked: &Asked, answers: &[String], dialect: Dialect) {
        self.patterns += 1;
        let pattern = String::from_utf8_lossy(&asked.pattern);
        let Some(map) = map_of(&asked.pattern, dialect) else {
            let both = answers[0].starts_with("error");
            self.refused_by_both += usize::from(both);
            self.refused_here_only += usize::from(!both);
            return;
        };
        for (subject, answer) in asked.subjects.iter().zip(answers) {
            self.pairs += 1;
            self.matches += usize::from(answer != "no");
            self.captures += usize::from(answer.starts_with('='));
            assert_eq!(says(&map, subject), *answer, "{pattern:?} on {subject:?} by {dialect}");
        }
    }
}

#[test]
fn patterns_match_and_capture_as_postgresql_does() {
    let mut dice = dice();
    let mut builder = Builder { dice: &mut dice };
    let asked: Vec<_> = (0..cases(PATTERNS)).map(|_| builder.asked()).collect();
    thread::scope(|scope| {
        for major in MAJORS {
            let asked = &asked;
            scope.spawn(move || {
                let dialect = Dialect::try_from(major).expect("a dialect");
                let mut tally = Tally::default();
                for (asked, answers) in asked.iter().zip(answers(&server(major), asked)) {
                    tally.compare(asked, &answers, dialect);
                }
                println!("PostgreSQL {major}: {tally:?}");
                let patterns = asked.len();
                assert!(tally.pairs >= 5 * patterns, "too few pairs: {tally:?}");
                assert!(tally.captures >= patterns, "too few captures: {tally:?}");
                assert!(tally.refused_here_only < patterns / 10, "too much refused: {tally:?}");
            });
        }
    });
}
