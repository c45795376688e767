//! What auditors ask the map: why somebody may act as a role, who may, and as what somebody may.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::members::by_cluster;
use super::review::LeaseError;
use super::{Broker, Caller, Request};
use crate::audit::{Record, cut};
use crate::lease::{self, LeaseExplanation, holder_of};
use crate::mapping::{
    Explanation, Inquiry, InquiryError, KnownMembers, Policy, UnverifiedPerson, WhatCan, WhoCan,
};
use crate::names::{ClusterName, LeaseId, RoleName, WayName};
use crate::store::kept_map;

/// Why a question to the map was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The caller may not ask, or nobody can say whether they may.
    #[error(transparent)]
    Access(#[from] LeaseError),
    /// It asks about what is not configured.
    #[error(transparent)]
    Inquiry(#[from] InquiryError),
    /// Whoever was finding it out has died.
    #[error("the task that was to answer has died")]
    Interrupted,
}

/// Where questions are answered: beside the requests, and one at a time, since a map of many lines
/// and somebody in many groups are much work.
#[derive(Default)]
pub(super) struct Desk(Arc<Mutex<()>>);

impl Desk {
    /// Finds out an answer. The turn lasts until that is done, also when nobody waits any more.
    async fn answer<Answer: Send + 'static>(
        &self,
        find: impl FnOnce() -> Result<Answer, InquiryError> + Send + 'static,
    ) -> Result<Answer, QuestionError> {
        let turn = Arc::clone(&self.0).lock_owned().await;
        let found = tokio::task::spawn_blocking(move || {
            let found = find();
            drop(turn);
            found
        });
        Ok(found.await.map_err(|_| QuestionError::Interrupted)??)
    }
}

/// Somebody who is asked about. Nobody has proven who they are.
#[derive(Clone, Debug)]
pub struct AskedPerson {
    /// The name.
    pub user: String,
    /// The way in by which they would come; each, when it is not named.
    pub way: Option<WayName>,
    /// The groups that they would be in.
    pub groups: Vec<String>,
}

/// May somebody act as a role there?
#[derive(Clone, Debug)]
pub struct AskedDecision {
    /// Who.
    pub person: AskedPerson,
    /// On which cluster.
    pub cluster: ClusterName,
    /// As which role; each that is lent there, when it is not named.
    pub role: Option<RoleName>,
    /// Where they would ask from, if that is to count.
    pub address: Option<IpAddr>,
}

impl Broker {
    /// Explains whether somebody may act as a role, by each way in and role that is meant: for
    /// auditors.
    ///
    /// # Errors
    /// When the caller is no auditor, nobody can say whether they still are, the record cannot be
    /// written, or cluster or way in are not configured.
    pub async fn explain(
        &self,
        request: &Request,
        caller: &Caller,
        asked: AskedDecision,
    ) -> Result<Vec<Explanation>, QuestionError> {
        let AskedDecision { person, cluster, role, address } = asked;
        let about = |record: Record| Record {
            cluster: Some(cluster.clone()),
            role: role.as_ref().map(ToString::to_string),
            ..record
        };
        self.need_auditor(request, caller, &person.asked_by("explain"), about).await?;
        let policy = self.policy();
        let roles = match role {
            Some(role) => vec![role],
            None => policy.lent_on(&cluster)?,
        };
        let known = self.known_members(&policy, Some(&cluster)).await;
        let people = person.by_each_way(&policy)?;
        let explain = move || {
            let members = known.on(&cluster);
            let mut explanations = Vec::new();
            for person in &people {
                for role in &roles {
                    let inquiry = Inquiry { person, cluster: &cluster, role, members, address };
                    explanations.push(policy.explain(&inquiry)?);
                }
            }
            Ok(explanations)
        };
        self.0.desk.answer(explain).await
    }

    /// Who may act as a role, as the lines of the map say it: for auditors.
    ///
    /// # Errors
    /// As [`Self::explain`].
    pub async fn who_can(
        &self,
        request: &Request,
        caller: &Caller,
        cluster: &ClusterName,
        role: &RoleName,
    ) -> Result<WhoCan, QuestionError> {
        let about = |record: Record| Record {
            cluster: Some(cluster.clone()),
            role: Some(role.to_string()),
            ..record
        };
        self.need_auditor(request, caller, "who-can", about).await?;
        let policy = self.policy();
        let known = self.known_members(&policy, Some(cluster)).await;
        let (cluster, role) = (cluster.clone(), role.clone());
        self.0.desk.answer(move || policy.who_can(&cluster, &role, known.on(&cluster))).await
    }

