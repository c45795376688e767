//! Offboarding: everybody who has a lease or a session is looked up again and again. What the map
//! does not allow them any more ends, and all they have when they could not log in. Whoever is
//! missing is looked up once more, and when many are, nothing of theirs ends ([`super::missing`]).

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use metrics::{counter, gauge};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::members::by_cluster;
use super::missing::{self, Apart, Told};
use super::standing::{FRESH, Look, Pace, replaced};
use super::{Broker, LeaseError};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::auth::Identity;
use crate::auth::way::Reason;
use crate::causes::with_causes;
use crate::crash::{self, Place};
use crate::lease::{EndReason, Lease};
use crate::mapping::{Members, Policy, Refusal};
use crate::names::{Principal, WayName};
use crate::store::{Change, StoreError};

/// People of one way in who are looked up side by side.
const SIDE_BY_SIDE: usize = 4;

/// People who are looked up in one round at least, if so many are due.
const ROUND: usize = 20;

/// Leases of one person that are read at once.
pub(super) const PAGE: u32 = 500;

/// Leases that are told to end side by side; the store writes them to disk together.
const ENDS_SIDE_BY_SIDE: usize = 64;

/// Rounds in the time in which everybody is looked up.
const ROUNDS: u32 = 20;

/// Longest pause between two rounds.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Looks in vain one after the other that end a round: then the directory is away, and it is not
/// only somebody's entry that cannot be read.
const IN_VAIN: usize = 8;

impl Broker {
    /// Looks up the people of the way in `of` for ever, at a steady pace; without one, those whose
    /// way in is not in the configuration any more.
    pub(super) async fn recheck_for_ever(&self, of: Option<&WayName>, stop: CancellationToken) {
        if stop.run_until_cancelled(self.0.time.settled()).await.is_none() {
            return;
        }
        let pause = (self.0.recheck_every.duration() / ROUNDS).min(PAUSE_MAX);
        let start = self.now();
        if let Some(of) = of {
            for checked in Checked::ALL {
                checked.count(of, 0);
            }
            missing::show(of, 0);
        }
        let (mut trouble, mut told) = (None, Told::default());
        while !stop.is_cancelled() {
            match self.recheck(of, start, &mut told, &stop).await {
                Ok(now) => {
                    report(of, trouble.as_ref(), now.as_ref());
                    trouble = now;
                }
                Err(failed) => {
                    warn!(
                        cause = with_causes(&failed),
                        "the store cannot say who is to be looked up again"
                    );
                }
            }
            stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    /// One round: those who wait longest are looked up and judged. Gives why somebody could not
    /// be looked up, if that is so of anybody now.
    async fn recheck(
        &self,
        of: Option<&WayName>,
        start: Timestamp,
        told: &mut Told,
        stop: &CancellationToken,
    ) -> Result<Option<Reason>, StoreError> {
        let (now, looks) = (self.now(), &self.0.looks);
        let mut people: BTreeSet<Principal> = self.store().people().await?.into_iter().collect();
        people.retain(|principal| self.way_of(principal) == of);
        let every = self.0.recheck_every.span();
        // A look takes its time too, and so does what follows from it.
        let most = ROUND.max(people.len() / 10);
        let after_trouble = every / 10;
        let in_doubt = of.is_some_and(|of| self.missing_from(of).is_in_doubt());
        let pace = if in_doubt { after_trouble } else { every * 3 / 4 };
        let pace = Pace { every: pace, after_trouble, most };
        let looked_up = self.look_up_all(looks.due(&people, now, pace), stop).await;
        if let Some(of) = of {
            let is_missing = |(_, checked): &(Principal, Checked)| *checked == Checked::Missing;
            let missing = looked_up.into_iter().filter(is_missing).map(|(person, _)| person);
            self.judge_missing(
                of,
                missing.collect(),
                Apart { believed: after_trouble, few: every },
                told,
            )
            .await;
            looks.forget(of, &people, now);
            let oldest = looks.oldest(&people, self.now(), start).as_secs_f64();
            gauge!("pgbridge_oldest_look_seconds", "way" => of.to_string()).set(oldest);
        }
        Ok(looks.trouble(&people))
    }

    /// Looks up `due`, some side by side, and gives how each look went.
    async fn look_up_all(
        &self,
        due: Vec<Principal>,
        stop: &CancellationToken,
    ) -> Vec<(Principal, Checked)> {
        let in_vain = &AtomicUsize::new(0);
        let goes_on =
            |_: &Principal| !stop.is_cancelled() && in_vain.load(Ordering::Relaxed) < IN_VAIN;
        let looks = stream::iter(due).take_while(|principal| ready(goes_on(principal)));
        let looks = looks.map(|principal| async move {
            let checked = self.recheck_person(&principal).await;
            if checked == Checked::Unknown {
                in_vain.fetch_add(1, Ordering::Relaxed);
            } else {
                in_vain.store(0, Ordering::Relaxed);
            }
            (principal, checked)
        });
        looks.buffer_unordered(SIDE_BY_SIDE).collect().await
    }

    /// The way in of somebody, if it is in the configuration.
    fn way_of<'a>(&self, principal: &'a Principal) -> Option<&'a WayName> {
        Some(principal.issuer()).filter(|way| self.0.ways.contains_key(*way))
    }

