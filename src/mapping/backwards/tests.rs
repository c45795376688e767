use proptest::prelude::*;

use super::answer::LinePlace;
use super::*;
use crate::mapping::explain::stand::{
    GROUPS, HOME, NAMES, ROLES, brute, cases, cluster, identity, known, maps, people, person,
    policy, role, too_much, way, worlds,
};
use crate::mapping::explain::{LISTED_MAX, NameOf};
use crate::mapping::{Case, Considered, MapDecision, Members, Question};

fn who(file: &str, asked: &str, members: &KnownMembers) -> WhoCan {
    policy(file, Case::Sensitive)
        .who_can(&cluster(), &role(asked), members, &Effort::default())
        .unwrap()
}

#[track_caller]
fn check(file: &str, asked: &str, lines: &[(u32, Who)], ends: &[u32], never: &[(u32, WhyNever)]) {
    let answer = who(file, asked, &KnownMembers::nothing());
    let found: Vec<_> =
        answer.lines.iter().map(|line| (line.at.line.line, line.who.clone())).collect();
    assert_eq!(found, lines, "{answer:#?}");
    assert_eq!(answer.ends.iter().map(|line| line.at.line.line).collect::<Vec<_>>(), ends);
    let found: Vec<_> = answer.never.iter().map(|line| (line.at.line.line, line.which)).collect();
    assert_eq!(found, never);
}

fn name(name: &str) -> Who {
    Who::Name(name.to_owned())
}

#[test]
fn the_lines_that_give_a_role_are_found_with_whom_they_let_in() {
    let file = "p alice r\np bob ob\np carol all\ng cn=a r\nother eve r\np /^x.*$ r\n\
                p /^(.*)@y$ \\1\np /^.*$ r\n";
    let capture = |pattern: &str, capture: &str| Who::Capture {
        pattern: pattern.to_owned(),
        capture: capture.to_owned(),
    };
    let lines = [
        (1, name("alice")),
        (3, name("carol")),
        (6, Who::Pattern("^x.*$".into())),
        (7, capture("^(.*)@y$", "r")),
        (8, Who::Everybody),
        (4, name("cn=a")),
    ];
    check(file, "r", &lines, &[], &[]);
    check(
        file,
        "ob",
        &[(2, name("bob")), (3, name("carol")), (7, capture("^(.*)@y$", "ob"))],
        &[],
        &[],
    );
}

#[test]
fn a_line_behind_one_that_decides_never_does() {
    use WhyNever::{EndsTheScan, LetsIn};

    check(
        "p alice r\np alice r\np alice all\n",
        "r",
        &[(1, name("alice"))],
        &[],
        &[(2, LetsIn), (3, LetsIn)],
    );
    let everybody = [(1, Who::Everybody)];
    check("p /^.*$ r\np alice r\np /^a.*$ r\n", "r", &everybody, &[], &[(2, LetsIn), (3, LetsIn)]);
    check("p /^bob$ \\1\np bob r\n", "r", &[], &[1], &[(2, EndsTheScan)]);
    // The same line twice says nothing new, and neither does one for another role.
    check("p alice ob\np alice r\n", "r", &[(2, name("alice"))], &[], &[]);
}

