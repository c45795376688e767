//! What the tests of questions stand on: a policy around any map, and random maps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use jiff::Timestamp;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::auth::Identity;
use crate::mapping::scan::KnownMembers;
use crate::mapping::{
    Case, Dialect, IdentMap, MapDecision, Maps, Memberships, Policy, Profile, Question, Target,
    UnverifiedPerson,
};
use crate::names::{ClusterName, Principal, RoleName, WayName};

pub(in crate::mapping) const WAY: &str = "corp";
pub(in crate::mapping) const CLUSTER: &str = "orders";
/// An address that every role is issued to.
pub(in crate::mapping) const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
/// What the cluster lends.
pub(in crate::mapping) const ROLES: [&str; 4] = ["r", "alice", "ob", "g1"];
/// Names of people and of groups.
pub(in crate::mapping) const NAMES: [&str; 8] =
    ["alice", "Alice", "bob", "ob", "a", "r", "", "x@y"];
pub(in crate::mapping) const GROUPS: [&str; 4] = ["cn=a", "cn=r", "CN=a", "alice"];

const USERS: [&str; 19] = [
    "alice",
    "Alice",
    "bob",
    "cn=a",
    "cn=r",
    r"/^(.*)$",
    "/^.*$",
    r"/^(a.*)$",
    r"/^(b)?ob$",
    "/^a.*$",
    r"/^cn=(.*)$",
    r"/^(b|r)?$",
    "/^(x)@y$",
    "/^bob$",
    "/^b?ob$",
    "/^b",
    "/a$^b",
    "/^[ab]o?b?$",
    "/^a(l|b)(?:ice)?$",
];
const GIVEN: [&str; 12] =
    ["r", "R", "alice", "ob", "all", "\"all\"", r"\1", r"o\1", r"\1b", "+g1", "+g2", "/^r.*$"];

pub(in crate::mapping) fn profile(role: &str) -> Arc<Profile> {
    let (database, ttl) = ("orders".parse().unwrap(), "1h".parse().unwrap());
    Arc::new(Profile {
        networks: (role == "ob").then(|| vec!["10.0.0.0/8".parse().unwrap()]),
        ..Profile::plain(role.parse().unwrap(), database, ttl, "8h".parse().unwrap())
    })
}

/// A policy whose one way in asks map `p` about people and map `g` about groups.
pub(in crate::mapping) fn policy(map: &str, case: Case) -> Policy {
    let name = |name: &str| Some(name.parse().unwrap());
    let maps = Maps { map: name("p"), group_map: name("g"), case };
    let target =
        Target { cluster: cluster(), profiles: ROLES.iter().map(|role| profile(role)).collect() };
    Policy {
        map: IdentMap::parse(Dialect::default(), "pg_ident.conf", map.as_bytes()).unwrap(),
        ways: BTreeMap::from([(way(), maps)]),
        access: Maps::default(),
        targets: vec![target],
    }
}

pub(in crate::mapping) fn cluster() -> ClusterName {
    CLUSTER.parse().unwrap()
}

pub(in crate::mapping) fn way() -> WayName {
    WAY.parse().unwrap()
}

pub(in crate::mapping) fn role(name: &str) -> RoleName {
    name.parse().unwrap()
}

pub(in crate::mapping) fn person(name: &str, groups: &[&str]) -> UnverifiedPerson {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    UnverifiedPerson::new(way(), name.to_owned(), groups)
}

/// Every combination of which of `g1` and `g2` each role of the cluster is a member of. All that
/// are lent exist: of another nothing could be issued.
pub(in crate::mapping) fn worlds() -> Vec<Memberships> {
    let groups: [&[&str]; 4] = [&[], &["g1"], &["g2"], &["g1", "g2"]];
    let world = |groups: &[&'static str]| {
        let edges = ["r", "alice", "ob"].into_iter();
        let edges = edges.flat_map(|role| groups.iter().map(move |group| (role, *group)));
        let between = groups.contains(&"g2").then_some(("g1", "g2"));
        let edges = edges.chain(between);
        Memberships::of_edges(ROLES, edges.collect::<Vec<_>>())
    };
    groups.into_iter().map(world).collect()
}

