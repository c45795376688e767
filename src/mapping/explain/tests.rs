use std::cell::Cell;

use proptest::prelude::*;

use super::stand::{
    NAMES, ROLES, brute, cases, cluster, known, maps, people, person, policy, role, too_much, way,
    worlds,
};
use super::*;
use crate::mapping::{Case, MapDecision, Near, Question, UnverifiedPerson, near};

const FILE: &str = r#"p alice r
p /^(.*)@Y$ \1
p "CORP\bob" r
g "cn=readers,ou=groups,dc=test" r
g /^cn=x(.*)$ r\1
p zoe +g1
p zoe /^al.*$
p kim@Y r
p /^b?ob$ \1
g bare ob
"#;

fn explained(name: &str, groups: &[&str], asked: &str, members: &KnownMembers) -> Explanation {
    let (person, cluster, role) = (person(name, groups), cluster(), role(asked));
    let inquiry =
        Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
    policy(FILE, Case::Sensitive).explain(&inquiry, &Effort::default()).unwrap()
}

/// Verdict and deciding line.
#[track_caller]
fn check(name: &str, groups: &[&str], asked: &str, expected: (Verdict, Cause, Option<u32>)) {
    let answer = explained(name, groups, asked, &KnownMembers::nothing());
    let line = answer.rule.as_ref().map(|line| line.line);
    assert_eq!((answer.verdict, answer.cause, line), expected, "{answer:#?}");
}

#[test]
fn an_explanation_says_yes_or_no_and_by_which_line() {
    use Cause::{MapFailed, Mapped, MembersUnknown, NoProfile, NotMapped};
    use Verdict::{Allowed, Denied, Unknown};

    check("alice", &[], "r", (Allowed, Mapped, Some(1)));
    check("alice@Y", &[], "alice", (Allowed, Mapped, Some(2)));
    check("alice", &[], "ob", (Denied, NotMapped, None));
    check("eve", &["cn=readers,ou=groups,dc=test"], "r", (Allowed, Mapped, Some(4)));
    check("eve", &["cn=x"], "r", (Allowed, Mapped, Some(5)));
    check("ob", &["cn=x"], "r", (Denied, MapFailed, Some(9)));
    check("zoe", &[], "r", (Unknown, MembersUnknown, None));
    check("zoe", &[], "alice", (Allowed, Mapped, Some(7)));
    check("alice", &[], "nowhere", (Denied, NoProfile, None));
}

#[test]
fn every_line_that_is_asked_says_something() {
    let answer = explained("alice@Y", &["cn=xoo"], "ob", &KnownMembers::nothing());
    let said: Vec<String> = answer
        .asked
        .iter()
        .flat_map(|asked| asked.lines.iter().map(move |line| (asked, line)))
        .map(|(asked, line)| {
            let shown = |text: &Option<String>| text.clone().unwrap_or_default();
            let (capture, gives) = (shown(&line.capture), shown(&line.gives));
            format!("{} {} {:?} {capture} {gives}", asked.map, line.line.line, line.said)
        })
        .collect();
    assert_eq!(
        said,
        [
            "p 1 OtherUser  ",
            "p 2 OtherRole alice alice",
            "p 3 OtherUser  ",
            "p 6 OtherUser  ",
            "p 7 OtherUser  ",
            "p 8 OtherUser  ",
            "p 9 OtherUser  ",
            "g 4 OtherUser  ",
            "g 5 OtherRole oo roo",
            "g 10 OtherUser  ",
        ]
    );
    assert_eq!(answer.asked[1].name, "cn=xoo");
    assert_eq!(answer.asked[1].lines[1].line.text, r"g /^cn=x(.*)$ r\1");
}

#[test]
fn the_scan_ends_at_the_line_that_decides_and_later_groups_are_not_asked() {
    let groups = ["cn=readers,ou=groups,dc=test", "cn=zzz"];
    let answer = explained("eve", &groups, "r", &KnownMembers::nothing());
    assert_eq!(answer.asked.len(), 2);
    assert_eq!(answer.asked[1].lines.last().map(|line| line.said), Some(LineSaid::Allows));
    assert_eq!(answer.by_group.as_deref(), Some(groups[0]));
    let failed = explained("ob", &["cn=x"], "r", &KnownMembers::nothing());
    assert_eq!(failed.asked.len(), 1);
    let last = failed.asked[0].lines.last().unwrap();
    assert_eq!(last.said, LineSaid::Fails);
    assert!(last.error.as_deref().unwrap().contains("no subexpressions"), "{last:?}");
}

