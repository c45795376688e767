//! What each move of a lease may do, and from where.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::auth::Identity;
use crate::lease::{Blocker, BlockerKind};
use crate::mapping::Members;
use crate::mapping::{Case, Dialect, IdentMap, Maps, Policy, Profile, Target};

pub(in crate::lease) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A lease in `state`, asked for at second 0, that ends at 100 and at 200 at the latest.
pub(in crate::lease) fn lease(state: LeaseState) -> Lease {
    let id = "aaaaaaaaaaaaaaaa".parse().unwrap();
    let principal =
        Principal::Ldap { directory: "corp".parse().unwrap(), account: "alice".to_owned() };
    let ending =
        matches!(state, LeaseState::Revoking | LeaseState::Quarantined | LeaseState::Revoked);
    Lease {
        id,
        version: 7,
        state,
        role_name: LeaseRoleName::new(&RolePrefix::default(), &principal, id),
        principal,
        account_id: None,
        cluster: "orders".parse().unwrap(),
        database: "orders".parse().unwrap(),
        role: "orders_read".parse().unwrap(),
        role_oid: (state != LeaseState::Intent).then_some(RoleOid(16_500)),
        requested_at: at(0),
        create_before: at(30),
        expires_at: at(100),
        ceiling: at(200),
        owned_objects: ObjectPolicy::Drop,
        request_key: None,
        reason: None,
        client: "127.0.0.1".parse().unwrap(),
        rule: RuleRef { file: "pg_ident.conf".to_owned(), line: 1 },
        revision: serde_json::from_value("0".repeat(64).into()).unwrap(),
        because: None,
        end: ending.then_some(EndReason::Operator),
        access_ended_at: None,
        gone_at: None,
        attempts: 0,
        retry_at: ending.then(|| at(50)),
        blockers: Vec::new(),
    }
}

/// What alice may have: `orders_read` for an hour, or two at most; her login ends at `ends`.
fn entitlement(ends: Timestamp) -> Entitlement {
    let alice = serde_json::json!({
        "principal": lease(LeaseState::Intent).principal,
        "groups": [],
        "authenticated_at": Timestamp::UNIX_EPOCH,
        "expires_at": ends,
    });
    let (role, database) = ("orders_read".parse().unwrap(), "orders".parse().unwrap());
    let (ttl, max_ttl) = ("1h".parse().unwrap(), "2h".parse().unwrap());
    let profile = Profile {
        owned_objects: ObjectPolicy::Reassign,
        ..Profile::plain(role, database, ttl, max_ttl)
    };
    let maps = Maps { map: Some("corp".parse().unwrap()), group_map: None, case: Case::Sensitive };
    let policy = Policy {
        map: IdentMap::parse(Dialect::default(), "pg_ident.conf", b"corp alice orders_read")
            .unwrap(),
        ways: BTreeMap::from([("corp".parse().unwrap(), maps.clone())]),
        access: Maps::default(),
        targets: vec![Target {
            cluster: "orders".parse().unwrap(),
            profiles: vec![Arc::new(profile)],
        }],
    };
    let alice = Identity::from_session_json(&alice.to_string()).unwrap();
    let address = "127.0.0.1".parse().unwrap();
    policy.entitle(&alice, "orders", "orders_read", address, &Members::none()).unwrap()
}

fn open(ends: i64, ttl: &str, outlive_login: bool) -> Lease {
    let order = Order {
        database: "orders".parse().unwrap(),
        ttl: ttl.parse().unwrap(),
        reason: Some("ticket 7".to_owned()),
        request_key: Some("k".parse().unwrap()),
        client: "10.0.0.7".parse().unwrap(),
    };
    let create_within = "30s".parse().unwrap();
    let terms = Terms { role_prefix: RolePrefix::default(), create_within, outlive_login };
    Lease::open(&entitlement(at(ends)), order, &terms, at(1000), &mut rand::rng())
}

#[test]
fn a_lease_ends_at_the_latest_with_the_profile_s_max_ttl_or_the_login() {
    for (ends, ttl, outlive_login, expires_at, ceiling) in [
        (100_000, "1h", false, 4600, 8200),
        (100_000, "2h", false, 8200, 8200),
        (100_000, "3h", false, 8200, 8200),
        (5000, "1h", false, 4600, 5000),
        (2000, "1h", false, 2000, 2000),
        (2000, "1h", true, 4600, 8200),
    ] {
        let opened = open(ends, ttl, outlive_login);
        let times = (opened.expires_at, opened.ceiling);
        assert_eq!(times, (at(expires_at), at(ceiling)), "{ends} {ttl} {outlive_login}");
        assert!(opened.requested_at < opened.expires_at);
    }
}

