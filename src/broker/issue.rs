//! Issuing: from an entitlement to a live role, with its password handed out once.

mod error;
mod refusal;

use std::time::Duration;

use metrics::counter;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

pub use error::IssueError;
pub(super) use refusal::is_fit;

use super::{Broker, Caller, Request, Site, chance};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::causes::with_causes;
use crate::clock::Stopwatch;
use crate::cluster::{ClientConnection, CreateError, CreateRefusal};
use crate::crash::{self, Place};
use crate::lease::{EndReason, Lease, LeaseState, MoveError, Order};
use crate::mapping::{Entitlement, Offers, Profile};
use crate::names::{Password, RequestKey, RoleOid, ScramIterations, Ttl, Verifier};
use crate::store::{Change, Room, StoreError};

/// Rounds of a verifier that take longer than handing them to another thread: some 50 µs.
const LONG: u32 = 400;

/// What somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The cluster.
    pub cluster: String,
    /// The role; may be left out when exactly one is on offer there.
    pub role: Option<String>,
    /// The database; the profile's first when left out.
    pub database: Option<String>,
    /// How long; the profile's TTL when left out.
    pub ttl: Option<Ttl>,
    /// Why.
    pub reason: Option<String>,
    /// The client's key for this wish: asking again with it ends the lease of the first time.
    pub request_key: Option<RequestKey>,
}

/// What is handed out, once.
pub struct Credential {
    /// The lease.
    pub lease: Lease,
    /// The password of its role.
    pub password: Password,
    /// How to connect.
    pub connection: ClientConnection,
}

impl Broker {
    /// All that `caller` may ask for from where they are, and what nobody can say of now.
    pub async fn on_offer(&self, request: &Request, caller: &Caller) -> Offers {
        self.offers(&self.policy(), caller.identity(), request.client).await
    }

    /// Turns a wish into a live role on its cluster, and hands out the password once. It is not
    /// kept: the broker holds no way to show it again.
    ///
    /// What must survive a crash is written first: the intent, then the role, then "issued". A
    /// crash after any line leaves at worst a lease that was never used, which reconciling ends;
    /// it never leaves a role that no lease knows. The work goes on when the caller goes away,
    /// and then ends the lease that nobody holds.
    ///
    /// # Errors
    /// When the wish is not allowed, or store or cluster do not do their part.
    pub async fn issue(
        &self,
        request: &Request,
        caller: &Caller,
        wish: Wish,
    ) -> Result<Credential, IssueError> {
        let identity = self.standing_to_issue(request, caller, &wish).await?;
        let (entitlement, order) = self.allow(request, caller, &identity, wish).await?;
        let (answer, answered) = oneshot::channel();
        let (broker, request, caller) = (self.clone(), request.clone(), caller.clone());
        tokio::spawn(async move {
            let issued = broker.make(&request, &caller, &entitlement, order).await;
            if let Err(Ok(unheard)) = answer.send(issued) {
                broker.end_unheard(unheard).await;
            }
        });
        answered.await.unwrap_or(Err(IssueError::Interrupted))
    }

    async fn make(
        &self,
        request: &Request,
        caller: &Caller,
        entitlement: &Entitlement,
        order: Order,
    ) -> Result<Credential, IssueError> {
        let started = Stopwatch::start();
        let opened = self.ready_site(entitlement).and_then(|site| {
            let lease = self.open(entitlement, order)?;
            Ok((site, lease))
        });
        let (site, lease) = match opened {
            Ok(opened) => opened,
            Err(refusal) => return Err(self.not_now(request, caller, entitlement, refusal).await),
        };
        let profile = entitlement.profile();
        crash::at(Place::IssueIntent);
        // The credential is drawn while the disk writes.
        let (written, drawn) = tokio::join!(
            self.write_intent(request, caller, &lease, profile),
            draw(profile.scram_iterations)
        );
        written?;
        let (password, verifier) = drawn?;
        let now = self.now();
        let Some(within) = lease.time_to_make(now) else {
            let (cluster, role) = (lease.cluster.clone(), lease.role.clone());
            let too_late = CreateError::Refused { cluster, role, refusal: CreateRefusal::TooLate };
            return Err(self.not_created(request, caller, lease, too_late).await);
        };
        let ttl = lease.remaining(now);
        crash::at(Place::IssueRole);
        let created = site.cluster.create(&lease, profile, &verifier, ttl, within).await;
        let role_oid = match created {
            Ok(created) => created.role_oid,
            Err(source) => return Err(self.not_created(request, caller, lease, source).await),
        };
        crash::at(Place::IssueActivation);
        let lease = self.activate(request, caller, lease, role_oid).await?;
        self.still_by_the_map(request, caller, entitlement, &lease).await?;
        crash::at(Place::IssueAnswer);
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("pgbridge_issue_seconds").record(seconds);
        counter!("pgbridge_leases_issued_total", "cluster" => lease.cluster.to_string())
            .increment(1);
        info!(request.id, lease = %lease.id, role = %lease.role_name, cluster = %lease.cluster, principal = %lease.principal, "issued");
        Ok(Credential { lease, password, connection: site.client.clone() })
    }

