//! What auditors ask the map: why somebody may act as a role, who may, and as what somebody may.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::members::by_cluster;
use super::review::LeaseError;
use super::{Broker, Caller, Request};
use crate::audit::{Record, cut};
use crate::lease::{self, LeaseExplanation, holder_of};
use crate::mapping::{
    Duty, Effort, Explanation, Inquiries, Inquiry, InquiryError, KnownMembers, Policy,
    UnverifiedNames, WhatCan, WhoCan,
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
        find: impl FnOnce(&Effort<'_>) -> Answer + Send + 'static,
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
#[expect(dead_code, reason = "it is held and let go, never read")]
struct Turn(OwnedMutexGuard<()>);

impl Turn {
    /// Finds out an answer, and is over then.
    async fn answer<Answer: Send + 'static>(
        self,
        find: impl FnOnce(&Effort<'_>) -> Answer + Send + 'static,
    ) -> Result<Answer, QuestionError> {
        self.find(find).await.map(|(_, answer)| answer)
    }

    /// Finds something out. The turn lasts until that is done, also when nobody waits any more, and it
    /// is called off then; it is over when finding out fails in whatever way.
    async fn find<Found: Send + 'static>(
        self,
        find: impl FnOnce(&Effort<'_>) -> Found + Send + 'static,
    ) -> Result<(Self, Found), QuestionError> {
        let awaited = Awaited::default();
        let is_off = Arc::clone(&awaited.0);
        let found = tokio::task::spawn_blocking(move || {
            let is_called_off = || is_off.load(Ordering::Relaxed);
            let found = find(&Effort::until(&is_called_off));
            (self, found)
        });
        let found = found.await.map_err(|_| QuestionError::Interrupted);
        drop(awaited);
        found
    }
}

/// As long as somebody waits. They are gone when the client hangs up, and when the time for the answer
/// is over.
#[derive(Default)]
struct Awaited(Arc<AtomicBool>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
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
        let (on, of, asked) = (cluster.clone(), role.clone(), people.clone());
        let to_ask = move |policy: &Policy, effort: &Effort<'_>| {
            policy.clusters_to_ask(&asked, Some(&on), of.as_ref(), effort)
        };
        let (turn, known) = self.turn_with_members(&policy, to_ask).await?;
        let explain = move |effort: &Effort<'_>| {
            let (cluster, role, people) = (&cluster, role.as_ref(), people.as_slice());
            let members = known.on(cluster);
            policy.explain_each(&Inquiries { people, cluster, role, members, address }, effort)
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
        let explain = move |effort: &Effort<'_>| {
            policy.explain_duty(&names, way.as_ref(), duty, effort).map(|explained| vec![explained])
        };
        Ok(self.0.desk.answer(explain).await??)
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
                let (on, of) = (cluster.clone(), role.clone());
                let to_ask = move |policy: &Policy, effort: &Effort<'_>| {
                    let turns = policy.who_turns_on_members(&on, &of, effort);
                    turns.then_some(on).into_iter().collect()
                };
                let (turn, known) = self.turn_with_members(&policy, to_ask).await?;
                let find = move |effort: &Effort<'_>| {
                    policy.who_can(&cluster, &role, known.on(&cluster), effort)
                };
                Ok(turn.answer(find).await??)
            }
            AskedRole::Duty(duty) => {
                Ok(self.0.desk.answer(move |effort| policy.who_has(duty, effort)).await??)
            }
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
        let asked = people.clone();
        let to_ask = move |policy: &Policy, effort: &Effort<'_>| {
            policy.clusters_to_ask(&asked, None, None, effort)
        };
        let (turn, known) = self.turn_with_members(&policy, to_ask).await?;
        let find = move |effort: &Effort<'_>| -> Result<Vec<WhatCan>, InquiryError> {
            let can = |person| policy.what_can(person, |cluster| known.on(cluster), effort);
            people.iter().map(can).collect()
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
        let (person, on, of) = (holder_of(&lease), lease.cluster.clone(), lease.role.clone());
        let to_ask = move |policy: &Policy, effort: &Effort<'_>| {
            policy.clusters_to_ask(&[person], Some(&on), Some(&of), effort)
        };
        let (turn, known) = self.turn_with_members(&policy, to_ask).await?;
        let explain = move |effort: &Effort<'_>| {
            let inquiry = Inquiry {
                person: &holder_of(&lease),
                cluster: &lease.cluster,
                role: &lease.role,
                members: known.on(&lease.cluster),
                address: Some(lease.client),
            };
            lease::explain(&lease, map.as_ref(), policy.explain(&inquiry, effort).ok())
        };
        turn.answer(explain).await
    }

    /// A turn, and what the clusters say on whose memberships the answer turns, as `to_ask` finds out.
    /// No other is asked, so that one that is away spoils no answer that does not need it.
    async fn turn_with_members(
        &self,
        policy: &Arc<Policy>,
        to_ask: impl FnOnce(&Policy, &Effort<'_>) -> BTreeSet<ClusterName> + Send + 'static,
    ) -> Result<(Turn, Known), QuestionError> {
        let turn = self.0.desk.turn().await?;
        let of = Arc::clone(policy);
        let (turn, clusters) = turn.find(move |effort| to_ask(&of, effort)).await?;
        let known = self.known_members(&turn, policy, &clusters).await;
        Ok((turn, known))
    }

    /// What these clusters say of the memberships of what they lend. Only whose turn it is asks: they
    /// lend roles over the same connections, and many who ask at once would keep others from their
    /// leases.
    async fn known_members(
        &self,
        _turn: &Turn,
        policy: &Policy,
        clusters: &BTreeSet<ClusterName>,
    ) -> Known {
        let otherwise = KnownMembers::nothing();
        let targets = policy.targets.iter();
        let targets = targets.filter(|target| clusters.contains(&target.cluster));
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
    use std::sync::mpsc::{self, TryRecvError};

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
                asked.answer(move |_| begin.store(true, Ordering::SeqCst)).await
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
        let mut gone = Box::pin(desk.answer(move |_| finished.recv()));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        let mut next = Box::pin(desk.answer(|_| "answer"));
        assert!(poll!(&mut next).is_pending());
        // One who goes away while waiting takes no turn either.
        let mut waiting = Box::pin(desk.answer(|_| ()));
        assert!(poll!(&mut waiting).is_pending());
        drop(waiting);
        drop(finish);
        assert_eq!(next.await.unwrap(), "answer");
        assert_eq!(desk.answer(|_| "another").await.unwrap(), "another");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_called_off() {
        let desk = Desk::default();
        let (finish, finished) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let mut gone = Box::pin(desk.answer(move |effort| {
            while !effort.is_called_off() && finished.try_recv() == Err(TryRecvError::Empty) {
                std::thread::yield_now();
            }
            tell.send(effort.is_called_off())
        }));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        // The turn of the next is come once that is over.
        assert!(desk.answer(|effort| !effort.is_called_off()).await.unwrap());
        assert_eq!(told.try_recv(), Ok(true));
        drop(finish);
    }

    #[tokio::test]
    async fn an_answer_that_dies_leaves_the_desk_to_the_next() {
        let desk = Desk::default();
        let died = desk.answer(|_| -> () { panic!("in a test") }).await;
        assert!(matches!(died, Err(QuestionError::Interrupted)), "{died:?}");
        assert_eq!(desk.answer(|_| "answer").await.unwrap(), "answer");
    }

    #[tokio::test]
    async fn while_one_asks_the_clusters_nobody_else_does() {
        let desk = Desk::default();
        // The clusters are asked with a turn only, and this one is asking them.
        let asking = desk.turn().await.unwrap();
        let mut next = Box::pin(desk.turn());
        assert!(poll!(&mut next).is_pending());
        let (finish, finished) = mpsc::channel::<()>();
        let mut answer = Box::pin(asking.answer(move |_| finished.recv()));
        assert!(poll!(&mut answer).is_pending());
        assert!(poll!(&mut next).is_pending(), "the turn was over before the answer");
        drop(finish);
        answer.await.unwrap().unwrap_err();
        // Whoever goes away while they ask the clusters leaves the desk to the next.
        let asking = next.await.unwrap();
        drop(asking);
        assert_eq!(desk.answer(|_| "answer").await.unwrap(), "answer");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_their_turn() {
        let desk = Desk::default();
        let first = desk.turn().await.unwrap();
        let refused = desk.answer(|_| ()).await;
        assert!(matches!(refused, Err(QuestionError::Busy)), "{refused:?}");
        drop(first);
        desk.answer(|_| ()).await.unwrap();
    }
}
