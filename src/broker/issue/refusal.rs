//! Who may have what they wish for; and every refusal, written down.

use std::collections::BTreeSet;

use metrics::counter;

use super::{IssueError, Wish};
use crate::audit::{Action, Outcome, Record, cut};
use crate::auth::Identity;
use crate::auth::way::Reason;
use crate::broker::standing::Doubt;
use crate::broker::{Broker, Caller, Request};
use crate::lease::Order;
use crate::mapping::{Entitlement, Offers, Policy, Profile, ReasonRule, Refusal};
use crate::names::{DatabaseName, RoleName, printable};

/// A wish that is refused: what the client is told, and what the audit.
struct Unfit {
    role: String,
    refusal: Box<IssueError>,
    cause: &'static str,
    detail: String,
}

impl Unfit {
    /// The audit is told what the client is.
    fn told(role: &str, refusal: IssueError, cause: &'static str) -> Self {
        let (role, detail) = (role.to_owned(), refusal.to_string());
        Self { role, refusal: Box::new(refusal), cause, detail }
    }
}

impl Broker {
    /// Who asks, as they were seen not long ago; or the refusal, written down.
    pub(super) async fn standing_to_issue(
        &self,
        request: &Request,
        caller: &Caller,
        wish: &Wish,
    ) -> Result<Identity, IssueError> {
        let doubt = match self.standing(caller.identity(), self.0.recheck_every.span()).await {
            Ok(identity) => return Ok(identity),
            Err(doubt) => doubt,
        };
        let Reason { word, detail } = doubt.reason();
        let record = self.record(request, Action::LeaseRequested, caller.subject());
        let role = wish.role.as_deref().map(cut);
        let record = Record { cluster: wish.cluster.parse().ok(), role, ..record };
        let refusal = match doubt {
            Doubt::Gone(_) => IssueError::LoginEnded,
            Doubt::Away(_) => IssueError::DirectoryAway,
        };
        Err(self.refused_lease(record, refusal, word, detail).await)
    }

    /// The entitlement and the order for `wish`, or the refusal, written down.
    pub(super) async fn allow(
        &self,
        request: &Request,
        caller: &Caller,
        identity: &Identity,
        wish: Wish,
    ) -> Result<(Entitlement, Order), IssueError> {
        let cluster = wish.cluster.parse().ok();
        let policy = self.policy();
        let judged = self.judge(&policy, request, identity, wish).await;
        let Unfit { role, refusal, cause, detail } = match judged {
            Ok(allowed) => return Ok(allowed),
            Err(unfit) => unfit,
        };
        let record = self.record(request, Action::LeaseRequested, caller.subject());
        let role = Some(cut(&role));
        let map_revision = Some(policy.map.revision().clone());
        let record = Record { cluster, role, map_revision, ..record };
        Err(self.refused_lease(record, *refusal, cause, &detail).await)
    }

    async fn judge(
        &self,
        policy: &Policy,
        request: &Request,
        identity: &Identity,
        wish: Wish,
    ) -> Result<(Entitlement, Order), Unfit> {
        let cluster = wish.cluster.clone();
        let role = match wish.role.clone() {
            Some(role) => role,
            None => self.only_role(policy, request, identity, &cluster).await?,
        };
        match self.entitle(policy, identity, (&cluster, &role), request.client).await {
            Ok(entitlement) => {
                let order = order(entitlement.profile(), wish, request);
                let order = order.map_err(|unfit| Unfit::told(&role, unfit, "unfit_wish"))?;
                Ok((entitlement, order))
            }
            Err(refusal) => {
                let (cause, detail) = (refusal.word(), refusal.to_string());
                let refusal = match refusal {
                    Refusal::MembersUnknown { cluster, .. } => {
                        IssueError::MembersUnknown { cluster }
                    }
                    _ => IssueError::NotOnOffer { cluster, role: role.clone() },
                };
                Err(Unfit { role, refusal: Box::new(refusal), cause, detail })
            }
        }
    }