#[test]
fn a_new_lease_is_an_intent_that_names_its_order_and_its_evidence() {
    let opened = open(100_000, "1h", false);
    let evidence = entitlement(at(100_000));
    let expected = Lease {
        id: opened.id,
        version: 1,
        state: LeaseState::Intent,
        role_name: LeaseRoleName::new(&RolePrefix::default(), &opened.principal, opened.id),
        requested_at: at(1000),
        create_before: at(1030),
        expires_at: at(4600),
        ceiling: at(8200),
        owned_objects: ObjectPolicy::Reassign,
        request_key: Some("k".parse().unwrap()),
        reason: Some("ticket 7".to_owned()),
        client: "10.0.0.7".parse().unwrap(),
        rule: evidence.rule().clone(),
        revision: evidence.revision().clone(),
        because: Some(evidence.because().clone()),
        ..lease(LeaseState::Intent)
    };
    assert_eq!(opened, expected);
    assert_ne!(open(100_000, "1h", false).id, opened.id);
}

/// The move is allowed from `from` and leads to the state beside it, one version on; from
/// every other state it is an error that names that state.
fn busy() -> Vec<Blocker> {
    vec![Blocker::new(BlockerKind::Object, "owns a table")]
}

#[track_caller]
fn check(go: impl Fn(Lease) -> Result<Lease, MoveError>, from: &[(LeaseState, LeaseState)]) {
    for state in LeaseState::ALL {
        let next = go(lease(state));
        let expected = from.iter().find(|(begin, _)| *begin == state);
        match (next, expected) {
            (Ok(next), Some((_, end))) => {
                assert_eq!((next.state, next.version), (*end, 8), "from {state}");
            }
            (Err(error), None) => {
                assert_eq!(error, MoveError { id: lease(state).id, state });
                assert!(error.to_string().contains(state.as_str()));
            }
            (next, _) => panic!("from {state}: {next:?}"),
        }
    }
}

#[test]
fn a_lease_moves_forward_only() {
    use LeaseState::{Aborted, Active, Intent, Quarantined, Revoked, Revoking};
    check(|lease| lease.activate(RoleOid(1)), &[(Intent, Active)]);
    check(|lease| lease.abort(at(9)), &[(Intent, Aborted)]);
    check(
        |lease| lease.revoke(EndReason::Operator, at(40)),
        &[(Intent, Revoking), (Active, Revoking)],
    );
    check(|lease| lease.end_access(at(9)), &[(Revoking, Revoking), (Quarantined, Quarantined)]);
    check(|lease| lease.hold(busy(), at(9)), &[(Revoking, Revoking), (Quarantined, Quarantined)]);
    check(|lease| lease.close(at(9)), &[(Revoking, Revoked), (Quarantined, Revoked)]);
    check(|lease| lease.declare_gone(at(9)), &[(Revoking, Revoked), (Quarantined, Revoked)]);
    check(|lease| lease.lose(at(9)), &[(Active, Revoked)]);
}

#[test]
fn each_move_writes_down_what_it_means_and_nothing_else() {
    let intent = lease(LeaseState::Intent);
    let active = intent.clone().activate(RoleOid(16_500)).unwrap();
    assert_eq!(active, Lease { version: 8, ..lease(LeaseState::Active) });

    let revoking = active.clone().revoke(EndReason::Released, at(40)).unwrap();
    let (end, retry_at) = (Some(EndReason::Released), Some(at(40)));
    let expected =
        Lease { version: 9, state: LeaseState::Revoking, end, retry_at, ..active.clone() };
    assert_eq!(revoking, expected);

    let harmless = revoking.clone().end_access(at(41)).unwrap();
    assert_eq!(harmless, Lease { version: 10, access_ended_at: Some(at(41)), ..revoking });

    let held = harmless.clone().hold(busy(), at(60)).unwrap();
    let expected = Lease {
        version: 11,
        state: LeaseState::Quarantined,
        attempts: 1,
        retry_at: Some(at(60)),
        blockers: busy(),
        ..harmless
    };
    assert_eq!(held, expected);

    let closed = held.clone().close(at(70)).unwrap();
    let expected = Lease {
        version: 12,
        state: LeaseState::Revoked,
        gone_at: Some(at(70)),
        retry_at: None,
        blockers: Vec::new(),
        ..held
    };
    assert_eq!(closed, expected);

    let lost = active.clone().lose(at(50)).unwrap();
    let expected = Lease {
        version: 9,
        state: LeaseState::Revoked,
        end: Some(EndReason::Lost),
        access_ended_at: Some(at(50)),
        gone_at: Some(at(50)),
        ..active
    };
    assert_eq!(lost, expected);

    let aborted = intent.clone().abort(at(35)).unwrap();
    let expected = Lease {
        version: 8,
        state: LeaseState::Aborted,
        end: Some(EndReason::Undelivered),
        access_ended_at: Some(at(35)),
        gone_at: Some(at(35)),
        ..intent
    };
    assert_eq!(aborted, expected);
}

