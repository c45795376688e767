//! Ending what is due on one cluster, for ever: first the access, then the role. Each half has room
//! of its own, so that a role whose removal waits for somebody keeps nobody's access open.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::worker::LOOK_EVERY;
use super::{Broker, Site};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::causes::with_causes;
use crate::cluster::{AccessEnd, ClusterError, Removal, RoleTarget};
use crate::crash::{self, Place};
use crate::lease::{Blocker, BlockerKind, EndReason, Lease, LeaseState, MoveError};
use crate::names::{ClusterName, LeaseId};
use crate::store::{Change, StoreError};

/// Leases whose access is ended side by side on one cluster; and as many roles are removed, which
/// may have to wait for somebody's lock and so keeps nobody's access open.
const SIDE_BY_SIDE: usize = 4;

/// Longest pause between two attempts at one lease.
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// Longest pause between two attempts at a lease whose access has not ended.
const PAUSE_IN_ACCESS: Duration = Duration::from_secs(5);

/// The attempts under way on one cluster.
#[derive(Default)]
struct InHand(BTreeMap<LeaseId, (Phase, Try)>);

/// The two halves of an attempt, each with room of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Access,
    Removal,
}

impl Phase {
    /// What is to be done next about `lease`.
    fn of(lease: &Lease) -> Self {
        if lease.access_ended_at.is_some() { Self::Removal } else { Self::Access }
    }
}

/// What is under way on one cluster.
type Work<'a> = FuturesUnordered<BoxFuture<'a, Half>>;

/// What came of one half of an attempt.
struct Half {
    id: LeaseId,
    /// The lease, if its role is to be removed now.
    closed: Option<Lease>,
}

/// Whether a lease was tried before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Try {
    First,
    Again,
}

impl InHand {
    /// How many due leases are worth asking for: none when there is no room, and else those in
    /// hand are among them.
    fn limit(&self) -> u32 {
        let has_room = [Phase::Access, Phase::Removal].iter().any(|phase| self.is_room(*phase));
        if has_room { u32::try_from(2 * SIDE_BY_SIDE).unwrap_or(u32::MAX) } else { 0 }
    }

    fn is_room(&self, in_phase: Phase) -> bool {
        self.0.values().filter(|(phase, _)| *phase == in_phase).count() < SIDE_BY_SIDE
    }

    /// Takes up as many of the claimed leases `due` as there is room for, and gives the ids of
    /// those that are left for others. Leases that were tried before get half of the room at
    /// most, so that those which resist hold up nobody else.
    fn choose(&mut self, due: Vec<Lease>) -> (Vec<Lease>, Vec<LeaseId>) {
        let (mut chosen, mut left) = (Vec::new(), Vec::new());
        for lease in due {
            let this = if lease.attempts == 0 { Try::First } else { Try::Again };
            let phase = Phase::of(&lease);
            let again = self.0.values().filter(|one| **one == (phase, Try::Again)).count();
            let is_room = match this {
                Try::First => self.is_room(phase),
                Try::Again => self.is_room(phase) && again < SIDE_BY_SIDE / 2,
            };
            // It was given again because it is claimed by us, and stays so.
            if self.0.contains_key(&lease.id) {
                continue;
            }
            if is_room {
                self.0.insert(lease.id, (phase, this));
                chosen.push(lease);
            } else {
                left.push(lease.id);
            }
        }
        (chosen, left)
    }

    /// The access of `lease` has ended. Whether there is room to remove its role now; if not, it is
    /// in hand no longer.
    fn goes_on(&mut self, lease: LeaseId) -> bool {
        let had = self.0.remove(&lease);
        let Some((_, tried)) = had.filter(|_| self.is_room(Phase::Removal)) else { return false };
        self.0.insert(lease, (Phase::Removal, tried));
        true
    }

    fn done(&mut self, lease: LeaseId) {
        self.0.remove(&lease);
    }
}

