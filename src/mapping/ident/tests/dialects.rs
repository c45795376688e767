//! What each release of PostgreSQL makes of the same file.

use super::*;

const OLD: [u32; 3] = [13, 14, 15];
const NEW: [u32; 3] = [16, 17, 18];

fn dialect(major: u32) -> Dialect {
    major.try_into().unwrap()
}

/// What the map `m` says with this case of letters, and memberships as `member/group`.
fn says(map: &IdentMap, system_user: &str, role: &str, case: Case, members: &[&str]) -> Says {
    let edges = members.iter().filter_map(|edge| edge.split_once('/'));
    let question = Question {
        map: &"m".parse().unwrap(),
        system_user: system_user.as_bytes(),
        role: role.as_bytes(),
        case,
        members: &Memberships::of_edges([""; 0], edges),
    };
    match map.decide(&question) {
        MapDecision::Allowed(found) => Line(found.line),
        MapDecision::NoMatch => No,
        MapDecision::Failed { rule: found, .. } => Fails(found.line),
    }
}

/// What each of these releases says; `alice` is a member of `staff`, by way of `readers`.
#[track_caller]
fn check(majors: &[u32], file: &str, cases: &[(&str, &str, Says)]) {
    for major in majors {
        let map = IdentMap::parse(dialect(*major), "f", file.as_bytes()).unwrap();
        for (system_user, role, expected) in cases {
            let members = ["alice/readers", "readers/staff"];
            let found = says(&map, system_user, role, Case::Sensitive, &members);
            assert_eq!(found, *expected, "{major}: {system_user} as {role} by\n{file}");
        }
    }
}

#[track_caller]
fn check_refused(majors: &[u32], file: &str, mistake: &str) {
    for major in majors {
        let found = IdentMap::parse(dialect(*major), "f", file.as_bytes()).unwrap_err();
        assert!(found[0].to_string().starts_with(mistake), "{major}: {found:#?}");
    }
}

#[test]
fn a_dialect_is_a_major_release_from_13_to_18() {
    assert_eq!(Dialect::ALL.map(Dialect::major), [13, 14, 15, 16, 17, 18]);
    assert_eq!("16".parse(), Ok(Dialect::default()));
    for text in ["12", "19", "", "016", "16.1", "-16", "sixteen"] {
        assert_eq!(text.parse::<Dialect>(), Err(DialectError), "{text}");
    }
    assert_eq!(serde_json::to_string(&Dialect::default()).unwrap(), "16");
    assert_eq!(serde_json::from_str::<Dialect>("13").unwrap(), dialect(13));
    assert!(serde_json::from_str::<Dialect>("19").is_err());
    assert!(dialect(13) < dialect(18));
}

#[test]
fn a_backslash_joins_lines_since_14() {
    let joined = "m al\\\nice r";
    check_refused(&[13], joined, "f:1:6: missing entry");
    check(&[14, 15, 16, 17, 18], joined, &[("alice", "r", Line(1))]);
    let comment = "# old \\\nm alice r";
    check(&[13], comment, &[("alice", "r", Line(2))]);
    check(&[14, 15, 16, 17, 18], comment, &[("alice", "r", No)]);
    check(&[13], "m alice r\\", &[("alice", "r\\", Line(1)), ("alice", "r", No)]);
    check(&[14, 18], "m alice r\\", &[("alice", "r\\", No), ("alice", "r", Line(1))]);
}

#[test]
fn lines_have_a_length_in_13_only() {
    let line = |bytes: usize, end: &str| format!("m alice r #{}{end}", "x".repeat(bytes - 11));
    check(&[13], &line(20_477, "\n"), &[("alice", "r", Line(1))]);
    check(&[13], &line(20_478, ""), &[("alice", "r", Line(1))]);
    check_refused(&[13], &line(20_478, "\n"), "f:1:1: a line of more than 20478 bytes");
    check_refused(&[13], &line(20_479, ""), "f:1:1: a line of more than 20478 bytes");
    check(&[14, 15, 16, 17, 18], &line(20_478, "\n"), &[("alice", "r", Line(1))]);
}

#[test]
fn tokens_have_a_length_of_10_239_bytes_before_16() {
    let line = |bytes: usize| format!("m {} r", "x".repeat(bytes));
    check(&OLD, &line(10_239), &[(&"x".repeat(10_239), "r", Line(1))]);
    check_refused(&OLD, &line(10_240), "f:1:3: a token of more than 10239 bytes");
    check(&NEW, &line(10_240), &[(&"x".repeat(10_240), "r", Line(1))]);
    let quoted = format!("m \"{}\" r", "x".repeat(10_239));
    check_refused(&OLD, &quoted, "f:1:3: a token of more than 10239 bytes");
    check(&NEW, &quoted, &[(&"x".repeat(10_239), "r", Line(1))]);
}