    /// All that somebody may act as, by each way in that is meant: for auditors.
    ///
    /// # Errors
    /// As [`Self::explain`].
    pub async fn what_can(
        &self,
        request: &Request,
        caller: &Caller,
        person: AskedPerson,
    ) -> Result<Vec<WhatCan>, QuestionError> {
        self.need_auditor(request, caller, &person.asked_by("what-can"), |record| record).await?;
        let policy = self.policy();
        let known = self.known_members(&policy, None).await;
        let people = person.by_each_way(&policy)?;
        let find = move || {
            let people = people.iter();
            people.map(|person| policy.what_can(person, |cluster| known.on(cluster))).collect()
        };
        self.0.desk.answer(find).await
    }
}

/// What is known of the memberships, cluster by cluster.
struct Known {
    on: BTreeMap<ClusterName, KnownMembers>,
    /// On every other.
    otherwise: KnownMembers,
}

impl Known {
    fn on(&self, cluster: &ClusterName) -> &KnownMembers {
        self.on.get(cluster).unwrap_or(&self.otherwise)
    }
}

impl Broker {
    /// Why a lease was issued, from the map of that time, and what today's map says: for auditors.
    ///
    /// # Errors
    /// When the caller is no auditor, nobody can say whether they still are, there is no such lease,
    /// or the store cannot be asked.
    pub async fn explain_lease(
        &self,
        request: &Request,
        caller: &Caller,
        id: LeaseId,
    ) -> Result<LeaseExplanation, QuestionError> {
        let about = |record: Record| Record { lease: Some(id), ..record };
        self.need_auditor(request, caller, "explain lease", about).await?;
        let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
        let lease = lease.ok_or(LeaseError::NotFound { lease: id })?;
        let map = kept_map(self.store(), &lease.revision).await.map_err(LeaseError::Store)?;
        let policy = self.policy();
        let known = self.known_members(&policy, Some(&lease.cluster)).await;
        let now = policy.explain(&Inquiry {
            person: &holder_of(&lease),
            cluster: &lease.cluster,
            role: &lease.role,
            members: known.on(&lease.cluster),
            address: Some(lease.client),
        });
        Ok(lease::explain(&lease, map.as_ref(), now.ok()))
    }

    /// What the clusters say of the memberships of what they lend, on `only` or on all, if the map
    /// asks for any.
    async fn known_members(&self, policy: &Policy, only: Option<&ClusterName>) -> Known {
        let otherwise = KnownMembers::nothing();
        if policy.map.asked_groups().is_empty() {
            return Known { on: BTreeMap::new(), otherwise };
        }
        let targets = policy.targets.iter();
        let targets = targets.filter(|target| only.is_none_or(|only| *only == target.cluster));
        let roles = targets.flat_map(|target| {
            target.profiles.iter().map(|profile| (target.cluster.clone(), profile.role.clone()))
        });
        let wanted = by_cluster(roles);
        let names: Vec<ClusterName> = wanted.keys().cloned().collect();
        let members = self.ask_members(wanted).await;
        let on = names.into_iter().map(|name| {
            let known = KnownMembers::on(&name, &members);
            (name, known)
        });
        Known { on: on.collect(), otherwise }
    }
}

impl AskedPerson {
    /// What was asked about them, for the audit: nobody has proven the name.
    fn asked_by(&self, what: &str) -> String {
        format!("{what}: {}", cut(&self.user))
    }

    /// The same person by each way in that is meant.
    fn by_each_way(self, policy: &Policy) -> Result<Vec<UnverifiedPerson>, InquiryError> {
        let Self { user, way, groups } = self;
        let ways = match way {
            Some(way) => vec![way],
            None => policy.ways.keys().cloned().collect(),
        };
        let person = |way: WayName| UnverifiedPerson::new(way, user.clone(), groups.clone());
        let known = |way: &WayName| policy.ways.contains_key(way);
        match ways.iter().find(|way| !known(way)) {
            Some(unknown) => Err(InquiryError::UnknownWay(unknown.clone())),
            None => Ok(ways.into_iter().map(person).collect()),
        }
    }
}
