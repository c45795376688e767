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
    diff(&parse("old", old), &parse("new", new), context, &Effort::default())
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
            "+ whoever matches /^a+(.*)$ may now act as \\1 (new:1), for example ab as b",
            "- whoever matches /^(a+)(.*)$ may no longer act as \\1 (old:1), for example a as a",
        ],
    );
}

#[test]
fn every_role_is_more_than_one_and_known_roles_are_named() {
    check("m x r\n", "m x all\n", &["+ x may now act as every role but r (new:1)"]);
    check("m x all\n", "m x r\n", &["- x may no longer act as every role but r (old:1)"]);
    check("m y r\n", "m y r\nm x all\n", &["+ x may now act as every role (new:2)"]);
    check_same("m x all\n", "m x /^a\nm x /^[^a]\n");
    check(
        "m x all\n",
        "m x r\nm x /^a_\nm x +g\n",
        &[
            "- x may no longer act as every role but r and g and every member of it and every role that \
           matches /^a_ (old:1)",
        ],
    );
    check(
        "m /^x.*$ all\n",
        "m /^x.*$ r\nm /^xy.*$ s\n",
        &["- whoever matches /^x.*$ may no longer act as every role but r (old:1), for example x"],
    );
    let of_people = uses(&people());
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    check_with("m x a\n", "m x all\n", &context, &["+ x may now act as b (new:1)"]);
    check_with("m x all\n", "m x a\nm x b\n", &context, &[]);
    check_with("m /^x.*$ all\n", "m /^x.*$ b\nm /^x.*$ a\n", &context, &[]);
    check_with("m x all\n", "m x a\n", &context, &["- x may no longer act as b (old:1)"]);
}

/// Nobody gains or loses anything, and this is told beside.
#[track_caller]
fn check_idle(context: &DiffContext<'_>, old: &str, new: &str, expected: &[&str]) {
    let found = compare(old, new, context);
    assert_eq!(found.lines(10), [""; 0], "{old}\n=>\n{new}");
    assert!(found.is_empty());
    let idle: Vec<String> = found.idle().iter().map(ToString::to_string).collect();
    assert_eq!(idle, expected, "{old}\n=>\n{new}");
}

#[test]
fn what_the_configuration_does_not_lend_or_use_is_no_gain_and_is_told_beside() {
    let of_people = uses(&people());
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    let check_idle = |old, new, expected: &[&str]| check_idle(&context, old, new, expected);
    let not_lent = "m: no cluster lends c, so the line allows nothing (new:2)";
    check_idle("m x a\n", "m x a\nm x c\n", &[not_lent]);
    check_idle("m x c\n", "m x c\nm y c\nm z c\n", &[not_lent]);
    check_idle("m x a\nm x c\n", "m x a\n", &[]);
    check_idle("m x c\n", "# said before\nm x c\n", &[]);
    check_idle("m x a\n", "m x a\nn x a\nn y a\n", &["nobody uses the map n (new:2)"]);
    check_idle("n x a\n", "m /^(c)$ c_\\1\n", &[]);
    // A role that is lent is a gain, and so it is without a configuration.
    check_with("m x a\n", "m x a\nm x b\n", &context, &["+ x may now act as b (new:2)"]);
    check("m x a\n", "m x a\nm x c\n", &["+ x may now act as c (new:2)"]);
    // What `\\1` makes is held against what is lent too.
    check_idle("", "m /^(x.*)@T$ \\1\n", &[]);
    check_with(
        "",
        "m /^(.*)@T$ \\1\n",
        &context,
        &["+ whoever matches /^(.*)@T$ may now act as \\1 (new:1), for example a@T as a"],
    );
    check_with("m a@T a\nm b@T b\n", "m /^(.*)@T$ \\1\n", &context, &[]);
    let json = compare("", "m x c\nn x a\n", &context).to_json();
    assert_eq!((&json["same"], &json["idle"][0]["why"]), (&true.into(), &"role-not-lent".into()));
    assert_eq!(json["idle"][0]["role"], "c", "{json:#}");
    assert_eq!(
        (&json["idle"][1]["why"], &json["idle"][1]["line"]),
        (&"unused-map".into(), &2.into())
    );
}

