//! What the store believes against what the cluster holds.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Lease, LeaseState, MarkerReading};
use crate::names::{LeaseId, RoleOid};

/// A role found on a cluster that has a mark, or a name like ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRole {
    /// Its OID.
    pub oid: RoleOid,
    /// Its name now; a DBA may have changed it.
    pub name: String,
    /// What its comment says.
    pub marker: MarkerReading,
}

/// One difference between store and cluster, and so what must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A role with our mark whose lease is unknown or over: it is taken away.
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
    /// A role with a name like ours, without our mark: reported, never touched.
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
pub fn compare(roles: &[FoundRole], leases: &[Lease], now: Timestamp) -> Vec<Finding> {
    let by_id: BTreeMap<LeaseId, &Lease> = leases.iter().map(|lease| (lease.id, lease)).collect();
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
    findings
}

/// The mark is ours, but the lease's role has another OID: somebody copied the comment.
fn is_copy(lease: &Lease, role: &FoundRole) -> bool {
    lease.role_oid.is_some_and(|oid| oid != role.oid)
}

fn overdue(lease: &Lease, has_role: bool, now: Timestamp) -> Option<Finding> {
    let over = now > lease.create_before;
    match (lease.state, has_role) {
        (LeaseState::Intent, true) if over => Some(Finding::Undelivered { lease: lease.id }),
        (LeaseState::Intent, false) if over => Some(Finding::NeverMade { lease: lease.id }),
        (LeaseState::Active, false) => Some(Finding::Lost { lease: lease.id }),
        _ => None,
    }
}