    fn ready_site(&self, entitlement: &Entitlement) -> Result<&Site, IssueError> {
        let cluster = entitlement.cluster();
        let site = self.site(cluster).filter(|site| site.is_reconciled());
        let site = site.filter(|_| self.0.time.is_settled());
        let site = site.ok_or_else(|| IssueError::NotReady { cluster: cluster.clone() })?;
        match self.clocks_apart(site) {
            None => Ok(site),
            Some(apart) => Err(IssueError::ClocksApart {
                cluster: cluster.clone(),
                seconds: apart.as_secs().unsigned_abs(),
            }),
        }
    }

    /// Opens the lease, unless the login ends before it could be used.
    fn open(&self, entitlement: &Entitlement, order: Order) -> Result<Lease, IssueError> {
        let now = self.now();
        let lease = Lease::open(entitlement, order, &self.0.terms, now, &mut chance::rng());
        if lease.expires_at < now + Duration::from_secs(1) {
            return Err(IssueError::LoginTooOld { ends_at: entitlement.identity().expires_at() });
        }
        Ok(lease)
    }

    /// Writes down the intent, or why it is refused.
    async fn write_intent(
        &self,
        request: &Request,
        caller: &Caller,
        lease: &Lease,
        profile: &Profile,
    ) -> Result<(), IssueError> {
        let Err(refusal) = self.commit_intent(request, caller, lease, profile).await else {
            return Ok(());
        };
        let cause = match refusal {
            IssueError::InProgress => "in_progress",
            IssueError::LoginEnded => "login_ended",
            IssueError::TooManyLeases { .. } => "too_many_leases",
            failed => return Err(failed),
        };
        let record = self.record(request, Action::LeaseRequested, caller.subject()).about(lease);
        Err(self.refused_lease(record, refusal, cause, "").await)
    }

    /// A live lease of the same request key is told to end in the same transaction, so that a key
    /// has at most one.
    async fn commit_intent(
        &self,
        request: &Request,
        caller: &Caller,
        lease: &Lease,
        profile: &Profile,
    ) -> Result<(), IssueError> {
        let record = |action| self.record(request, action, caller.subject());
        let (mut changes, mut records) = (vec![Change::NeedLogin(caller.login())], Vec::new());
        let replaced = self.replaced(lease).await?;
        let replaces = replaced.is_some();
        if let Some(replaced) = replaced {
            records.push(record(Action::RevokeRequested).about(&replaced));
            changes.push(Change::MoveLease(Box::new(replaced)));
        }
        records.push(record(Action::LeaseRequested).about(lease));
        let Lease { principal, cluster, role, .. } = lease.clone();
        let (room_on, of_role, most) = (cluster.clone(), role.clone(), profile.max_leases);
        let room = Room { principal, cluster: room_on, role: of_role, most };
        changes.push(Change::NeedRoom(room));
        changes.push(Change::OpenLease(Box::new(lease.clone())));
        self.store().commit(changes, records).await.map_err(|refused| match refused {
            StoreError::KeyTaken | StoreError::Moved { .. } => IssueError::InProgress,
            StoreError::LoginEnded => IssueError::LoginEnded,
            StoreError::TooMany { most } => IssueError::TooManyLeases { cluster, role, most },
            failed => IssueError::NotRecorded(failed),
        })?;
        if replaces {
            self.nudge(&lease.cluster);
        }
        Ok(())
    }

    async fn replaced(&self, lease: &Lease) -> Result<Option<Lease>, IssueError> {
        let Some(key) = &lease.request_key else { return Ok(None) };
        let former = self.store().lease_of_key(&lease.principal, key).await;
        let Some(former) = former.map_err(IssueError::NotRecorded)? else { return Ok(None) };
        match former.state {
            LeaseState::Active => {
                let replaced = former.revoke(EndReason::Replaced, self.now());
                replaced.map(Some).map_err(|_| IssueError::InProgress)
            }
            _ => Err(IssueError::InProgress),
        }
    }