    /// Looks somebody up, and ends what they may not have any more.
    async fn recheck_person(&self, principal: &Principal) -> Checked {
        let (checked, done) = match self.look(principal, FRESH).await {
            Look::Good(seen) => (Checked::Good, self.withdraw_beyond(&seen).await.map(drop)),
            Look::OnlyAtLogin(Some(seen)) => {
                (Checked::OnlyAtLogin, self.withdraw_beyond(&seen).await.map(drop))
            }
            Look::OnlyAtLogin(None) => (Checked::OnlyAtLogin, Ok(())),
            Look::Gone(reason) => (Checked::Gone, self.end_person(principal, &reason).await),
            // They are judged with all who are missing.
            Look::Missing(_) => {
                Checked::Missing.count(principal.issuer(), 1);
                return Checked::Missing;
            }
            Look::Away(_) => (Checked::Unknown, Ok(())),
        };
        checked.count(principal.issuer(), 1);
        self.judged(principal, done);
        checked
    }

    /// Notes that somebody was judged, if what follows from it is done; else they stay the next.
    pub(super) fn judged(&self, principal: &Principal, done: Result<(), LeaseError>) {
        match done {
            Ok(()) => self.0.looks.note_judged(principal, self.now()),
            Err(failed) => {
                warn!(%principal, cause = with_causes(&failed), "not all that somebody may not have any more was told to end; it is tried again");
            }
        }
    }

    /// Ends every lease that the map does not allow whoever was `seen`. What turns on a cluster
    /// that does not answer goes on: nobody loses a lease for that.
    pub(super) async fn withdraw_beyond(&self, seen: &Identity) -> Result<Judged, LeaseError> {
        let (mut last, mut judged) = (None, Judged::default());
        while let Some((refused, undecided)) = self.beyond(seen, &mut last).await? {
            judged.count(&refused, undecided);
            self.withdraw_all(refused.into_iter()).await?;
        }
        Ok(judged)
    }

    /// The same without ending anything.
    pub(super) async fn would_withdraw(&self, seen: &Identity) -> Result<Judged, LeaseError> {
        let (mut last, mut judged) = (None, Judged::default());
        while let Some((refused, undecided)) = self.beyond(seen, &mut last).await? {
            judged.count(&refused, undecided);
        }
        Ok(judged)
    }

    /// Which of the leases behind `last` whoever was `seen` may not have, since the map does not
    /// allow it or they are of somebody who had the name before; and how many turn on what a
    /// cluster does not say. Nothing when there is none behind it.
    async fn beyond(
        &self,
        seen: &Identity,
        last: &mut Option<Lease>,
    ) -> Result<Option<(Vec<(Lease, Reason)>, usize)>, LeaseError> {
        let page = self.store().live_leases_of(seen.principal(), last.as_ref(), PAGE).await;
        let page = page.map_err(LeaseError::Store)?;
        *last = page.last().cloned();
        if last.is_none() {
            return Ok(None);
        }
        // Taken after the page was read: a lease that a newer map has allowed is held against that.
        let policy = self.policy();
        let decide = |lease: &Lease, members: &Members| {
            let (cluster, role) = (lease.cluster.as_str(), lease.role.as_str());
            policy.entitle(seen, cluster, role, lease.client, members)
        };
        let none = Members::none();
        let wanted = page.iter().filter_map(|lease| match decide(lease, &none) {
            Err(Refusal::MembersUnknown { cluster, role }) => Some((cluster, role)),
            _ => None,
        });
        let wanted = by_cluster(wanted);
        let members = if wanted.is_empty() { none } else { self.ask_members(wanted).await };
        let (mut refused, mut undecided) = (Vec::new(), 0);
        for lease in page {
            if !lease.is_of(seen) {
                refused.push((lease, replaced()));
                continue;
            }
            match decide(&lease, &members) {
                Ok(_) => {}
                Err(Refusal::MembersUnknown { .. }) => undecided += 1,
                Err(refusal) => {
                    let reason = Reason { word: refusal.word(), detail: refusal.to_string() };
                    refused.push((lease, reason));
                }
            }
        }
        Ok(Some((refused, undecided)))
    }