#[test]
fn what_is_not_known_is_not_guessed_and_what_is_known_decides() {
    let unknown = explained("zoe", &[], "r", &KnownMembers::nothing());
    assert_eq!(unknown.undecided.iter().map(|line| line.line).collect::<Vec<_>>(), [6]);
    let member = Memberships::of_edges(["r"], [("r", "g1")]);
    let of = |groups: &[&str]| groups.iter().map(|group| group.as_bytes().to_vec()).collect();
    let told = explained("zoe", &[], "r", &KnownMembers::of_groups(of(&["g1"]), member.clone()));
    assert_eq!(told.rule.map(|line| line.line), Some(6));
    let none = Memberships::none();
    let told = explained("zoe", &[], "r", &KnownMembers::of_groups(of(&["g1"]), none.clone()));
    assert_eq!(told.verdict, Verdict::Denied);
    let other = explained("zoe", &[], "r", &KnownMembers::of_groups(of(&["g2"]), none));
    assert_eq!(other.verdict, Verdict::Unknown);
    // Another line lets them in, whatever the members are.
    let either = explained("zoe", &[], "alice", &KnownMembers::nothing());
    assert_eq!(either.verdict, Verdict::Allowed);
    assert_eq!(either.undecided.len(), 1);
}

#[test]
fn whoever_nearly_gets_in_is_told_what_is_different() {
    let near = |name: &str, groups: &[&str], role: &str| -> Vec<(u32, Near)> {
        let answer = explained(name, groups, role, &KnownMembers::nothing());
        answer.near.iter().map(|miss| (miss.line.line, miss.differs)).collect()
    };
    assert_eq!(near("ALICE", &[], "r"), [(1, Near::Case)]);
    assert_eq!(near("alice ", &[], "r"), [(1, Near::Blanks)]);
    assert_eq!(near("alice@Y", &[], "r"), [(1, Near::Realm)]);
    assert_eq!(near("kim", &[], "r"), [(8, Near::Realm)]);
    assert_eq!(near("alice@y", &[], "alice"), [(2, Near::Case)]);
    assert_eq!(near("corp\\bob", &[], "r"), [(3, Near::Case)]);
    assert_eq!(near("eve", &["readers"], "r"), [(4, Near::BareName)]);
    assert_eq!(near("eve", &["cn=bare,dc=test"], "ob"), [(10, Near::BareName)]);
    assert_eq!(near("eve", &["cn=readers, ou=groups, dc=test"], "r"), [(4, Near::Blanks)]);
    assert_eq!(near("eve", &["CN=Readers,OU=groups,DC=test"], "r"), [(4, Near::Case)]);
    assert_eq!(near("mallory", &["cn=writers"], "r"), []);
    assert_eq!(near("alice", &[], "r"), []);
}

#[test]
fn a_role_of_one_network_is_issued_there() {
    use NetworkSaid::{Admitted, NotAdmitted, NotAsked};

    let address = |address: Option<&str>| {
        let (person, cluster, role) = (person("eve", &["bare"]), cluster(), role("ob"));
        let members = &KnownMembers::nothing();
        let address = address.map(|address| address.parse().unwrap());
        let inquiry = Inquiry { person: &person, cluster: &cluster, role: &role, members, address };
        let answer = policy(FILE, Case::Sensitive).explain(&inquiry, &Effort::default()).unwrap();
        (answer.verdict, answer.cause, answer.terms.unwrap().network)
    };
    assert_eq!(address(None), (Verdict::Allowed, Cause::Mapped, NotAsked));
    assert_eq!(address(Some("10.1.1.1")), (Verdict::Allowed, Cause::Mapped, Admitted));
    assert_eq!(address(Some("11.1.1.1")), (Verdict::Denied, Cause::Network, NotAdmitted));
}