    async fn activate(
        &self,
        request: &Request,
        caller: &Caller,
        lease: Lease,
        role_oid: RoleOid,
    ) -> Result<Lease, IssueError> {
        let id = lease.id;
        let overtaken = |_: MoveError| IssueError::Overtaken { lease: id };
        let active = lease.clone().activate(role_oid).map_err(overtaken)?;
        let record = self.record(request, Action::LeaseIssued, caller.subject()).about(&active);
        let moved = Change::MoveLease(Box::new(active.clone()));
        match self.store().commit(vec![moved], vec![record]).await {
            Ok(()) => Ok(active),
            // Whoever moved it takes the role away; it may have looked before the role was there.
            Err(StoreError::Moved { .. }) => {
                self.compare_soon(&lease.cluster);
                Err(IssueError::Overtaken { lease: id })
            }
            Err(source) => {
                error!(request.id, lease = %id, "the role exists but could not be recorded; it is taken away");
                self.end_undelivered(request, caller, lease).await;
                Err(IssueError::NotActivated { lease: id, source })
            }
        }
    }

    /// Ends a lease again that a map has allowed which is not in force any more, when the map in
    /// force does not. Whoever holds people against that saw the lease, or it is seen here: it was
    /// written down before.
    async fn still_by_the_map(
        &self,
        request: &Request,
        caller: &Caller,
        entitlement: &Entitlement,
        lease: &Lease,
    ) -> Result<(), IssueError> {
        let policy = self.policy();
        if policy.map.revision() == entitlement.revision() {
            return Ok(());
        }
        let Err(refusal) = self.still_entitled(&policy, entitlement.identity(), lease).await else {
            return Ok(());
        };
        let (id, cause) = (lease.id, refusal.word());
        warn!(request.id, lease = %id, cause, "another map came into force meanwhile, which does not allow the lease; it is taken away");
        self.end_undelivered(request, caller, lease.clone()).await;
        Err(IssueError::Overtaken { lease: id })
    }

    /// Writes down that the role was not made, or that nobody knows.
    async fn not_created(
        &self,
        request: &Request,
        caller: &Caller,
        lease: Lease,
        source: CreateError,
    ) -> IssueError {
        let (id, cluster) = (lease.id, lease.cluster.clone());
        counter!("pgbridge_issue_failed_total", "cluster" => cluster.to_string()).increment(1);
        warn!(request.id, lease = %id, cluster = %cluster, cause = with_causes(&source), "the role could not be created");
        let cause = match &source {
            CreateError::Refused { .. } => "cluster_refused",
            CreateError::Failed { .. } => "cluster_failed",
            CreateError::InDoubt { .. } => {
                self.end_undelivered(request, caller, lease).await;
                let source = Box::new(source);
                return IssueError::RoleNotCreated { lease: id, cluster, source };
            }
        };
        if let Ok(aborted) = lease.abort(self.now()) {
            let record = self.record(request, Action::LeaseAborted, caller.subject());
            let record = record.about(&aborted);
            let record = record.ended(Outcome::Failed, cause, &with_causes(&source));
            let moved = Change::MoveLease(Box::new(aborted));
            crash::at(Place::IssueAbort);
            // If this is not written the intent stays, and reconciling aborts it.
            if let Err(failed) = self.store().commit(vec![moved], vec![record]).await {
                warn!(lease = %id, cause = with_causes(&failed), "the abort was not recorded");
            }
        }
        IssueError::RoleNotCreated { lease: id, cluster, source: Box::new(source) }
    }

    /// Tells a lease whose password never left to end, also when it was activated and only the
    /// answer to that was lost. If even this is not written, its intent is found overdue by
    /// reconciling.
    async fn end_undelivered(&self, request: &Request, caller: &Caller, lease: Lease) {
        let (id, cluster) = (lease.id, lease.cluster.clone());
        crash::at(Place::IssueEndUndelivered);
        let record = self.record(request, Action::RevokeRequested, caller.subject());
        if let Err(failed) = self.end(lease, EndReason::Undelivered, record).await {
            warn!(lease = %id, cause = with_causes(&failed), "the end was not recorded");
            self.compare_soon(&cluster);
        }
    }

    /// Ends the lease of an answer that nobody waited for.
    async fn end_unheard(&self, unheard: Credential) {
        let lease = unheard.lease;
        warn!(lease = %lease.id, "the client went away before its credential left; the lease is ended");
        crash::at(Place::IssueEndUnheard);
        let record = Record::new(self.now(), Action::RevokeRequested, Subject::Broker);
        if let Err(failed) = self.end(lease, EndReason::Undelivered, record).await {
            warn!(
                cause = with_causes(&failed),
                "the end was not recorded; the lease ends by its TTL"
            );
        }
    }
}

/// Draws a password and computes its verifier: not among the tasks that answer requests, when it
/// would keep them waiting.
async fn draw(iterations: ScramIterations) -> Result<(Password, Verifier), IssueError> {
    let draw = move || {
        let mut rng = chance::rng();
        let password = Password::random(&mut rng);
        let verifier = password.verifier(iterations, &mut rng);
        (password, verifier)
    };
    if iterations.get() < LONG {
        return Ok(draw());
    }
    tokio::task::spawn_blocking(draw).await.map_err(|_| IssueError::Interrupted)
}