#[test]
fn the_members_of_a_group_are_told_apart_from_the_group_itself() {
    check("m x g\n", "m x +g\n", &["+ x may now act as every member of g (new:1)"]);
    check("m x +g\n", "m x g\n", &["- x may no longer act as every member of g (old:1)"]);
    check_same("m x +g\n", "m x +g\nm x g\n");
    check("m x all\n", "m x all\nm x +g\n", &[]);
    check(
        "m /^x.*$ g\n",
        "m /^x.*$ +g\n",
        &["+ whoever matches /^x.*$ may now act as every member of g (new:1), for example x"],
    );
    check(
        "m /^x.*$ +g\n",
        "m /^x.*$ g\n",
        &["- whoever matches /^x.*$ may no longer act as every member of g (old:1), for example x"],
    );
    // Whoever is called so may be a member.
    check(
        "m /^x.*$ r\n",
        "m /^x.*$ +g\n",
        &[
            "+ whoever matches /^x.*$ may now act as g and every member of it (new:1), for example x",
            "? whoever matches /^x.*$ may perhaps no longer act as r (old:1), for example x; that \
             turns on who is a member of g",
        ],
    );
    let of_people = uses(&people());
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    check_with("m x a\nm x b\n", "m x +g\nm x a\nm x b\n", &context, &[]);
    let members = "+ x may now act as every member of g (new:1)";
    check_with("m x a\n", "m x +g\nm x a\n", &context, &[members]);
    let group = "+ x may now act as a and every member of it (new:1)";
    check_with("", "m x +a\n", &context, &[group]);
    // The broker's own duties are no members of anything.
    let access = Maps { map: Some("m".parse().unwrap()), ..Maps::default() };
    let of_duties = MapUses::new(&BTreeMap::new(), &access, []);
    let context = DiffContext { uses: Some(&of_duties), ..DiffContext::default() };
    check_with("", "m x +auditor\nm /^y.*$ +auditor\n", &context, &[]);
    check_with("", "m x auditor\n", &context, &["+ x may now act as auditor (new:1)"]);
}

/// Edits that people make every day: what they do is said for certain, with `+`, `-`, both, or
/// nothing.
#[test]
fn what_everyday_edits_do_is_certain() {
    let corp = "m /^(.*)@CORP$ \\1\n";
    let edits = [
        // An anchor less, or more.
        ("m /^svc_[a-z]+$ r\n", "m /^svc_[a-z]+ r\n", "+"),
        ("m /^svc_[a-z]+$ r\n", "m /svc_[a-z]+$ r\n", "+"),
        (corp, "m /^(.*)@CORP \\1\n", "+"),
        (corp, "m /(.*)@CORP$ \\1\n", ""),
        (corp, "m /(.*)@CORP \\1\n", "+"),
        ("m /^svc_(.*)$ \\1\n", "m /svc_(.*)$ \\1\n", "+"),
        ("m /^svc_ r\n", "m /^svc_.*$ r\n", ""),
        ("m /^svc_ r\n", "m /^svc_[a-z]*$ r\n", "-"),
        ("m /svc_ r\n", "m /^svc_ r\n", "-"),
        // More characters, more names, any case.
        ("m /^([a-z]+)@CORP$ \\1\n", "m /^([a-z0-9]+)@CORP$ \\1\n", "+"),
        ("m /^([a-z]+)@CORP$ \\1\n", "m /(?i)^([a-z]+)@CORP$ \\1\n", "+"),
        ("m /^([^@]+)@CORP$ \\1\n", "m /^(.+)@CORP$ \\1\n", "+"),
        ("m /^svc_.*$ r\n", "m /(?i)^svc_.*$ r\n", "+"),
        ("m /^(svc|job)_.*$ r\n", "m /^(svc|job|app)_.*$ r\n", "+"),
        ("m /^svc_.*$ r\n", "m /^(svc_.*|bob)$ r\n", "+"),
        ("m /^svc_.*$ r\n", "m /^svc_.*$|^app_.*$ r\n", "+"),
        // Another realm.
        (corp, "m /^(.*)@NEW$ \\1\n", "+-"),
        (corp, "m /^(.*)@(CORP|NEW)$ \\1\n", "+"),
        ("m /^(.*)@.*$ \\1\n", corp, "-"),
        ("m /^(.*)@A.T$ \\1\n", "m /^(.*)@A\\.T$ \\1\n", "-"),
        // Lines before and behind.
        ("m /^x.*$ r\n", "m /^.*y$ \\1\nm /^x.*$ r\n", "-"),
        (corp, "m /^adm_.*@CORP$ \\1\nm /^(.*)@CORP$ \\1\n", "-"),
        (corp, "m /^(.*)@CORP$ \\1\nm bob@CORP admin\n", "+"),
        ("m /^x.*$ r\n", "m /^x.*$ r\nm /^x.*$ s\n", "+"),
        ("m /^x.*$ r\n", "m bob r\nm /^x.*$ r\n", "+"),
        // Other roles.
        ("m /^x.*$ /^r_\n", "m /^x.*$ /^r_.*$\n", ""),
        ("m /^x.*$ /^r_\n", "m /^x.*$ /^r_a\n", "-"),
        ("m /^x.*$ r\n", "m /^x.*$ all\n", "+"),
        ("m /^x.*$ r_\\1\n", "m /^x(.*)$ r_\\1\n", "+"),
    ];
    for (old, new, signs) in edits {
        check_signs(old, new, signs);
        let reversed = match signs {
            "+" => "-",
            "-" => "+",
            both => both,
        };
        check_signs(new, old, reversed);
    }
    let many: Vec<String> = (0..500).map(|number| format!("m n{number:03} r\n")).collect();
    let many = many.concat();
    check_signs(&many, "m /^n[0-4][0-9][0-9]$ r\n", "");
    check_signs(&many, "m /^n[0-5][0-9][0-9]$ r\n", "+");
}