#[test]
fn database_users_are_names_and_nothing_else_before_16() {
    check(&OLD, "m root all", &[("root", "all", Line(1)), ("root", "r", No)]);
    check(&NEW, "m root all", &[("root", "all", Line(1)), ("root", "r", Line(1))]);
    let members = "m root +staff";
    check(&OLD, members, &[("root", "+staff", Line(1)), ("root", "alice", No)]);
    check(&NEW, members, &[("root", "+staff", No), ("root", "alice", Line(1))]);
    let pattern = "m root \"/^r.$\"";
    check(&OLD, pattern, &[("root", "/^r.$", Line(1)), ("root", "r1", No)]);
    check(&NEW, pattern, &[("root", "/^r.$", No), ("root", "r1", Line(1)), ("root", "r", No)]);
    check(&OLD, "m root /^(", &[("root", "/^(", Line(1))]);
    check_refused(&NEW, "m root /^(", "f:1:");
}

#[test]
fn a_plus_lets_in_members_of_the_group_direct_or_not_and_the_group_itself() {
    let file = "m root +staff\nm root +readers";
    let cases = [
        ("root", "alice", Line(1)),
        ("root", "readers", Line(1)),
        ("root", "staff", Line(1)),
        ("root", "bob", No),
        ("alice", "alice", No),
    ];
    check(&NEW, file, &cases);
    check(&NEW, "m root +", &[("root", "alice", No), ("root", "", No)]);
    check(&NEW, "m root \"+staff\"", &[("root", "alice", No), ("root", "+staff", Line(1))]);
    check(&NEW, "m root +\"staff\"", &[("root", "alice", Line(1))]);
    let map = IdentMap::parse(dialect(16), "f", b"m a +x\nn a +y\nm b +x\nm c +\nm d \"+z\"");
    let groups: Vec<_> = map.unwrap().asked_groups().into_iter().map(<[u8]>::to_vec).collect();
    assert_eq!(groups, [b"x", b"y"]);
    let map = IdentMap::parse(dialect(15), "f", b"m a +x").unwrap();
    assert!(map.asked_groups().is_empty());
}