#[test]
fn a_line_after_one_that_may_fail_says_for_whom_it_does_not_hold() {
    let file = "p /^b?ob$ \\1\np /^.*$ r\ng cn=a r\n";
    let answer = who(file, "r", &KnownMembers::nothing());
    let but_for =
        |at: usize| -> Vec<u32> { answer.lines[at].but_for.iter().map(|line| line.line).collect() };
    assert_eq!(answer.lines.iter().map(|line| line.at.line.line).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((but_for(0), but_for(1)), (vec![1], vec![1]));
}

#[test]
fn a_line_by_which_nobody_comes_to_the_role_lets_nobody_in() {
    use WhyNever::{AboutNobody, EndsTheScan};

    let pattern = |pattern: &str| Who::Pattern(pattern.to_owned());
    // An earlier line ends the scan for every name that the line is about; behind it, it does not.
    check("p /^_ \\1\np /^_.*$ r\n", "r", &[], &[1], &[(2, EndsTheScan)]);
    check("p /^_ \\1\np /^a.*$ r\n", "r", &[(2, pattern("^a.*$"))], &[1], &[]);
    check("p /^_.*$ r\np /^_ \\1\n", "r", &[(1, pattern("^_.*$"))], &[2], &[]);
    let two = "p /^a \\1\np /^b \\1\n";
    check(&format!("{two}p /^[ab] r\n"), "r", &[], &[1, 2], &[(3, EndsTheScan)]);
    check(&format!("{two}p /^[abc] r\n"), "r", &[(3, pattern("^[abc]"))], &[1, 2], &[]);
    // One that ends it for some: these are all of them, or not.
    check("p /^(b)?ob$ \\1\np /^ob$ r\n", "r", &[], &[1], &[(2, EndsTheScan)]);
    check("p /^(b)?ob$ \\1\np /^b?ob$ r\n", "r", &[(2, pattern("^b?ob$"))], &[1], &[]);
    // Nobody's `\1` makes the role: it gives others.
    let capture = Who::Capture { pattern: "^a(b|c)$".to_owned(), capture: "b".to_owned() };
    check("p /^a(b|c)$ o\\1\n", "ob", &[(1, capture)], &[], &[]);
    check("p /^a(x|c)$ o\\1\n", "ob", &[], &[], &[]);
    // No name at all, and none that anybody can have.
    check("p /a$^b r\n", "r", &[], &[], &[(1, AboutNobody)]);
    check("p /a$^b \\1\np a r\n", "r", &[(2, name("a"))], &[1], &[]);
    check("p \"\" r\ng \"\" r\n", "r", &[], &[], &[(1, AboutNobody), (2, AboutNobody)]);
    // Whoever is denied by name is asked about no group.
    check("p /^.*$ \\1\ng cn=a r\n", "r", &[], &[1], &[(2, EndsTheScan)]);
    check("p /^.*a$ \\1\ng cn=a r\n", "r", &[(2, name("cn=a"))], &[1], &[]);
}

#[test]
fn where_case_does_not_count_earlier_lines_may_deny_every_spelling() {
    let lines = |file: &str| -> (Vec<u32>, Vec<u32>) {
        let policy = policy(file, Case::Insensitive);
        let (members, effort) = (KnownMembers::nothing(), Effort::default());
        let answer = policy.who_can(&cluster(), &role("r"), &members, &effort).unwrap();
        let lines = answer.lines.iter().map(|line| line.at.line.line).collect();
        (lines, answer.never.iter().map(|line| line.at.line.line).collect())
    };
    assert_eq!(lines("p /^[Aa][Ll]$ \\1\np al r\n"), (vec![], vec![2]));
    assert_eq!(lines("p /^[Aa]l$ \\1\np al r\n"), (vec![2], vec![]));
}

#[test]
fn where_case_does_not_count_a_line_is_told_with_its_spelling_and_that() {
    let first = |file: &str, case: Case| {
        let (members, effort) = (KnownMembers::nothing(), Effort::default());
        let who = policy(file, case).who_can(&cluster(), &role("r"), &members, &effort).unwrap();
        let line = who.lines.into_iter().next().unwrap();
        (line.at.any_case, line.who, line.role_spelled)
    };
    let alice = || name("Alice");
    assert_eq!(first("p Alice R\n", Case::Insensitive), (true, alice(), Some("R".to_owned())));
    assert_eq!(first("p Alice r\n", Case::Insensitive), (true, alice(), None));
    assert_eq!(first("p Alice r\n", Case::Sensitive), (false, alice(), None));
}

/// Too much may be told, never too little; and that it may be too much is told with it.
#[test]
fn a_line_is_told_also_where_it_takes_too_long_to_find_out_whether_anybody_comes_by_it() {
    let policy = policy("p /^_ \\1\np /^_.*$ r\np /^a.*$ r\np bob r\n", Case::Sensitive);
    let lines = |effort: &Effort<'_>| -> Vec<(u32, bool)> {
        let who = policy.who_can(&cluster(), &role("r"), &KnownMembers::nothing(), effort).unwrap();
        who.lines.iter().map(|line| (line.at.line.line, line.perhaps_nobody)).collect()
    };
    assert_eq!(lines(&Effort::of(1)), [(2, true), (3, true), (4, false)]);
    assert_eq!(lines(&Effort::default()), [(3, false), (4, false)]);
    // However much was spent, nothing that lets somebody in is left out.
    for steps in (0..3000).step_by(7) {
        let told = lines(&Effort::of(steps));
        assert!(told.iter().any(|(line, _)| *line == 3), "{steps}: {told:?}");
    }
}

