use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::mapping::{Dialect, MapDecision, Maps, Memberships, Question};
use crate::names::{ClusterName, RoleName, WayName};

fn parse(file: &str, text: &str) -> IdentMap {
    let parsed = IdentMap::parse(Dialect::default(), file, text.as_bytes());
    parsed.unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:#?}"))
}

fn compare(old: &str, new: &str, context: &DiffContext<'_>) -> MapDifference {
    diff(&parse("old", old), &parse("new", new), context)
}

/// The lines of the difference, without the maps' name, which is `m`.
#[track_caller]
fn check(old: &str, new: &str, expected: &[&str]) {
    check_with(old, new, &DiffContext::default(), expected);
}

#[track_caller]
fn check_with(old: &str, new: &str, context: &DiffContext<'_>, expected: &[&str]) {
    let found = compare(old, new, context).lines(100);
    let found: Vec<String> = found.iter().map(|line| line.replacen(" m: ", " ", 1)).collect();
    assert_eq!(found, expected, "{old}\n=>\n{new}");
}

/// Nobody gains or loses anything, whichever of them is the old one.
#[track_caller]
fn check_same(one: &str, other: &str) {
    check(one, other, &[]);
    check(other, one, &[]);
}

/// A configuration in which the way `corp` uses the map `m`, and `c` lends `a` and `b`.
fn uses(maps: &Maps) -> MapUses {
    let ways: BTreeMap<WayName, Maps> = [("corp".parse().unwrap(), maps.clone())].into();
    let lent = ["a", "b"]
        .map(|role| (role.parse::<RoleName>().unwrap(), "c".parse::<ClusterName>().unwrap()));
    MapUses::new(&ways, &Maps::default(), lent)
}

fn people() -> Maps {
    Maps { map: Some("m".parse().unwrap()), ..Maps::default() }
}

fn groups() -> Maps {
    Maps { group_map: Some("m".parse().unwrap()), ..Maps::default() }
}

#[test]
fn who_is_let_in_gains_and_who_is_not_any_more_loses() {
    check("m alice r\n", "m alice r\nm bob s\n", &["+ bob may now act as s (new:2)"]);
    check("m alice r\nm bob s\n", "m alice r\n", &["- bob may no longer act as s (old:2)"]);
    check(
        "m alice r\n",
        "m alice s\n",
        &["+ alice may now act as s (new:1)", "- alice may no longer act as r (old:1)"],
    );
    check("", "m alice r\nm alice s\n", &["+ alice may now act as r (new:1), s (new:2)"]);
}

#[test]
fn how_it_is_written_is_no_difference() {
    check_same("m alice r\nm bob s\n", "m  bob\ts # people\n\nm \"alice\" \"r\" more\n");
    check_same("m alice r\n", "m alice r\nm alice r\n");
    check_same("m alice r\nm alice all\n", "m alice all\n");
    check_same("m /^(a|b)$ r\n", "m a r\nm b r\n");
    check_same("m /^(a|b)$ \\1\n", "m a a\nm b b\n");
    check_same("m /^(ann|bob)@T$ \\1\n", "m /^(bob|ann)@T$ \\1\n");
    check_same("m /^x.*$ r\nm /^y.*$ r\n", "m /^[xy].*$ r\n");
    check_same("m /^x.*$ r\n", "m /^x.*$ r\nm /^xy.*$ r\nm xavier r\n");
}

#[test]
fn a_pattern_that_matches_more_is_told_with_somebody_whom_it_lets_in() {
    check(
        "m /^svc_[a-z]+$ r\n",
        "m /^svc_[a-z0-9]+$ r\n",
        &["+ whoever matches /^svc_[a-z0-9]+$ may now act as r (new:1), for example svc_0"],
    );
    check(
        "m /^.*@CORP$ r\n",
        "m /^[^@]*@CORP$ r\n",
        &["- whoever matches /^.*@CORP$ may no longer act as r (old:1), for example @@CORP"],
    );
    check(
        "m alice r\n",
        "m /^.*$ r\n",
        &["+ whoever matches /^.*$ may now act as r (new:1), for example a"],
    );
}

#[test]
fn what_a_pattern_captures_is_compared_too() {
    check_same("m /^(.*)@CORP$ \\1\n", "m \"/^(.*)@CORP$\" \\1\nm x@CORP x\n");
    check(
        "m /^(.*)@CORP$ \\1\n",
        "m /^(.*)@CORP$ x_\\1\n",
        &[
            "+ whoever matches /^(.*)@CORP$ may now act as x_\\1 (new:1), for example @CORP as x_",
            "- whoever matches /^(.*)@CORP$ may no longer act as \\1 (old:1), for example a@CORP as a",
        ],
    );
    check(
        "m /^(a+)(.*)$ \\1\n",
        "m /^a+(.*)$ \\1\n",
        &[
            "- whoever matches /^(a+)(.*)$ may no longer act as \\1 (old:1), for example a as a",
            "+ whoever matches /^a+(.*)$ may now act as \\1 (new:1), for example ab as b",
        ],
    );
}

