//! Ending leases: what a person or an operator asks for.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::owed::Debt;
use super::review::{check_person, is_of};
use super::{Broker, Caller, LeaseError, Request};
use crate::audit::{Action, Record, Subject, cut};
use crate::causes::with_causes;
use crate::cluster::{AccessEnd, RoleTarget};
use crate::crash::{self, Place};
use crate::lease::{Blocker, EndReason, Lease, LeaseState};
use crate::names::{ClusterName, LeaseId, LeaseRoleName, Principal, RoleName, WayName};
use crate::store::{Change, LeaseFilter, StoreError};

/// How long an answer waits for the role to be gone; the work goes on after it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How often an answer that waits looks whether another broker has done the work.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Leases that are told to end side by side; the store writes them to disk together.
const SIDE_BY_SIDE: usize = 64;

/// Which leases an operator ends: those that are all of what is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of the person with this key (`method:issuer:subject`) or printed form (`method:subject`).
    pub person: Option<String>,
    /// On this cluster.
    pub cluster: Option<ClusterName>,
    /// Of this group role.
    pub role: Option<RoleName>,
    /// The one whose own role has this name, as `pg_stat_activity` shows it.
    pub role_name: Option<LeaseRoleName>,
    /// Of people whom this way in does not show any more, as far as this broker has looked.
    pub missing_from: Option<WayName>,
}

/// The states in which somebody holds a lease.
const STATES: [LeaseState; 2] = [LeaseState::Intent, LeaseState::Active];

/// What a selection names.
struct Selected {
    /// As far as it can be read.
    leases: Vec<Lease>,
    /// Why there may be more, if there is a lease that cannot be read.
    unread: Option<StoreError>,
}

impl Selected {
    /// # Errors
    /// When there may be more.
    fn all(self) -> Result<Vec<Lease>, LeaseError> {
        self.unread.map_or(Ok(self.leases), |unread| Err(LeaseError::Store(unread)))
    }
}

/// Whether something is done or only rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rehearsal {
    /// It is only said what would be done.
    Yes,
    /// It is done.
    No,
}

impl Selection {
    fn check(&self) -> Result<(), LeaseError> {
        if *self == Self::default() {
            return Err(LeaseError::NothingSelected);
        }
        check_person(self.person.as_deref())
    }

    fn names(&self, lease: &Lease) -> bool {
        self.person.as_ref().is_none_or(|person| is_of(lease, person))
            && self.cluster.as_ref().is_none_or(|cluster| lease.cluster == *cluster)
            && self.role.as_ref().is_none_or(|role| lease.role == *role)
            && self.role_name.as_ref().is_none_or(|name| lease.role_name == *name)
    }

    /// Whether people are named and nothing of theirs in particular: then their logins end too.
    fn names_people_only(&self) -> bool {
        let Self { person, cluster, role, role_name, missing_from } = self;
        let names_people = person.is_some() || missing_from.is_some();
        names_people && cluster.is_none() && role.is_none() && role_name.is_none()
    }

    /// `record` with what is named, what is done and to how many leases.
    fn noted(&self, record: Record, what: &str, leases: usize) -> Record {
        let count = if leases == 1 { "1 lease".to_owned() } else { format!("{leases} leases") };
        let what = match &self.missing_from {
            Some(way) => format!("{what}, of people missing from `{way}`"),
            None => what.to_owned(),
        };
        let detail = if leases == 0 { what } else { format!("{what}: {count}") };
        Record {
            person: self.person.as_deref().map(cut),
            cluster: self.cluster.clone(),
            role: self.role.as_ref().map(ToString::to_string),
            role_name: self.role_name.clone(),
            detail: Some(detail),
            ..record
        }
    }
}

impl Broker {
    /// Ends the caller's own lease. The answer waits a while for the role to be gone; the lease
    /// it gives says how far that is. Ending a lease that has ended is no error.
    ///
    /// # Errors
    /// When the lease is not the caller's, or the end could not be written down.
    pub async fn revoke(
        &self,
        request: &Request,
        caller: &Caller,
        id: LeaseId,
    ) -> Result<Lease, LeaseError> {
        let lease = self.lease(request, caller, id).await?;
        let record = self.record(request, Action::RevokeRequested, caller.subject());
        self.end(lease, EndReason::Released, record).await?;
        info!(request.id, lease = %id, "revoke asked for by its holder");
        let settled = self.settled(id).await;
        crash::at(Place::RevokeAnswer);
        settled
    }

