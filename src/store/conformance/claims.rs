//! Claims: work that is due is given to one broker at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{at, claim, claimant, intent, opened, overdue, try_move};
use crate::lease::{EndReason, Lease, LeaseState};
use crate::store::{Store, StoreError};

pub async fn what_is_due_is_claimed_oldest_first(store: Arc<dyn Store>) {
    let lease = |state, expires_at, retry_at| Lease {
        state,
        expires_at: at(expires_at),
        retry_at,
        ..intent("alice")
    };
    let due = [
        lease(LeaseState::Revoking, 900, None), // since it was asked for, at second 0
        lease(LeaseState::Active, 10, None),
        lease(LeaseState::Revoking, 900, Some(at(20))),
        lease(LeaseState::Quarantined, 1, Some(at(30))),
        lease(LeaseState::Active, 100, None),
    ];
    let not_due = [
        lease(LeaseState::Intent, 1, None),
        lease(LeaseState::Active, 101, None),
        lease(LeaseState::Revoking, 1, Some(at(101))),
        lease(LeaseState::Quarantined, 1, Some(at(101))),
        lease(LeaseState::Revoked, 1, None),
        lease(LeaseState::Aborted, 1, None),
        Lease { cluster: "other".parse().unwrap(), ..lease(LeaseState::Active, 1, None) },
    ];
    for lease in not_due.iter().chain(due.iter().rev()) {
        opened(&*store, lease).await;
    }
    let by = claimant();
    for (now, limit, expected) in
        [(100, 10, &due[..]), (100, 2, &due[..2]), (99, 10, &due[..4]), (100, 0, &[])]
    {
        let claimed = claim(&*store, at(now), limit, by).await;
        assert_eq!(claimed, expected);
        for lease in claimed {
            store.unclaim(lease.id, by).await.unwrap();
        }
    }
}

pub async fn a_claim_keeps_everybody_else_away_until_it_is_given_back(store: Arc<dyn Store>) {
    let (first, second) = (overdue(2), overdue(1));
    opened(&*store, &first).await;
    opened(&*store, &second).await;
    let (alpha, beta) = (claimant(), claimant());
    assert_eq!(claim(&*store, at(100), 1, alpha).await, std::slice::from_ref(&first));
    assert_eq!(claim(&*store, at(100), 9, beta).await, std::slice::from_ref(&second));
    assert_eq!(claim(&*store, at(100), 9, claimant()).await, []);
    // Whoever has claimed is given it again: the first answer may have been lost.
    assert_eq!(claim(&*store, at(100), 9, alpha).await, std::slice::from_ref(&first));
    store.unclaim(first.id, beta).await.unwrap();
    let own = claim(&*store, at(100), 9, beta).await;
    assert_eq!(own, std::slice::from_ref(&second), "given back by another");
    store.unclaim(first.id, alpha).await.unwrap();
    assert_eq!(claim(&*store, at(100), 9, beta).await, [first, second.clone()]);
    store.unclaim(second.id, beta).await.unwrap();
    store.unclaim(second.id, beta).await.unwrap();
    assert_eq!(claim(&*store, at(100), 9, alpha).await, [second]);
}

pub async fn a_claimed_lease_is_moved_by_anybody(store: Arc<dyn Store>) {
    let lease = overdue(1);
    let (id, by) = (lease.id, claimant());
    opened(&*store, &lease).await;
    assert_eq!(claim(&*store, at(100), 9, by).await, std::slice::from_ref(&lease));
    let ending = lease.clone().revoke(EndReason::Operator, at(9)).unwrap();
    try_move(&*store, &ending).await.unwrap();
    let stale = lease.revoke(EndReason::Expired, at(9)).unwrap();
    assert!(matches!(try_move(&*store, &stale).await, Err(StoreError::Moved { .. })));
    assert_eq!(claim(&*store, at(100), 9, claimant()).await, [], "the claim still stands");
    store.unclaim(id, by).await.unwrap();
    assert_eq!(claim(&*store, at(100), 9, by).await, std::slice::from_ref(&ending));
    try_move(&*store, &ending.close(at(101)).unwrap()).await.unwrap();
    store.unclaim(id, by).await.unwrap();
    assert_eq!(claim(&*store, at(999), 9, claimant()).await, []);
}

pub async fn claims_side_by_side_never_give_one_lease_twice(store: Arc<dyn Store>) {
    let mut ids = BTreeSet::new();
    for age in 0..40 {
        let lease = overdue(age);
        ids.insert(lease.id);
        opened(&*store, &lease).await;
    }
    let tries = (0..20).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { claim(&*store, at(100), 4, claimant()).await })
    });
    let mut claimed = BTreeSet::new();
    for tried in futures::future::join_all(tries).await {
        for lease in tried.unwrap() {
            assert!(claimed.insert(lease.id), "{} was claimed twice", lease.id);
        }
    }
    claimed.extend(claim(&*store, at(100), 40, claimant()).await.iter().map(|lease| lease.id));
    assert_eq!(claimed, ids);
}