/// The decision, taken map by map and name by name as PostgreSQL would be asked.
pub(in crate::mapping) fn brute(
    policy: &Policy,
    person: &UnverifiedPerson,
    role: &str,
    members: &Memberships,
) -> MapDecision {
    let maps = &policy.ways[person.way()];
    let mut names: Vec<(_, &str)> = Vec::new();
    names.extend(maps.map.iter().map(|map| (map, person.system_user())));
    for group in person.groups() {
        names.extend(maps.group_map.iter().map(|map| (map, group.as_str())));
    }
    for (map, name) in names {
        let (system_user, role, case) = (name.as_bytes(), role.as_bytes(), maps.case);
        let decision = policy.map.decide(&Question { map, system_user, role, case, members });
        if decision != MapDecision::NoMatch {
            return decision;
        }
    }
    MapDecision::NoMatch
}

/// Files of up to nine lines, of those that are understood at all.
pub(in crate::mapping) fn maps() -> impl Strategy<Value = String> {
    let lines = USERS.iter().flat_map(|user| GIVEN.iter().map(move |given| (user, given)));
    let lines = lines.map(|(user, given)| format!("{user} {given}\n"));
    let is_understood = |line: &String| {
        let line = format!("p {line}");
        IdentMap::parse(Dialect::default(), "pg_ident.conf", line.as_bytes()).is_ok()
    };
    let lines: Vec<String> = lines.filter(is_understood).collect();
    let line = (select(vec!["p", "p", "g", "g", "other"]), select(lines));
    let line = line.prop_map(|(map, line)| format!("{map} {line}"));
    prop::collection::vec(line, 0..10).prop_map(|lines| lines.concat())
}

pub(in crate::mapping) fn cases() -> impl Strategy<Value = Case> {
    select(vec![Case::Sensitive, Case::Insensitive])
}

pub(in crate::mapping) fn people() -> impl Strategy<Value = UnverifiedPerson> {
    let groups = subsequence(GROUPS.to_vec(), 0..=GROUPS.len());
    (select(&NAMES[..]), groups).prop_map(|(name, groups)| person(name, &groups))
}

pub(in crate::mapping) fn known(world: &Memberships) -> KnownMembers {
    KnownMembers::all(world.clone())
}

/// The same person, proven.
pub(in crate::mapping) fn identity(person: &UnverifiedPerson) -> Identity {
    let (directory, account) = (person.way().clone(), person.system_user().to_owned());
    let identity = serde_json::json!({
        "principal": Principal::Ldap { directory, account },
        "groups": person.groups(),
        "authenticated_at": Timestamp::UNIX_EPOCH,
        "expires_at": Timestamp::from_second(3600).unwrap(),
    });
    Identity::from_session_json(&identity.to_string()).unwrap()
}

/// Files with lines that are too much work for some names, and people of such names.
pub(in crate::mapping) fn too_much() -> impl Strategy<Value = (String, Vec<UnverifiedPerson>)> {
    const HEAVY: &str = "^((?:a?b?)*?)*(?:a|b)*?(?=a*b*$)(.*)";
    let heavy = ["", "Zz", "Yy.*", "Zz.*Yy"].map(|end| format!("/{HEAVY}{end}$"));
    let users = heavy.into_iter().chain(["/b[A-Za-z]*$", "alice", "/Zz"].map(str::to_owned));
    let lines: Vec<String> = users
        .flat_map(|user| ["r", "alice", r"\1"].map(|given| format!("{user} {given}\n")))
        .filter(|line| {
            let line = format!("p {line}");
            IdentMap::parse(Dialect::default(), "pg_ident.conf", line.as_bytes()).is_ok()
        })
        .collect();
    let line =
        (select(vec!["p", "g"]), select(lines)).prop_map(|(map, line)| format!("{map} {line}"));
    let file = prop::collection::vec(line, 1..7).prop_map(|lines| lines.concat());
    let long = "ab".repeat(20_000);
    let names = ["", "Zz", "Yy", "ZzYy"].map(|end| long.clone() + end);
    let names: Vec<String> =
        names.into_iter().chain(["alice".to_owned(), "bZz".to_owned()]).collect();
    let groups = subsequence(names.clone(), 0..=2);
    let person = (select(names), groups)
        .prop_map(|(name, groups)| UnverifiedPerson::new(way(), name, groups));
    (file, prop::collection::vec(person, 1..4))
}