#[test]
fn whether_a_cluster_is_asked_who_may_turns_on_lines_that_let_in() {
    let turns = |file: &str, asked: &str| {
        let effort = Effort::default();
        policy(file, Case::Sensitive).who_turns_on_members(&cluster(), &role(asked), &effort)
    };
    assert!(turns("p alice +g1\n", "r") && turns("g cn=a +g1\n", "r"));
    assert!(!turns("p alice +g1\n", "elsewhere"), "it is not lent");
    assert!(!turns("p alice r\nother alice +g1\n", "r") && !turns("p alice r\np bob +\n", "r"));
    // An earlier line decides for whomever it is about.
    assert!(!turns("p alice r\np alice +g1\n", "r") && turns("p alice r\np alice +g1\n", "ob"));
    assert!(!turns("p /^a \\1\np alice +g1\n", "r"));
}

#[test]
fn only_the_first_lines_that_may_fail_are_named_and_the_others_counted() {
    let failing: Vec<_> = (0..25).map(|at| format!("p /^(a)?{at}$ r\\1\n")).collect();
    let answer = who(&(failing.concat() + "p /^.*$ r\n"), "r", &KnownMembers::nothing());
    let last = answer.lines.last().unwrap();
    assert_eq!((last.but_for.len(), last.but_for_others), (20, 5));
    assert_eq!(answer.ends.len(), 25);
}

/// A long line before many others would be told again with each of them.
#[test]
fn the_text_of_a_line_is_told_once_however_many_lines_name_it() {
    let long = "x".repeat(200);
    let json = |file: String| {
        let answer = who(&file, "r", &KnownMembers::nothing());
        (answer.lines.len(), answer.never.len(), serde_json::to_string(&answer).unwrap())
    };
    let groups: Vec<_> = (0..50).map(|at| format!("g cn={at} r\n")).collect();
    let (lines, _, but_for) = json(format!("p /^(a)?{long}$ o\\1\n") + &groups.concat());
    // The line itself has it twice: what is written there, and for whom.
    assert_eq!((lines, but_for.matches(&long).count()), (50, 2), "{but_for}");
    let again = format!("p {long} r\n") + &format!("p {long} all\n").repeat(3);
    let (lines, never, because_of) = json(again);
    assert_eq!((lines, never, because_of.matches(&long).count()), (1, 3, 5), "{because_of}");
}

#[test]
fn the_lines_of_one_answer_are_listed_in_part_and_the_others_counted() {
    let names: Vec<_> = (0..LISTED_MAX + 5).map(|at| format!("p u{at} r\n")).collect();
    let names = names.concat();
    let count = |file: &str| {
        let answer = who(file, "r", &KnownMembers::nothing());
        (answer.lines.len(), answer.never.len(), answer.unlisted_lines)
    };
    assert_eq!(count(&names), (LISTED_MAX, 0, 5));
    // However many never decide, the line that does is told.
    assert_eq!(count(&format!("p /^.*$ r\n{names}g cn=a r\n")), (2, LISTED_MAX, 5));
}

#[test]
fn where_case_does_not_count_a_line_holds_for_every_spelling_of_its_name() {
    let lines = |case: Case| -> (Vec<u32>, Vec<u32>) {
        let policy = policy("p /^al.*$ r\np alice r\np Alice r\n", case);
        let answer = policy
            .who_can(&cluster(), &role("r"), &KnownMembers::nothing(), &Effort::default())
            .unwrap();
        let lines = answer.lines.iter().map(|line| line.at.line.line).collect();
        (lines, answer.never.iter().map(|line| line.at.line.line).collect())
    };
    assert_eq!(lines(Case::Sensitive), (vec![1, 3], vec![2]));
    // The expression does not match `Alice`, so the second line is asked about that; the third
    // never is.
    assert_eq!(lines(Case::Insensitive), (vec![1, 2], vec![3]));
}

