use jiff::Timestamp;

use super::*;
use crate::mapping::{Case, Dialect, IdentMap, MapDecision};
use crate::names::Principal;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));
const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// Line numbers below are those of this text.
const MAP: &str = r"corp        alice            orders_read
corp        /^(.*)@test$     \1
corp        alice            orders_admin
groups      cn=writers       orders_write
groups      cn=readers       orders_read
groups      /^cn=x(.*)$      \1
duties      alice            auditor
duty-groups cn=operators     operator
broken      /^bob$           \1
broken      bob              orders_read
partner     alice            orders_write
";

fn profile(role: &str, networks: Option<&str>) -> Arc<Profile> {
    let (database, ttl) = ("orders".parse().unwrap(), "1h".parse().unwrap());
    Arc::new(Profile {
        networks: networks.map(|network| vec![network.parse().unwrap()]),
        ..Profile::plain(role.parse().unwrap(), database, ttl, "8h".parse().unwrap())
    })
}

fn maps(map: Option<&str>, group_map: Option<&str>) -> Maps {
    let name = |name: &str| name.parse().unwrap();
    Maps { map: map.map(name), group_map: group_map.map(name), case: Case::Sensitive }
}

fn policy() -> Policy {
    let ways = [
        ("corp", maps(Some("corp"), Some("groups"))),
        ("partner", maps(Some("partner"), None)),
        ("mapless", maps(None, None)),
        ("broken", maps(Some("broken"), Some("groups"))),
    ];
    let target = |cluster: &str, profiles| Target { cluster: cluster.parse().unwrap(), profiles };
    Policy {
        map: IdentMap::parse(Dialect::default(), "pg_ident.conf", MAP.as_bytes()).unwrap(),
        ways: ways.into_iter().map(|(way, maps)| (way.parse().unwrap(), maps)).collect(),
        access: maps(Some("duties"), Some("duty-groups")),
        targets: vec![
            target(
                "orders",
                vec![
                    profile("orders_read", None),
                    profile("orders_write", None),
                    profile("orders_admin", Some("10.0.0.0/8")),
                ],
            ),
            target("reports", vec![profile("orders_read", None)]),
            target("empty", vec![]),
        ],
    }
}

fn identity(way: &str, account: &str, groups: &[&str]) -> Identity {
    let (directory, account) = (way.parse().unwrap(), account.to_owned());
    let identity = serde_json::json!({
        "principal": Principal::Ldap { directory, account },
        "groups": groups,
        "authenticated_at": Timestamp::UNIX_EPOCH,
        "expires_at": Timestamp::from_second(3600).unwrap(),
    });
    Identity::from_session_json(&identity.to_string()).unwrap()
}

/// The identity may act as `role` on `cluster` by this line of the map, or it may not.
#[track_caller]
fn check(identity: &Identity, cluster: &str, role: &str, line: Option<u32>) {
    let entitled = policy().entitle(identity, cluster, role, HOME, &Members::none());
    assert_eq!(entitled.as_ref().ok().map(|entitled| entitled.rule().line), line, "{entitled:?}");
    if let Ok(entitled) = entitled {
        assert_eq!(entitled.identity(), identity);
        assert_eq!(entitled.cluster().as_str(), cluster);
        assert_eq!(entitled.profile().role.as_str(), role);
        assert_eq!(entitled.revision(), policy().map.revision());
    }
}

#[test]
fn a_person_may_be_what_the_map_of_their_way_in_says() {
    let alice = identity("corp", "alice", &[]);
    check(&alice, "orders", "orders_read", Some(1));
    check(&alice, "reports", "orders_read", Some(1));
    check(&alice, "orders", "orders_admin", Some(3));
    check(&alice, "orders", "orders_write", None);
    check(&identity("corp", "orders_write@test", &[]), "orders", "orders_write", Some(2));
    check(&identity("corp", "Alice", &[]), "orders", "orders_read", None);
    check(&identity("corp", "", &[]), "orders", "orders_read", None);
}

