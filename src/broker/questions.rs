//! What auditors ask the map: why somebody may act as a role, who may, and as what somebody may.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::members::by_cluster;
use super::review::LeaseError;
use super::{Broker, Caller, Request};
use crate::audit::{Record, cut};
use crate::lease::{self, LeaseExplanation, holder_of};
use crate::mapping::{
    Duty, Explanation, Inquiries, Inquiry, InquiryError, KnownMembers, Policy, UnverifiedNames,
    UnverifiedPerson, WhatCan, WhoCan,
};
use crate::names::{ClusterName, LeaseId, RoleName, WayName};
use crate::store::kept_map;

/// How long a question waits for those before it.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// Why a question to the map was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The caller may not ask, or nobody can say whether they may.
    #[error(transparent)]
    Access(#[from] LeaseError),
    /// It asks about what is not configured, or about whom there cannot be.
    #[error(transparent)]
    Inquiry(#[from] InquiryError),
    /// Others are being answered, and that takes long.
    #[error("the auditors' desk is busy with the questions of others; ask again soon")]
    Busy,
    /// Whoever was finding it out has died.
    #[error("the task that was to answer has died")]
    Interrupted,
}

/// Where questions are answered: beside the requests, and one at a time, since a map of many lines
/// and somebody in many groups are much work, and since the clusters that one asks lend roles over
/// the same connections.
#[derive(Default)]
pub(super) struct Desk(Arc<Mutex<()>>);

impl Desk {
    /// Finds out an answer for which nobody need be asked.
    async fn answer<Answer: Send + 'static>(
        &self,
        find: impl FnOnce() -> Answer + Send + 'static,
    ) -> Result<Answer, QuestionError> {
        self.turn().await?.answer(find).await
    }

    /// Waits for a turn. First come, first served.
    async fn turn(&self) -> Result<Turn, QuestionError> {
        let turn = Arc::clone(&self.0).lock_owned();
        timeout(TURN_WITHIN, turn).await.map(Turn).map_err(|_| QuestionError::Busy)
    }
}

/// Whose turn it is. Whoever holds it may ask the clusters, and nobody else may.
struct Turn(OwnedMutexGuard<()>);

impl Turn {
    /// Finds out an answer. The turn lasts until that is done, also when nobody waits any more; it
    /// is over when finding out fails in whatever way.
    async fn answer<Answer: Send + 'static>(
        self,
        find: impl FnOnce() -> Answer + Send + 'static,
    ) -> Result<Answer, QuestionError> {
        let Self(turn) = self;
        let found = tokio::task::spawn_blocking(move || {
            let found = find();
            drop(turn);
            found
        });
        found.await.map_err(|_| QuestionError::Interrupted)
    }
}

/// Somebody who is asked about. Nobody has proven who they are.
#[derive(Clone, Debug)]
pub struct AskedPerson {
    /// Their name, and the groups that they would be in.
    pub names: UnverifiedNames,
    /// The way in by which they would come; each, when it is not named.
    pub way: Option<WayName>,
}

/// What is asked about somebody.
#[derive(Clone, Debug)]
pub enum AskedDecision {
    /// May they act as a role of a cluster?
    Role {
        /// On which cluster.
        cluster: ClusterName,
        /// As which role; each that is lent there, when it is not named.
        role: Option<RoleName>,
        /// Where they would ask from, if that is to count.
        address: Option<IpAddr>,
    },
    /// Have they a duty of the broker's own?
    Duty(Duty),
}

/// What it is asked who may act as.
#[derive(Clone, Debug)]
pub enum AskedRole {
    /// A role of a cluster.
    Role {
        /// The cluster.
        cluster: ClusterName,
        /// The role.
        role: RoleName,
    },
    /// A duty of the broker's own.
    Duty(Duty),
}