    /// Ends several leases side by side, each for its reason, and goes on when one cannot be told.
    pub(super) async fn withdraw_all(
        &self,
        leases: impl Iterator<Item = (Lease, Reason)>,
    ) -> Result<(), LeaseError> {
        let ends = leases.map(|(lease, reason)| async move {
            let record = Record::new(self.now(), Action::RevokeRequested, Subject::Broker);
            self.withdraw(lease, record, &reason).await
        });
        let ends: Vec<_> = stream::iter(ends).buffer_unordered(ENDS_SIDE_BY_SIDE).collect().await;
        ends.into_iter().collect()
    }

    /// Whether whoever was `seen` may have `lease` by `policy`, there where it was asked for.
    pub(super) async fn still_entitled(
        &self,
        policy: &Policy,
        seen: &Identity,
        lease: &Lease,
    ) -> Result<(), Refusal> {
        let of = (lease.cluster.as_str(), lease.role.as_str());
        self.entitle(policy, seen, of, lease.client).await.map(drop)
    }

    /// Ends one lease that its person may not have any more.
    pub(super) async fn withdraw(
        &self,
        lease: Lease,
        record: Record,
        reason: &Reason,
    ) -> Result<(), LeaseError> {
        let Reason { word, detail } = reason;
        info!(lease = %lease.id, role = %lease.role_name, cluster = %lease.cluster, principal = %lease.principal, cause = word, "the person may not have the lease any more; it ends");
        let person = Some(lease.principal.key());
        let record = Record { person, detail: Some(format!("{word}: {detail}")), ..record };
        self.end(lease, EndReason::Withdrawn, record).await
    }

    /// Ends every login and every lease of somebody who could not log in any more. The access of the
    /// leases ends also when the store cannot write.
    pub(super) async fn end_person(
        &self,
        principal: &Principal,
        reason: &Reason,
    ) -> Result<(), LeaseError> {
        let (person, Reason { word, detail }) = (principal.key(), reason);
        warn!(%principal, cause = word, "somebody could not log in any more; their sessions and leases end");
        let at = self.latest_moment().await;
        let ended = Change::EndLoginsOf { person: person.clone(), at };
        let record = Record::new(self.now(), Action::PersonGone, Subject::Broker);
        let record = Record { person: Some(person), ..record.ended(Outcome::Done, word, detail) };
        crash::at(Place::RecheckPerson);
        let logins = self.store().commit(vec![ended], vec![record]).await;
        crash::at(Place::RecheckLeases);
        // Again until nothing is left: none can begin any more, but one may have just begun.
        loop {
            let page = self.store().live_leases_of(principal, None, PAGE).await;
            let page = page.map_err(LeaseError::Store)?;
            if page.is_empty() {
                return logins.map_err(LeaseError::Store);
            }
            self.withdraw_all(page.into_iter().map(|lease| (lease, reason.clone()))).await?;
        }
    }

    /// The same for who asks for something: what could not be written down is tried again when
    /// the person is looked up the next time.
    pub(super) async fn end_person_or_warn(&self, principal: &Principal, reason: &Reason) {
        if let Err(failed) = self.end_person(principal, reason).await {
            warn!(%principal, cause = with_causes(&failed), "not all that somebody had was told to end; it is tried again");
        }
    }
}

/// What somebody has, held against the map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Leases that it does not allow.
    pub(super) refused: usize,
    /// Leases that turn on what a cluster does not say.
    pub(super) undecided: usize,
}

impl Judged {
    fn count(&mut self, refused: &[(Lease, Reason)], undecided: usize) {
        self.refused += refused.len();
        self.undecided += undecided;
    }
}

/// How a look at somebody went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checked {
    Good,
    Gone,
    Missing,
    Unknown,
    OnlyAtLogin,
}

impl Checked {
    const ALL: [Self; 5] =
        [Self::Good, Self::Gone, Self::Missing, Self::Unknown, Self::OnlyAtLogin];

    /// Counts so many, also none: so that a rule on the rate sees the first.
    fn count(self, way: &WayName, people: u64) {
        let (way, result) = (way.to_string(), self.as_str());
        counter!("pgbridge_rechecks_total", "way" => way, "result" => result).increment(people);
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Gone => "gone",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
            Self::OnlyAtLogin => "only_at_login",
        }
    }
}

/// Says in the log when people cannot be looked up, and when they can be again.
fn report(of: Option<&WayName>, before: Option<&Reason>, now: Option<&Reason>) {
    let Some(way) = of else { return };
    match (before, now) {
        (None, Some(Reason { word, detail })) => {
            warn!(%way, cause = word, detail, "people cannot be looked up again; what was seen last counts for a while");
        }
        (Some(_), None) => info!(%way, "people can be looked up again"),
        _ => {}
    }
}