#[test]
fn what_is_not_configured_has_no_explanation() {
    let ask = |way: &str, at: &str| {
        let person = UnverifiedPerson::new(way.parse().unwrap(), "alice".into(), Vec::new());
        let (cluster, role, members) = (at.parse().unwrap(), role("r"), &KnownMembers::nothing());
        let inquiry =
            Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
        policy(FILE, Case::Sensitive)
            .explain(&inquiry, &Effort::default())
            .map(|answer| answer.verdict)
    };
    assert_eq!(ask("corp", "orders"), Ok(Verdict::Allowed));
    assert_eq!(
        ask("corp", "nowhere").unwrap_err().to_string(),
        "no cluster `nowhere` is configured; there is `orders`"
    );
    assert_eq!(
        ask("crop", "orders").unwrap_err().to_string(),
        "no way in `crop` is configured; did you mean `corp`?"
    );
}

#[test]
fn a_map_of_many_lines_is_asked_to_the_end_and_listed_in_part() {
    let mut file = "p bob r\n".repeat(LISTED_MAX + 5);
    file.push_str("p alice r\n");
    let (person, cluster, role) = (person("alice", &[]), cluster(), role("r"));
    let members = &KnownMembers::nothing();
    let inquiry =
        Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
    let answer = policy(&file, Case::Sensitive).explain(&inquiry, &Effort::default()).unwrap();
    assert_eq!(answer.verdict, Verdict::Allowed);
    assert_eq!(answer.unlisted_lines, 5);
    assert_eq!(answer.asked[0].lines.len(), LISTED_MAX + 1);
}

/// Each of many groups is asked every line that turns on memberships.
#[test]
fn lines_of_unknown_members_are_listed_in_part_and_told_once_to_be_undecided() {
    let lines: Vec<_> = (0..100).map(|at| format!("g /^.*$ +h{at}\n")).collect();
    let groups: Vec<String> = (0..LISTED_MAX / 100 + 10).map(|at| format!("cn={at}")).collect();
    let person = UnverifiedPerson::new(way(), "eve".to_owned(), groups);
    let (cluster, role, members) = (cluster(), role("r"), &KnownMembers::nothing());
    let inquiry =
        Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
    let answer =
        policy(&lines.concat(), Case::Sensitive).explain(&inquiry, &Effort::default()).unwrap();
    assert_eq!(answer.verdict, Verdict::Unknown);
    let listed: usize = answer.asked.iter().map(|asked| asked.lines.len()).sum();
    assert_eq!((listed, answer.unlisted_lines), (LISTED_MAX, 1000));
    let undecided: Vec<u32> = answer.undecided.iter().map(|line| line.line).collect();
    assert_eq!(undecided, (1..=100).collect::<Vec<_>>());
    assert_eq!(answer.undecided_others, 0);
    assert!(answer.reason.ends_with(":19, pg_ident.conf:20 and 80 more"), "{}", answer.reason);
}

#[test]
fn of_too_many_undecided_lines_the_first_are_told_and_the_others_counted() {
    let lines: Vec<_> = (0..LISTED_MAX + 5).map(|at| format!("p alice +h{at}\n")).collect();
    let mut file = lines.concat();
    let (people, cluster, role) = ([person("alice", &[])], cluster(), role("r"));
    let each = |file: &str, role| {
        let (members, address) = (&KnownMembers::nothing(), None);
        let asked = Inquiries { people: &people, cluster: &cluster, role, members, address };
        policy(file, Case::Sensitive).explain_each(&asked, &Effort::default()).unwrap()
    };
    let one = &each(&file, Some(&role))[0];
    assert_eq!((one.undecided.len(), one.undecided_others), (LISTED_MAX, 5));
    assert_eq!((one.asked[0].lines.len(), one.unlisted_lines), (LISTED_MAX, 5));
    for one in each(&file, None) {
        let most = LISTED_MAX / ROLES.len();
        assert_eq!((one.undecided.len(), one.asked[0].lines.len()), (most, most));
    }
    // What decides is listed in any case.
    file.push_str("p alice r\n");
    let one = &each(&file, Some(&role))[0];
    assert_eq!((one.verdict, one.undecided_others), (Verdict::Allowed, 5));
    assert_eq!((one.asked[0].lines.len(), one.unlisted_lines), (LISTED_MAX + 1, 5));
    assert_eq!(one.asked[0].lines.last().unwrap().said, LineSaid::Allows);
}