#[test]
fn a_group_role_lets_in_when_its_members_are_known_and_perhaps_when_not() {
    let file = "p alice +g1\n";
    let unknown = who(file, "r", &KnownMembers::nothing());
    assert_eq!(unknown.lines[0].if_member_of.as_deref(), Some("g1"));
    let member = KnownMembers::all(Memberships::of_edges(["r"], [("r", "g1")]));
    assert_eq!(who(file, "r", &member).lines[0].if_member_of, None);
    assert!(who(file, "r", &KnownMembers::all(Memberships::none())).lines.is_empty());
}

#[test]
fn a_role_is_a_member_of_itself_whatever_is_known() {
    let unknown = who("p alice +r\np bob +g1\n", "r", &KnownMembers::nothing());
    let found = unknown.lines.iter().map(|line| (line.at.line.line, line.if_member_of.as_deref()));
    assert_eq!(found.collect::<Vec<_>>(), [(1, None), (2, Some("g1"))]);
    // Names of roles are told apart by case, and a `+` alone is no group.
    let others = who("p alice +R\np bob +\n", "r", &KnownMembers::nothing());
    let found = others.lines.iter().map(|line| (line.at.line.line, line.if_member_of.as_deref()));
    assert_eq!(found.collect::<Vec<_>>(), [(1, Some("R"))]);
    let policy = policy("p alice +r\n", Case::Sensitive);
    assert!(!policy.who_turns_on_members(&cluster(), &role("r"), &Effort::default()));
    assert!(policy.who_turns_on_members(&cluster(), &role("alice"), &Effort::default()));
}

#[test]
fn a_role_that_is_not_lent_is_nobodys() {
    let policy = policy("p alice all\n", Case::Sensitive);
    let (role, members) = (role("elsewhere"), KnownMembers::nothing());
    let who = policy.who_can(&cluster(), &role, &members, &Effort::default()).unwrap();
    assert!(who.terms.is_none());
    let said = "cluster `orders` does not lend role `elsewhere` (no `[[cluster.profile]]` of it names \
                the role), so that nobody gets it from pgbridge; there is `r`, `alice`, `ob`, `g1`";
    assert_eq!(who.not_lent.as_deref(), Some(said));
    let alice = [person("alice", &[])];
    assert_eq!(policy.who_of(&cluster(), &role, &members, &alice), Ok(Vec::new()));
    let can = policy.what_can(&alice[0], |_| &members, &Effort::default()).unwrap();
    assert_eq!(can.roles.len(), ROLES.len());
    assert!(
        policy.who_can(&"nowhere".parse().unwrap(), &role, &members, &Effort::default()).is_err()
    );
}

#[test]
fn somebody_is_told_all_that_they_may_act_as_and_what_a_failing_line_takes() {
    use Verdict::{Allowed, Denied};

    let file = "p alice r\ng cn=a ob\np /^b?ob$ \\1\np ob r\n";
    let policy = policy(file, Case::Sensitive);
    let members = KnownMembers::nothing();
    let can = |name: &str, groups: &[&str]| -> Vec<(String, Verdict, u32, Option<String>)> {
        let can = policy.what_can(&person(name, groups), |_| &members, &Effort::default()).unwrap();
        let line = |RoleAnswer { role, answer, .. }: RoleAnswer| {
            (role, answer.verdict, answer.line.line, answer.group)
        };
        can.roles.into_iter().map(line).collect()
    };
    assert_eq!(
        can("alice", &["cn=a"]),
        [("r".into(), Allowed, 1, None), ("ob".into(), Allowed, 2, Some("cn=a".into()))]
    );
    assert_eq!(can("eve", &[]), []);
    assert!(
        can("ob", &["cn=a"]).iter().all(|(_, verdict, line, _)| (*verdict, *line) == (Denied, 3))
    );
}

/// Lines that are told to let somebody in, with whether that is not known; and those about nobody.
fn told(file: &str, asked: &str) -> (Vec<(u32, bool)>, Vec<u32>) {
    let answer = who(file, asked, &KnownMembers::nothing());
    let lines = answer.lines.iter().map(|line| (line.at.line.line, line.perhaps_nobody)).collect();
    assert!(answer.never.iter().all(|line| line.which == WhyNever::AboutNobody), "{answer:#?}");
    (lines, answer.never.iter().map(|line| line.at.line.line).collect())
}