#[test]
fn the_same_name_from_another_way_in_is_somebody_else() {
    check(&identity("partner", "alice", &[]), "orders", "orders_write", Some(11));
    check(&identity("partner", "alice", &[]), "orders", "orders_read", None);
    check(&identity("mapless", "alice", &["cn=writers"]), "orders", "orders_write", None);
    check(&identity("unknown", "alice", &["cn=writers"]), "orders", "orders_read", None);
}

#[test]
fn a_group_lets_in_whom_the_person_s_own_name_does_not() {
    check(&identity("corp", "bob", &["cn=writers"]), "orders", "orders_write", Some(4));
    check(&identity("corp", "bob", &["cn=other", "cn=readers"]), "orders", "orders_read", Some(5));
    check(&identity("corp", "bob", &["cn=xorders_read"]), "orders", "orders_read", Some(6));
    check(&identity("corp", "bob", &["cn=Writers"]), "orders", "orders_write", None);
    check(&identity("corp", "alice", &["cn=readers"]), "orders", "orders_read", Some(1));
    // A group is no person and a person no group, whatever they are called.
    check(&identity("corp", "cn=writers", &[]), "orders", "orders_write", None);
    check(&identity("corp", "bob", &["alice"]), "orders", "orders_read", None);
    check(&identity("partner", "bob", &["cn=writers"]), "orders", "orders_write", None);
}

#[test]
fn each_refusal_says_why() {
    let policy = policy();
    let alice = identity("corp", "alice", &[]);
    let why = |identity: &Identity, cluster, role, address| {
        policy.entitle(identity, cluster, role, address, &Members::none()).unwrap_err()
    };
    let unknown = why(&alice, "Orders", "orders_read", HOME);
    assert_eq!(unknown, Refusal::UnknownCluster("Orders".to_owned()));
    let no_profile = why(&alice, "empty", "orders_read", HOME);
    let (cluster, role) = ("empty".parse().unwrap(), "orders_read".to_owned());
    assert_eq!(no_profile, Refusal::NoProfile { cluster, role });
    let not_mapped = why(&alice, "orders", "orders_write", HOME);
    let (principal, role) = (alice.principal().clone(), "orders_write".parse().unwrap());
    assert_eq!(not_mapped, Refusal::NotMapped { principal, role });
    let away = why(&alice, "orders", "orders_admin", AWAY);
    let role = "orders_admin".parse().unwrap();
    assert_eq!(away, Refusal::NetworkNotAdmitted { role, address: AWAY });
}

#[test]
fn a_role_of_one_network_is_issued_there_whatever_the_address_wears() {
    let alice = identity("corp", "alice", &[]);
    let admitted = |address: &str| {
        let address = address.parse().unwrap();
        policy().entitle(&alice, "orders", "orders_admin", address, &Members::none())
    };
    assert!(admitted("10.255.0.1").is_ok());
    assert!(admitted("::ffff:10.0.0.1").is_ok());
    assert!(admitted("11.0.0.1").is_err());
    assert!(admitted("::ffff:11.0.0.1").is_err());
    assert!(admitted("::1").is_err());
}

#[test]
fn a_line_that_fails_denies_and_no_later_line_or_group_is_asked() {
    let bob = identity("broken", "bob", &["cn=readers"]);
    let refusal =
        policy().entitle(&bob, "orders", "orders_read", HOME, &Members::none()).unwrap_err();
    assert!(matches!(&refusal, Refusal::MapFailed { rule, .. } if rule.line == 9), "{refusal}");
    check(&identity("broken", "carol", &["cn=readers"]), "orders", "orders_read", Some(5));
}

