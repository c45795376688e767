use std::collections::BTreeSet;

use super::*;
use crate::mapping::{Dialect, Maps};
use crate::names::{RoleName, WayName};

fn parse(text: &[u8]) -> IdentMap {
    let parsed = IdentMap::parse(Dialect::default(), "f", text);
    parsed.unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

/// What was found, as `line code`.
fn found(text: &[u8], context: &LintContext<'_>) -> Vec<String> {
    let findings = lint(&parse(text), context);
    for finding in &findings {
        assert!(!finding.hint.is_empty() && !finding.message.is_empty(), "{finding}");
        assert_eq!(finding.to_string().lines().count(), 1, "{finding}");
    }
    let line = |finding: &LintFinding| finding.place.as_ref().map_or(0, |place| place.line);
    findings.iter().map(|finding| format!("{} {}", line(finding), finding.code)).collect()
}

/// A map with one fault, and its twin without any.
#[track_caller]
fn check(faulty: &str, expected: &[&str], clean: &str) {
    check_in(&LintContext::default(), faulty, expected, clean);
}

#[track_caller]
fn check_in(context: &LintContext<'_>, faulty: &str, expected: &[&str], clean: &str) {
    assert_eq!(found(faulty.as_bytes(), context), expected, "{faulty}");
    assert_eq!(found(clean.as_bytes(), context), [""; 0], "{clean}");
}

/// A configuration: `corp` asks the map `m` and the group map `g`, the broker's duties are in
/// `duties`; cluster `c` lends `a` and `b`.
fn uses() -> MapUses {
    let name = |name: &str| Some(name.parse::<MapName>().unwrap());
    let maps = Maps { map: name("m"), group_map: name("g"), ..Maps::default() };
    let ways: BTreeMap<WayName, Maps> = [("corp".parse().unwrap(), maps)].into();
    let access = Maps { map: name("duties"), ..Maps::default() };
    let lent = ["a", "b"]
        .map(|role| (role.parse::<RoleName>().unwrap(), "c".parse::<ClusterName>().unwrap()));
    MapUses::new(&ways, &access, lent)
}

/// Lines of every map that [`uses`] names.
const USED: &str = "m alice a\ng \"cn=x,dc=t\" a\nduties alice auditor\n";

/// What a line of the fourth place does in a configuration.
#[track_caller]
fn check_used(faulty: &str, expected: &[&str], clean: &str) {
    let uses = uses();
    let context = LintContext { uses: Some(&uses), clusters: &[] };
    check_in(&context, &format!("{USED}{faulty}"), expected, &format!("{USED}{clean}"));
}

#[test]
fn a_pattern_that_matches_everybody() {
    check("m /^.*$ r\n", &["1 matches-everybody"], "m /^[a-z]*$ r\n");
    check("m /^(.*)$ \\1\n", &["1 matches-everybody"], "m /^([a-z]*)$ \\1\n");
    check("m /^.+$ all\n", &["1 all-for-everybody"], "m /^[a-z]+$ all\n");
    // The empty name is nobody's.
    check("m /^(|.+)$ r\n", &["1 matches-everybody"], "m /^(|x+)$ r\n");
}

#[test]
fn a_pattern_that_takes_names_of_any_realm() {
    check("m /^([a-z]+)@.*$ \\1\n", &["1 any-realm"], "m /^([a-z]+)@T$ \\1\n");
    check("m /^svc@[A-Z.a-z]+$ r\n", &["1 any-realm"], "m /^svc@[A-Z]+$ r\n");
    // Without an `@` there is no realm to leave out.
    check("m /^.*@$ r\nm /^a@.+$ r\n", &["2 any-realm"], "m /^svc_.*$ r\n");
}

#[test]
fn a_dot_that_matches_any_character() {
    check("m /^(.*)@CORP.TEST$ \\1\n", &["1 unescaped-dot"], "m /^(.*)@CORP\\.TEST$ \\1\n");
    check("m /^(x(y@A.B))$ r\n", &["1 unescaped-dot"], "m /^(x(y@A[.]B))$ r\n");
    check("m /^.*a.b$ r\n", &["1 unescaped-dot"], "m /^.*a.*b$ r\n");
}

#[test]
fn a_backreference_without_a_group_fails_and_hides_what_comes_after() {
    check("m /^x.*$ \\1\n", &["1 always-fails"], "m /^x(.*)$ \\1\n");
    check("m /^(x)?y.*$ \\1\n", &["1 may-fail"], "m /^(x?)y.*$ \\1\n");
    check(
        "m /^x.*$ \\1\nm xavier r\n",
        &["1 always-fails", "2 behind-failing-line"],
        "m /^x(.*)$ \\1\nm xavier r\n",
    );
    check(
        "m /^x.*$ \\1\nm /^xy.*$ r\n",
        &["1 always-fails", "2 behind-failing-line"],
        "m /^xy.*$ r\n",
    );
    assert_eq!(found(b"m xavier r\nm /^x.*$ \\1\n", &LintContext::default()), ["2 always-fails"]);
}

#[test]
fn a_line_that_decides_nothing() {
    check("m x r\nm \"x\" \"r\"\n", &["2 duplicate-line"], "m x r\nm x s\n");
    check("m x all\nm x r\n", &["2 shadowed-line"], "m x r\nm x all\n");
    check("m /^x.*$ r\nm xavier r\n", &["2 shadowed-line"], "m xavier r\nm /^x.*$ r\n");
    check("m /^x.*$ r\nm /^xy.*$ r\n", &["2 shadowed-line"], "m /^xy.*$ r\nm /^x.*$ r\n");
    check(
        "m /^x.*$ r\nm /^y.*$ r\nm /^[xy]z*$ r\n",
        &["3 shadowed-line"],
        "m /^x.*$ r\nm /^y.*$ s\nm /^[xy]z*$ r\n",
    );
    check(
        "m ann r\nm bob r\nm /^(ann|bob)$ r\n",
        &["3 shadowed-line"],
        "m ann r\nm /^(ann|bob)$ r\n",
    );
    check("m /^(.*)@T$ \\1\nm x@T x\n", &["2 shadowed-line"], "m /^(.*)@T$ \\1\nm x@T y\n");
    check(
        "m x /^r\nm x r_1\n",
        &["1 unanchored-pattern", "2 shadowed-line"],
        "m x /^r.*$\nm x s\n",
    );
    check("m x +g\nm x \"+g\"\nm x +g\n", &["3 duplicate-line"], "m x +g\nm x \"+g\"\n");
}

#[test]
fn a_backreference_where_no_pattern_is() {
    check("m x \\1\n", &["1 literal-backreference"], "m x 1\n");
}

#[test]
fn users_that_differ_in_case_only() {
    check("m Alice r\nm alice s\n", &["2 case-twins"], "m alice r\nm alice s\n");
    let name: MapName = "m".parse().unwrap();
    let maps = Maps { map: Some(name), case: Case::Insensitive, ..Maps::default() };
    let ways: BTreeMap<WayName, Maps> = [("corp".parse().unwrap(), maps)].into();
    let lent = [("r".parse().unwrap(), "c".parse().unwrap())];
    let uses = MapUses::new(&ways, &Maps::default(), lent);
    let context = LintContext { uses: Some(&uses), clusters: &[] };
    assert_eq!(found(b"m Alice r\nm alice r\n", &context), ["2 shadowed-line"]);
    // A pattern leaves out no case, so the line behind it is for the other spellings.
    assert_eq!(found(b"m /^alice$ r\nm alice r\n", &context), [""; 0]);
    assert_eq!(found(b"m /(?i)^alice$ r\nm alice r\n", &context), ["2 shadowed-line"]);
    assert_eq!(found(b"m /^1$ r\nm 1 r\n", &context), ["2 shadowed-line"]);
    assert_eq!(found(b"m alice R\n", &context), [""; 0]);
}

#[test]
fn a_name_that_no_identity_has() {
    let context = LintContext::default();
    assert_eq!(found(b"m \xFF r\n", &context), ["1 not-utf8"]);
    assert_eq!(found(b"m x \xFF\n", &context), ["1 not-utf8"]);
    assert_eq!(found("m é r\n".as_bytes(), &context), [""; 0]);
    assert_eq!(found(b"\xFF x r\n", &context), ["1 unaskable-map"]);
}

#[test]
fn a_map_that_is_called_almost_like_another() {
    check(
        "corp a r\ncorp b r\ncrop c r\n",
        &["3 map-name-slip"],
        "corp a r\ncorp b r\nsales c r\n",
    );
    check(
        "corp a r\ncorp b r\nCorp c r\n",
        &["3 map-name-slip"],
        "corp1 a r\ncorp1 b r\ncorp2 c r\n",
    );
    check_used("nm x a\n", &["4 unused-map"], "m x a\n");
    check_used("dutise x auditor\n", &["4 map-name-slip"], "duties x auditor\n");
}

#[test]
fn a_map_that_nobody_uses_or_that_is_not_there() {
    check_used("other x a\n", &["4 unused-map"], "m x a\n");
    let uses = uses();
    let context = LintContext { uses: Some(&uses), clusters: &[] };
    assert_eq!(found(b"m alice a\nduties x operator\n", &context), ["0 missing-map"]);
}

#[test]
fn a_role_that_nobody_lends() {
    check_used("m x c\n", &["4 role-not-lent"], "m x b\n");
    check_used("m x \"all\"\n", &["4 role-not-lent"], "m x all\n");
    check_used("duties x a\n", &["4 unknown-duty"], "duties x operator\n");
    check_used("duties x +a\n", &["4 members-of-duty"], "duties x all\n");
}

#[test]
fn a_group_by_its_bare_name() {
    check_used("g readers a\n", &["4 bare-group-name"], "g \"cn=readers,dc=t\" a\n");
    check_used("g cn=readers a\n", &["4 bare-group-name"], "g \"CN=readers,DC=t\" a\n");
    check_used("g /^read[a-z]*$ a\n", &["4 bare-group-name"], "g \"/^cn=read[^=]*,.*$\" a\n");
    check_used("g /^cn=read[a-z]*$ a\n", &["4 bare-group-name"], "g \"/^cn=read[a-z]*,dc=t$\" a\n");
    // A person is no group.
    check_used("m readers a\n", &[], "m readers a\n");
}

#[test]
fn a_fourth_field_is_ignored_without_a_word() {
    check("m alice r s\n", &["1 extra-field"], "m alice r # s\n");
    check("m Alice Smith r\n", &["1 extra-field"], "m \"Alice Smith\" r\n");
}

#[test]
fn an_include_with_more_behind_its_file_includes_nothing() {
    for directive in ["include", "include_if_exists", "include_dir", "\"include\""] {
        let line = format!("{directive} \"a\" b\n");
        check(&line, &["1 not-included"], "m a b\n");
        let finding = lint(&parse(line.as_bytes()), &LintContext::default()).remove(0);
        assert!(finding.hint.starts_with("leave out what stands behind"), "{finding:?}");
    }
    check("include a b b\n", &["1 extra-field", "1 not-included"], "m a b # b\n");
    check_used("include a b\n", &["4 not-included"], "m a b\n");
    // No line includes anything there.
    let old = IdentMap::parse("15".parse().unwrap(), "f", b"include a b\n").unwrap();
    let finding = lint(&old, &LintContext::default()).remove(0);
    assert_eq!(finding.code, LintCode::NotIncluded);
    assert!(finding.hint.starts_with("only PostgreSQL 16 and newer"), "{finding:?}");
    // A map can be called so.
    let maps = Maps { map: Some("include".parse().unwrap()), ..Maps::default() };
    let ways: BTreeMap<WayName, Maps> = [("corp".parse().unwrap(), maps)].into();
    let lent = [("b".parse().unwrap(), "c".parse().unwrap())];
    let uses = MapUses::new(&ways, &Maps::default(), lent);
    let context = LintContext { uses: Some(&uses), clusters: &[] };
    assert_eq!(found(b"include a b\n", &context), [""; 0]);
}

#[test]
fn a_keyword_where_there_is_none() {
    check("m all r\n", &["1 literal-keyword"], "m \"all\" r\n");
    check("m +staff r\n", &["1 literal-keyword"], "m \"+staff\" r\n");
    check("m +staff r\n", &["1 literal-keyword"], "m x +staff\n");
}

#[test]
fn a_name_that_looks_like_a_pattern() {
    check("m svc_* r\n", &["1 literal-pattern"], "m /^svc_.*$ r\n");
    check("m *@corp r\n", &["1 literal-pattern"], "m \"*@corp\" r\n");
    check("m ^svc_[a-z]+$ r\n", &["1 literal-pattern"], "m /^svc_[a-z]+$ r\n");
    check("m x orders_*\n", &["1 literal-pattern"], "m x /^orders_.*$\n");
    check("m \"svc *\" r\n", &["1 literal-pattern"], "m \"svc \\*\" r\n");
    // A computer of Active Directory.
    check("m (?i)host r\n", &["1 literal-pattern"], "m host$ r\n");
}

#[test]
fn a_name_that_is_empty() {
    check("m \"\" r\n", &["1 empty-name"], "m \" \" r\n");
    check("m x \"\"\n", &["1 empty-name"], "m x r\n");
    check("m x +\n", &["1 empty-name"], "m x +r\n");
    check("\"\" x r\n", &["1 unaskable-map"], "m x r\n");
}

#[test]
fn a_group_is_not_given_every_role() {
    check_used("g \"cn=y,dc=t\" all\n", &["4 all-for-group"], "g \"cn=y,dc=t\" b\n");
    check_used("g \"/^cn=y,.*$\" /^.*$\n", &["4 all-for-group"], "m bob all\n");
}

#[test]
fn a_group_where_accounts_are_meant() {
    check_used("m \"CN=Alice,DC=t\" a\n", &["4 account-by-dn"], "g \"CN=Alice,DC=t\" a\n");
    check_used("m \"/^cn=(.*),dc=t$\" a\n", &["4 account-by-dn"], "m /^cn_(.*)$ a\n");
    check_used("m \"uid=x, dc=t\" a\n", &["4 account-by-dn"], "m dc1 a\n");
}

#[test]
fn a_file_that_begins_with_a_byte_order_mark() {
    let context = LintContext::default();
    assert_eq!(found(b"\xEF\xBB\xBFm x r\nm y r\nm z r\n", &context), ["1 byte-order-mark"]);
    assert_eq!(found(b"m \xEF\xBB\xBFx r\n", &context), [""; 0]);
    let uses = uses();
    let context = LintContext { uses: Some(&uses), clusters: &[] };
    let marked = [b"\xEF\xBB\xBFm x a\n", USED.as_bytes()].concat();
    assert_eq!(found(&marked, &context), ["1 byte-order-mark"]);
}

#[test]
fn a_role_that_the_cluster_does_not_have_or_that_rules_it() {
    let uses = uses();
    let cluster = |roles: &[(&str, &[&str])]| {
        let roles = roles.iter().map(|(role, powers)| {
            ((*role).to_owned(), powers.iter().map(|power| (*power).to_owned()).collect())
        });
        let members = Memberships::of_edges(["a", "b"], [("b", "team"), ("team", "people")]);
        ClusterRoles { cluster: "c".parse().unwrap(), roles: roles.collect(), members }
    };
    let lines = |cluster: ClusterRoles, map: &str| {
        let context = LintContext { uses: Some(&uses), clusters: &[cluster] };
        found(format!("{USED}{map}").as_bytes(), &context)
    };
    let good = || cluster(&[("a", &[]), ("b", &[]), ("people", &[]), ("others", &[])]);
    assert_eq!(lines(good(), "m x b\nm x +people\nm y all\n"), [""; 0]);
    let without_b = cluster(&[("a", &[])]);
    assert_eq!(lines(without_b, "m x b\nm y all\n"), ["4 role-missing"]);
    assert_eq!(lines(good(), "m x +nobody\n"), ["4 group-missing"]);
    let ruling = || {
        let powers: &[&str] = &["postgres is a superuser"];
        cluster(&[("a", &[]), ("b", powers), ("people", &[]), ("others", powers)])
    };
    // By a group its members are given, and not what the group itself reaches.
    assert_eq!(lines(ruling(), "m x +people\n"), ["4 powerful-role"]);
    assert_eq!(lines(ruling(), "m x +b\n"), ["4 powerful-role"]);
    assert_eq!(lines(ruling(), "m x +others\nm y +a\n"), [""; 0]);
    assert_eq!(lines(ruling(), "m x b\n"), ["4 powerful-role"]);
    assert_eq!(lines(ruling(), "m x all\n"), ["4 powerful-role"]);
    assert_eq!(lines(ruling(), "m x /^[ab]$\n"), ["4 powerful-role"]);
    assert_eq!(lines(ruling(), "m x /^a$\n"), [""; 0]);
}

#[test]
fn a_map_that_is_too_much_to_check_is_told_so_and_what_each_line_lets_in_first() {
    let line = |number: usize| format!("a /^(.*)x{number}y?z?(u|v)$ r{number}\\1\n");
    let many: String = (0..300).map(line).collect();
    let map = parse((many + "b /^.*$ all\n").as_bytes());
    let codes = |effort: &Effort<'_>| -> BTreeSet<LintCode> {
        let found = lint_within(&map, &LintContext::default(), effort);
        found.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(codes(&Effort::default()), [LintCode::AllForEverybody].into());
    let effort = Effort::of(1_000_000);
    assert_eq!(codes(&effort), [LintCode::AllForEverybody, LintCode::NotAllChecked].into());
    assert!(effort.is_spent());
}

#[test]
fn what_was_found_names_the_place_and_is_safe_to_show() {
    let findings = lint(&parse(b"m \"a\x1b[2J\" r\nm \"A\x1b[2J\" r\n"), &LintContext::default());
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    let text = finding.to_string();
    assert!(text.starts_with("f:2: warning: ") && text.ends_with(" [case-twins]"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let json = serde_json::to_value(finding).unwrap();
    assert_eq!((&json["code"], &json["line"]), (&"case-twins".into(), &2.into()), "{json}");
    assert_eq!((&json["severity"], &json["file"]), (&"warning".into(), &"f".into()), "{json}");
}

#[test]
fn each_finding_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = LintCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(names.len(), LintCode::ALL.len());
}

#[test]
fn a_pattern_that_matches_nobody_is_told_as_that_and_as_nothing_else() {
    let told = |map: &str| -> Vec<String> {
        let findings = lint(&parse(map.as_bytes()), &LintContext::default());
        findings.iter().map(|found| format!("{}: {}", found.code, found.message)).collect()
    };
    let nobody = |line: &str, why: &str| {
        let why = format!("matches-nobody: nobody comes by the line: {why}");
        assert_eq!(told(&format!("m x r\nm {line}\n")), [why], "{line}");
    };
    for pattern in ["a$^b", "$.^", "^(?!x)a$b", "$a", "a^"] {
        nobody(&format!("/{pattern} r"), &format!("no name matches `/{pattern}`"));
        nobody(&format!("/({pattern}) \\1"), &format!("no name matches `/({pattern})`"));
        nobody(&format!("/{pattern} \\1"), &format!("no name matches `/{pattern}`"));
    }
    nobody(
        "/^x[^\\x01-\\x7f]$ r",
        "`/^x[^\\x01-\\x7f]$` matches only names that nobody can have, such as x\u{fffd}: it is not UTF-8",
    );
    nobody("/^x[^\\x01-\\xff]$ r", "no name matches `/^x[^\\x01-\\xff]$`");
    nobody("x /^r$^", "no role matches `/^r$^`");
    nobody("x /^(a{40}){2}$", "no role matches `/^(a{40}){2}$`");
    assert_eq!(told("m /^x[\\x80-\\xff]{2}$ r\n"), [""; 0]);
    check_used("m /^\\x01+$ a\n", &["4 matches-nobody"], "m /^x+$ a\n");
    check_used("g /cn=a$^ a\n", &["4 matches-nobody"], "g \"/^cn=a,dc=t$\" a\n");
    check_used("m /^(a{255}){2}$ a\n", &["4 matches-nobody"], "m /^(a{128}){2}$ a\n");
    check_used("m /^.*[$]$ a\n", &["4 matches-nobody"], "m /^.*[$]x$ a\n");
}

#[test]
fn a_backreference_that_nothing_is_filled_in_for() {
    let told = |line: &str| -> Vec<String> {
        let findings = lint(&parse(line.as_bytes()), &LintContext::default());
        findings.iter().map(|found| format!("{} {}", found.code, found.message)).collect()
    };
    check("m /^(.*)@T$ +o_\\1\n", &["1 literal-backreference"], "m /^(.*)@T$ o_\\1\n");
    check("m x +o_\\1\n", &["1 literal-backreference"], "m x +o\n");
    check("m /^(.*)@T$ \\1_\\1\n", &["1 literal-backreference"], "m /^(.*)@T$ \\1_1\n");
    let said = "literal-backreference only the first `\\1` in \\1_\\1 is filled in: the other stands \
                for itself";
    assert_eq!(told("m /^(.*)@T$ \\1_\\1\n"), [said]);
    let said =
        "literal-backreference `\\1` in +o_\\1 stands for itself: none is filled in behind a `+`";
    assert_eq!(told("m /^(.*)@T$ +o_\\1\n"), [said]);
}

#[test]
fn roles_of_a_pattern_that_nobody_lends() {
    check_used("m x /^[cd]$\n", &["4 role-not-lent"], "m x /^[ab]$\n");
    check_used("m x /^(a|c)$\n", &["4 role-not-lent"], "m x /^(a|b)$\n");
    check_used("m x /^c.*$\n", &["4 role-not-lent"], "m x /^a.*$\n");
    check_used("m /^(b|c)@T$ \\1\n", &["4 role-not-lent"], "m /^(a|b)@T$ \\1\n");
    check_used("m /^(.*)@T$ c\\1\n", &["4 role-not-lent"], "m /^(.*)@T$ a\\1\n");
    check_used("duties x /^audit$\n", &["4 unknown-duty"], "duties x /^auditor$\n");
    // Of so many not each is meant.
    check_used("m x /^[c-z]$\n", &["4 role-not-lent"], "m x /^[a-z]$\n");
    let uses = uses();
    let context = LintContext { uses: Some(&uses), clusters: &[] };
    let said = |line: &str| {
        let found = lint(&parse(format!("{USED}{line}\n").as_bytes()), &context);
        found.into_iter().map(|found| found.message).collect::<Vec<_>>()
    };
    assert_eq!(said("m x /^[cd]$"), ["no cluster lends c, d, so the line allows nothing"]);
    assert_eq!(said("m x /^(a|c)$"), ["no cluster lends c, which the line gives besides others"]);
    let all = "no cluster lends a role that matches /^c.*$, so the line allows nothing";
    assert_eq!(said("m x /^c.*$"), [all]);
}