    /// The only role on offer on `cluster`. When nothing is on offer there it is the empty name,
    /// which no profile has, so that the refusal takes the same way as any other.
    async fn only_role(
        &self,
        policy: &Policy,
        request: &Request,
        identity: &Identity,
        cluster: &str,
    ) -> Result<String, Unfit> {
        let Offers { entitlements, undecided } =
            self.offers(policy, identity, request.client).await;
        if let Some((cluster, role)) =
            undecided.into_iter().find(|(name, _)| name.as_str() == cluster)
        {
            let refusal = Refusal::MembersUnknown { cluster: cluster.clone(), role };
            let (word, unknown) = (refusal.word(), IssueError::MembersUnknown { cluster });
            return Err(Unfit::told("", unknown, word));
        }
        let here = entitlements.iter().filter(|offer| offer.cluster().as_str() == cluster);
        let roles: BTreeSet<RoleName> = here.map(|offer| offer.profile().role.clone()).collect();
        match (roles.len(), roles.first()) {
            (0, _) => Ok(String::new()),
            (1, Some(role)) => Ok(role.to_string()),
            _ => {
                let (cluster, roles) = (cluster.to_owned(), roles.into_iter().collect());
                let unclear = IssueError::RoleNeeded { cluster, roles };
                Err(Unfit::told("", unclear, "role_needed"))
            }
        }
    }

    /// Writes down why nothing can be issued now, although it may be.
    pub(super) async fn not_now(
        &self,
        request: &Request,
        caller: &Caller,
        entitlement: &Entitlement,
        refusal: IssueError,
    ) -> IssueError {
        let cause = match refusal {
            IssueError::NotReady { .. } => "not_ready",
            IssueError::ClocksApart { .. } => "clocks_apart",
            _ => "login_too_old",
        };
        let record = Record {
            cluster: Some(entitlement.cluster().clone()),
            role: Some(entitlement.profile().role.to_string()),
            rule: Some(entitlement.rule().clone()),
            map_revision: Some(entitlement.revision().clone()),
            because: Some(entitlement.because().clone()),
            ..self.record(request, Action::LeaseRequested, caller.subject())
        };
        let detail = refusal.to_string();
        self.refused_lease(record, refusal, cause, &detail).await
    }

    /// Counts and writes down a refusal, and gives it.
    pub(super) async fn refused_lease(
        &self,
        record: Record,
        refusal: IssueError,
        cause: &str,
        detail: &str,
    ) -> IssueError {
        counter!("pgbridge_leases_refused_total", "cause" => cause.to_owned()).increment(1);
        let record = record.ended(Outcome::Refused, cause, detail);
        let written = self.store().commit(Vec::new(), vec![record]).await;
        written.map_or_else(IssueError::NotRecorded, |()| refusal)
    }
}

/// Holds a wish against the profile's terms.
fn order(profile: &Profile, wish: Wish, request: &Request) -> Result<Order, IssueError> {
    let ttl = wish.ttl.unwrap_or(profile.ttl);
    if ttl > profile.max_ttl {
        let (role, max_ttl) = (profile.role.clone(), profile.max_ttl);
        return Err(IssueError::TtlTooLong { role, ttl, max_ttl });
    }
    let reason = wish.reason.filter(|reason| !reason.trim().is_empty());
    if profile.reason == ReasonRule::Required && reason.is_none() {
        return Err(IssueError::ReasonNeeded { role: profile.role.clone() });
    }
    if reason.as_deref().is_some_and(|reason| !is_fit(reason)) {
        return Err(IssueError::ReasonUnfit);
    }
    Ok(Order {
        database: database(profile, wish.database)?,
        ttl,
        reason,
        request_key: wish.request_key,
        client: request.client,
    })
}

/// Whether a reason can stand in the audit: short, and nothing in it that cannot be seen.
pub(in crate::broker) fn is_fit(reason: &str) -> bool {
    reason.chars().count() <= 500 && printable(reason) == reason
}

fn database(profile: &Profile, asked: Option<String>) -> Result<DatabaseName, IssueError> {
    let mut lent = profile.databases.iter();
    let found = match &asked {
        Some(asked) => lent.find(|database| database.as_str() == asked),
        None => lent.next(),
    };
    found.cloned().ok_or_else(|| IssueError::DatabaseNotLent {
        role: profile.role.clone(),
        database: asked.unwrap_or_default(),
        databases: profile.databases.clone(),
    })
}