/// The signs of what changes for accounts, whose names are shorter than those of groups.
#[track_caller]
fn check_signs(old: &str, new: &str, expected: &str) {
    let (one, other) = (parse("old", old), parse("new", new));
    let (context, effort) = (DiffContext::default(), Effort::default());
    let found = diff_of_names(Some(ACCOUNT_BYTES), &one, &other, &context, &effort);
    let mut signs: Vec<char> =
        found.lines(100).iter().filter_map(|line| line.chars().next()).collect();
    signs.sort_unstable();
    signs.dedup();
    let example = |change: &MapChange| match &change.who {
        ChangedFor::Matching { example, .. } => example.is_some(),
        ChangedFor::Name { .. } => true,
    };
    assert!(found.changes().iter().all(example), "{old}=>\n{new}{found}");
    assert_eq!(signs.into_iter().collect::<String>(), expected, "{old}=>\n{new}{found}");
}

#[test]
fn members_of_a_group_and_patterns_of_roles_are_told_as_such() {
    check(
        "m x r\n",
        "m x +g\n",
        &[
            "+ x may now act as g and every member of it (new:1)",
            "? x may perhaps no longer act as r (old:1); that turns on who is a member of g",
        ],
    );
    let matching = "+ x may now act as every role that matches /^r_";
    check("", "m x /^r_\n", &[&format!("{matching} (new:1)")]);
    check("m x r_1\n", "m x /^r_\n", &[&format!("{matching} but r_1 (new:1)")]);
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

/// Of a long name each way is looked at to share it out between the parts.
const MUCH: &str = "/^(?:[ac]?){250}(?:[ac]?){250}(b)$";

#[test]
fn a_line_that_gives_up_on_a_long_name_may_take_from_those_behind_it() {
    let long = "a".repeat(255) + "b";
    let decides = |text: &str| {
        let map = parse("map", text);
        let members = Memberships::none();
        let oracle = Oracle { maps: [&map; 2], case: Case::Sensitive, members, known: None };
        oracle.allows(&map, long.as_bytes(), "r")
    };
    let [before, after] = [format!("m {MUCH} r_\\1\nm /^a.*$ r\n"), "m /^a.*$ r\n".to_owned()];
    assert_eq!([&before, &after].map(|text| decides(text)), [false, true]);
    let gains = "? whoever matches /^a.*$ may perhaps now act as r (new:1); the patterns could not be \
                 compared, and no example was found";
    let loses = |pattern: &str| {
        format!(
            "- whoever matches {pattern} may no longer act as r_\\1 (old:1), for example b as r_b"
        )
    };
    check(&before, &after, &[gains, &loses(MUCH)]);
    // A pattern that finishes every name that may log in takes from nobody.
    let light = "/^[ac]*(b)$";
    let twin = format!("m {light} r_\\1\nm /^a.*$ r\n");
    assert!(decides(&twin));
    check(&twin, &after, &[&loses(light)]);
    // What is the same on both sides gives up on the same names.
    check_same(&before, &format!("# again\n{before}"));
    check(&before, &format!("{before}m bob s\n"), &["+ bob may now act as s (new:3)"]);
    // By name it is known.
    check(
        &format!("m {MUCH} r_\\1\nm {long} r\n"),
        &format!("m {long} r\n"),
        &[&format!("+ {}… may now act as r (new:1)", &long[..100]), &loses(MUCH)],
    );
}

#[test]
fn a_line_that_gives_up_on_a_long_name_does_not_give_what_another_gives() {
    let much = format!("m {MUCH} r_\\1\n");
    let long = "a".repeat(100);
    let example = format!("{long}… as r_b");
    check(
        &much,
        "m /^[ac]{200}(b)$ r_\\1\n",
        &[
            &format!(
                "+ whoever matches /^[ac]{{200}}(b)$ may now act as r_\\1 (new:1), for example {example}"
            ),
            &format!(
                "- whoever matches {MUCH} may no longer act as r_\\1 (old:1), for example b as r_b"
            ),
        ],
    );
    // One that finishes every name gives it to whom both match.
    let light = "m /^[ac]*(b)$ r_\\1\n";
    check(
        light,
        "m /^[ac]{200}(b)$ r_\\1\n",
        &["- whoever matches /^[ac]*(b)$ may no longer act as r_\\1 (old:1), for example b as r_b"],
    );
}

/// One that a name of a group can be too much for, and that of no account.
const LONG_GROUPS: &str = "/^[ac]*[ac]*(b)$";

#[test]
fn names_of_groups_are_compared_as_long_as_they_can_be_and_so_are_those_of_who_knows_what() {
    let long = "a".repeat(1023) + "b";
    let before = format!("m {LONG_GROUPS} r_\\1\nm /^a.*$ a\n");
    let after = "m /^a.*$ a\n";
    let decides = |text: &str, name: &str| {
        let map = parse("map", text);
        let members = Memberships::none();
        let oracle = Oracle { maps: [&map; 2], case: Case::Sensitive, members, known: None };
        oracle.allows(&map, name.as_bytes(), "a")
    };
    assert_eq!([decides(&before, &long), decides(after, &long)], [false, true]);
    assert!(decides(&before, &long[1024 - 256..]), "it is too much for accounts too");
    let gains = "? whoever matches /^a.*$ may perhaps now act as a (new:1); the patterns could not be \
                 compared, and no example was found";
    let (of_groups, of_people) = (uses(&groups()), uses(&people()));
    let configured = |uses| DiffContext { uses: Some(uses), ..DiffContext::default() };
    check_with(&before, after, &configured(&of_groups), &[gains]);
    check_with(&before, after, &configured(&of_people), &[]);
    let found = compare(&before, after, &DiffContext::default()).lines(10);
    assert!(found.iter().any(|line| line.replacen(" m: ", " ", 1) == gains), "{found:#?}");
}

#[test]
fn programs_are_told_where_case_is_left_out_and_that_the_broker_would_not_take_the_map() {
    let of_people = uses(&Maps { case: Case::Insensitive, ..people() });
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    let json = |new: &str, context: &DiffContext<'_>| compare("m x a\n", new, context).to_json();
    let told = json("m X a\n", &context);
    assert_eq!(told["caseins_users"], serde_json::json!(["m"]));
    assert_eq!((&told["same"], &told["would_be_refused"]), (&true.into(), &serde_json::json!([])));
    let of_people = uses(&people());
    let strict = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    assert_eq!(json("m X a\n", &strict)["caseins_users"], serde_json::json!([]));
    let refused =
        serde_json::json!(["the way in `corp` uses map `m`, which has no line in the file"]);
    assert_eq!(json("", &strict)["would_be_refused"], refused);
    // Nobody knows who would take it.
    assert!(json("", &DiffContext::default())["would_be_refused"].is_null());
}

#[test]
fn spellings_of_a_name_that_may_be_too_much_work_are_not_all_known() {
    let of_people = uses(&Maps { case: Case::Insensitive, ..people() });
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    let pattern = "m /(?i)^(?:a?){250}(?:a?){250}(b)$ r_\\1\n";
    let is_whole =
        |name: &str| compare(pattern, &format!("{pattern}m {name} a\n"), &context).is_whole();
    assert!(!is_whole(&("a".repeat(120) + "b")));
    assert!(is_whole(&("a".repeat(20) + "b")));
}

#[test]
fn each_map_is_compared_by_itself() {
    let found = compare("one x r\n", "two x r\n", &DiffContext::default()).lines(10);
    let expected = ["+ two: x may now act as r (new:1)", "- one: x may no longer act as r (old:1)"];
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
        &["+ alice may now act as a (new:1)", "- Alice may no longer act as a (old:1)"],
    );
    let of_people = uses(&Maps { case: Case::Insensitive, ..people() });
    let context = DiffContext { uses: Some(&of_people), ..DiffContext::default() };
    check_with("m Alice a\n", "m alice a\n", &context, &[]);
    // A pattern leaves nothing out, so other spellings of the name lose.
    check_with("m Bo a\n", "m /^Bo$ a\n", &context, &["- BO may no longer act as a (old:1)"]);
    check_with(
        "m alexander a\n",
        "m /^(alexander|ALEXANDER|Alexander)$ a\n",
        &context,
        &["- alexandeR may no longer act as a (old:1)"],
    );
    check_with("m alexander a\n", "m /(?i)^alexander$ a\n", &context, &[]);
    // As many spellings as a name has cost what they cost.
    let names: Vec<String> = (0..200).map(|number| format!("m u{number}abcde a\n")).collect();
    let (old, new) =
        (parse("old", "m /^u a\n"), parse("new", &("m /^u a\n".to_owned() + &names.concat())));
    let found = diff(&old, &new, &context, &Effort::of(20_000));
    assert!(!found.is_whole() && !found.is_empty());
    assert!(diff(&old, &new, &context, &Effort::default()).is_whole());
    // Where the spellings that a pattern tells apart are not known, that is said.
    let unknown = "m /^(?!al)Alex a\nm alexandra a\n";
    let found = compare("m /^(?!al)Alex a\n", unknown, &context);
    assert_eq!(found.not_compared().iter().map(|left| left.names).collect::<Vec<_>>(), [1]);
    assert!(!found.is_whole() && !found.is_empty());
    assert!(compare("m /^Alex a\n", "m /^Alex a\nm alexandra a\n", &context).is_whole());
    check_with("m Alice A\n", "m ALICE a\n", &context, &[]);
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
    let rest =
        format!("`pgbridge map diff {} {} --config FILE` tells all", found.before(), found.after());
    assert_eq!(lines[3], format!("and 47 more: 47 gains, 0 losses; {rest}"));
    let long = format!("m {} r\n", "x".repeat(5000));
    let found = compare("", &long, &DiffContext::default()).lines(3);
    assert!(found[0].chars().count() < 500, "{found:?}");
    assert!(found[0].ends_with("xxx… may now act as r (new:1)"), "{found:?}");
    let long = format!("m /^{}$ r\n", "x".repeat(400) + ".*");
    let found = compare("", &long, &DiffContext::default()).lines(3);
    assert!(found[0].contains("xxx… may perhaps now act as r (new:1)"), "{found:?}");
    let hostile = compare("", "m \"a\u{1b}[2J\" r\n", &DiffContext::default()).to_string();
    assert_eq!(hostile.lines().count(), 1);
    assert!(!hostile.contains('\u{1b}'), "{hostile:?}");
}

