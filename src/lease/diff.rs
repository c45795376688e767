//! What the store believes against what the cluster holds.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Lease, LeaseState, MarkerReading};
use crate::names::{LeaseId, LeaseRoleName, RoleOid};

/// How much longer than its lease a role may be good for: times are rounded up and take their way.
const ROUNDED: SignedDuration = SignedDuration::from_secs(5);

/// A role found on a cluster that has a mark, or a name like ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRole {
    /// Its OID.
    pub oid: RoleOid,
    /// Its name now; a DBA may have changed it.
    pub name: String,
    /// What its comment says.
    pub marker: MarkerReading,
    /// How long its password is good for, by the cluster's clock; nothing if for ever.
    pub valid_for: Option<SignedDuration>,
}

impl FoundRole {
    /// Whether it is the role that was made for `lease`: by its OID or the name that it was given,
    /// or, if nothing is `known` of the lease, by a name that leads back to it. A mark alone can be
    /// copied, and so can a part of a name.
    #[must_use]
    pub fn is_of(&self, lease: LeaseId, known: Option<&Lease>) -> bool {
        let Some(known) = known else { return leads_to(&self.name, lease) };
        known.role_oid == Some(self.oid) || known.role_name.as_str() == self.name
    }
}

/// Whether the name is that of a role made for `lease`: mark and name agree.
#[must_use]
pub fn leads_to(name: &str, lease: LeaseId) -> bool {
    let name = LeaseRoleName::try_from(name.to_owned()).ok();
    name.and_then(|name| name.lease_id()) == Some(lease)
}

/// A lease that is not final, reduced to what a cluster can be held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveLease {
    /// Its id.
    pub id: LeaseId,
    /// How often it has moved.
    pub version: u32,
    /// Where it stands.
    pub state: LeaseState,
    /// OID of its own role, once known.
    pub role_oid: Option<RoleOid>,
    /// Until when its role may be made.
    pub create_before: Timestamp,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

impl From<&Lease> for LiveLease {
    fn from(lease: &Lease) -> Self {
        let Lease { id, version, state, role_oid, create_before, expires_at, .. } = *lease;
        Self { id, version, state, role_oid, create_before, expires_at }
    }
}

/// One difference between store and cluster, and so what must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A role with our mark whose lease is unknown or over: it is taken away, if it is the role
    /// that was made for it ([`FoundRole::is_of`]).
    Orphan {
        /// The role.
        role: FoundRole,
        /// The lease its mark names.
        lease: LeaseId,
    },
    /// An intent whose time is over and whose role exists: nobody got its password.
    Undelivered {
        /// The lease.
        lease: LeaseId,
    },
    /// An intent whose time is over and whose role does not exist.
    NeverMade {
        /// The lease.
        lease: LeaseId,
    },
    /// An active lease whose role is gone.
    Lost {
        /// The lease.
        lease: LeaseId,
    },
    /// An active lease whose role can be logged in to for longer than the lease lasts: a renewal that
    /// failed may have reached the cluster.
    Outlived {
        /// The lease.
        lease: LeaseId,
    },
    /// A role with a name like ours, without our mark, or with a copied one: reported, never
    /// touched.
    Stranger {
        /// The role.
        role: FoundRole,
    },
}

/// Compares the `roles` found on a cluster with the `leases` of that cluster that are not final.
///
/// The roles must have been read *before* the leases: the intent is in the store before its role
/// exists, so a role without a lease is then surely an orphan. A lease without a role may be
/// newer than the reading; the caller looks by OID once more before it calls it lost.
/// An intent counts as over at `now` when its time to be made is past.
#[must_use]
pub fn compare(roles: &[FoundRole], leases: &[LiveLease], now: Timestamp) -> Vec<Finding> {
    let by_id: BTreeMap<LeaseId, &LiveLease> =
        leases.iter().map(|lease| (lease.id, lease)).collect();
    let mut found: BTreeMap<LeaseId, &FoundRole> = BTreeMap::new();
    let mut findings = Vec::new();
    for role in roles {
        match role.marker {
            MarkerReading::Foreign => {}
            MarkerReading::Invalid => findings.push(Finding::Stranger { role: role.clone() }),
            MarkerReading::Ours(lease) => {
                let known = by_id.get(&lease);
                if known.is_none() {
                    findings.push(Finding::Orphan { role: role.clone(), lease });
                } else if known.is_some_and(|known| is_copy(known, role)) {
                    findings.push(Finding::Stranger { role: role.clone() });
                } else {
                    found.insert(lease, role);
                }
            }
        }
    }
    findings.extend(
        leases.iter().filter_map(|lease| overdue(lease, found.contains_key(&lease.id), now)),
    );
    let outlived = leases.iter().filter(|lease| is_outlived(lease, &found, now));
    findings.extend(outlived.map(|lease| Finding::Outlived { lease: lease.id }));
    findings
}

