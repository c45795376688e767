use proptest::prelude::*;

use super::*;
use crate::mapping::explain::stand::{
    GROUPS, NAMES, ROLES, brute, cases, cluster, known, maps, people, person, policy, role, worlds,
};
use crate::mapping::{Considered, MapDecision, Maps, Memberships};

fn who(file: &str, asked: &str, members: &KnownMembers) -> WhoCan {
    policy(file, Case::Sensitive).who_can(&cluster(), &role(asked), members).unwrap()
}

#[track_caller]
fn check(file: &str, asked: &str, lines: &[(u32, Who)], ends: &[u32], never: &[(u32, Earlier)]) {
    let answer = who(file, asked, &KnownMembers::nothing());
    let found: Vec<_> =
        answer.lines.iter().map(|line| (line.line.line, line.who.clone())).collect();
    assert_eq!(found, lines, "{answer:#?}");
    assert_eq!(answer.ends.iter().map(|line| line.line.line).collect::<Vec<_>>(), ends);
    let found: Vec<_> = answer.never.iter().map(|line| (line.line.line, line.which)).collect();
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
    use Earlier::{EndsTheScan, LetsIn};

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
    assert_eq!(answer.lines.iter().map(|line| line.line.line).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((but_for(0), but_for(1)), (vec![1], vec![1]));
}

#[test]
fn only_the_first_lines_that_may_fail_are_named_and_the_others_counted() {
    let failing: Vec<_> = (0..25).map(|at| format!("p /^(a)?{at}$ r\\1\n")).collect();
    let answer = who(&(failing.concat() + "p /^.*$ r\n"), "r", &KnownMembers::nothing());
    let last = answer.lines.last().unwrap();
    assert_eq!((last.but_for.len(), last.but_for_others), (20, 5));
    assert_eq!(answer.ends.len(), 25);
}

#[test]
fn where_case_does_not_count_a_line_holds_for_every_spelling_of_its_name() {
    let lines = |case: Case| -> (Vec<u32>, Vec<u32>) {
        let policy = policy("p /^al.*$ r\np alice r\np Alice r\n", case);
        let answer = policy.who_can(&cluster(), &role("r"), &KnownMembers::nothing()).unwrap();
        let lines = answer.lines.iter().map(|line| line.line.line).collect();
        (lines, answer.never.iter().map(|line| line.line.line).collect())
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
fn a_role_that_is_not_lent_is_nobodys() {
    let policy = policy("p alice all\n", Case::Sensitive);
    let (role, members) = (role("elsewhere"), KnownMembers::nothing());
    assert!(policy.who_can(&cluster(), &role, &members).unwrap().terms.is_none());
    let alice = [person("alice", &[])];
    assert_eq!(policy.who_of(&cluster(), &role, &members, &alice), Ok(Vec::new()));
    let can = policy.what_can(&alice[0], |_| &members).unwrap();
    assert_eq!(can.roles.len(), ROLES.len());
    assert!(policy.who_can(&"nowhere".parse().unwrap(), &role, &members).is_err());
}

#[test]
fn somebody_is_told_all_that_they_may_act_as_and_what_a_failing_line_takes() {
    use Verdict::{Allowed, Denied};

    let file = "p alice r\ng cn=a ob\np /^b?ob$ \\1\np ob r\n";
    let policy = policy(file, Case::Sensitive);
    let members = KnownMembers::nothing();
    let can = |name: &str, groups: &[&str]| -> Vec<(String, Verdict, u32, Option<String>)> {
        let can = policy.what_can(&person(name, groups), |_| &members).unwrap();
        let line =
            |answer: RoleAnswer| (answer.role, answer.verdict, answer.line.line, answer.group);
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

/// Whether the answer says that somebody of this name may, whom nobody else's line concerns.
fn says(policy: &Policy, answer: &WhoCan, of: NameOf, name: &str, world: &Memberships) -> bool {
    let maps = &policy.ways.values().next().unwrap();
    let map = maps.map.as_ref().or(maps.group_map.as_ref()).unwrap();
    let role = answer.role.as_bytes();
    let (system_user, case, members) = (name.as_bytes(), maps.case, world);
    let question = Question { map, system_user, role, case, members };
    let consider = |line: &MapLine| {
        let rule = policy.map.rules(map).find(|rule| MapLine::of(*rule) == *line);
        rule.unwrap().consider(&question)
    };
    answer.lines.iter().filter(|line| line.of == of).any(|line| {
        let fails = |line: &MapLine| matches!(consider(line), Considered::Fails { .. });
        let Considered::Allows { capture } = consider(&line.line) else { return false };
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
                    let answer = policy.who_can(&cluster(), &role(asked), &known(&world)).unwrap();
                    for name in NAMES.into_iter().chain(GROUPS) {
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
                            prop_assert!(never.map(|line| line.line.line).all(|line| line != rule.line));
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
                    .map(|may| (may.system_user.clone(), may.verdict, may.line.line))
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
            let can = policy.what_can(&person, |_| &members).unwrap();
            let told: Vec<_> = can
                .roles
                .iter()
                .filter(|answer| answer.verdict == Verdict::Allowed)
                .map(|answer| (answer.role.as_str(), answer.line.line))
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
            let told: Vec<_> = may.iter().map(|may| (may.system_user.clone(), may.verdict)).collect();
            let explained: Vec<_> = people
                .iter()
                .filter_map(|person| {
                    let can = policy.what_can(person, |_| &members).unwrap();
                    let answer = can.roles.into_iter().find(|answer| answer.role == asked)?;
                    let is_denied = answer.verdict == Verdict::Denied;
                    (!is_denied).then(|| (person.system_user().to_owned(), answer.verdict))
                })
                .collect();
            prop_assert_eq!(told, explained);
        }
    }
}