/// Whoever hides what they gain behind much that others lose would have it left out.
#[test]
fn what_is_gained_is_told_before_what_is_lost() {
    let many: Vec<String> = (0..50).map(|number| format!("m u{number:02} r\n")).collect();
    let lines = compare(&many.concat(), "m zoe r\nm /^y(.*)$ \\1\n", &DiffContext::default());
    let lines: Vec<String> = lines
        .lines(3)
        .iter()
        .filter_map(|line| line.split(';').next())
        .map(str::to_owned)
        .collect();
    let expected = [
        "+ m: zoe may now act as r (new:1)",
        "+ m: whoever matches /^y(.*)$ may now act as \\1 (new:2), for example ya as a",
        "- m: u00 may no longer act as r (old:1)",
        "and 49 more: 0 gains, 49 losses",
    ];
    assert_eq!(lines, expected);
}

/// The maps of which the comparison once took minutes: many patterns that could match the same, each
/// with a role of its own.
fn hard(count: usize, changed: &str) -> String {
    let line =
        |number| format!("m \"/^(.*)x{}{changed}$\" \"r0{}\\1\"\n", number % 100, number / 100);
    (0..count).map(line).collect::<Vec<_>>().concat()
}

fn unrelated(count: usize, changed: &str) -> String {
    let line = |number| format!("m /^u{number}{changed}_(.*)$ \\1\n");
    (0..count).map(line).collect::<Vec<_>>().concat()
}