#[test]
fn every_role_is_more_than_one_and_known_roles_are_named() {
    check("m x r\n", "m x all\n", &["+ x may now act as every role (new:1)"]);
    check("m x all\n", "m x r\n", &["- x may no longer act as every role (old:1)"]);
    let of_people = uses(&people());
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    check_with("m x a\n", "m x all\n", &context, &["+ x may now act as b (new:1)"]);
    check_with("m x all\n", "m x a\nm x b\n", &context, &[]);
    check_with("m /^x.*$ all\n", "m /^x.*$ b\nm /^x.*$ a\n", &context, &[]);
    // What nobody lends is told too: it may be lent tomorrow.
    check_with("m x a\n", "m x a\nm x c\n", &context, &["+ x may now act as c (new:2)"]);
}

#[test]
fn members_of_a_group_and_patterns_of_roles_are_told_as_such() {
    check(
        "m x r\n",
        "m x +g\n",
        &[
            "+ x may now act as g and every member of it (new:1)",
            "- x may no longer act as r (old:1)",
        ],
    );
    check("m x r_1\n", "m x /^r_\n", &["+ x may now act as every role that matches /^r_ (new:1)"]);
    check("m x /^r_\nm x r_1\n", "m x /^r_\n", &[]);
    check("m /^x.*$ +g\n", "m /^x.*$ +g\nm xa +g\n", &[]);
}

#[test]
fn a_line_that_fails_takes_from_those_behind_it() {
    // `\1` without a group ends the scan for whoever matches.
    check(
        "m alice r\n",
        "m /^alice$ \\1\nm alice r\n",
        &["- alice may no longer act as r (old:1)"],
    );
    check_same("m alice r\n", "m alice r\nm /^alice$ \\1\n");
    check(
        "m /^x.*$ r\n",
        "m /^.*y$ \\1\nm /^x.*$ r\n",
        &["- whoever matches /^x.*$ may no longer act as r (old:1), for example xy"],
    );
    check_same("m /^x.*$ r\n", "m /^y.*$ \\1\nm /^x.*$ r\n");
    check(
        "m /^y.*$ \\1\nm /^.*$ r\n",
        "m /^.*$ r\nm /^y.*$ \\1\n",
        &["+ whoever matches /^.*$ may now act as r (new:1), for example y"],
    );
    check_same("m /^x$ \\1\nm /^y$ \\1\nm /^.*$ r\n", "m /^y$ \\1\nm /^x$ \\1\nm /^.*$ r\n");
}

#[test]
fn each_map_is_compared_by_itself() {
    let found = compare("one x r\n", "two x r\n", &DiffContext::default()).lines(10);
    let expected = ["- one: x may no longer act as r (old:1)", "+ two: x may now act as r (new:1)"];
    assert_eq!(found, expected);
}

#[test]
fn a_group_is_told_as_those_who_are_in_it() {
    let of_groups = uses(&groups());
    let context = DiffContext { uses: Some(&of_groups), ..DiffContext::default() };
    check_with(
        "",
        "m \"cn=x,dc=t\" a\n",
        &context,
        &["+ whoever is in \"cn=x,dc=t\" may now act as a (new:1)"],
    );
}

#[test]
fn where_case_is_left_out_it_is_no_difference() {
    check(
        "m Alice a\n",
        "m alice a\n",
        &["- Alice may no longer act as a (old:1)", "+ alice may now act as a (new:1)"],
    );
    let of_people = uses(&Maps { case: Case::Insensitive, ..people() });
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    check_with("m Alice a\n", "m alice a\n", &context, &[]);
}

#[test]
fn people_who_are_asked_for_are_told_one_by_one() {
    let identities = ["xa", "xb", "y"].map(|name| name.as_bytes().to_vec());
    let context = DiffContext { identities: &identities, ..DiffContext::default() };
    check_with(
        "m xa r\n",
        "m /^x.*$ r\n",
        &context,
        &[
            "+ xb may now act as r (new:1)",
            "+ whoever matches /^x.*$ may now act as r (new:1), for example x",
        ],
    );
}

