mod dialects;
mod files;

use std::fmt::Write as _;

use proptest::prelude::*;

use super::expand::TEXT_BYTES;
use super::mistake::MISTAKES;
use super::*;

/// What a decision should be.
#[derive(Debug, PartialEq)]
enum Says {
    Line(u32),
    No,
    Fails(u32),
}
use Says::{Fails, Line, No};

fn parse(file: &str) -> IdentMap {
    let parsed = IdentMap::parse(Dialect::default(), "pg_ident.conf", file.as_bytes());
    parsed.unwrap_or_else(|mistakes| panic!("{file}\n{mistakes:#?}"))
}

fn ask(map: &IdentMap, name: &str, system_user: &str, role: &str) -> Says {
    let question = Question {
        map: &name.parse().unwrap(),
        system_user: system_user.as_bytes(),
        role: role.as_bytes(),
        case: Case::Sensitive,
        members: &Memberships::none(),
    };
    match map.decide(&question) {
        MapDecision::Allowed(found) => Line(found.line),
        MapDecision::NoMatch => No,
        MapDecision::Failed { rule: found, .. } => Fails(found.line),
    }
}

/// Asks the map `m`.
#[track_caller]
fn check(file: &str, cases: &[(&str, &str, Says)]) {
    let map = parse(file);
    for (system_user, role, expected) in cases {
        let found = ask(&map, "m", system_user, role);
        assert_eq!(found, *expected, "{system_user} as {role} by\n{file}");
    }
}

/// The mistakes as `line:column: text`.
fn mistakes(file: &[u8]) -> Vec<String> {
    let found = IdentMap::parse(Dialect::default(), "f", file).expect_err("the file has mistakes");
    assert!(found.iter().all(|mistake| !mistake.hint.is_empty()), "{found:?}");
    found.iter().map(|mistake| mistake.to_string().split_off(2)).collect()
}

/// Each expected text is the beginning of a mistake.
#[track_caller]
fn check_refused(file: &str, expected: &[&str]) {
    let found = mistakes(file.as_bytes());
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
    assert!(same, "{file}\nfound    {found:#?}\nexpected {expected:#?}");
}