#[test]
fn a_comparison_ends_and_says_what_it_did_not_come_to() {
    let known = "m mallory superuser\n";
    let maps = [(hard(1000, ""), hard(1000, "y?")), (unrelated(2000, ""), unrelated(2000, "y?"))];
    for (old, new) in maps {
        let (old, new) = (parse("old", &old), parse("new", &(new + known)));
        let effort = Effort::of(2_000_000);
        let found = diff(&old, &new, &DiffContext::default(), &effort);
        assert!(effort.is_spent());
        assert!(!found.is_whole() && !found.is_empty());
        // Names come first, and none of them is left out.
        let [left] = found.not_compared() else { panic!("{:?}", found.not_compared()) };
        assert_eq!(left.names, 0);
        // Each new line is told: as what gives something, or as what may.
        let gains = found.changes().iter().filter(|change| change.direction == Direction::Gains);
        let told: BTreeSet<_> = gains.flat_map(|change| &change.grants).collect();
        assert_eq!(told.len(), new.rules(&left.map).count());
        let lines = found.lines(100);
        assert!(lines[0].ends_with("were not compared, which would take too long"), "{lines:?}");
        assert_eq!(
            lines[1],
            format!("+ m: mallory may now act as superuser (new:{})", new.rules(&left.map).count())
        );
        assert_eq!(lines.len(), 102);
        let json = found.to_json();
        assert_eq!((&json["whole"], &json["same"]), (&false.into(), &false.into()));
        assert_eq!(json["not_compared"][0]["patterns"], left.patterns);
    }
    let same = parse("old", &unrelated(100, ""));
    let found = diff(&same, &same, &DiffContext::default(), &Effort::of(1));
    assert_eq!((found.is_whole(), found.is_empty()), (true, true));
}