#[test]
fn a_back_reference_is_not_one_in_a_group_or_a_pattern_since_16() {
    let group = r"m /^(.*)$ +\1";
    check(&OLD, group, &[("staff", "+staff", Line(1)), ("staff", "alice", No)]);
    check(&NEW, group, &[("staff", "+staff", No), ("staff", "alice", No)]);
    let members = [("x", r"\1")];
    let map = IdentMap::parse(dialect(16), "f", group.as_bytes()).unwrap();
    let question = Question {
        map: &"m".parse().unwrap(),
        system_user: b"staff",
        role: b"x",
        case: Case::Sensitive,
        members: &Memberships::of_edges([""; 0], members),
    };
    assert!(matches!(map.decide(&question), MapDecision::Allowed(_)));
    check(&OLD, r#"m /^(.*)$ "/\1""#, &[("x", "/x", Line(1)), ("x", "x", No)]);
    check(&NEW, r#"m /^(.*)$ "+\1""#, &[("x", "+x", Line(1)), ("x", r"+\1", No)]);
    check(&OLD, r"m /^.*$ +\1", &[("x", "alice", Fails(1))]);
    check(&NEW, r"m /^.*$ +\1", &[("x", "alice", No)]);
}

#[test]
fn what_comes_of_a_capture_is_never_a_keyword() {
    let file = r"m /^(.*)$ \1";
    for majors in [OLD, NEW] {
        check(&majors, file, &[("all", "all", Line(1)), ("all", "r", No)]);
        check(&majors, file, &[("+staff", "+staff", Line(1)), ("+staff", "alice", No)]);
        check(&majors, file, &[("/^r$", "/^r$", Line(1)), ("/^r$", "r", No)]);
    }
}

#[test]
fn only_the_names_of_users_and_roles_leave_case_out() {
    for major in [13, 16, 18] {
        let says = |file: &str, system_user: &str, role: &str| {
            let map = IdentMap::parse(dialect(major), "f", file.as_bytes()).unwrap();
            says(&map, system_user, role, Case::Insensitive, &["alice/staff"])
        };
        assert_eq!(says("m Alice Orders", "aLICE", "oRDERS"), Line(1));
        assert_eq!(says("m Alice Orders", "alic", "orders"), No);
        assert_eq!(says("m ALÉ r", "alÉ", "r"), Line(1));
        assert_eq!(says("m ALÉ r", "alé", "r"), No);
        assert_eq!(says("M alice r", "alice", "r"), No);
        assert_eq!(says("m /^alice$ r", "Alice", "r"), No);
        assert_eq!(says("m /^alice$ r", "alice", "R"), Line(1));
        assert_eq!(says(r"m /^(.*)$ x\1", "Alice", "XaLICE"), Line(1));
        assert_eq!(says("m x r\nm X s\nm /^x$ t\nm x u", "x", "s"), Line(2));
        assert_eq!(says("m x r\nm X s\nm /^x$ t\nm x u", "X", "u"), Line(4));
        assert_eq!(says("m x r\nm X s\nm /^x$ t\nm x u", "X", "t"), No);
    }
    let map = IdentMap::parse(dialect(16), "f", b"m x ALL\nm y +STAFF\nm z /^r$").unwrap();
    let says = |user: &str, role: &str| says(&map, user, role, Case::Insensitive, &["a/staff"]);
    assert_eq!(says("x", "r"), No);
    assert_eq!(says("y", "a"), No);
    assert_eq!(says("z", "R"), No);
}

/// The cases of PostgreSQL's own `src/test/authentication/t/003_peer.pl` with groups and patterns
/// of roles.
#[test]
fn the_cases_of_postgresqls_own_tests_hold_for_roles_that_are_no_names() {
    let (user, test) = ("system_user", "alice");
    let check = |file: &str, expected: Says| check(&NEW, file, &[(user, test, expected)]);
    check(r#"m system_user "/^al.*$""#, Line(1));
    check(r#"m system_user "/^doesnotmatch$""#, No);
    check(r#"m "/^.*user$" "/^al.*$""#, Line(1));
    check(r#"m "/^.*user$" all"#, Line(1));
    check("m system_user +readers", Line(1));
    check("m system_user \"+readers\"", No);
    check(r#"m "/^.*user$" +readers"#, Line(1));
    check(r#"m "/^.*_(user)$" "+readers\1""#, No);
    check(r#"m "/^.*_(user)$" +readers\1"#, No);
}

#[test]
fn a_line_says_what_it_makes_of_a_question() {
    let file = "m alice orders\nm /^(.*)@x$ \"a \\1\" more # why\nm /^.*$ \\1\nn x y\n\
                m bob , +staff\nm carol /^r.$\nm dave all";
    let map = IdentMap::parse(Dialect::default(), "maps/f", file.as_bytes()).unwrap();
    let name = "m".parse().unwrap();
    let rules: Vec<_> = map.rules(&name).collect();
    let texts: Vec<_> = rules.iter().map(RuleView::text).collect();
    assert_eq!(
        texts,
        [
            "m alice orders",
            r#"m /^(.*)@x$ "a \1""#,
            r"m /^.*$ \1",
            "m bob , +staff",
            "m carol /^r.$",
            "m dave all",
        ]
    );
    let lines: Vec<_> = rules.iter().map(|rule| rule.reference().to_string()).collect();
    assert_eq!(lines, ["f:1", "f:2", "f:3", "f:5", "f:6", "f:7"]);
    assert_eq!(rules[0].system_user(), SystemUserView::Literal(b"alice"));
    assert_eq!(rules[0].database_user(), DatabaseUserView::Literal(b"orders"));
    assert_eq!(rules[1].system_user(), SystemUserView::Pattern(b"^(.*)@x$"));
    let with_capture = DatabaseUserView::WithCapture { before: b"a ", after: b"" };
    assert_eq!(rules[1].database_user(), with_capture);
    assert_eq!(rules[3].database_user(), DatabaseUserView::MemberOf(b"staff"));
    assert_eq!(rules[4].database_user(), DatabaseUserView::Pattern(b"^r.$"));
    assert_eq!(rules[5].database_user(), DatabaseUserView::All);

    let members = Memberships::none();
    let considered = |rule: &RuleView<'_>, system_user: &str, role: &str| {
        let (system_user, role) = (system_user.as_bytes(), role.as_bytes());
        let case = Case::Sensitive;
        rule.consider(&Question { map: &name, system_user, role, case, members: &members })
    };
    let other_role = |capture: Option<&[u8]>, wanted| Considered::OtherRole {
        capture: capture.map(<[u8]>::to_vec),
        wanted,
    };
    assert_eq!(considered(&rules[0], "bob", "orders"), Considered::OtherUser);
    assert_eq!(considered(&rules[0], "alice", "orders"), Considered::Allows { capture: None });
    let wanted = Wanted::Role(b"orders".to_vec());
    assert_eq!(considered(&rules[0], "alice", "x"), other_role(None, wanted));
    let wanted = Wanted::Role(b"a bob".to_vec());
    assert_eq!(considered(&rules[1], "bob@x", "bob"), other_role(Some(b"bob"), wanted));
    let allows = Considered::Allows { capture: Some(b"bob".to_vec()) };
    assert_eq!(considered(&rules[1], "bob@x", "a bob"), allows);
    let Considered::Fails { reason } = considered(&rules[2], "bob", "r") else { panic!() };
    assert!(reason.contains("no subexpressions"), "{reason}");
    let wanted = Wanted::MemberOf(b"staff".to_vec());
    assert_eq!(considered(&rules[3], "bob", "r"), other_role(None, wanted));
    let wanted = Wanted::Match(b"^r.$".to_vec());
    assert_eq!(considered(&rules[4], "carol", "r"), other_role(None, wanted));
    assert_eq!(considered(&rules[5], "dave\0", "r"), Considered::OtherUser);
}
