//! Regular expressions as people write them in `pg_ident.conf`: how many of them we refuse, and
//! that the others match and capture as on every major.

use std::thread;

use pgbridge::mapping::{Case, Considered, IdentMap, Memberships, Question};

use super::oracle::{dialect, listed, map_name, shown};
use super::{hex, server, unhex};
use crate::support::Postgres;

const CORPUS: &str = include_str!("../fixtures/map_patterns.txt");
const MAJORS: [u32; 6] = [13, 14, 15, 16, 17, 18];

/// One expression in this many may be refused at most.
const REFUSED_AT_MOST: usize = 10;

/// Expressions, and the names that they are asked about.
#[derive(Default)]
struct Section {
    names: Vec<&'static str>,
    patterns: Vec<&'static str>,
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with("= ") {
            sections.push(Section::default());
            continue;
        }
        let section = sections.last_mut().expect("a section begins before its names");
        match line.strip_prefix("- ") {
            Some(name) => section.names.push(name),
            None => section.patterns.push(line),
        }
    }
    sections
}

/// What an expression makes of a name.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It is none.
    Invalid,
    NoMatch,
    /// It matches, and group 1 took no part, or there is none.
    Unset,
    Group(Vec<u8>),
}

/// What the server says of each name of a section by each expression, in that order.
fn theirs(server: &Postgres, section: &Section) -> Vec<Answer> {
    let array = |texts: &[&str]| {
        let texts: Vec<_> = texts.iter().map(|text| format!("'{}'", hex(text))).collect();
        format!("ARRAY[{}]", texts.join(","))
    };
    let query = format!(
        "SELECT ask(pattern, name) FROM unnest({}) WITH ORDINALITY p (pattern, one),
         unnest({}) WITH ORDINALITY n (name, other) ORDER BY one, other",
        array(&section.patterns),
        array(&section.names),
    );
    let rows = server.sql(super::DATABASE, &query).concat();
    assert_eq!(rows.len(), section.patterns.len() * section.names.len());
    rows.iter().map(|row| answer_of(row)).collect()
}

fn answer_of(text: &str) -> Answer {
    match text {
        "no" => Answer::NoMatch,
        "unset" => Answer::Unset,
        _ if text.starts_with("error") => Answer::Invalid,
        _ => Answer::Group(unhex(text.strip_prefix('=').expect("one of the answers"))),
    }
}

/// What our reading of `map` makes of the name: the only line has `\1` as its role.
fn ours(map: &IdentMap, name: &str) -> Answer {
    let map_name = map_name("m");
    let question = Question {
        map: &map_name,
        system_user: name.as_bytes(),
        role: b"no such role",
        case: Case::Sensitive,
        members: &Memberships::none(),
    };
    let rule = map.rules(&map_name).next().expect("a line");
    match rule.consider(&question) {
        Considered::OtherUser => Answer::NoMatch,
        Considered::Fails { .. } => Answer::Unset,
        Considered::OtherRole { capture, .. } | Considered::Allows { capture } => {
            Answer::Group(capture.expect("the line uses it"))
        }
    }
}

/// The two lines that an expression can be a part of: as a system user with a capture, and as a
/// database user.
fn line(pattern: &str) -> String {
    format!("m \"/{}\" \\1\n", pattern.replace('"', "\"\""))
}

fn compare_corpus(major: u32) {
    let server = server(major);
    let (mut patterns, mut refused, mut pairs) = (0, Vec::new(), 0);
    for section in sections() {
        let answers = theirs(&server, &section);
        for (pattern, answers) in section.patterns.iter().zip(answers.chunks(section.names.len())) {
            let invalid = answers.contains(&Answer::Invalid);
            let map = IdentMap::parse(dialect(major), "pg_ident.conf", line(pattern).as_bytes());
            let map = match map {
                Ok(map) => map,
                Err(_) if invalid => continue,
                Err(mistakes) => {
                    patterns += 1;
                    refused.push(format!("{pattern}\n  {}", listed(&mistakes).trim_end()));
                    continue;
                }
            };
            assert!(!invalid, "PostgreSQL {major} refuses {pattern}, we do not");
            patterns += 1;
            for (name, answer) in section.names.iter().zip(answers) {
                let place = format!("PostgreSQL {major}, {pattern} on {}", shown(name.as_bytes()));
                assert_eq!(ours(&map, name), *answer, "{place} (ours is left)");
                pairs += 1;
            }
        }
    }
    println!(
        "PostgreSQL {major}: {pairs} answers alike; {} of {patterns} expressions are refused:\n{}",
        refused.len(),
        refused.join("\n"),
    );
    assert!(patterns >= 150, "only {patterns} expressions");
    assert!(refused.len() * REFUSED_AT_MOST < patterns, "{} of {patterns} refused", refused.len());
}

#[test]
fn expressions_as_people_write_them_mean_the_same() {
    thread::scope(|scope| {
        for major in MAJORS {
            scope.spawn(move || compare_corpus(major));
        }
    });
}