impl Broker {
    /// Keeps a steady stream of attempts going: whenever one ends, the next begins.
    pub(super) async fn take_away_for_ever(&self, name: &ClusterName, stop: CancellationToken) {
        let Some(site) = self.site(name) else { return };
        if stop.run_until_cancelled(self.0.time.settled()).await.is_none() {
            return;
        }
        let (mut work, mut in_hand) = (Work::new(), InHand::default());
        while !stop.is_cancelled() {
            match self.claim(site, &mut work, &mut in_hand).await {
                Ok(due) => {
                    let (chosen, left) = in_hand.choose(due);
                    work.extend(
                        chosen.into_iter().map(|lease| self.take_away(site, lease).boxed()),
                    );
                    for lease in left {
                        self.give_back(lease).await;
                    }
                }
                Err(failed) => {
                    warn!(cluster = %name, cause = with_causes(&failed), "the store cannot say which leases are due");
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(half) = work.next(), if !work.is_empty() => {
                    work.extend(self.go_on(site, half, &mut in_hand).await);
                }
                () = site.work.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        while let Some(half) = work.next().await {
            if half.closed.is_some() {
                self.give_back(half.id).await;
            }
        }
    }

    /// Claims what is due. What is in hand goes on while the store takes its time.
    async fn claim<'a>(
        &'a self,
        site: &'a Site,
        work: &mut Work<'a>,
        in_hand: &mut InHand,
    ) -> Result<Vec<Lease>, StoreError> {
        let (name, limit) = (site.cluster.name(), in_hand.limit());
        let mut claiming = pin!(self.store().claim(name, self.now(), limit, self.0.claimant));
        loop {
            tokio::select! {
                biased;
                claimed = &mut claiming => return claimed,
                Some(half) = work.next(), if !work.is_empty() => {
                    work.extend(self.go_on(site, half, in_hand).await);
                }
            }
        }
    }

    /// Goes on with removing the role once the access has ended, if there is room; else somebody
    /// takes that up as soon as there is.
    async fn go_on<'a>(
        &'a self,
        site: &'a Site,
        half: Half,
        in_hand: &mut InHand,
    ) -> Option<BoxFuture<'a, Half>> {
        let Some(lease) = half.closed else {
            in_hand.done(half.id);
            return None;
        };
        if in_hand.goes_on(half.id) {
            return Some(self.take_away(site, lease).boxed());
        }
        self.give_back(half.id).await;
        None
    }