#[test]
fn a_name_that_no_login_lets_through_is_nobodys() {
    let somebody = |line: &str| {
        let (lines, never) = told(line, "r");
        assert_eq!(lines.len() + never.len(), 1, "{line}");
        assert!(lines.iter().all(|(_, perhaps)| !perhaps), "{line}");
        never.is_empty()
    };
    let name = |bytes: usize| "a".repeat(bytes);
    for good in [&name(256), "\" alice\"", "jürgen", "/^\\xc3\\xbc$", "/^.$", "\"/^ .$\"", "/[$]"]
    {
        assert!(somebody(&format!("p {good} r\n")) && somebody(&format!("g {good} r\n")), "{good}");
    }
    // Nobody is called so, and a group may be.
    let no_account =
        [&name(257), "\" \"", "host$", "/^ +$", "/^[\\x01-\\x1f]$", "/[$]$", "\"/^ *$\""];
    for bad in no_account {
        let bad = if bad.contains(' ') && !bad.starts_with('"') {
            format!("\"{bad}\"")
        } else {
            bad.to_owned()
        };
        assert!(!somebody(&format!("p {bad} r\n")), "{bad}");
        assert!(somebody(&format!("g {bad} r\n")), "{bad}");
    }
    for bad in [&name(1025), "/^[\\x80-\\xff]$", "/^a\\xff"] {
        assert!(!somebody(&format!("p {bad} r\n")) && !somebody(&format!("g {bad} r\n")), "{bad}");
    }
    assert!(somebody("p /^(?:a{64}){4}$ r\n") && !somebody("p /^(?:a{64}){4}a$ r\n"));
    assert!(somebody("g /^(?:a{64}){15}$ r\n"));
    // A line that ends the scan for all who can have a name leaves nobody to the groups.
    check("p /^.*[^$]$ \\1\ng cn=a r\n", "r", &[], &[1], &[(2, WhyNever::EndsTheScan)]);
}

#[test]
fn a_line_with_look_around_lets_in_somebody_when_a_name_is_found() {
    for certain in [
        "/^(?!adm_).*@CORP$",
        "/^(?=.*@CORP$)[a-z]+_.*$",
        "/^(?!.*admin)[a-z]+$",
        "/^(?=.*admin)[a-z]+$",
        "/^(?!a)[a-z]$",
        "/^.*(?<=@CORP)$",
        "/^[a-z]+(?<!a)$",
        "/\\madmin\\M",
        "/^a\\y.+$",
        "/^a\\Yb$",
        "/\\m..$",
        "/^x(?=y|z)..$",
    ] {
        assert_eq!(told(&format!("p {certain} r\n"), "r"), (vec![(1, false)], vec![]), "{certain}");
    }
    let capture = "p /^(?!x)(.*)@T$ o\\1\n";
    assert_eq!(told(capture, "ob"), (vec![(1, false)], vec![]));
    assert_eq!(told(capture, "r"), (vec![], vec![]));
    // Nobody is found, and that there is nobody is not known.
    assert_eq!(told("p /^a(?=b)c$ r\n", "r"), (vec![(1, true)], vec![]));
    assert_eq!(told("p /^(?!x)(.*)@T$ \\1\n", "r"), (vec![(1, false)], vec![]));
    // What it would match without looking is nobody's already.
    assert_eq!(told("p /^(?=a)\\x01$ r\n", "r"), (vec![], vec![1]));
    // An earlier line denies whoever is found first.
    let behind = "p /^a \\1\np /^(?!x)[ab].*$ r\n";
    assert_eq!(told(behind, "r"), (vec![(2, false)], vec![]));
}