#[test]
fn names_that_were_not_looked_at_are_counted() {
    let many = |role: &str| {
        let line = |number| format!("m u{number} {role}\n");
        (0..500).map(line).collect::<Vec<_>>().concat()
    };
    let (old, new) = (parse("old", &many("r")), parse("new", &many("s")));
    let found = diff(&old, &new, &DiffContext::default(), &Effort::of(20_000));
    let of =
        |direction| found.changes().iter().filter(|change| change.direction == direction).count();
    let told = of(Direction::Gains);
    assert_eq!(told, of(Direction::Loses));
    assert!((1..500).contains(&told), "{told}");
    let left = NotCompared { map: "m".parse().unwrap(), names: 500 - told, patterns: 0 };
    assert_eq!(found.not_compared(), [left]);
    assert!(!found.is_empty());
    let nothing = diff(&old, &new, &DiffContext::default(), &Effort::of(1));
    assert_eq!((nothing.changes().len(), nothing.is_empty()), (0, false));
}

#[test]
fn a_comparison_can_be_called_off_at_any_time() {
    let (old, new) = (parse("old", &hard(300, "")), parse("new", &hard(300, "y?")));
    for asked in [0, 1, 10_000, 100_000] {
        let times = std::cell::Cell::new(0_u32);
        let off = || {
            times.set(times.get() + 1);
            times.get() > asked
        };
        let found = diff(&old, &new, &DiffContext::default(), &Effort::until(&off));
        assert!(!found.is_whole(), "{asked}");
        assert!(times.get() < asked + 20_000, "{asked}: it went on {} times", times.get() - asked);
    }
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

/// What two maps decide, of one name and one role.
struct Oracle<'a> {
    maps: [&'a IdentMap; 2],
    case: Case,
    members: Memberships,
    /// The roles that there are; nothing when any may be.
    known: Option<&'a [&'a str]>,
}

impl Oracle<'_> {
    fn allows(&self, map: &IdentMap, user: &[u8], role: &str) -> bool {
        let name = "m".parse().unwrap();
        let question = Question {
            map: &name,
            system_user: user,
            role: role.as_bytes(),
            case: self.case,
            members: &self.members,
        };
        matches!(map.decide(&question), MapDecision::Allowed(_))
    }

    /// What becomes of it.
    fn direction(&self, user: &[u8], role: &str) -> Option<Direction> {
        if self.known.is_some_and(|known| !known.contains(&role)) {
            return None;
        }
        match self.maps.map(|map| self.allows(map, user, role)) {
            [false, true] => Some(Direction::Gains),
            [true, false] => Some(Direction::Loses),
            _ => None,
        }
    }

    /// Whether a line of this system user and these roles would let somebody in.
    fn would(&self, system_user: &str, grant: &Grant, user: &[u8], role: &str) -> bool {
        let grant = match grant {
            Grant::Role(given) if !self.case.is_same(given, role.as_bytes()) => return false,
            Grant::Role(_) | Grant::Any => "all".to_owned(),
            Grant::MembersOf(group) => format!("+{}", String::from_utf8_lossy(group)),
            Grant::RolesMatching(pattern) => format!("/{}", String::from_utf8_lossy(pattern)),
            Grant::Captured { before, after } => {
                [before.as_slice(), b"\\1", after].map(String::from_utf8_lossy).concat()
            }
        };
        self.allows(&parse("line", &format!("m {system_user} {grant}\n")), user, role)
    }

    /// Whether the change says of the user that the role is gained or lost.
    fn is_told(&self, change: &MapChange, user: &[u8], role: &str) -> bool {
        let system_user = match &change.who {
            ChangedFor::Name { name, .. } if self.case.is_same(name, user) => "/".to_owned(),
            ChangedFor::Name { .. } => return false,
            ChangedFor::Matching { pattern, .. } => {
                format!("/{}", String::from_utf8_lossy(pattern))
            }
        };
        change.grants.iter().any(|Given { grant, but, .. }| {
            self.would(&system_user, grant, user, role)
                && !but.iter().any(|kept| self.would("/", kept, user, role))
        })
    }
}