    /// One half of an attempt at one lease. Whatever fails is written down and tried again.
    async fn take_away(&self, site: &Site, lease: Lease) -> Half {
        let (id, target) = (lease.id, RoleTarget::of(&lease));
        let done = match AssertUnwindSafe(self.attempt(site, lease)).catch_unwind().await {
            Ok(done) => done,
            Err(_) => self.panicked(id).await,
        };
        match done {
            Ok(Some(closed)) => return Half { id, closed: Some(closed) },
            Ok(None) | Err(Setback::Overtaken) => {}
            Err(Setback::Store(failed)) => {
                // Revoking does not wait for a store that cannot write: the access ends now, and
                // what is written down follows when the store can.
                crash::at(Place::RevokeDueUnwritten);
                let ended = site.cluster.end_access(&target).await;
                let access_ended = matches!(ended, Ok(AccessEnd::Gone | AccessEnd::Ended(_)));
                warn!(lease = %id, access_ended, cause = with_causes(&failed), "the store did not take a move; tried again soon");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        self.give_back(id).await;
        self.0.moves.notify_waiters();
        Half { id, closed: None }
    }

    async fn attempt(&self, site: &Site, lease: Lease) -> Result<Option<Lease>, Setback> {
        match Phase::of(&lease) {
            Phase::Access => self.end_its_access(site, lease).await,
            Phase::Removal => self.remove_its_role(site, lease).await.map(|()| None),
        }
    }

    /// An attempt that panicked has failed like any other: those at other leases go on, and the next
    /// at this one has its pause.
    async fn panicked(&self, id: LeaseId) -> Result<Option<Lease>, Setback> {
        error!(lease = %id, "an attempt to take a lease away panicked; tried again");
        counter!("pgbridge_panics_total").increment(1);
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(lease) = self.store().lease(id).await? {
            let detail = "the broker panicked while it took the lease away; its log says where";
            let remedy = "report it to the makers of pgbridge, with the lines of the log before it";
            let blocker = Blocker::new(BlockerKind::Role, detail).remedy(remedy);
            self.hold(lease, vec![blocker]).await?;
        }
        Ok(None)
    }

    /// Lets another attempt at `lease` be made, by whomever. Otherwise the claim ends by itself.
    async fn give_back(&self, lease: LeaseId) {
        crash::at(Place::RevokeGiveBack);
        if let Err(failed) = self.store().unclaim(lease, self.0.claimant).await {
            debug!(%lease, cause = with_causes(&failed), "a claim could not be given back; it ends by itself");
        }
    }

    /// Gives the lease once nobody can use it any more.
    async fn end_its_access(&self, site: &Site, lease: Lease) -> Result<Option<Lease>, Setback> {
        let lease = match lease.state {
            LeaseState::Intent | LeaseState::Active => {
                let expired = lease.revoke(EndReason::Expired, self.now())?;
                crash::at(Place::RevokeExpiry);
                self.step(expired, Action::RevokeRequested).await?
            }
            _ => lease,
        };
        let target = RoleTarget::of(&lease);
        crash::at(Place::RevokeAccess);
        let ended = match site.cluster.end_access(&target).await {
            Ok(ended) => ended,
            Err(failed) => {
                self.hold(lease, vec![blocked_by(&failed)]).await?;
                return Ok(None);
            }
        };
        // Of an intent nobody knew the OID before, and by it what is left is found.
        let lease = match ended {
            AccessEnd::Ended(oid) => Lease { role_oid: lease.role_oid.or(Some(oid)), ..lease },
            _ => lease,
        };
        match ended {
            // A membership that is not ours to take ends with the role, which needs no room then:
            // the access of somebody ends by it.
            AccessEnd::Blocked(blockers) if blockers.iter().all(Blocker::is_membership) => {
                self.remove_its_role(site, lease).await?;
                Ok(None)
            }
            AccessEnd::Blocked(blockers) => {
                self.hold(lease, blockers).await?;
                Ok(None)
            }
            AccessEnd::Ended(_) | AccessEnd::Gone => {
                crash::at(Place::RevokeAccessEnded);
                self.access_ended(lease).await.map(Some)
            }
        }
    }

    async fn remove_its_role(&self, site: &Site, lease: Lease) -> Result<(), Setback> {
        let (id, target) = (lease.id, RoleTarget::of(&lease));
        let closed_for = lease.access_ended_at.map(|at| self.now().duration_since(at));
        let target = target.closed_for(closed_for.and_then(|length| length.try_into().ok()));
        crash::at(Place::RevokeRemove);
        let removed = site.cluster.remove(&target, lease.owned_objects).await;
        let handed_over = handed_over(site, id);
        match removed {
            Ok(Removal::Gone) => self.close(site, lease, handed_over).await?,
            Ok(Removal::Blocked(blockers)) => self.hold_with(lease, blockers, handed_over).await?,
            Err(failed) => self.hold_with(lease, vec![blocked_by(&failed)], handed_over).await?,
        }
        // Not before it is written down: else the next attempt tells it.
        site.cluster.forget_handed_over(id);
        Ok(())
    }

    /// Writes down that nothing is left of `lease`.
    async fn close(
        &self,
        site: &Site,
        lease: Lease,
        handed_over: Option<String>,
    ) -> Result<(), Setback> {
        site.last_gone.note();
        crash::at(Place::RevokeLateEnd);
        let lease = self.access_ended(lease).await?;
        crash::at(Place::RevokeClose);
        let closed = lease.close(self.now())?;
        let closed = self.step_with(closed, Action::LeaseRevoked, handed_over).await?;
        let cause = closed.end.map(EndReason::as_str);
        info!(lease = %closed.id, role = %closed.role_name, cluster = %closed.cluster, cause, "revoked");
        Ok(())
    }

    /// Writes down once that nobody can use the lease any more.
    async fn access_ended(&self, lease: Lease) -> Result<Lease, Setback> {
        if lease.access_ended_at.is_some() {
            return Ok(lease);
        }
        self.step(lease.end_access(self.now())?, Action::AccessEnded).await
    }

    /// Writes down one move of the broker's own.
    pub(super) async fn step(&self, lease: Lease, action: Action) -> Result<Lease, Setback> {
        self.step_with(lease, action, None).await
    }

    async fn step_with(
        &self,
        lease: Lease,
        action: Action,
        detail: Option<String>,
    ) -> Result<Lease, Setback> {
        let record = Record::new(self.now(), action, Subject::Broker).about(&lease);
        let record = Record { detail, ..record };
        self.store().commit(vec![Change::MoveLease(Box::new(lease.clone()))], vec![record]).await?;
        Ok(lease)
    }

    /// Writes down what kept the attempt from completing, and when the next one is due.
    async fn hold(&self, lease: Lease, blockers: Vec<Blocker>) -> Result<(), Setback> {
        self.hold_with(lease, blockers, None).await
    }

    /// The same, and what was done all the same.
    async fn hold_with(
        &self,
        lease: Lease,
        blockers: Vec<Blocker>,
        done: Option<String>,
    ) -> Result<(), Setback> {
        let now = self.now();
        // While somebody may still have access, there is no long pause.
        let longest = if lease.access_ended_at.is_some() { PAUSE_MAX } else { PAUSE_IN_ACCESS };
        let pause = longest.min(Duration::from_secs(1_u64 << lease.attempts.min(12)));
        let kept = Blocker::join(&blockers);
        let detail = done.map_or(kept.clone(), |done| format!("{kept}; {done}"));
        warn!(lease = %lease.id, role = %lease.role_name, cluster = %lease.cluster, attempts = lease.attempts, blockers = detail, "a lease could not be taken away completely; tried again");
        let held = lease.hold(blockers, now + pause)?;
        let action = match held.state {
            LeaseState::Quarantined => Action::LeaseQuarantined,
            _ => Action::AccessEnded,
        };
        let record = Record::new(now, action, Subject::Broker).about(&held);
        let record = record.ended(Outcome::Failed, held.state.as_str(), &detail);
        crash::at(Place::RevokeHold);
        self.store().commit(vec![Change::MoveLease(Box::new(held))], vec![record]).await?;
        Ok(())
    }
}

/// What went from the role of `lease` to the attic and is not written down yet, in one line for the
/// audit.
pub(super) fn handed_over(site: &Site, lease: LeaseId) -> Option<String> {
    let handed_over = site.cluster.handed_over(lease);
    let told: Vec<String> = handed_over.iter().map(ToString::to_string).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// A cluster's failure as what keeps the role.
pub(super) fn blocked_by(failed: &ClusterError) -> Blocker {
    let told = with_causes(failed);
    match failed {
        ClusterError::NotOurs { lease, .. } => Blocker::new(BlockerKind::Role, told).remedy(
            format!("if the lease's own role is gone, as after a restored backup, and this is another: pgbridge declare-gone {lease} --reason …"),
        ),
        _ => Blocker::new(BlockerKind::Cluster, told),
    }
}

/// Why an attempt did not go on.
pub(super) enum Setback {
    /// Somebody else moved the lease; it is theirs.
    Overtaken,
    /// The store did not take the move.
    Store(StoreError),
}

impl From<MoveError> for Setback {
    fn from(_: MoveError) -> Self {
        Self::Overtaken
    }
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Moved { .. } => Self::Overtaken,
            error => Self::Store(error),
        }
    }
}