#[test]
fn all_that_a_person_may_be_is_what_each_wish_would_give() {
    let policy = policy();
    let offered = |identity: &Identity, address| -> Vec<String> {
        let offered = policy.offers(identity, address, &Members::none()).entitlements;
        let named = |it: &Entitlement| format!("{}/{}", it.cluster(), it.profile().role);
        offered.iter().map(named).collect()
    };
    let alice = identity("corp", "alice", &["cn=writers"]);
    let everywhere = ["orders/orders_read", "orders/orders_write", "reports/orders_read"];
    assert_eq!(offered(&alice, AWAY), everywhere);
    let [read, write, reports] = everywhere;
    assert_eq!(offered(&alice, HOME), [read, write, "orders/orders_admin", reports]);
    assert!(offered(&identity("corp", "nobody", &[]), HOME).is_empty());
    assert!(offered(&identity("broken", "bob", &["cn=readers"]), HOME).is_empty());
}

/// Line numbers below are those of this text.
const MEMBERS: &str = r"corp   alice         +staff
corp   bob           +staff
corp   bob           orders_write
corp   alice         orders_write
groups cn=writers    orders_read
groups cn=readers    +readers
";

fn by_members(case: Case) -> Policy {
    let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", MEMBERS.as_bytes()).unwrap();
    let mut policy = policy().with_map(map);
    policy.ways.values_mut().for_each(|maps| maps.case = case);
    policy
}

fn members(edges: &[(&str, &str)]) -> Members {
    let known = Memberships::of_edges(["orders_read", "orders_write"], edges.iter().copied());
    [("orders".parse().unwrap(), known)].into_iter().collect()
}

#[test]
fn a_line_for_the_members_of_a_role_lets_in_as_whom_the_cluster_says_is_one() {
    let policy = by_members(Case::Sensitive);
    let line = |identity: &Identity, role: &str, members: &Members| {
        let entitled = policy.entitle(identity, "orders", role, HOME, members);
        entitled.map(|entitled| entitled.rule().line)
    };
    let alice = identity("corp", "alice", &[]);
    let not_known = |role: &str| {
        let (cluster, role) = ("orders".parse().unwrap(), role.parse().unwrap());
        Err(Refusal::MembersUnknown { cluster, role })
    };
    let staff = [("orders_read", "devs"), ("devs", "staff")];
    assert_eq!(line(&alice, "orders_read", &Members::none()), not_known("orders_read"));
    assert_eq!(line(&alice, "orders_read", &members(&staff)), Ok(1));
    let refused = line(&alice, "orders_read", &members(&[("orders_read", "devs")]));
    assert_eq!(refused.unwrap_err().word(), "not_mapped");
    // Allowed either way, but by which line is not known.
    assert_eq!(line(&alice, "orders_write", &Members::none()), not_known("orders_write"));
    assert_eq!(line(&alice, "orders_write", &members(&staff)), Ok(4));
    let both = [("orders_write", "staff")];
    assert_eq!(line(&alice, "orders_write", &members(&both)), Ok(1));
    // Nobody need be asked for whom no such line is.
    let writer = identity("corp", "carol", &["cn=writers"]);
    assert_eq!(line(&writer, "orders_read", &Members::none()), Ok(5));
    let nobody = identity("corp", "carol", &[]);
    let refused = line(&nobody, "orders_read", &Members::none());
    assert_eq!(refused.unwrap_err().word(), "not_mapped");
}

#[test]
fn what_turns_on_unknown_memberships_is_offered_by_nobody_and_told_to_be_undecided() {
    let policy = by_members(Case::Sensitive);
    let alice = identity("corp", "alice", &["cn=writers"]);
    let offered = |members: &Members| {
        let Offers { entitlements, undecided } = policy.offers(&alice, HOME, members);
        let offered = |it: &Entitlement| format!("{}/{}", it.cluster(), it.profile().role);
        let unknown = undecided.iter().map(|(cluster, role)| format!("{cluster}/{role}"));
        (entitlements.iter().map(offered).collect::<Vec<_>>(), unknown.collect::<Vec<_>>())
    };
    let (known, unknown) = offered(&Members::none());
    assert!(known.is_empty(), "{known:?}");
    let all = ["orders/orders_read", "orders/orders_write", "orders/orders_admin"];
    assert_eq!(unknown, [&all[..], &["reports/orders_read"]].concat());
    let (known, unknown) = offered(&members(&[("orders_read", "staff")]));
    assert_eq!(known, ["orders/orders_read", "orders/orders_write"]);
    assert_eq!(unknown, ["reports/orders_read"]);
}

