//! After another map came into force: what it does not allow any more ends at once, and nothing
//! else. Everybody who has a lease or a session is held against it, by what was seen of them last;
//! only who would lose something is looked up before, for their groups may have changed with it.
//!
//! A map can also have come while no broker ran, or a configuration that goes by it otherwise. Then
//! nothing was seen of anybody, and those are held against it who have leases by another map, or a
//! lease that is not allowed any more by what it was given for. Of whom nothing can be seen, since
//! they are missing, or nobody can look, or their groups show only when they log in, each lease is
//! held against the map by what it was given for: nobody vouches for anything else.

use std::future::ready;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::SignedDuration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::members::by_cluster;
use super::recheck::{Judged, PAGE};
use super::standing::Look;
use super::{Broker, LeaseError};
use crate::auth::Identity;
use crate::auth::way::Reason;
use crate::causes::with_causes;
use crate::lease::{Lease, holder_of};
use crate::mapping::{Cause, Effort, Explanation, Inquiry, KnownMembers, Members, Policy, Verdict};
use crate::names::{Principal, WayName};
use crate::store::StoreError;

/// People of one way in who are held against the map side by side.
const SIDE_BY_SIDE: usize = 4;

/// How soon it is tried again, when it could not be done for everybody.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Whether all that somebody has was held against the map in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Done,
    /// What it turns on is not known now.
    NotYet,
}

impl Held {
    fn of(judged: Judged) -> Self {
        if judged.undecided == 0 { Self::Done } else { Self::NotYet }
    }
}