fn line() -> impl Strategy<Value = String> {
    let user = prop::sample::select(vec![
        "a",
        "A",
        "b",
        "ab",
        "aB",
        "/^a.*$",
        "/^.*b$",
        "/^(a*)b$",
        "/^(.)(.)$",
        "/^[ab]$",
        "/^(a)?b*$",
        "/^(.*)$",
        "/^.(a|b)$",
        "/^a+(b*)$",
        "/(?i)^(a)",
        "/(a*)b",
        "/^(a*)(b|ab)$",
        "/^(?!a).*$",
    ]);
    let role = prop::sample::select(vec![
        "a", "b", "g", "aa", "all", "\\1", "x\\1", "/^a", "/^[ab]$", "/b", "+g", "+h", "\"+g\"",
        "/^(?!a)", "A",
    ]);
    (user, role).prop_map(|(user, role)| format!("m {user} {role}\n"))
}

/// Every name of up to `length` of these letters.
fn names_of(letters: &[u8], length: usize) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = vec![Vec::new()];
    for _ in 0..length {
        let longer = |name: &Vec<u8>| -> Vec<Vec<u8>> {
            letters.iter().map(|letter| [name.as_slice(), &[*letter]].concat()).collect()
        };
        let longer: Vec<_> = names.iter().flat_map(longer).collect();
        names.extend(longer);
    }
    names.sort();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names
}

#[derive(Clone, Copy, Debug)]
enum Configured {
    No,
    People,
    AnyCase,
    Groups,
    Nobody,
}

fn configured() -> impl Strategy<Value = Configured> {
    prop::sample::select(vec![
        Configured::No,
        Configured::No,
        Configured::People,
        Configured::AnyCase,
        Configured::Groups,
        Configured::Nobody,
    ])
}

/// Bytes of names that are too much work for patterns as people write them.
const LONG: usize = 20_000;

/// Two names that are so long.
fn long_names() -> [String; 2] {
    ["a".repeat(LONG - 1) + "b", "b".repeat(LONG)]
}

/// Lines of which some are too much work for long names, and lines that name those.
fn line_for_long_names() -> impl Strategy<Value = String> {
    let [one, other] = long_names();
    let users = [one.as_str(), &other, "/^(a*)b$", "/^(a*?)a*b$", "/^(?!x)(.*)$", "/^(.*)b$"];
    let users: Vec<String> = users.map(str::to_owned).into();
    let roles = prop::sample::select(vec!["a", "all", "\\1", "/^a", "+g"]);
    let long = (prop::sample::select(users), roles);
    prop_oneof![line(), long.prop_map(|(user, role)| format!("m {user} {role}\n"))]
}

/// How many cases are looked at: so many, or as many as are asked for.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PGBRIDGE_CASES").ok();
    ProptestConfig::with_cases(asked.map_or(usual, |asked| asked.parse().unwrap()))
}

proptest! {
    #![proptest_config(cases(600))]

    /// The oracle is the decision itself, over every short name and role, whoever is a member of
    /// what: whatever is gained or lost is told, and what is told for certain is so.
    #[test]
    fn whatever_is_gained_or_lost_is_told_and_what_is_certain_is_so(
        old in prop::collection::vec(line(), 0..5),
        new in prop::collection::vec(line(), 0..5),
        edges in prop::collection::vec((0_usize..6, 0_usize..6), 0..4),
        configured in configured(),
    ) {
        all_is_told_and_so([&old, &new].map(|lines| lines.concat()), edges, configured, None)?;
    }
}

proptest! {
    #![proptest_config(cases(20))]

    /// A line ends the scan for names that are too much work for it.
    #[test]
    fn whatever_is_gained_or_lost_by_names_that_are_too_much_work_is_told(
        old in prop::collection::vec(line_for_long_names(), 0..4),
        new in prop::collection::vec(line_for_long_names(), 0..4),
        edges in prop::collection::vec((0_usize..6, 0_usize..6), 0..2),
        configured in configured(),
    ) {
        all_is_told_and_so([&old, &new].map(|lines| lines.concat()), edges, configured, Some(LONG))?;
    }
}