#[test]
fn lines_that_nearly_let_in_are_looked_for_when_one_role_is_named() {
    let (policy, members) = (policy(FILE, Case::Sensitive), KnownMembers::nothing());
    let (people, cluster, role) = ([person("ALICE", &[])], cluster(), role("r"));
    let each = |role| {
        let asked = Inquiries {
            people: &people,
            cluster: &cluster,
            role,
            members: &members,
            address: None,
        };
        policy.explain_each(&asked, &Effort::default()).unwrap()
    };
    let [named] = &each(Some(&role))[..] else { panic!("one role is one explanation") };
    assert_eq!((named.near.len(), named.near_unsought), (1, None));
    let all = each(None);
    assert_eq!(all.iter().map(|one| one.role.as_str()).collect::<Vec<_>>(), ROLES);
    for one in all {
        assert_eq!((one.cause, one.near.len()), (Cause::NotMapped, 0));
        assert!(one.near_unsought.unwrap().contains("`--role`"), "{one:?}");
    }
}

#[test]
fn all_roles_together_list_no_more_lines_than_one() {
    let file = "p x r\n".repeat(LISTED_MAX / 2);
    let (policy, members) = (policy(&file, Case::Sensitive), KnownMembers::nothing());
    let (people, cluster) = ([person("alice", &[])], cluster());
    let asked = Inquiries {
        people: &people,
        cluster: &cluster,
        role: None,
        members: &members,
        address: None,
    };
    for one in policy.explain_each(&asked, &Effort::default()).unwrap() {
        let listed = one.asked[0].lines.len();
        assert_eq!((listed, one.unlisted_lines), (LISTED_MAX / 4, LISTED_MAX / 4));
    }
}

/// As many groups as a login may bring, and as many lines as people write: what would take minutes
/// line by line.
#[test]
fn a_keyword_that_is_none_is_told_to_be_the_name_of_a_role() {
    let near = |file: &str, dialect: &str, members: Memberships| -> Vec<String> {
        let (person, cluster, role) = (person("alice", &[]), cluster(), role("r"));
        let members = &KnownMembers::all(members);
        let inquiry =
            Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
        let mut policy = policy("", Case::Sensitive);
        policy.map = IdentMap::parse(dialect.parse().unwrap(), "f", file.as_bytes()).unwrap();
        let answer = policy.explain(&inquiry, &Effort::default()).unwrap();
        answer.near.into_iter().map(|miss| format!("{:?}: {}", miss.differs, miss.detail)).collect()
    };
    let member = || Memberships::of_edges(["r"], [("r", "g1")]);
    let quoted = "in quotes that is the name of a role, and no keyword";
    let told = |gives: &str, why: &str| vec![format!("RoleKeyword: it gives `{gives}`: {why}")];
    assert_eq!(near("p alice \"all\"\n", "16", member()), told("all", quoted));
    assert_eq!(near("p alice \"+g1\"\n", "16", member()), told("+g1", quoted));
    assert_eq!(near("p alice \"+r\"\n", "16", Memberships::none()), told("+r", quoted));
    let old = "only PostgreSQL 16 and newer take that for more than the name of a role";
    assert_eq!(near("p alice all\n", "15", member()), told("all", old));
    // Without the quotes it would give nothing either.
    assert_eq!(near("p alice \"+g2\"\np alice \"+\"\n", "16", member()), [""; 0]);
    assert_eq!(near("p alice all\n", "16", member()), [""; 0]);
}