/// Every role that group 1 gives `system_user`: `None` is a failure.
fn capture(pattern: &str, system_user: &str) -> Vec<String> {
    let map = parse(&format!("m \"/{pattern}\" \\1"));
    let bytes = 0..=system_user.len();
    let pieces = bytes.clone().flat_map(|begin| bytes.clone().map(move |end| (begin, end)));
    let mut found: Vec<_> = pieces
        .filter_map(|(begin, end)| system_user.get(begin..end))
        .filter(|role| matches!(ask(&map, "m", system_user, role), Line(_)))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

// Lines and decisions

#[test]
fn a_literal_name_is_compared_byte_by_byte() {
    check(
        "m alice@CORP.TEST reporting",
        &[
            ("alice@CORP.TEST", "reporting", Line(1)),
            ("alice@corp.test", "reporting", No),
            ("Alice@CORP.TEST", "reporting", No),
            ("alice", "reporting", No),
            ("alice@CORP.TEST", "Reporting", No),
            ("alice@CORP.TEST", "report", No),
            ("alice@CORP.TEST\0", "reporting", No),
        ],
    );
}

#[test]
fn the_first_line_that_allows_is_named_and_other_maps_do_not_count() {
    let map = parse("n alice x\nm alice r\n\n# m alice s\nm alice r\nm alice s # why");
    assert_eq!(ask(&map, "m", "alice", "r"), Line(2));
    assert_eq!(ask(&map, "m", "alice", "s"), Line(6));
    assert_eq!(ask(&map, "m", "alice", "x"), No);
    assert_eq!(ask(&map, "n", "alice", "x"), Line(1));
    assert_eq!(ask(&map, "M", "alice", "r"), No);
    assert!(map.has_map(&"m".parse().unwrap()));
    assert!(!map.has_map(&"M".parse().unwrap()));
    let names: Vec<_> = map.map_names().map(MapName::as_str).collect();
    assert_eq!(names, ["m", "n"]);
}

#[test]
fn all_is_any_role_unless_it_is_quoted() {
    check("m root all", &[("root", "anything", Line(1)), ("other", "anything", No)]);
    check("m root \"all\"", &[("root", "anything", No), ("root", "all", Line(1))]);
    check("m root a\"ll\"", &[("root", "anything", Line(1))]);
    check("m root ALL", &[("root", "anything", No)]);
    check("m all r", &[("all", "r", Line(1)), ("root", "r", No)]);
    check("m +all r", &[("+all", "r", Line(1)), ("all", "r", No)]);
    check("all root all", &[("root", "x", No)]);
}

#[test]
fn the_capture_takes_the_place_of_the_first_back_reference() {
    let file = r"m /^(.*)@CORP\.TEST$ \1";
    check(file, &[("al@CORP.TEST", "al", Line(1)), ("al@OTHER.TEST", "al", No)]);
    check(file, &[("al@CORP.TEST", "al@CORP.TEST", No), ("@CORP.TEST", "", Line(1))]);
    check(r"m /^(.*)$ a\1b\1", &[("x", r"axb\1", Line(1)), ("x", "axbx", No)]);
    check(r#"m /^(.*)$ "\1""#, &[("x", "x", Line(1))]);
    check(r"m /^(.*)$ \\1", &[("x", r"\x", Line(1)), ("x", r"\1", No)]);
    check(r"m /^(.)(.*)$ \2", &[("xy", "y", No), ("xy", r"\2", Line(1))]);
    check(r"m x \1", &[("x", r"\1", Line(1)), ("x", "x", No)]);
    check(r"m /^(.*)$ \1", &[("all", "any", No), ("all", "all", Line(1)), ("+r", "r", No)]);
    check(r"m /^(a+)b?$ all", &[("aab", "any", Line(1)), ("b", "any", No)]);
}

#[test]
fn a_capture_that_is_not_there_ends_the_scan_with_a_denial() {
    let file = "m early r\nm /^x.*$ \\1\nm xe r\nm /^xe$ all";
    check(file, &[("xe", "r", Fails(2)), ("early", "r", Line(1)), ("ye", "r", No)]);
    let map = parse("m /^x.*$ a\\1");
    let expected = MapDecision::Failed {
        rule: RuleRef { file: "pg_ident.conf".to_owned(), line: 1 },
        reason: "regular expression \"^x.*$\" has no subexpressions as requested by backreference \
                 in \"a\\1\""
            .to_owned(),
    };
    let question = Question {
        map: &"m".parse().unwrap(),
        system_user: b"xe",
        role: b"r",
        case: Case::Sensitive,
        members: &Memberships::none(),
    };
    assert_eq!(map.decide(&question), expected);
    check("m xe r\nm /^x.*$ \\1", &[("xe", "r", Line(1)), ("xe", "s", Fails(2))]);
}

#[test]
fn literal_and_pattern_lines_are_scanned_in_file_order() {
    check(
        "m /^(a)$ \\1\nm a r\nm /^a$ r\nm a s\nm /^.$ t\nm a t",
        &[("a", "a", Line(1)), ("a", "r", Line(2)), ("a", "s", Line(4)), ("a", "t", Line(5))],
    );
}

#[test]
fn a_continued_line_is_one_line_named_by_its_first() {
    check(
        "m al\\\nice \\\n  reporting\nm bob r",
        &[("alice", "reporting", Line(1)), ("bob", "r", Line(4))],
    );
    check("# comment \\\nm alice r\nm bob r", &[("alice", "r", No), ("bob", "r", Line(3))]);
    check("m a r\r\nm b r\r\n", &[("a", "r", Line(1)), ("b", "r", Line(2))]);
}

#[test]
fn quoting_protects_blanks_commas_and_comments() {
    check("m \"CN=A B, O=X #1\" \"a role\"", &[("CN=A B, O=X #1", "a role", Line(1))]);
    check("m \"a\"\"b\" r", &[("a\"b", "r", Line(1))]);
    check("m a \"r # c", &[("a", "r # c", Line(1))]);
}

#[test]
fn further_fields_are_ignored_as_postgresql_does() {
    check("m alice r further fields,here", &[("alice", "r", Line(1)), ("alice", "further", No)]);
    check("include alice r", &[("alice", "r", No)]);
    assert_eq!(ask(&parse("include alice r"), "include", "alice", "r"), Line(1));
}

#[test]
fn an_empty_file_is_a_map_without_lines() {
    for file in ["", "\n\n", "# nothing\n", " \t , \r\n"] {
        check(file, &[("alice", "r", No)]);
    }
}

#[test]
fn the_revision_is_the_hash_of_the_release_and_the_files() {
    // (echo postgres 16; sha256sum < pg_ident.conf) | sha256sum
    let empty = "ff006ecf77cd10e010ac56090c6acb1c9d6b52d757d481d935ad30716ddcbe0d";
    assert_eq!(parse("").revision().as_str(), empty);
    assert_ne!(parse("m a r").revision(), parse("m a r ").revision());
    let json = serde_json::to_string(parse("").revision()).unwrap();
    assert_eq!(json, format!("\"{empty}\""));
    let rule = RuleRef { file: "pg_ident.conf".to_owned(), line: 12 };
    assert_eq!(rule.to_string(), "pg_ident.conf:12");
}

// Refusals of lines

#[test]
fn every_mistake_is_told_with_its_place() {
    check_refused(
        "m alice\nm a r\n\"\" /x** /y++\nm a,b /^(",
        &[
            "1:8: missing entry",
            "3:7: nothing stands before the quantifier",
            "3:12: nothing stands before the quantifier",
            "4:5: multiple values",
            "4:9: the group is not closed",
        ],
    );
    let mistake = IdentMap::parse(Dialect::default(), "pg_ident.conf", b"m").unwrap_err().remove(0);
    let text = "pg_ident.conf:1:2: missing entry: the line has fewer than three fields";
    assert_eq!(mistake.to_string(), text);
}

#[test]
fn one_bad_line_refuses_the_whole_file() {
    check_refused("m alice r\nm bob", &["2:6: missing entry"]);
}

#[test]
fn a_comma_between_fields_is_a_mistake_and_harmless_at_the_ends() {
    check_refused("m, alice r", &["1:4: missing entry"]);
    check_refused("m alice r,s", &["1:11: multiple values"]);
    check_refused("m,n alice r", &["1:3: multiple values"]);
    check_refused("m /^a{1,3}$ r", &["1:9: multiple values"]);
    check("m \"/^a{1,3}$\" r", &[("aa", "r", Line(1)), ("aaaa", "r", No)]);
    check(",m alice r,", &[("alice", "r", Line(1))]);
}

#[test]
fn a_quote_that_is_not_closed_is_shown_when_fields_are_missing() {
    check_refused("m \"alice r", &["1:3: missing entry"]);
    check("m alice \"r", &[("alice", "r", Line(1))]);
}

#[test]
fn what_stands_alone_includes_nothing_and_quoted_names_do_not_ask_for_it() {
    let refused = "could not open the file `other.conf`: no files can be included here";
    for word in ["include", "include_if_exists", "\"include\""] {
        let place = 3 + word.len();
        check_refused(&format!(" {word} other.conf"), &[&format!("1:{place}: {refused}")]);
    }
    check_refused("include_dir d", &["1:13: could not open the directory `d`: no files can be"]);
    check_refused("m @users r", &["1:3: could not open the file `users`: no files can be"]);
    check_refused("m alice @r", &["1:9: could not open the file `r`: no files can be"]);
    check("m \"@users\" r", &[("@users", "r", Line(1))]);
    check("m @ r", &[("@", "r", Line(1))]);
    check("m a@b r", &[("a@b", "r", Line(1))]);
}

#[test]
fn a_quoted_plus_is_a_name() {
    check("m alice \"+staff\"", &[("alice", "+staff", Line(1)), ("alice", "staff", No)]);
    check("m alice s\"+\"", &[("alice", "s+", Line(1))]);
    check("m alice r/x", &[("alice", "r/x", Line(1))]);
}

#[test]
fn bytes_that_are_no_text_are_bytes_and_a_nul_is_refused() {
    let map = IdentMap::parse(Dialect::default(), "f", b"m al\xE9 r\nm b \xC3").unwrap();
    let says = |system_user: &[u8], role: &[u8]| {
        let (map_name, members) = ("m".parse().unwrap(), Memberships::none());
        let case = Case::Sensitive;
        map.decide(&Question { map: &map_name, system_user, role, case, members: &members })
    };
    let line = |line| MapDecision::Allowed(RuleRef { file: "f".to_owned(), line });
    assert_eq!(says(b"al\xE9", b"r"), line(1));
    assert_eq!(says(b"al\xC3\xA9", b"r"), MapDecision::NoMatch);
    assert_eq!(says(b"b", b"\xC3"), line(2));
    assert_eq!(says(b"b", b"\xC3\0"), MapDecision::NoMatch);
    check("m alé r", &[("alé", "r", Line(1))]);
    assert!(mistakes(b"m a r\n\nm b\0 r")[0].starts_with("3:4: a NUL byte"));
    assert!(mistakes(b"# \0")[0].starts_with("1:3: a NUL byte"));
}

#[test]
fn a_map_that_cannot_be_asked_for_lets_nobody_in() {
    let file = b"\xEF\xBB\xBFm a r\n\"\" b r\nm c r\nm\xE9 d r";
    let map = IdentMap::parse(Dialect::default(), "f", file).unwrap();
    assert_eq!(ask(&map, "m", "a", "r"), No);
    assert_eq!(ask(&map, "\u{FEFF}m", "a", "r"), Line(1));
    assert_eq!(ask(&map, "m", "c", "r"), Line(3));
    let lines: Vec<_> = map.never_asked().map(|rule| rule.reference().line).collect();
    assert_eq!(lines, [2, 4]);
    let names: Vec<_> = map.map_names().map(MapName::as_str).collect();
    assert_eq!(names, ["m", "\u{FEFF}m"]);
}

#[test]
fn places_in_continued_lines_are_those_of_the_physical_line() {
    check_refused("m alice \\\n  \\\n r,staff", &["3:4: multiple values"]);
    check_refused("m \\\n/^a.*+$ r", &["2:6: nothing stands before"]);
    check_refused("m \"/^a\"\"\\\n(?>b)$\" r", &["2:1-3: PostgreSQL has no atomic"]);
}

#[test]
fn hostile_sizes_end_in_a_mistake() {
    let nested = format!("m /^{}{}$ r", "(".repeat(200_000), ")".repeat(200_000));
    check_refused(&nested, &["1:3: a token of more than 65535 bytes"]);
    let nested = format!("m /^{}{}$ r", "(".repeat(2000), ")".repeat(2000));
    check_refused(&nested, &["1:55: groups nest deeper than 50"]);
    parse(&format!("m /^{}a{}$ r", "(".repeat(50), ")".repeat(50)));
    check_refused(&format!("m {} r", "a".repeat(1 << 20)), &["1:3: a token of more than 65535"]);
    parse(&format!("m {} r", "a".repeat(65_535)));
    check_refused(&format!("m /^{}$ r", "a".repeat(4095)), &["1:4100: regular expression of 4097"]);
    check_refused("m /^(?:a{255}){255}$ r", &["1:4-20: the bounds of the regular expression"]);
    parse("m /^(?:a{255}){4}$ r");
    let mut many = String::new();
    for number in 0..700 {
        let _ = writeln!(many, "m /^{number:03}(?:x{{200}}){{4}}$ r");
    }
    let found = mistakes(many.as_bytes());
    assert!(found[0].starts_with("623:3: too many different regular expressions"), "{}", found[0]);
    assert!(
        IdentMap::parse(Dialect::default(), "f", "m /^(?:x{200}){4}$ r\n".repeat(700).as_bytes())
            .is_ok()
    );
    let large = vec![b'#'; TEXT_BYTES + 1];
    assert!(mistakes(&large)[0].starts_with("1:1: the file has 8388609 bytes"));
    assert!(IdentMap::parse(Dialect::default(), "f", &large[1..]).is_ok());
    assert_eq!(mistakes("m\n".repeat(5000).as_bytes()).len(), MISTAKES);
}

#[test]
fn ten_thousand_lines_are_read_and_asked() {
    let mut file = String::new();
    for number in 0..10_000 {
        let _ = writeln!(file, "m user{number}@CORP.TEST role{}", number % 7);
        if number % 100 == 0 {
            let _ = writeln!(file, r"m /^svc{number}-([a-z]+)$ \1");
        }
    }
    let map = parse(&file);
    assert_eq!(ask(&map, "m", "user9999@CORP.TEST", "role3"), Line(10_100));
    assert_eq!(ask(&map, "m", "svc9900-backup", "backup"), Line(10_001));
    assert_eq!(ask(&map, "m", "user10000@CORP.TEST", "role3"), No);
}

// Regular expressions

#[test]
fn the_usual_forms_are_accepted() {
    assert_eq!(capture(r"^(.*)@EXAMPLE\.COM$", "al@x@EXAMPLE.COM"), ["al@x"]);
    assert_eq!(capture("^(svc|bot)-([a-z0-9_]+)$", "svc-x_1"), ["svc"]);
    assert_eq!(capture("^CN=([^,]+),OU=(dev|ops),.*$", "CN=al b,OU=ops,DC=x"), ["al b"]);
    assert_eq!(capture("^(?:dev|prod)-([a-z]+)$", "prod-web"), ["web"]);
    assert_eq!(capture("^([[:alpha:]_][\\w.-]{0,62})$", "a.b-c"), ["a.b-c"]);
    assert_eq!(capture("^(.*)@(corp|corp-eu)$", "al@corp-eu"), ["al"]);
    assert_eq!(capture("^(?:[a-z]+/)([^/]*)$", "host/x"), ["x"]);
    assert_eq!(capture("^(svc|svc-app)-(.*)$", "svc-app-prod"), ["svc-app"]);
    assert_eq!(capture("(.*)@x", "al@x"), ["al"]);
    assert_eq!(capture("^$", "x"), [""; 0]);
}

#[test]
fn bytes_are_matched_not_characters() {
    check("m /^..$ r", &[("é", "r", Line(1)), ("e", "r", No)]);
    check("m /^.$ r", &[("é", "r", No), ("e", "r", Line(1))]);
    check("m /^[^x][^x]$ r", &[("é", "r", Line(1))]);
    check("m /^é$ r", &[("é", "r", Line(1)), ("è", "r", No)]);
    check(r"m /^\w+$ r", &[("e", "r", Line(1)), ("é", "r", No)]);
    check(r"m /^\W\W$ r", &[("é", "r", Line(1))]);
    check("m /^é*$ r", &[("é\u{a9}", "r", No), ("éé", "r", No), ("é", "r", Line(1))]);
    // The capture is half a character, which names no role and is no failure either.
    check("m /^(.).$ \\1\nm é r", &[("é", "\u{c3}", No), ("é", "", No), ("é", "r", Line(2))]);
    check("m /^.(.)$ x\\1\nm é r", &[("é", "x\u{a9}", No), ("é", "r", Line(2))]);
}

/// The cases of PostgreSQL's own `src/test/authentication/t/003_peer.pl` for what is read here.
#[test]
fn the_cases_of_postgresqls_own_tests_hold() {
    let user = "system_user";
    let test = "testmapuser";
    check("m system_user testmapuser", &[(user, test, Line(1)), (user, "other", No)]);
    check("m system_user all", &[(user, test, Line(1))]);
    check("m system_user \"all\"", &[(user, test, No)]);
    check(r#"m "/^.*user$" testmapuser"#, &[(user, test, Line(1))]);
    check(r#"m "/^.*user$" all"#, &[(user, test, Line(1))]);
    check(r#"m "/^.*_(.*)$" "testmap\1""#, &[(user, test, Line(1))]);
    check(r#"m "/^.*_(.*)$" testmap\1"#, &[(user, test, Line(1))]);
    check(r#"m "/^system_.*$" "\1testmapuser""#, &[(user, test, Fails(1))]);
    check(r#"m "/^doesnotmatch$" testmapuser"#, &[(user, test, No)]);
    check("m system_user \"+testgroup\"", &[(user, test, No)]);
    check(r"m /^(.*)@EXAMPLE\.COM$ \1", &[("test1@EXAMPLE.COM", "test1", Line(1))]);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        let _ = IdentMap::parse(Dialect::default(), "f", &bytes);
    }

    #[test]
    fn no_line_of_special_characters_makes_the_parser_panic(
        line in r##"[m/^$()|*+?{}\[\]\\.,:=<>!"#@ 0-9adDsSwW\r\n\-é]{0,60}"##,
    ) {
        let _ = IdentMap::parse(Dialect::default(), "f", line.as_bytes());
        let _ = IdentMap::parse(Dialect::default(), "f", format!("m \"/^{line}$\" \\1").as_bytes());
    }

    #[test]
    fn quoted_names_read_back_as_they_were(
        user in "[^\0\n/][^\0\n]{0,30}",
        role in "[^\0\n/][^\0\n]{0,30}",
    ) {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let file = format!("m {} {}\n", quoted(&user), quoted(&role));
        let map = IdentMap::parse(Dialect::default(), "f", file.as_bytes()).unwrap();
        prop_assert_eq!(ask(&map, "m", &user, &role), Line(1));
        prop_assert_eq!(ask(&map, "m", &user, &format!("{role}x")), No);
        prop_assert_eq!(ask(&map, "m", &format!("{user}x"), &role), No);
    }

    #[test]
    fn a_place_is_always_within_its_line(
        lines in proptest::collection::vec(r#"[m/^$(|*?{\[\\.,"@+ aé]{0,20}"#, 1..5),
    ) {
        let file = lines.join("\n");
        let Err(mistakes) = IdentMap::parse(Dialect::default(), "f", file.as_bytes()) else { return Ok(()) };
        for mistake in mistakes {
            let line = lines.get(mistake.line as usize - 1);
            let length = line.map_or(0, String::len);
            prop_assert!((1..=length + 1).contains(&(mistake.column as usize)), "{}", mistake);
        }
    }
}