impl Broker {
    /// Holds the people of the way in `of` against each map that comes into force.
    pub(super) async fn follow_map_for_ever(&self, of: &WayName, stop: CancellationToken) {
        if stop.run_until_cancelled(self.0.time.settled()).await.is_none() {
            return;
        }
        // None yet: the first one may be another than was in force when a broker ran last.
        let mut held = None;
        loop {
            let number = self.0.in_force.number();
            if held != Some(number) && self.hold_all(of, &stop).await {
                if number > 0 {
                    info!(way = %of, "all that people have was held against the map in force");
                }
                held = Some(number);
            }
            let is_held = held == Some(self.0.in_force.number());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.0.in_force.replaced(of) => {}
                () = sleep(AGAIN_AFTER), if !is_held => {}
            }
        }
    }

    /// Holds everybody of the way in `of` against the map in force. `false` when that is not done.
    async fn hold_all(&self, of: &WayName, stop: &CancellationToken) -> bool {
        let people = match self.people_of(of).await {
            Ok(people) => people,
            Err(failed) => {
                warn!(way = %of, cause = with_causes(&failed), "the store cannot say who is to be held against the map");
                return false;
            }
        };
        let held = stream::iter(people)
            .take_while(|_| ready(!stop.is_cancelled()))
            .map(|principal| async move { self.hold_person(&principal).await })
            .buffer_unordered(SIDE_BY_SIDE);
        // Everybody, also behind somebody for whom it is not done.
        let held: Vec<Held> = held.collect().await;
        !stop.is_cancelled() && held.iter().all(|held| *held == Held::Done)
    }

    async fn people_of(&self, of: &WayName) -> Result<Vec<Principal>, StoreError> {
        let mut people = self.store().people().await?;
        people.retain(|principal| principal.issuer() == of);
        people.sort();
        Ok(people)
    }

    async fn hold_person(&self, principal: &Principal) -> Held {
        self.try_to_hold(principal).await.unwrap_or_else(|failed| {
            warn!(%principal, cause = with_causes(&failed), "not all that the map does not allow any more was told to end; it is tried again");
            Held::NotYet
        })
    }

    async fn try_to_hold(&self, principal: &Principal) -> Result<Held, LeaseError> {
        let known = self.0.looks.last_seen(principal, self.now());
        match &known {
            Some(known) => {
                let judged = self.would_withdraw(known).await?;
                if judged.refused == 0 {
                    return Ok(Held::of(judged));
                }
            }
            None => match self.may_lose(principal).await? {
                MayLose::Something => {}
                MayLose::Unknown => return Ok(Held::NotYet),
                MayLose::Nothing => return Ok(Held::Done),
            },
        }
        // However lately they were seen, their groups may have changed since.
        match self.look(principal, SignedDuration::ZERO).await {
            Look::Good(seen) | Look::OnlyAtLogin(Some(seen)) => self.hold_seen(&seen).await,
            Look::Gone(reason) => {
                self.end_person(principal, &reason).await?;
                Ok(Held::Done)
            }
            // By what was seen of them they had it until now, so it is the map that takes it away,
            // and the map waits neither for a directory nor until it is certain who is missing.
            Look::OnlyAtLogin(None) | Look::Missing(_) | Look::Away(_) => match known {
                Some(known) => self.hold_seen(&known).await,
                None => self.hold_by_reason(principal).await,
            },
        }
    }

    /// Whether the map in force may take something from somebody who was not seen yet.
    async fn may_lose(&self, principal: &Principal) -> Result<MayLose, LeaseError> {
        let (mut last, mut may_lose) = (None, MayLose::Nothing);
        loop {
            let page = self.store().live_leases_of(principal, last.as_ref(), PAGE).await;
            let page = page.map_err(LeaseError::Store)?;
            last = page.last().cloned();
            if last.is_none() {
                return Ok(may_lose);
            }
            let policy = self.policy();
            for lease in &page {
                if !policy.map.is_revision(&lease.revision) {
                    return Ok(MayLose::Something);
                }
                // The configuration may go by the same map otherwise.
                match self.holds(&policy, lease).await {
                    Holds::Yes => {}
                    Holds::No(_) => return Ok(MayLose::Something),
                    Holds::Unknown => may_lose = MayLose::Unknown,
                }
            }
        }
    }

    /// Holds each lease of somebody against the map by what it was given for, which is all that is
    /// known of them.
    async fn hold_by_reason(&self, principal: &Principal) -> Result<Held, LeaseError> {
        let (mut last, mut judged) = (None, Judged::default());
        loop {
            let page = self.store().live_leases_of(principal, last.as_ref(), PAGE).await;
            let page = page.map_err(LeaseError::Store)?;
            last = page.last().cloned();
            if last.is_none() {
                return Ok(Held::of(judged));
            }
            // Taken after the page was read: a lease that a newer map has allowed is held against
            // that.
            let policy = self.policy();
            let mut refused = Vec::new();
            for lease in page {
                match self.holds(&policy, &lease).await {
                    Holds::Yes => {}
                    Holds::No(reason) => refused.push((lease, reason)),
                    Holds::Unknown => judged.undecided += 1,
                }
            }
            self.withdraw_all(refused.into_iter()).await?;
        }
    }

    /// Whether the map allows a lease by what it was given for.
    async fn holds(&self, policy: &Policy, lease: &Lease) -> Holds {
        // What a lease of before was given for is not known. It ends by itself.
        if lease.because.is_none() {
            return Holds::Yes;
        }
        let said = explained(policy, lease, &Members::none());
        let said = match said {
            Some(said) if said.verdict == Verdict::Unknown => {
                let wanted = by_cluster([(lease.cluster.clone(), lease.role.clone())]);
                explained(policy, lease, &self.ask_members(wanted).await)
            }
            said => said,
        };
        let reason = |word, detail: &str| Holds::No(Reason { word, detail: detail.to_owned() });
        match said {
            Some(said) => match (said.verdict, said.cause) {
                (Verdict::Allowed, _) => Holds::Yes,
                (Verdict::Unknown, _) => Holds::Unknown,
                (Verdict::Denied, Cause::NoProfile) => reason("no_profile", &said.reason),
                (Verdict::Denied, Cause::MapFailed) => reason("map_failed", &said.reason),
                (Verdict::Denied, Cause::Network) => reason("network", &said.reason),
                (Verdict::Denied, _) => reason("not_mapped", &said.reason),
            },
            None => reason("unknown_cluster", "the cluster is not configured any more"),
        }
    }

    async fn hold_seen(&self, seen: &Identity) -> Result<Held, LeaseError> {
        Ok(Held::of(self.withdraw_beyond(seen).await?))
    }
}

/// Whether the map may take something from somebody.
enum MayLose {
    Nothing,
    Something,
    /// It turns on what a cluster does not say.
    Unknown,
}

/// Whether the map allows a lease.
enum Holds {
    Yes,
    No(Reason),
    /// It turns on what the cluster does not say.
    Unknown,
}

/// What the map says of whoever has `lease`, in the group by which they were let in; nothing when
/// the cluster is not configured.
fn explained(policy: &Policy, lease: &Lease, members: &Members) -> Option<Explanation> {
    let inquiry = Inquiry {
        person: &holder_of(lease),
        cluster: &lease.cluster,
        role: &lease.role,
        members: &KnownMembers::on(&lease.cluster, members),
        address: Some(lease.client),
    };
    policy.explain(&inquiry, &Effort::default()).ok()
}