/// Compares two maps and holds what is found against what they decide, also of two names of
/// `longest` bytes.
fn all_is_told_and_so(
    texts: [String; 2],
    edges: Vec<(usize, usize)>,
    configured: Configured,
    longest: Option<usize>,
) -> Result<(), TestCaseError> {
    const ROLES: [&str; 6] = ["a", "b", "g", "h", "aa", "xa"];
    let [old, new] = texts;
    let (old, new) = (parse("old", &old), parse("new", &new));
    let maps = match configured {
        Configured::No | Configured::People => people(),
        Configured::AnyCase => Maps { case: Case::Insensitive, ..people() },
        Configured::Groups => groups(),
        Configured::Nobody => Maps { map: Some("other".parse().unwrap()), ..Maps::default() },
    };
    let case = maps.case;
    let ways: BTreeMap<WayName, Maps> = [("corp".parse().unwrap(), maps)].into();
    let lent: &[&str] = match configured {
        Configured::Nobody => &[],
        _ => &["a", "b", "g", "xa"],
    };
    let uses = MapUses::new(
        &ways,
        &Maps::default(),
        lent.iter()
            .map(|role| (role.parse::<RoleName>().unwrap(), "c".parse::<ClusterName>().unwrap())),
    );
    let is_configured = !matches!(configured, Configured::No);
    let context = DiffContext { uses: is_configured.then_some(&uses), ..DiffContext::default() };
    let found = diff_of_names(longest, &old, &new, &context, &Effort::default());
    // Each group has a member that is nothing else.
    let edges = edges.into_iter().map(|(member, group)| (ROLES[member], ROLES[group]));
    let edges = edges.chain([("of_g", "g"), ("of_h", "h")]);
    let roles: Vec<String> = names_of(b"abxz", 3)
        .into_iter()
        .map(|name| String::from_utf8(name).unwrap())
        .chain(["g", "h", "of_g", "of_h", "other", "A", "ac", "cbc", "acbc"].map(str::to_owned))
        .collect();
    let members = Memberships::of_edges(roles.clone(), edges);
    let known = is_configured.then_some(lent);
    let oracle = Oracle { maps: [&old, &new], case, members, known };

    let letters: &[u8] = if case == Case::Insensitive { b"aAbB" } else { b"ab" };
    let asked = [
        "a", "b", "g", "h", "aa", "ab", "x", "xa", "xb", "of_g", "of_h", "other", "A", "ac", "cbc",
        "acbc",
    ];
    let short = names_of(letters, if letters.len() > 2 { 2 } else { 3 });
    let long = longest.map(|_| long_names().map(String::into_bytes)).into_iter().flatten();
    let few = &asked[..3];
    let users =
        short.into_iter().map(|user| (user, &asked[..])).chain(long.map(|user| (user, few)));
    for (user, asked) in users {
        for role in asked {
            if let Some(direction) = oracle.direction(&user, role) {
                let is_told = found.changes().iter().any(|change| {
                    change.direction == direction && oracle.is_told(change, &user, role)
                });
                prop_assert!(
                    is_told,
                    "{direction:?} of {} as {role} is not told:\n{}",
                    String::from_utf8_lossy(&user[..user.len().min(10)]),
                    found.lines(100).join("\n")
                );
            }
        }
    }
    for change in found.changes().iter().filter(|change| change.certainty == Certainty::Certain) {
        let name = match &change.who {
            ChangedFor::Name { name, .. } => name,
            ChangedFor::Matching { example: Some(example), .. } => &example.name,
            ChangedFor::Matching { example: None, .. } => {
                panic!("certain without an example: {change}")
            }
        };
        for given in &change.grants {
            let only = MapChange { grants: vec![given.clone()], ..change.clone() };
            // Of all members of a group it is said whoever they are: none need be lent, or be left.
            if matches!(given.grant, Grant::MembersOf(_)) && !given.but.is_empty() {
                continue;
            }
            let is_so = |role: &String| {
                oracle.direction(name, role) == Some(change.direction)
                    && oracle.is_told(&only, name, role)
            };
            let others = change.grants.iter().filter_map(|given| match &given.grant {
                Grant::Role(role) => String::from_utf8(role.clone()).ok(),
                _ => None,
            });
            let role = match &change.who {
                ChangedFor::Matching {
                    example: Some(Example { role: Some(role), .. }), ..
                } => String::from_utf8(role.clone()).ok(),
                _ => None,
            };
            let asked: Vec<String> = roles.iter().cloned().chain(others).chain(role).collect();
            prop_assert!(asked.iter().any(is_so), "not so for {name:?}: {change}\n{found}");
        }
    }
    Ok(())
}