    /// Ends every live lease that `selection` names, however many: for operators. When it is
    /// people and nothing else, all their logins end too, also one whose request is still on its
    /// way: they must prove themselves again. A rehearsal ends nothing, and gives what would end.
    ///
    /// # Errors
    /// When the caller is no operator, the selection names nothing or its person can name nobody,
    /// or the store does not take it: then the access of every lease ends all the same, and the end
    /// is written down once the store takes it. Or when the store holds a lease that cannot be read:
    /// all others end.
    pub async fn revoke_selected(
        &self,
        request: &Request,
        caller: &Caller,
        selection: Selection,
        rehearsal: Rehearsal,
    ) -> Result<Vec<Lease>, LeaseError> {
        self.need_operator(request, caller, "revoke by selection").await?;
        selection.check()?;
        match rehearsal {
            Rehearsal::Yes => self.rehearse(request, caller, &selection).await,
            Rehearsal::No => {
                let record = || self.record(request, Action::RevokeRequested, caller.subject());
                let ids = if selection.names_people_only() {
                    self.end_people(&selection, record).await?
                } else {
                    self.end_selected(&selection, record).await?
                };
                self.all_settled(ids).await
            }
        }
    }

    async fn rehearse(
        &self,
        request: &Request,
        caller: &Caller,
        selection: &Selection,
    ) -> Result<Vec<Lease>, LeaseError> {
        let leases = self.selected(selection).await?.all()?;
        let record = self.record(request, Action::ReviewRead, caller.subject());
        let record = selection.noted(record, "rehearsal of a revocation", leases.len());
        self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)?;
        Ok(leases)
    }

    /// Ends every login and every lease of the people whom `selection` names.
    async fn end_people(
        &self,
        selection: &Selection,
        record: impl Fn() -> Record,
    ) -> Result<Vec<LeaseId>, LeaseError> {
        let Some(missing) = self.missing_people(selection) else {
            let person = selection.person.as_deref().unwrap_or_default();
            return self.end_all_of(person, selection, &record).await;
        };
        let is_named = |key: &String, printed: &String| {
            selection.person.as_ref().is_none_or(|person| person == key || person == printed)
        };
        let people = missing.iter().map(|person| (person.key(), person.to_string()));
        let (mut ids, mut failed) = (Vec::new(), None);
        for (key, _) in people.filter(|(key, printed)| is_named(key, printed)) {
            let alone = Selection { person: Some(key.clone()), ..selection.clone() };
            match self.end_all_of(&key, &alone, &record).await {
                Ok(ended) => ids.extend(ended),
                // What the next one has ends all the same.
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ids), Err)
    }

    /// Who is missing from the way in that `selection` names, if it names one.
    fn missing_people(&self, selection: &Selection) -> Option<BTreeSet<Principal>> {
        let way = selection.missing_from.as_ref()?;
        Some(self.missing_from(way).people.into_keys().collect())
    }

    /// Ends every login of `person`, who alone is what `selection` names, and every lease.
    async fn end_all_of(
        &self,
        person: &str,
        selection: &Selection,
        record: impl Fn() -> Record,
    ) -> Result<Vec<LeaseId>, LeaseError> {
        let until = self.latest_moment().await;
        let ended = Change::EndLoginsOf { person: person.to_owned(), at: until };
        let logins = selection.noted(record(), "every login", 0);
        let (changes, noted) = (vec![ended.clone()], vec![logins.clone()]);
        if let Err(failed) = self.store().commit(changes, noted).await {
            self.0.owed.note(Debt::Noted { changes: vec![ended], record: logins });
            let (person, record) = (person.to_owned(), record());
            self.0.owed.note(Debt::LeasesOf { person, until, record });
            self.end_access_of(&self.selected(selection).await?.leases, &failed).await;
            return Err(LeaseError::Store(failed));
        }
        crash::at(Place::RevokePerson);
        // Whatever there is now, and by whichever clock: none can begin any more by a login of before.
        self.end_leases_of(person, Timestamp::MAX, record).await
    }

    /// The time that it is. As long as the clocks were not compared it is the latest that there was
    /// for certain: by a clock that is ahead a person would be barred until then.
    pub(super) async fn latest_moment(&self) -> Timestamp {
        if self.0.time.is_settled() {
            return self.now();
        }
        self.store().latest().await.ok().flatten().unwrap_or_else(|| self.now())
    }

    /// Ends every lease that `person` asked for until `until`, when their logins have ended.
    pub(super) async fn end_leases_of(
        &self,
        person: &str,
        until: Timestamp,
        record: impl Fn() -> Record,
    ) -> Result<Vec<LeaseId>, LeaseError> {
        let selection = Selection { person: Some(person.to_owned()), ..Selection::default() };
        let mut ids = Vec::new();
        // Again until nothing is left: one may have just begun.
        loop {
            let Selected { mut leases, unread } = self.selected(&selection).await?;
            // Whoever proves themselves again meanwhile begins anew.
            leases.retain(|lease| lease.requested_at <= until);
            if leases.is_empty() {
                return unread.map_or(Ok(ids), |unread| Err(LeaseError::Store(unread)));
            }
            ids.extend(leases.iter().map(|lease| lease.id));
            self.end_all(leases, &record).await?;
        }
    }

    async fn end_selected(
        &self,
        selection: &Selection,
        record: impl Fn() -> Record,
    ) -> Result<Vec<LeaseId>, LeaseError> {
        let Selected { leases, unread } = self.selected(selection).await?;
        let summary = selection.noted(record(), "revocation by selection", leases.len());
        if let Err(failed) = self.store().commit(Vec::new(), vec![summary.clone()]).await {
            self.0.owed.note(Debt::Noted { changes: Vec::new(), record: summary });
            for lease in &leases {
                let (lease, reason) = (lease.id, EndReason::Operator);
                self.0.owed.note(Debt::Lease { lease, reason, record: record() });
            }
            self.end_access_of(&leases, &failed).await;
            return Err(LeaseError::Store(failed));
        }
        crash::at(Place::RevokeSelected);
        let ids = leases.iter().map(|lease| lease.id).collect();
        self.end_all(leases, &record).await?;
        unread.map_or(Ok(ids), |unread| Err(LeaseError::Store(unread)))
    }

    /// Ends the access of leases whose end the store does not take, because it `failed`.
    async fn end_access_of(&self, leases: &[Lease], failed: &StoreError) {
        let each = stream::iter(leases).for_each_concurrent(SIDE_BY_SIDE, async |lease| {
            self.end_access_unwritten(&lease.cluster, &RoleTarget::of(lease), failed).await;
        });
        each.await;
    }

    /// The live leases that `selection` names now.
    async fn selected(&self, selection: &Selection) -> Result<Selected, LeaseError> {
        let Selected { leases, unread } = match selection.role_name.as_ref() {
            Some(name) => {
                let lease = match name.lease_id() {
                    Some(id) => self.store().lease(id).await.map_err(LeaseError::Store)?,
                    None => None,
                };
                let lease = lease.filter(|lease| STATES.contains(&lease.state));
                Selected { leases: lease.into_iter().collect(), unread: None }
            }
            None => {
                self.live_leases(selection.cluster.as_ref()).await.map_err(LeaseError::Store)?
            }
        };
        let missing = self.missing_people(selection);
        let is_missing = |lease: &Lease| {
            missing.as_ref().is_none_or(|missing| missing.contains(&lease.principal))
        };
        let meant = |lease: &Lease| selection.names(lease) && is_missing(lease);
        Ok(Selected { leases: leases.into_iter().filter(meant).collect(), unread })
    }

    /// The live leases that somebody holds, on `cluster` or on any. When one cannot be read, the
    /// others are read each by itself: it keeps none of them from its end.
    async fn live_leases(&self, cluster: Option<&ClusterName>) -> Result<Selected, StoreError> {
        let filter = LeaseFilter {
            cluster: cluster.cloned(),
            states: STATES.to_vec(),
            ..LeaseFilter::default()
        };
        let unread = match self.store().leases(&filter).await {
            Ok(leases) => return Ok(Selected { leases, unread: None }),
            Err(unread @ StoreError::Unreadable { .. }) => unread,
            Err(failed) => return Err(failed),
        };
        let mut leases = Vec::new();
        for name in self.0.clusters.keys().filter(|name| cluster.is_none_or(|only| only == *name)) {
            for live in self.store().live(name).await? {
                match self.store().lease(live.id).await {
                    Ok(lease) => leases.extend(lease),
                    Err(StoreError::Unreadable { .. }) => {}
                    Err(failed) => return Err(failed),
                }
            }
        }
        leases.retain(|lease| STATES.contains(&lease.state));
        Ok(Selected { leases, unread: Some(unread) })
    }

    /// Tells all of `leases` to end, many at once, and goes on when one cannot be told.
    async fn end_all(
        &self,
        leases: Vec<Lease>,
        record: &impl Fn() -> Record,
    ) -> Result<(), LeaseError> {
        let ends = leases.into_iter().map(|lease| self.end(lease, EndReason::Operator, record()));
        let ends: Vec<_> = stream::iter(ends).buffer_unordered(SIDE_BY_SIDE).collect().await;
        ends.into_iter().collect()
    }

    /// Tells `lease` to end, on behalf of the broker itself or of whom `record` names.
    pub(super) async fn begin_end(
        &self,
        lease: Lease,
        reason: EndReason,
        record: Option<Record>,
    ) -> Result<(), StoreError> {
        let cluster = lease.cluster.clone();
        let now = self.now();
        // Before the clocks were compared the machine's may be ahead, and `now` be yet to come.
        let due = if self.0.time.is_settled() { now } else { now.min(lease.requested_at) };
        let Ok(ending) = lease.revoke(reason, due) else { return Ok(()) };
        let broker = || Record::new(now, Action::RevokeRequested, Subject::Broker);
        let record = record.unwrap_or_else(broker).about(&ending);
        crash::at(Place::RevokeRequest);
        self.store().commit(vec![Change::MoveLease(Box::new(ending))], vec![record]).await?;
        self.nudge(&cluster);
        Ok(())
    }

    /// As [`Self::begin_end`], again with the lease as it is now when it moved meanwhile. When the
    /// store does not take it, the access ends all the same.
    pub(super) async fn end(
        &self,
        mut lease: Lease,
        reason: EndReason,
        record: Record,
    ) -> Result<(), LeaseError> {
        let id = lease.id;
        loop {
            let (cluster, target) = (lease.cluster.clone(), RoleTarget::of(&lease));
            let told = self.begin_end(lease, reason, Some(record.clone())).await;
            let now = match told {
                Ok(()) => return Ok(()),
                Err(StoreError::Moved { .. }) => self.store().lease(id).await,
                Err(failed) => Err(failed),
            };
            match now {
                Ok(now) => lease = now.ok_or(LeaseError::NotFound { lease: id })?,
                Err(failed) => {
                    self.0.owed.note(Debt::Lease { lease: id, reason, record });
                    self.end_access_unwritten(&cluster, &target, &failed).await;
                    return Err(LeaseError::Store(failed));
                }
            }
        }
    }

    /// Ends the access of a lease whose end the store does not take: revoking never waits for it.
    /// The lease stays as it was written until the store takes what is owed.
    async fn end_access_unwritten(
        &self,
        cluster: &ClusterName,
        target: &RoleTarget,
        failed: &StoreError,
    ) {
        let Some(site) = self.site(cluster) else { return };
        crash::at(Place::RevokeUnwritten);
        let (lease, cause) = (target.lease, with_causes(failed));
        match site.cluster.end_access(target).await {
            Ok(AccessEnd::Gone | AccessEnd::Ended(_)) => {
                warn!(%lease, cause, "the store did not take the end of a lease; its access was ended without");
            }
            Ok(AccessEnd::Blocked(blockers)) => {
                let blockers = Blocker::join(&blockers);
                warn!(%lease, cause, blockers, "the store did not take the end of a lease, and its access has not ended");
            }
            Err(away) => {
                let cluster = with_causes(&away);
                warn!(%lease, cause, cluster, "the store did not take the end of a lease, and its cluster did not end its access");
            }
        }
    }

    /// The lease once its fate is known: gone, quarantined, or still being worked on after a while.
    async fn settled(&self, id: LeaseId) -> Result<Lease, LeaseError> {
        self.settled_by(id, Instant::now() + ANSWER_WITHIN).await
    }

    /// The same for several, which all have the same while.
    async fn all_settled(&self, ids: Vec<LeaseId>) -> Result<Vec<Lease>, LeaseError> {
        let until = Instant::now() + ANSWER_WITHIN;
        let mut leases = Vec::with_capacity(ids.len());
        for id in ids {
            leases.push(self.settled_by(id, until).await?);
        }
        Ok(leases)
    }

    async fn settled_by(&self, id: LeaseId, until: Instant) -> Result<Lease, LeaseError> {
        let waited = tokio::time::timeout_at(until, async {
            loop {
                // Begun before the look: a move meanwhile is not missed.
                let moved = self.0.moves.notified();
                let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
                let lease = lease.ok_or(LeaseError::NotFound { lease: id })?;
                // Nobody works on a cluster that is not in the configuration.
                let is_worked_on = self.site(&lease.cluster).is_some();
                if lease.state.is_final() || lease.attempts > 0 || !is_worked_on {
                    return Ok(lease);
                }
                // Another broker may be the one that moves it, of which nobody tells us.
                drop(tokio::time::timeout(LOOK_EVERY, moved).await);
            }
        });
        if let Ok(settled) = waited.await {
            return settled;
        }
        let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
        lease.ok_or(LeaseError::NotFound { lease: id })
    }
}