#[test]
fn the_report_is_bounded() {
    let many: Vec<String> = (0..50).map(|number| format!("m u{number:02} r\n")).collect();
    let many = many.concat();
    let found = compare("", &many, &DiffContext::default());
    let lines = found.lines(3);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], "+ m: u00 may now act as r (new:1)");
    assert_eq!(lines[3], "and 47 more");
    let long = format!("m {} r\n", "x".repeat(5000));
    let found = compare("", &long, &DiffContext::default()).lines(3);
    assert!(found[0].chars().count() < 500, "{found:?}");
    let hostile = compare("", "m \"a\u{1b}[2J\" r\n", &DiffContext::default()).to_string();
    assert_eq!(hostile.lines().count(), 1);
    assert!(!hostile.contains('\u{1b}'), "{hostile:?}");
}

#[test]
fn programs_read_the_same() {
    let old = "m /^(.*)@A$ \\1\n";
    let found = compare(old, "m /^(.*)@B$ \\1\nm alice all\n", &DiffContext::default());
    let json = found.to_json();
    assert_eq!(json["same"], false);
    assert_eq!(json["old"].as_str().map(str::len), Some(64));
    let changes = json["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 3, "{json:#}");
    assert_eq!(changes[0]["who"]["name"], "alice");
    assert_eq!(changes[0]["roles"][0]["all"], true);
    assert_eq!(changes[0]["change"], "gains");
    assert_eq!(changes[1]["who"]["pattern"], "^(.*)@A$");
    assert_eq!(changes[1]["change"], "loses");
    assert_eq!(changes[1]["certain"], true);
    assert_eq!(changes[1]["roles"][0]["role"], "\\1");
    assert_eq!(changes[1]["roles"][0]["line"], 1);
    assert_eq!(compare(old, old, &DiffContext::default()).to_json()["same"], true);
}

/// What each map decides, of every short name and role.
fn decisions(map: &IdentMap, users: &[String], roles: &[&str]) -> Vec<bool> {
    let (name, members) = ("m".parse().unwrap(), Memberships::none());
    let allows = |user: &str, role: &str| {
        let question = Question {
            map: &name,
            system_user: user.as_bytes(),
            role: role.as_bytes(),
            case: Case::Sensitive,
            members: &members,
        };
        matches!(map.decide(&question), MapDecision::Allowed(_))
    };
    users.iter().flat_map(|user| roles.iter().map(move |role| allows(user, role))).collect()
}

fn line() -> impl Strategy<Value = String> {
    let user = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "/^a.*$",
        "/^.*b$",
        "/^(a*)b$",
        "/^(.)(.)$",
        "/^[ab]$",
        "/^(a)?b*$",
        "/^(.*)$",
        "/^.(a|b)$",
        "/^a+(b*)$",
    ]);
    let role =
        prop::sample::select(vec!["a", "b", "aa", "all", "\\1", "x\\1", "/^a", "/^[ab]$", "/b"]);
    (user, role).prop_map(|(user, role)| format!("m {user} {role}\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// The oracle is the decision itself, over every name of up to three letters.
    #[test]
    fn no_difference_means_that_the_maps_decide_alike(
        old in prop::collection::vec(line(), 0..5),
        new in prop::collection::vec(line(), 0..5),
    ) {
        let letters = ["", "a", "b"];
        let mut users: Vec<String> = Vec::new();
        for one in letters {
            for two in letters {
                for three in letters {
                    users.push([one, two, three].concat());
                }
            }
        }
        users.retain(|user| !user.is_empty());
        // The last three are given by no line but one with a pattern, or `all`.
        let roles = ["a", "b", "aa", "ab", "x", "xa", "xb", "other", "ac", "cbc", "acbc"];
        let (old, new) = (parse("old", &old.concat()), parse("new", &new.concat()));
        let found = diff(&old, &new, &DiffContext::default());
        let alike = decisions(&old, &users, &roles) == decisions(&new, &users, &roles);
        if found.is_empty() {
            prop_assert!(alike, "a difference was not seen");
        }
        // Each example is one for which the maps decide differently.
        for change in found.changes().iter().filter(|change| change.certainty == Certainty::Certain) {
            let name = match &change.who {
                ChangedFor::Name { name, .. } => name.clone(),
                ChangedFor::Matching { example: Some(example), .. } => example.name.clone(),
                ChangedFor::Matching { example: None, .. } => panic!("certain without an example: {change}"),
            };
            let user = vec![String::from_utf8_lossy(&name).into_owned()];
            let mut asked: Vec<String> = roles.map(str::to_owned).to_vec();
            for (grant, _) in &change.grants {
                if let Grant::Role(role) = grant {
                    asked.push(String::from_utf8_lossy(role).into_owned());
                }
            }
            if let ChangedFor::Matching { example: Some(Example { role: Some(role), .. }), .. } = &change.who {
                asked.push(String::from_utf8_lossy(role).into_owned());
            }
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            let decided = [&old, &new].map(|map| decisions(map, &user, &asked));
            prop_assert!(decided[0] != decided[1], "no difference for {user:?}: {change}");
        }
    }
}