/// Whether the lease is active and its role's password good for longer than it lasts. Lengths are
/// compared and not times, so that it does not matter what the clocks show.
fn is_outlived(lease: &LiveLease, found: &BTreeMap<LeaseId, &FoundRole>, now: Timestamp) -> bool {
    let Some(role) = found.get(&lease.id) else { return false };
    let longest = lease.expires_at.duration_since(now) + ROUNDED;
    lease.state == LeaseState::Active && role.valid_for.is_none_or(|valid| valid > longest)
}

/// The mark is ours, but the lease's role has another OID: somebody copied the comment.
fn is_copy(lease: &LiveLease, role: &FoundRole) -> bool {
    lease.role_oid.is_some_and(|oid| oid != role.oid)
}

fn overdue(lease: &LiveLease, has_role: bool, now: Timestamp) -> Option<Finding> {
    let over = now > lease.create_before;
    match (lease.state, has_role) {
        (LeaseState::Intent, true) if over => Some(Finding::Undelivered { lease: lease.id }),
        (LeaseState::Intent, false) if over => Some(Finding::NeverMade { lease: lease.id }),
        (LeaseState::Active, false) => Some(Finding::Lost { lease: lease.id }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{at, lease as lease_in};
    use super::*;

    fn id(letter: char) -> LeaseId {
        letter.to_string().repeat(16).parse().unwrap()
    }

    /// A lease whose role may be made until second 30.
    fn lease(letter: char, state: LeaseState, oid: Option<u32>) -> LiveLease {
        LiveLease { id: id(letter), role_oid: oid.map(RoleOid), ..(&lease_in(state)).into() }
    }

    fn role(oid: u32, marker: MarkerReading) -> FoundRole {
        let valid_for = Some(SignedDuration::ZERO);
        FoundRole { oid: RoleOid(oid), name: format!("pgb_{oid}"), marker, valid_for }
    }

    fn ours(letter: char, oid: u32) -> FoundRole {
        role(oid, MarkerReading::Ours(id(letter)))
    }

    #[track_caller]
    fn check(roles: &[FoundRole], leases: &[LiveLease], now: i64, findings: &[Finding]) {
        assert_eq!(compare(roles, leases, at(now)), findings);
    }

    #[test]
    fn a_store_and_a_cluster_that_agree_have_nothing_to_be_done() {
        let leases = [
            lease('a', LeaseState::Active, Some(1)),
            lease('b', LeaseState::Revoking, Some(2)),
            lease('c', LeaseState::Quarantined, Some(3)),
            lease('d', LeaseState::Intent, None),
            lease('e', LeaseState::Intent, None),
        ];
        check(&[ours('a', 1), ours('b', 2), ours('c', 3), ours('d', 4)], &leases, 30, &[]);
        check(&[], &[], 30, &[]);
    }

    #[test]
    fn a_role_whose_lease_is_unknown_or_over_is_an_orphan() {
        let orphan = Finding::Orphan { role: ours('a', 1), lease: id('a') };
        check(&[ours('a', 1)], &[], 0, std::slice::from_ref(&orphan));
        let other = [lease('b', LeaseState::Active, Some(2))];
        check(&[ours('a', 1), ours('b', 2)], &other, 0, &[orphan]);
    }

    #[test]
    fn an_intent_is_judged_only_when_its_time_to_be_made_is_past() {
        let intent = [lease('a', LeaseState::Intent, None)];
        for (now, roles, findings) in [
            (30, vec![], vec![]),
            (30, vec![ours('a', 1)], vec![]),
            (31, vec![], vec![Finding::NeverMade { lease: id('a') }]),
            (31, vec![ours('a', 1)], vec![Finding::Undelivered { lease: id('a') }]),
        ] {
            check(&roles, &intent, now, &findings);
        }
    }

    #[test]
    fn only_an_active_lease_can_be_lost() {
        for state in LeaseState::ALL {
            let lost = Finding::Lost { lease: id('a') };
            let findings = (state == LeaseState::Active).then_some(lost);
            check(&[], &[lease('a', state, Some(1))], 30, findings.as_slice());
        }
    }

    #[test]
    fn a_copied_mark_makes_a_stranger_and_does_not_stand_for_the_role() {
        let active = [lease('a', LeaseState::Active, Some(1))];
        let stranger = Finding::Stranger { role: ours('a', 9) };
        check(&[ours('a', 1), ours('a', 9)], &active, 0, std::slice::from_ref(&stranger));
        check(&[ours('a', 9)], &active, 0, &[stranger, Finding::Lost { lease: id('a') }]);
    }

    #[test]
    fn a_role_is_known_by_its_oid_or_its_name_and_not_by_its_mark_alone() {
        let named = |name: &str| FoundRole { name: name.to_owned(), ..ours('a', 1) };
        let known = |oid: Option<u32>| {
            let lease = lease_in(LeaseState::Revoked);
            Lease { id: id('a'), role_oid: oid.map(RoleOid), ..lease }
        };
        let own = known(None).role_name.to_string();
        for (name, oid, is_its) in [
            (own.as_str(), None, true),
            (own.as_str(), Some(2), true),
            ("renamed", Some(1), true),
            ("renamed", Some(2), false),
            ("renamed", None, false),
            // A name that is like its, in the part that leads back to the lease too.
            (&format!("x{own}"), Some(2), false),
            (&format!("{own}x"), None, false),
        ] {
            assert_eq!(named(name).is_of(id('a'), Some(&known(oid))), is_its, "{name} {oid:?}");
        }
    }

    #[test]
    fn a_role_of_a_lease_that_nobody_knows_is_known_by_where_its_name_leads() {
        let named = |name: &str| FoundRole { name: name.to_owned(), ..ours('a', 1) };
        let own = format!("pgb_alice_{}", id('a'));
        assert!(named(&own).is_of(id('a'), None));
        assert!(!named(&own).is_of(id('b'), None));
        assert!(!named("payroll").is_of(id('a'), None));
    }

    #[test]
    fn a_mark_that_is_not_ours_is_reported_or_left_alone_and_never_taken_away() {
        let invalid = role(1, MarkerReading::Invalid);
        let foreign = role(2, MarkerReading::Foreign);
        let stranger = Finding::Stranger { role: invalid.clone() };
        check(&[invalid, foreign], &[], 1000, &[stranger]);
    }

    #[test]
    fn a_role_that_is_good_for_longer_than_its_lease_is_found() {
        let check = |state, valid_for: Option<i64>, outlived: bool| {
            let lease = LiveLease { expires_at: at(100), ..lease('a', state, Some(1)) };
            let valid_for = valid_for.map(SignedDuration::from_secs);
            let found = compare(&[FoundRole { valid_for, ..ours('a', 1) }], &[lease], at(20));
            let expected = Finding::Outlived { lease: id('a') };
            assert_eq!(found.contains(&expected), outlived, "{state} {valid_for:?}");
        };
        check(LeaseState::Active, Some(80), false);
        check(LeaseState::Active, Some(85), false);
        check(LeaseState::Active, Some(86), true);
        check(LeaseState::Active, None, true);
        check(LeaseState::Active, Some(0), false);
        check(LeaseState::Revoking, None, false);
        check(LeaseState::Quarantined, None, false);
    }
}