#[test]
fn what_let_somebody_in_lets_them_in_again_by_the_same_revision() {
    let policy = by_members(Case::Insensitive);
    let none = Memberships::none();
    let again = |identity: &Identity, role: &str, edges: &[(&str, &str)]| {
        let entitled = policy.entitle(identity, "orders", role, HOME, &members(edges)).unwrap();
        let kept = serde_json::to_string(entitled.because()).unwrap();
        let because: Because = serde_json::from_str(&kept).unwrap();
        assert_eq!(because, *entitled.because());
        let decided = policy.map.decide(&because.question(role.as_bytes(), &none));
        assert_eq!(decided, MapDecision::Allowed(entitled.rule().clone()));
        kept
    };
    let staff = [("orders_read", "devs"), ("devs", "staff"), ("orders_read", "unasked")];
    let kept = again(&identity("corp", "Alice", &[]), "orders_read", &staff);
    assert!(kept.contains(r#""matched":{"name":"Alice"},"case":"insensitive""#), "{kept}");
    assert!(kept.contains("staff") && !kept.contains("unasked"), "{kept}");
    let kept = again(
        &identity("corp", "x", &["cn=a", "cn=readers"]),
        "orders_read",
        &[("orders_read", "readers")],
    );
    assert!(kept.contains(r#""matched":{"group":"cn=readers"}"#), "{kept}");
}

#[test]
fn what_was_captured_is_kept_with_what_let_somebody_in() {
    let capture = |account: &str, role: &str| {
        let person = identity("corp", account, &[]);
        let entitled = policy().entitle(&person, "orders", role, HOME, &Members::none());
        entitled.unwrap().because().capture.clone()
    };
    assert_eq!(capture("orders_write@test", "orders_write").as_deref(), Some("orders_write"));
    assert_eq!(capture("alice", "orders_read"), None);
}

#[test]
fn a_map_that_does_not_fit_the_configuration_is_told_why() {
    let policy = policy();
    let missing = |text: &str| {
        let map = IdentMap::parse(Dialect::default(), "f", text.as_bytes()).unwrap();
        policy.misfits(&map)
    };
    assert!(missing(MAP).is_empty());
    assert_eq!(missing("").len(), 7);
    let told = missing(&MAP.replace("duties  ", "dutys   "));
    assert_eq!(told, ["[access] uses map `duties`, which has no line in the file"]);
    let told = missing(&format!("{MAP}duties bob +auditor\n"));
    assert_eq!(told, ["f:12: `+role` in a map of [access], whose roles are of no cluster"]);
}

#[test]
fn duties_come_from_the_access_maps_alone() {
    let duties = |identity: &Identity| {
        let Duties { auditor, operator } = policy().duties(identity);
        (auditor, operator)
    };
    assert_eq!(duties(&identity("corp", "alice", &[])), (true, false));
    assert_eq!(duties(&identity("corp", "bob", &["cn=operators"])), (false, true));
    assert_eq!(duties(&identity("corp", "alice", &["cn=operators"])), (true, true));
    assert_eq!(duties(&identity("corp", "auditor@test", &["cn=xoperator"])), (false, false));
    let without = Policy { access: Maps::default(), ..policy() };
    assert_eq!(without.duties(&identity("corp", "alice", &["cn=operators"])), Duties::default());
}