#[test]
fn near_misses_are_found_without_asking_every_line_of_every_group() {
    let lines = (0..2000).map(|number| format!("g CN=Team{number} r\ng /^x{number}-(.*)$ r\\1\n"));
    let file = lines.collect::<String>();
    let mut groups: Vec<String> = (0..999).map(|number| format!("cn=other{number}")).collect();
    groups.push("cn=team7".to_owned());
    let person = UnverifiedPerson::new(way(), "eve".to_owned(), groups);
    let (cluster, role, members) = (cluster(), role("r"), KnownMembers::nothing());
    let inquiry = Inquiry {
        person: &person,
        cluster: &cluster,
        role: &role,
        members: &members,
        address: None,
    };
    let answer = policy(&file, Case::Sensitive).explain(&inquiry, &Effort::default()).unwrap();
    let near: Vec<_> = answer.near.iter().map(|miss| (miss.line.line, miss.differs)).collect();
    assert_eq!(near, [(15, Near::Case)]);
    assert_eq!(answer.unlisted_lines, 1000 * 4000 - LISTED_MAX);
}

/// Whether the cluster is asked about somebody.
fn asks(file: &str, name: &str, groups: &[&str], asked: Option<&str>) -> bool {
    let (people, asked) = ([person(name, groups)], asked.map(role));
    let policy = policy(file, Case::Sensitive);
    let on = |only: Option<&ClusterName>| {
        policy.clusters_to_ask(&people, only, asked.as_ref(), &Effort::default())
    };
    assert_eq!(on(None), on(Some(&cluster())));
    assert!(on(Some(&"elsewhere".parse().unwrap())).is_empty());
    on(None).contains(&cluster())
}

#[test]
fn a_cluster_is_asked_only_about_what_turns_on_its_members() {
    let file = "p alice +g1\np bob r\np bob +g1\np carol +g1\np carol r\np /^x \\1\np xy +g1\n\
                g cn=a +g1\nother eve +g1\n";
    let asks = |name: &str, groups: &[&str], role: Option<&str>| asks(file, name, groups, role);
    assert!(asks("alice", &[], None) && asks("alice", &[], Some("r")));
    assert!(!asks("alice", &[], Some("elsewhere")), "it is not lent");
    // An earlier line lets him be `r`, and none the others.
    assert!(!asks("bob", &[], Some("r")) && asks("bob", &[], Some("ob")) && asks("bob", &[], None));
    // She may in any case; by which line turns on it.
    assert!(asks("carol", &[], Some("r")));
    assert!(!asks("xy", &[], None), "an earlier line denies");
    assert!(!asks("eve", &[], None) && asks("eve", &["cn=a"], None));
}