impl Broker {
    /// Explains whether somebody may act as a role, by each way in and role that is meant, or whether
    /// they have a duty: for auditors.
    ///
    /// # Errors
    /// When the caller is no auditor, nobody can say whether they still are, the record cannot be
    /// written, or cluster or way in are not configured. [`QuestionError::Busy`] when others are
    /// being answered for too long.
    pub async fn explain(
        &self,
        request: &Request,
        caller: &Caller,
        person: AskedPerson,
        asked: AskedDecision,
    ) -> Result<Vec<Explanation>, QuestionError> {
        let (cluster, word) = match &asked {
            AskedDecision::Role { cluster, role, .. } => {
                (Some(cluster.clone()), role.as_ref().map(ToString::to_string))
            }
            AskedDecision::Duty(duty) => (None, Some(duty.to_string())),
        };
        let about = |record: Record| Record { cluster, role: word, ..record };
        self.need_auditor(request, caller, &person.asked_by("explain"), about).await?;
        match asked {
            AskedDecision::Role { cluster, role, address } => {
                self.explain_roles(person, cluster, role, address).await
            }
            AskedDecision::Duty(duty) => self.explain_duty(person, duty).await,
        }
    }

    async fn explain_roles(
        &self,
        AskedPerson { names, way }: AskedPerson,
        cluster: ClusterName,
        role: Option<RoleName>,
        address: Option<IpAddr>,
    ) -> Result<Vec<Explanation>, QuestionError> {
        let policy = self.policy();
        let people = policy.by_each_way(&names, way.as_ref())?;
        let ways = people.iter().map(UnverifiedPerson::way);
        let turn = self.0.desk.turn().await?;
        let known = self.known_members(&turn, &policy, ways, Some(&cluster)).await;
        let explain = move || {
            policy.explain_each(&Inquiries {
                people: &people,
                cluster: &cluster,
                role: role.as_ref(),
                members: known.on(&cluster),
                address,
            })
        };
        Ok(turn.answer(explain).await??)
    }

    async fn explain_duty(
        &self,
        AskedPerson { names, way }: AskedPerson,
        duty: Duty,
    ) -> Result<Vec<Explanation>, QuestionError> {
        let policy = self.policy();
        policy.meant(way.as_ref())?;
        let explain = move || vec![policy.explain_duty(&names, way.as_ref(), duty)];
        self.0.desk.answer(explain).await
    }

    /// Who may act as a role, or has a duty, as the lines of the map say it: for auditors.
    ///
    /// # Errors
    /// As [`Self::explain`].
    pub async fn who_can(
        &self,
        request: &Request,
        caller: &Caller,
        asked: AskedRole,
    ) -> Result<WhoCan, QuestionError> {
        let (cluster, word) = match &asked {
            AskedRole::Role { cluster, role } => (Some(cluster.clone()), role.to_string()),
            AskedRole::Duty(duty) => (None, duty.to_string()),
        };
        let about = |record: Record| Record { cluster, role: Some(word), ..record };
        self.need_auditor(request, caller, "who-can", about).await?;
        let policy = self.policy();
        match asked {
            AskedRole::Role { cluster, role } => {
                let turn = self.0.desk.turn().await?;
                let ways = policy.ways.keys();
                let known = self.known_members(&turn, &policy, ways, Some(&cluster)).await;
                let find = move || policy.who_can(&cluster, &role, known.on(&cluster));
                Ok(turn.answer(find).await??)
            }
            AskedRole::Duty(duty) => self.0.desk.answer(move || policy.who_has(duty)).await,
        }
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
        let AskedPerson { names, way } = person;
        let policy = self.policy();
        let people = policy.by_each_way(&names, way.as_ref())?;
        let turn = self.0.desk.turn().await?;
        let ways = people.iter().map(UnverifiedPerson::way);
        let known = self.known_members(&turn, &policy, ways, None).await;
        let find = move || -> Result<Vec<WhatCan>, InquiryError> {
            let people = people.iter();
            people.map(|person| policy.what_can(person, |cluster| known.on(cluster))).collect()
        };
        Ok(turn.answer(find).await??)
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
        let way = lease.principal.issuer();
        let turn = self.0.desk.turn().await?;
        let known = self.known_members(&turn, &policy, [way], Some(&lease.cluster)).await;
        let explain = move || {
            let now = policy.explain(&Inquiry {
                person: &holder_of(&lease),
                cluster: &lease.cluster,
                role: &lease.role,
                members: known.on(&lease.cluster),
                address: Some(lease.client),
            });
            lease::explain(&lease, map.as_ref(), now.ok())
        };
        turn.answer(explain).await
    }

