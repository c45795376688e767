//! Claims on leases, in memory: one process serves the file, and its claims end with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Stopwatch;
use crate::lease::Lease;
use crate::names::LeaseId;
use crate::store::{CLAIM_LASTS, Claimant};

/// Who has claimed what, and how long ago.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<BTreeMap<LeaseId, (Claimant, Stopwatch)>>);

impl Claims {
    /// How many leases are claimed.
    pub(super) fn count(&self) -> u32 {
        let mut claims = self.lock();
        claims.retain(|_, (_, since)| since.elapsed() < CLAIM_LASTS);
        u32::try_from(claims.len()).unwrap_or(u32::MAX)
    }

    /// Claims the first `limit` of `leases` that nobody else has claimed, and gives them.
    pub(super) fn take(&self, leases: Vec<Lease>, limit: u32, by: Claimant) -> Vec<Lease> {
        let mut claims = self.lock();
        let mut taken = leases;
        taken.retain(|lease| claims.get(&lease.id).is_none_or(|(holder, _)| *holder == by));
        taken.truncate(limit as usize);
        claims.extend(taken.iter().map(|lease| (lease.id, (by, Stopwatch::start()))));
        taken
    }

    /// Ends the claim of `by` on `lease`, if there is one.
    pub(super) fn give_back(&self, lease: LeaseId, by: Claimant) {
        let mut claims = self.lock();
        if claims.get(&lease).is_some_and(|(claimant, _)| *claimant == by) {
            claims.remove(&lease);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, (Claimant, Stopwatch)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