/// Whether the answer says that somebody of this name may, whom nobody else's line concerns.
fn says(policy: &Policy, answer: &WhoCan, of: NameOf, name: &str, world: &Memberships) -> bool {
    let maps = &policy.ways.values().next().unwrap();
    let map = maps.map.as_ref().or(maps.group_map.as_ref()).unwrap();
    let role = answer.role.as_bytes();
    let (system_user, case, members) = (name.as_bytes(), maps.case, world);
    let question = Question { map, system_user, role, case, members };
    let consider = |line: u32| {
        let rule = policy.map.rules(map).find(|rule| rule.reference().line == line);
        rule.unwrap().consider(&question)
    };
    answer.lines.iter().filter(|line| line.at.of == of).any(|line| {
        let fails = |place: &LinePlace| matches!(consider(place.line), Considered::Fails { .. });
        let Considered::Allows { capture } = consider(line.at.line.line) else { return false };
        let about = match &line.who {
            Who::Name(about) => case.is_same(about.as_bytes(), name.as_bytes()),
            Who::Everybody | Who::Pattern(_) => true,
            Who::Capture { capture: wanted, .. } => {
                capture.is_some_and(|capture| case.is_same(wanted.as_bytes(), &capture))
            }
        };
        about && !line.but_for.iter().any(fails)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_lines_name_exactly_those_whom_a_decision_lets_in(file in maps(), case in cases()) {
        for of in [NameOf::Person, NameOf::Group] {
            let mut policy = policy(&file, case);
            let maps = policy.ways.values_mut().next().unwrap();
            let (map, group_map) = (maps.map.take(), maps.group_map.take());
            *maps = match of {
                NameOf::Person => Maps { map, group_map: None, case },
                NameOf::Group => Maps { map: None, group_map, case },
            };
            for asked in ROLES {
                for world in worlds() {
                    let answer = policy.who_can(&cluster(), &role(asked), &known(&world), &Effort::default()).unwrap();
                    // Nobody is called nothing.
                    for name in NAMES.into_iter().chain(GROUPS).filter(|name| !name.is_empty()) {
                        let somebody = match of {
                            NameOf::Person => person(name, &[]),
                            NameOf::Group => person("nobody", &[name]),
                        };
                        let decided = brute(&policy, &somebody, asked, &world);
                        let may = matches!(decided, MapDecision::Allowed(_));
                        let told = says(&policy, &answer, of, name, &world);
                        prop_assert_eq!(told, may, "{} as {}: {:#?}", name, asked, answer);
                        // A line that decides for somebody is never among those that never do.
                        if let MapDecision::Allowed(rule) = decided {
                            let never = answer.never.iter();
                            prop_assert!(never.map(|line| line.at.line.line).all(|line| line != rule.line));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn of_many_people_exactly_those_are_named_whom_a_decision_lets_in(
        file in maps(), case in cases(), people in prop::collection::vec(people(), 0..12),
    ) {
        let policy = policy(&file, case);
        for asked in ROLES {
            for world in worlds() {
                let may = policy.who_of(&cluster(), &role(asked), &known(&world), &people).unwrap();
                let told: Vec<_> = may
                    .iter()
                    .map(|may| (may.system_user.clone(), may.answer.verdict, may.answer.line.line))
                    .collect();
                let decided: Vec<_> = people
                    .iter()
                    .filter_map(|person| match brute(&policy, person, asked, &world) {
                        MapDecision::Allowed(rule) => {
                            let name = person.system_user().to_owned();
                            Some((name, Verdict::Allowed, rule.line))
                        }
                        _ => None,
                    })
                    .collect();
                prop_assert_eq!(told, decided);
            }
        }
    }

    #[test]
    fn all_that_somebody_may_act_as_is_what_is_decided(
        file in maps(), case in cases(), person in people(),
    ) {
        let policy = policy(&file, case);
        for world in worlds() {
            let members = known(&world);
            let can = policy.what_can(&person, |_| &members, &Effort::default()).unwrap();
            let told: Vec<_> = can
                .roles
                .iter()
                .filter(|answer| answer.answer.verdict == Verdict::Allowed)
                .map(|answer| (answer.role.as_str(), answer.answer.line.line))
                .collect();
            let decided: Vec<_> = ROLES
                .into_iter()
                .filter_map(|asked| match brute(&policy, &person, asked, &world) {
                    MapDecision::Allowed(rule) => Some((asked, rule.line)),
                    _ => None,
                })
                .collect();
            prop_assert_eq!(told, decided);
        }
    }

    /// With members unknown: the same people as when each is explained.
    #[test]
    fn of_many_people_those_who_depend_on_members_are_named_as_unknown(
        file in maps(), case in cases(), people in prop::collection::vec(people(), 0..12),
    ) {
        let (policy, members) = (policy(&file, case), KnownMembers::nothing());
        for asked in ROLES {
            let may = policy.who_of(&cluster(), &role(asked), &members, &people).unwrap();
            let told: Vec<_> = may.iter().map(|may| (may.system_user.clone(), may.answer.verdict)).collect();
            let explained: Vec<_> = people
                .iter()
                .filter_map(|person| {
                    let can = policy.what_can(person, |_| &members, &Effort::default()).unwrap();
                    let answer = can.roles.into_iter().find(|answer| answer.role == asked)?;
                    let verdict = answer.answer.verdict;
                    let is_denied = verdict == Verdict::Denied;
                    (!is_denied).then(|| (person.system_user().to_owned(), verdict))
                })
                .collect();
            prop_assert_eq!(told, explained);
        }
    }

    /// Of whatever people: those who are named are those to whom a lease would be issued.
    #[test]
    fn of_many_people_exactly_those_are_named_who_are_entitled(
        file in maps(), case in cases(), people in prop::collection::vec(people(), 0..12),
    ) {
        let policy = policy(&file, case);
        for asked in ROLES {
            for world in worlds() {
                let may = policy.who_of(&cluster(), &role(asked), &known(&world), &people).unwrap();
                let told: Vec<_> = may
                    .iter()
                    .map(|may| (may.system_user.as_str(), may.answer.line.line))
                    .collect();
                let members: Members = [(cluster(), world.clone())].into_iter().collect();
                let entitled: Vec<_> = people
                    .iter()
                    .filter_map(|person| {
                        let identity = identity(person);
                        let entitled =
                            policy.entitle(&identity, "orders", asked, HOME, &members).ok()?;
                        Some((person.system_user(), entitled.rule().line))
                    })
                    .collect();
                prop_assert_eq!(told, entitled);
            }
        }
    }

    /// Whoever is in several groups is let in by a line that is told, and never by one that is said
    /// never to decide.
    #[test]
    fn every_line_by_which_somebody_is_entitled_is_told(
        file in maps(), case in cases(), person in people(),
    ) {
        let (policy, identity) = (policy(&file, case), identity(&person));
        for asked in ROLES {
            for world in worlds() {
                let members: Members = [(cluster(), world.clone())].into_iter().collect();
                let entitled = policy.entitle(&identity, "orders", asked, HOME, &members);
                let Ok(entitled) = entitled else { continue };
                let line = entitled.rule().line;
                let who = policy.who_can(&cluster(), &role(asked), &known(&world), &Effort::default()).unwrap();
                let may = policy.who_can(&cluster(), &role(asked), &KnownMembers::nothing(), &Effort::default());
                for who in [who, may.unwrap()] {
                    let has = |lines: &[u32]| lines.contains(&line);
                    let lines: Vec<_> = who.lines.iter().map(|line| line.at.line.line).collect();
                    let never: Vec<_> = who.never.iter().map(|line| line.at.line.line).collect();
                    prop_assert!(has(&lines) && !has(&never), "{}: {:#?}", line, who);
                }
            }
        }
    }

    #[test]
    fn the_duties_that_are_told_are_those_that_a_login_has(
        file in maps(), case in cases(), people in prop::collection::vec(people(), 1..6),
    ) {
        // The maps of `[access]` give `auditor` and `operator` in the place of two roles.
        let file = file.replace(" r\n", " auditor\n").replace(" ob\n", " operator\n");
        let mut policy = policy(&file, case);
        policy.access = policy.ways[&way()].clone();
        for duty in Duty::ALL {
            let has = |person: &UnverifiedPerson| {
                let duties = policy.duties(&identity(person));
                match duty {
                    Duty::Auditor => duties.auditor,
                    Duty::Operator => duties.operator,
                }
            };
            let named: Vec<_> = policy.who_of_duty(duty, &people);
            let named: Vec<_> = named.iter().map(|person| person.system_user.as_str()).collect();
            let who = policy.who_has(duty, &Effort::default()).unwrap();
            let members = KnownMembers::nothing();
            let mut having = Vec::new();
            for person in &people {
                let explained = policy.explain_duty(person.names(), None, duty, &Effort::default()).unwrap();
                prop_assert_eq!(explained.verdict == Verdict::Allowed, has(person));
                prop_assert_ne!(explained.verdict, Verdict::Unknown);
                let can = policy.what_can(person, |_| &members, &Effort::default()).unwrap();
                let told = can.duties.iter().any(|told| {
                    told.duty == duty.as_str() && told.answer.verdict == Verdict::Allowed
                });
                prop_assert_eq!(told, has(person));
                if let Some(line) = explained.rule.filter(|_| has(person)) {
                    prop_assert!(who.lines.iter().any(|told| told.at.line == line), "{:#?}", who);
                    having.push(person.system_user());
                }
            }
            prop_assert_eq!(named, having);
        }
    }
}

/// Names of which one is let in by each line of [`maps`] that lets anybody in, whatever lines are
/// before it, as they are here or in capitals.
const TRIED: [&str; 34] = [
    "alice", "Alice", "ALICE", "bob", "Bob", "BOB", "ob", "a", "r", "R", "x@y", "X@Y", "cn=a",
    "CN=a", "cn=r", "CN=R", "o", "O", "b", "ab", "al", "aa", "zz", "cn=alice", "cn=ob", "cn=g1",
    "cn=b", "cn=o", "g1", "bz", "bo", "ao", "aob", "abice",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A line by which nobody comes to the role is not told to let anybody in.
    #[test]
    fn by_each_line_that_is_told_to_let_in_somebody_comes_to_the_role(
        file in maps(), case in cases(),
    ) {
        let policy = policy(&file, case);
        let maps = &policy.ways[&way()];
        for asked in ROLES {
            for world in worlds() {
                let effort = Effort::default();
                let answer = policy.who_can(&cluster(), &role(asked), &known(&world), &effort).unwrap();
                for line in &answer.lines {
                    prop_assert!(!line.perhaps_nobody, "{:#?}", line);
                    let map = match line.at.of {
                        NameOf::Person => &maps.map,
                        NameOf::Group => &maps.group_map,
                    };
                    let map = map.as_ref().unwrap();
                    let rule = policy.map.rules(map).find(|rule| rule.reference().line == line.at.line.line);
                    let comes = |name: &str| {
                        let (system_user, role) = (name.as_bytes(), asked.as_bytes());
                        let question = Question { map, system_user, role, case, members: &world };
                        if !matches!(rule.unwrap().consider(&question), Considered::Allows { .. }) {
                            return false;
                        }
                        let may = |person| {
                            matches!(brute(&policy, &person, asked, &world), MapDecision::Allowed(_))
                        };
                        match line.at.of {
                            NameOf::Person => may(person(name, &[])),
                            NameOf::Group => TRIED.iter().any(|user| may(person(user, &[name]))),
                        }
                    };
                    let any_comes = TRIED.iter().any(|name| comes(name) || comes(&name.to_uppercase()));
                    prop_assert!(any_comes, "{} {:?}: {}\n{:#?}", asked, case, file, line);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A line that is too much work for a name denies, and says nothing of a name that lacks what all
    /// its matches hold, whoever asks and by whatever index.
    #[test]
    fn lines_that_are_too_much_work_are_told_as_they_are_decided(
        (file, people) in too_much(),
    ) {
        let (policy, members) = (policy(&file, Case::Sensitive), KnownMembers::nothing());
        let world = Memberships::none();
        let may = policy.who_of(&cluster(), &role("r"), &members, &people).unwrap();
        let told: Vec<_> = may.iter().map(|may| may.system_user.as_str()).collect();
        let decided = |person: &UnverifiedPerson| brute(&policy, person, "r", &world);
        let entitled: Vec<_> = people
            .iter()
            .filter(|person| matches!(decided(person), MapDecision::Allowed(_)))
            .map(UnverifiedPerson::system_user)
            .collect();
        prop_assert_eq!(told, entitled);
        for person in &people {
            let can = policy.what_can(person, |_| &members, &Effort::default()).unwrap();
            let answer = can.roles.into_iter().find(|answer| answer.role == "r");
            let answer = answer.map(|answer| (answer.answer.verdict, answer.answer.line.line));
            let expected = match decided(person) {
                MapDecision::Allowed(rule) => Some((Verdict::Allowed, rule.line)),
                MapDecision::Failed { rule, .. } => Some((Verdict::Denied, rule.line)),
                MapDecision::NoMatch => None,
            };
            prop_assert_eq!(answer, expected);
        }
    }
}