/// Asks something, and gives why it has no answer.
type Asking<'q> = &'q dyn Fn(&Effort<'_>) -> Option<InquiryError>;

#[test]
fn what_is_called_off_ends_soon_and_is_no_answer() {
    let names: Vec<_> = (0..5000).map(|at| format!("p /^.*$ o{at}\np u{at} r\n")).collect();
    let mut policy = policy(&names.concat(), Case::Sensitive);
    policy.access = policy.ways[&way()].clone();
    let (person, cluster, role) = (person("alice", &[]), cluster(), role("r"));
    let members = &KnownMembers::all(Memberships::none());
    let inquiry =
        Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
    let people = std::slice::from_ref(&person);
    let asked = Inquiries { people, cluster: &cluster, role: None, members, address: None };
    let questions: [Asking<'_>; 6] = [
        &|effort| policy.explain(&inquiry, effort).err(),
        &|effort| policy.explain_each(&asked, effort).err(),
        &|effort| policy.explain_duty(person.names(), None, Duty::Auditor, effort).err(),
        &|effort| policy.who_can(&cluster, &role, members, effort).err(),
        &|effort| policy.who_has(Duty::Auditor, effort).err(),
        &|effort| policy.what_can(&person, |_| members, effort).err(),
    ];
    for (at, question) in questions.iter().enumerate() {
        let wanted_for = |most: usize| {
            let looked = Cell::new(0);
            let is_called_off = || looked.replace(looked.get() + 1) >= most;
            (question(&Effort::until(&is_called_off)), looked.get())
        };
        let (whole, looked) = wanted_for(usize::MAX);
        assert!(whole.is_none() && looked > 4000, "{at}: {whole:?} after {looked}");
        let (none, looked) = wanted_for(10);
        assert_eq!(none, Some(InquiryError::CalledOff), "{at}");
        assert!(looked < 40, "{at}: it was asked {looked} times");
    }
}

#[test]
fn where_case_does_not_count_it_is_told_how_the_line_spells_it() {
    let (person, cluster, role) = (person("ALICE", &[]), cluster(), role("r"));
    let members = &KnownMembers::nothing();
    let inquiry =
        Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
    let told = |file: &str, case: Case| {
        let answer = policy(file, case).explain(&inquiry, &Effort::default()).unwrap();
        let spelled = answer.asked[0].lines.last().and_then(|line| line.spelled.clone());
        assert_eq!(answer.asked[0].any_case, case == Case::Insensitive);
        (answer.verdict, answer.reason, spelled)
    };
    let (verdict, reason, spelled) = told("p alice R\n", Case::Insensitive);
    let expected = Spelled { name: Some("alice".into()), role: Some("R".into()) };
    assert_eq!((verdict, spelled), (Verdict::Allowed, Some(expected)));
    let said =
        "lets `ALICE` act as `r`; the line has `alice` for the name and `R` for the role, and case";
    assert!(reason.contains(said), "{reason}");
    assert_eq!(told("p alice r\n", Case::Sensitive).0, Verdict::Denied);
    // Spelled as it was asked, or not spelled out at all.
    for file in ["p ALICE r\n", "p /^A.*$ r\n", "p ALICE all\n"] {
        let (verdict, reason, spelled) = told(file, Case::Insensitive);
        assert_eq!((verdict, spelled), (Verdict::Allowed, None), "{file}: {reason}");
        assert!(!reason.contains("case"), "{reason}");
    }
}

#[test]
fn a_group_of_which_nobody_can_be_a_member_is_no_question_to_the_cluster() {
    assert!(asks("p alice +g1\n", "alice", &[], None));
    assert!(!asks("p alice +\n", "alice", &[], None));
    // Not known is said only of what can be known.
    let (person, cluster, role) = (person("alice", &[]), cluster(), role("r"));
    let members = &KnownMembers::nothing();
    let inquiry =
        Inquiry { person: &person, cluster: &cluster, role: &role, members, address: None };
    let verdict = |file: &str| {
        policy(file, Case::Sensitive).explain(&inquiry, &Effort::default()).unwrap().verdict
    };
    assert_eq!(verdict("p alice +\n"), Verdict::Denied);
    assert_eq!(verdict("p alice +g1\n"), Verdict::Unknown);
    assert_eq!(verdict("p alice +r\n"), Verdict::Allowed);
}

#[test]
fn a_duty_is_explained_by_the_maps_of_access_for_every_way_in() {
    let mut policy = policy("d carol auditor\ndg cn=ops operator\n", Case::Sensitive);
    let name = |name: &str| Some(name.parse().unwrap());
    policy.access = Maps { map: name("d"), group_map: name("dg"), case: Case::Sensitive };
    let ask = |user: &str, groups: &[&str], duty| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let names = UnverifiedNames::typed(user.to_owned(), groups).unwrap();
        policy.explain_duty(&names, None, duty, &Effort::default()).unwrap()
    };
    let carol = ask("carol", &[], Duty::Auditor);
    assert_eq!((carol.verdict, carol.cluster, carol.way), (Verdict::Allowed, None, None));
    assert_eq!(carol.unasked_group_map.as_deref(), Some("dg"));
    assert_eq!(ask("carol", &[], Duty::Operator).verdict, Verdict::Denied);
    let eve = ask("eve", &["cn=ops"], Duty::Operator);
    assert_eq!((eve.verdict, eve.by_group.as_deref()), (Verdict::Allowed, Some("cn=ops")));
    assert_eq!(ask("Carol", &[], Duty::Auditor).near[0].differs, Near::Case);
}