#[test]
fn a_lease_is_quarantined_only_once_nobody_can_use_it() {
    let revoking = lease(LeaseState::Revoking);
    let usable = revoking.clone().hold(busy(), at(60)).unwrap();
    assert_eq!(usable.state, LeaseState::Revoking);
    let harmless = usable.end_access(at(61)).unwrap();
    assert_eq!(harmless.state, LeaseState::Revoking);
    let held = harmless.hold(busy(), at(90)).unwrap();
    assert_eq!((held.state, held.attempts), (LeaseState::Quarantined, 2));
}

#[test]
fn the_first_time_that_access_ended_is_the_one_that_counts() {
    let ended = lease(LeaseState::Revoking).end_access(at(60)).unwrap();
    let again = ended.end_access(at(70)).unwrap();
    assert_eq!(again.access_ended_at, Some(at(60)));
    assert_eq!(again.close(at(80)).unwrap().access_ended_at, Some(at(60)));
    let closed = lease(LeaseState::Revoking).close(at(80)).unwrap();
    assert_eq!(closed.access_ended_at, Some(at(80)));
}

#[test]
fn a_renewal_that_the_cluster_did_not_follow_leaves_the_earlier_end() {
    let renewed =
        |ttl: &str| lease(LeaseState::Active).renew(at(50), ttl.parse().unwrap()).unwrap();
    let failed = |ttl| renewed(ttl).renewal_failed(at(100)).unwrap();
    assert_eq!((failed("120s").expires_at, failed("120s").version), (at(100), 9));
    assert_eq!(failed("10s").expires_at, at(60));
    let ending = renewed("120s").revoke(EndReason::Released, at(40)).unwrap();
    assert!(ending.renewal_failed(at(100)).is_err());
}

#[test]
fn a_renewal_counts_from_now_and_ends_at_the_ceiling() {
    let renew = |now, ttl: &str| {
        let renewed = lease(LeaseState::Active).renew(at(now), ttl.parse().unwrap())?;
        assert_eq!(
            renewed,
            Lease { version: 8, expires_at: renewed.expires_at, ..lease(LeaseState::Active) }
        );
        Ok(renewed.expires_at)
    };
    assert_eq!(renew(50, "60s"), Ok(at(110)));
    assert_eq!(renew(50, "10s"), Ok(at(60)), "a shorter life is granted too");
    assert_eq!(renew(50, "150s"), Ok(at(200)));
    assert_eq!(renew(50, "366d"), Ok(at(200)));
    assert_eq!(renew(99, "1s"), Ok(at(100)));
    assert_eq!(renew(100, "1s"), Err(RenewError::Expired { expires_at: at(100) }));
    assert_eq!(renew(500, "1h"), Err(RenewError::Expired { expires_at: at(100) }));
}

#[test]
fn who_asks_for_more_time_never_gets_less() {
    let prolong = |now, ttl: &str| {
        let lease = lease(LeaseState::Active).prolong(at(now), ttl.parse().unwrap())?;
        assert_eq!(lease.version, 8);
        Ok(lease.expires_at)
    };
    assert_eq!(prolong(50, "10s"), Ok(at(100)));
    assert_eq!(prolong(50, "60s"), Ok(at(110)));
    assert_eq!(prolong(50, "366d"), Ok(at(200)));
    assert_eq!(prolong(100, "60s"), Err(RenewError::Expired { expires_at: at(100) }));
}

#[test]
fn only_an_active_lease_is_renewed() {
    for state in LeaseState::ALL {
        let renewed = lease(state).renew(at(50), "60s".parse().unwrap());
        let expected = RenewError::NotActive { state };
        assert_eq!(renewed.err(), (state != LeaseState::Active).then_some(expected));
    }
}

#[test]
fn what_remains_is_whole_seconds_and_at_least_one() {
    let lease = lease(LeaseState::Active);
    let millis = |count| Timestamp::from_millisecond(count).unwrap();
    for (now, seconds) in
        [(0, 100), (1, 100), (999, 100), (1000, 99), (99_001, 1), (100_000, 1), (900_000, 1)]
    {
        assert_eq!(lease.remaining(millis(now)).seconds(), seconds, "{now} ms");
    }
}

#[test]
fn a_state_has_one_word_everywhere() {
    for state in LeaseState::ALL {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        assert_eq!(state.to_string(), state.as_str());
    }
    let finals = LeaseState::ALL.into_iter().filter(|state| state.is_final());
    assert!(finals.eq([LeaseState::Revoked, LeaseState::Aborted]));
    assert!(serde_json::from_value::<LeaseState>("zombie".into()).is_err());
}

#[test]
fn a_role_is_made_in_time_or_not_at_all() {
    let intent = lease(LeaseState::Intent);
    let left = |now| intent.time_to_make(at(now)).map(|left| left.as_secs());
    assert_eq!((left(0), left(29), left(30), left(31)), (Some(30), Some(1), None, None));
    let short = Lease { expires_at: at(10), ..intent.clone() };
    assert!(short.time_to_make(at(9)).is_some());
    assert_eq!(short.time_to_make(at(10)), None);
}