    /// What the clusters say of the memberships of what they lend, on `only` or on all. None is
    /// asked when no line of the maps of `ways` turns on it. Only whose turn it is asks: they lend
    /// roles over the same connections, and many who ask at once would keep others from their leases.
    async fn known_members<'w>(
        &self,
        _turn: &Turn,
        policy: &Policy,
        ways: impl IntoIterator<Item = &'w WayName>,
        only: Option<&ClusterName>,
    ) -> Known {
        let otherwise = KnownMembers::nothing();
        if !policy.asks_members(ways) {
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
        format!("{what}: {}", cut(self.names.system_user()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    use futures::poll;
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::spawn_blocking;

    use super::*;

    /// What is handed to such a runtime is done one after another, in the order in which it came: so
    /// whoever is done shows that those before were done or never came.
    fn of_one_hand() -> Runtime {
        Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap()
    }

    #[test]
    fn questions_are_answered_one_at_a_time() {
        of_one_hand().block_on(async {
            let desk = Arc::new(Desk::default());
            let begun = Arc::new(AtomicBool::new(false));
            let first = desk.turn().await.unwrap();
            let (asked, begin) = (Arc::clone(&desk), Arc::clone(&begun));
            let second = tokio::spawn(async move {
                asked.answer(move || begin.store(true, Ordering::SeqCst)).await
            });
            // Time enough for the second to begin, if it did not wait.
            for _ in 0..10 {
                spawn_blocking(|| ()).await.unwrap();
            }
            assert!(!begun.load(Ordering::SeqCst), "the second began beside the first");
            drop(first);
            second.await.unwrap().unwrap();
            assert!(begun.load(Ordering::SeqCst));
        });
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_the_desk_to_the_next() {
        let desk = Desk::default();
        let (finish, finished) = mpsc::channel::<()>();
        let mut gone = Box::pin(desk.answer(move || finished.recv()));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        let mut next = Box::pin(desk.answer(|| "answer"));
        assert!(poll!(&mut next).is_pending());
        // One who goes away while waiting takes no turn either.
        let mut waiting = Box::pin(desk.answer(|| ()));
        assert!(poll!(&mut waiting).is_pending());
        drop(waiting);
        drop(finish);
        assert_eq!(next.await.unwrap(), "answer");
        assert_eq!(desk.answer(|| "another").await.unwrap(), "another");
    }

    #[tokio::test]
    async fn an_answer_that_dies_leaves_the_desk_to_the_next() {
        let desk = Desk::default();
        let died = desk.answer(|| -> () { panic!("in a test") }).await;
        assert!(matches!(died, Err(QuestionError::Interrupted)), "{died:?}");
        assert_eq!(desk.answer(|| "answer").await.unwrap(), "answer");
    }

    #[tokio::test]
    async fn while_one_asks_the_clusters_nobody_else_does() {
        let desk = Desk::default();
        // The clusters are asked with a turn only, and this one is asking them.
        let asking = desk.turn().await.unwrap();
        let mut next = Box::pin(desk.turn());
        assert!(poll!(&mut next).is_pending());
        let (finish, finished) = mpsc::channel::<()>();
        let mut answer = Box::pin(asking.answer(move || finished.recv()));
        assert!(poll!(&mut answer).is_pending());
        assert!(poll!(&mut next).is_pending(), "the turn was over before the answer");
        drop(finish);
        answer.await.unwrap().unwrap_err();
        // Whoever goes away while they ask the clusters leaves the desk to the next.
        let asking = next.await.unwrap();
        drop(asking);
        assert_eq!(desk.answer(|| "answer").await.unwrap(), "answer");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_their_turn() {
        let desk = Desk::default();
        let first = desk.turn().await.unwrap();
        let refused = desk.answer(|| ()).await;
        assert!(matches!(refused, Err(QuestionError::Busy)), "{refused:?}");
        drop(first);
        desk.answer(|| ()).await.unwrap();
    }
}