fn verdict_of(decision: &MapDecision) -> Verdict {
    match decision {
        MapDecision::Allowed(_) => Verdict::Allowed,
        MapDecision::NoMatch | MapDecision::Failed { .. } => Verdict::Denied,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_explanation_is_what_is_decided(file in maps(), case in cases(), person in people()) {
        let (policy, cluster) = (policy(&file, case), cluster());
        for asked in ROLES {
            for world in worlds() {
                let (role, members) = (role(asked), &known(&world));
                let inquiry = Inquiry {
                    person: &person, cluster: &cluster, role: &role, members, address: None,
                };
                let answer = policy.explain(&inquiry, &Effort::default()).unwrap();
                let decided = brute(&policy, &person, asked, &world);
                prop_assert_eq!(answer.verdict, verdict_of(&decided));
                let line = match &decided {
                    MapDecision::Allowed(rule) | MapDecision::Failed { rule, .. } => Some(rule.line),
                    MapDecision::NoMatch => None,
                };
                prop_assert_eq!(answer.rule.as_ref().map(|line| line.line), line);
            }
        }
    }

    /// With members unknown, yes is yes in every world, no is no in every world, and unknown is
    /// said only where it depends on the world.
    #[test]
    fn an_answer_without_members_holds_whatever_they_are(
        file in maps(), case in cases(), person in people(),
    ) {
        let (policy, cluster, members) = (policy(&file, case), cluster(), KnownMembers::nothing());
        for asked in ROLES {
            let role = role(asked);
            let inquiry = Inquiry {
                person: &person, cluster: &cluster, role: &role, members: &members, address: None,
            };
            let answer = policy.explain(&inquiry, &Effort::default()).unwrap();
            let decisions: Vec<Verdict> = worlds()
                .iter()
                .map(|world| verdict_of(&brute(&policy, &person, asked, world)))
                .collect();
            let same = decisions.iter().all(|verdict| *verdict == decisions[0]);
            let expected = if same { decisions[0] } else { Verdict::Unknown };
            prop_assert_eq!(answer.verdict, expected, "{} {:?}", asked, decisions);
        }
    }

    /// What an index finds is what is found line by line.
    #[test]
    fn a_near_miss_is_found_wherever_it_stands(
        file in maps(), case in cases(), name in select_name(),
    ) {
        let (policy, world) = (policy(&file, case), &worlds()[1]);
        let map = policy.ways[&way()].map.clone().unwrap();
        let nearby = Nearby::of(&policy.map, &map);
        for asked in ROLES.into_iter().chain(["R", "OB"]) {
            let question = Question {
                map: &map, system_user: name.as_bytes(), role: asked.as_bytes(), case, members: world,
            };
            let found: Vec<_> =
                nearby.misses(&question).map(|(rule, near, _)| (rule.reference(), near)).collect();
            let each = policy.map.rules(&map);
            let each: Vec<_> = each
                .filter_map(|rule| Some((rule.reference(), near::miss(rule, &question)?.0)))
                .collect();
            prop_assert_eq!(found, each);
        }
    }
}

fn select_name() -> impl Strategy<Value = String> {
    let more = ["ALICE", "alice ", "a lice", "alice@Y", "X\\alice", "cn=alice,dc=x", "bob@x", "ob"];
    let names: Vec<_> = NAMES.into_iter().chain(more).map(str::to_owned).collect();
    proptest::sample::select(names)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_explanation_is_what_is_decided_also_where_lines_are_too_much_work(
        (file, people) in too_much(),
    ) {
        let (policy, cluster, world) = (policy(&file, Case::Sensitive), cluster(), Memberships::none());
        for person in &people {
            let (role, members) = (role("r"), &known(&world));
            let inquiry = Inquiry { person, cluster: &cluster, role: &role, members, address: None };
            let answer = policy.explain(&inquiry, &Effort::default()).unwrap();
            let decided = brute(&policy, person, "r", &world);
            prop_assert_eq!(answer.verdict, verdict_of(&decided));
            let (line, fails) = match &decided {
                MapDecision::Allowed(rule) => (Some(rule.line), false),
                MapDecision::Failed { rule, .. } => (Some(rule.line), true),
                MapDecision::NoMatch => (None, false),
            };
            prop_assert_eq!(answer.rule.as_ref().map(|line| line.line), line);
            prop_assert_eq!(answer.cause == Cause::MapFailed, fails);
        }
    }
}
