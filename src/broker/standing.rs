//! How people stand: who was seen when by their way in, and what follows for whom.
//!
//! A login is a look, and so is each later one. What was seen last counts until somebody must look
//! again, and while nobody can, for the grace; then nothing that needs the person goes on.
//!
//! Whoever their way in does not show counts as gone at once for what they ask: nothing is issued to
//! them or renewed. What they have already ends later, when they were missing twice and not too many
//! are ([`super::missing`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::missing::{Missing, MissingPerson};
use super::{Broker, Caller};
use crate::auth::Identity;
use crate::auth::way::{Reason, Standing};
use crate::mapping::Duties;
use crate::names::{Principal, WayName};

/// For how long a look is good for who must look now: a program that renews in a loop has its
/// person looked up no oftener.
pub(super) const FRESH: SignedDuration = SignedDuration::from_secs(2);

/// For how long somebody is remembered who has neither lease nor session.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// What was seen of everybody.
#[derive(Default)]
pub(super) struct Looks(Mutex<HashMap<Principal, Known>>);

/// What is known of one person.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What was seen last, and when.
    seen: Option<(Timestamp, Seen)>,
    /// When nobody could look, if that was later, and why.
    in_vain: Option<(Timestamp, Reason)>,
    /// When all they have was last held against what was seen, or that was tried.
    judged: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Good(Identity),
    Gone(Reason),
    /// Not shown, and since when not.
    Missing {
        since: Timestamp,
        reason: Reason,
        /// What was seen of them before.
        before: Option<Identity>,
    },
}

/// What a look gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They could log in, and are in these groups.
    Good(Identity),
    /// They could not log in.
    Gone(Reason),
    /// Their way in does not show them.
    Missing(Reason),
    /// Nobody could look.
    Away(Reason),
    /// Their way in shows nobody; this is what their last login gave, if it is known.
    OnlyAtLogin(Option<Identity>),
}

/// Why what somebody proved at their login does not count now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// They could not log in any more. All they have has been told to end, or will be when it is
    /// certain that they are missing.
    Gone(Reason),
    /// Nobody could look, and what was seen last is too old.
    Away(Reason),
}

/// Why somebody whose login is remembered is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// They could not log in any more.
    Gone(Reason),
    /// Their way in does not show them now.
    Missing(Reason),
}

impl Doubt {
    pub(super) fn reason(&self) -> &Reason {
        match self {
            Self::Gone(reason) | Self::Away(reason) => reason,
        }
    }
}

/// How soon people are judged again.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// How long after the last time.
    pub every: SignedDuration,
    /// The same when the last time was in vain, or they were missing.
    pub after_trouble: SignedDuration,
    /// How many at most.
    pub most: usize,
}

/// How long ago `then` was. A clock that was set back since does not make a look last longer.
fn age(now: Timestamp, then: Timestamp) -> SignedDuration {
    now.duration_since(then).abs()
}

impl Known {
    /// What is known well enough for who wants a look no older than `limit`.
    fn within(&self, now: Timestamp, limit: SignedDuration) -> Option<Look> {
        if let Some((at, reason)) = &self.in_vain
            && age(now, *at) <= FRESH
        {
            return Some(Look::Away(reason.clone()));
        }
        let (at, seen) = self.seen(now)?;
        (age(now, at) <= limit).then(|| match seen {
            Seen::Good(identity) => Look::Good(identity.clone()),
            Seen::Gone(reason) => Look::Gone(reason.clone()),
            Seen::Missing { reason, .. } => Look::Missing(reason.clone()),
        })
    }

    /// What was seen last. A look that is yet to come was stamped by a clock that was ahead: it is
    /// none.
    fn seen(&self, now: Timestamp) -> Option<(Timestamp, &Seen)> {
        self.seen.as_ref().filter(|(at, _)| *at <= now).map(|(at, seen)| (*at, seen))
    }

    /// Takes what was seen at `at`, unless something later was by `now`.
    fn see(&mut self, now: Timestamp, at: Timestamp, seen: Seen) {
        if at > now {
            return;
        }
        if self.seen(now).is_none_or(|(before, _)| before <= at) {
            self.seen = Some((at, seen));
        }
        if self.in_vain.as_ref().is_some_and(|(before, _)| *before <= at || *before > now) {
            self.in_vain = None;
        }
    }

    fn good(&self, now: Timestamp) -> Option<&Identity> {
        match self.seen(now) {
            Some((_, Seen::Good(identity))) => Some(identity),
            _ => None,
        }
    }

    /// The same, also of who has not been shown since.
    fn last_good(&self, now: Timestamp) -> Option<&Identity> {
        match self.seen(now) {
            Some((_, Seen::Missing { before, .. })) => before.as_ref(),
            _ => self.good(now),
        }
    }

    /// Since when they have not been shown, if they are not.
    fn missing_since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.seen(now) {
            Some((_, Seen::Missing { since, .. })) => Some(*since),
            _ => None,
        }
    }

    /// What a login still counts for while nobody can look.
    fn meanwhile(&self, login: &Identity, now: Timestamp, grace: SignedDuration) -> Meanwhile {
        let since = login.authenticated_at();
        let (at, identity) = match self.seen(now).filter(|(at, _)| *at > since) {
            Some((_, Seen::Gone(reason))) => return Meanwhile::Gone(reason.clone()),
            Some((_, Seen::Missing { reason, .. })) => return Meanwhile::Missing(reason.clone()),
            Some((at, Seen::Good(seen))) => match login.as_seen_in(seen) {
                Some(identity) => (at, identity),
                None => return Meanwhile::Missing(replaced()),
            },
            None => (since, login.clone()),
        };
        if age(now, at) > grace {
            return Meanwhile::TooOld;
        }
        Meanwhile::Counts(identity)
    }

    fn is_due(&self, now: Timestamp, pace: Pace) -> bool {
        let is_missing = matches!(self.seen, Some((_, Seen::Missing { .. })));
        let in_doubt = self.in_vain.is_some() || is_missing;
        let limit = if in_doubt { pace.after_trouble } else { pace.every };
        self.judged.is_none_or(|judged| age(now, judged) >= limit)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meanwhile {
    Counts(Identity),
    Gone(Reason),
    Missing(Reason),
    TooOld,
}

impl Looks {
    fn all(&self) -> MutexGuard<'_, HashMap<Principal, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, principal: &Principal) -> Known {
        self.all().get(principal).cloned().unwrap_or_default()
    }

    /// Notes what a login proved, also one of before that its session remembers.
    pub(super) fn note_login(&self, identity: &Identity, now: Timestamp) {
        let seen = Seen::Good(identity.clone());
        let mut all = self.all();
        let known = all.entry(identity.principal().clone()).or_default();
        known.see(now, identity.authenticated_at(), seen);
        // Whoever has just come has little to be judged.
        known.judged.get_or_insert(identity.authenticated_at());
    }

    fn note(&self, principal: &Principal, at: Timestamp, standing: Standing) -> Look {
        let mut all = self.all();
        let known = all.entry(principal.clone()).or_default();
        match standing {
            Standing::Good(identity) => {
                known.see(at, at, Seen::Good(identity.clone()));
                Look::Good(identity)
            }
            Standing::Gone(reason) => {
                known.see(at, at, Seen::Gone(reason.clone()));
                Look::Gone(reason)
            }
            Standing::Missing(reason) => {
                let since = known.missing_since(at).unwrap_or(at);
                let before = known.last_good(at).cloned();
                known.see(at, at, Seen::Missing { since, reason: reason.clone(), before });
                Look::Missing(reason)
            }
            Standing::Unknown(reason) => {
                known.in_vain = Some((at, reason.clone()));
                Look::Away(reason)
            }
            Standing::OnlyAtLogin => Look::OnlyAtLogin(known.good(at).cloned()),
        }
    }

    /// What was seen of somebody when they were seen last, if they were good. That they are not
    /// shown any more does not change it.
    pub(super) fn last_seen(&self, principal: &Principal, now: Timestamp) -> Option<Identity> {
        self.known(principal).last_good(now).cloned()
    }

    /// Notes that all that somebody has was held against what was seen.
    pub(super) fn note_judged(&self, principal: &Principal, at: Timestamp) {
        self.all().entry(principal.clone()).or_default().judged = Some(at);
    }

    /// Those of `people` who are to be judged again, whoever waits longest first.
    pub(super) fn due(
        &self,
        people: &BTreeSet<Principal>,
        now: Timestamp,
        pace: Pace,
    ) -> Vec<Principal> {
        let all = self.all();
        let none = Known::default();
        let judged = |principal: &Principal| all.get(principal).unwrap_or(&none);
        let due = people.iter().filter(|person| judged(person).is_due(now, pace));
        let mut due: Vec<_> = due.map(|person| (judged(person).judged, person)).collect();
        due.sort();
        due.into_iter().take(pace.most).map(|(_, person)| person.clone()).collect()
    }

    /// How long ago somebody of `people` was seen of whom that is longest ago; those who were not
    /// seen at all count from `start`.
    pub(super) fn oldest(
        &self,
        people: &BTreeSet<Principal>,
        now: Timestamp,
        start: Timestamp,
    ) -> SignedDuration {
        let all = self.all();
        let seen = |person| all.get(person).and_then(|known| Some(known.seen.as_ref()?.0));
        let ages = people.iter().map(|person| age(now, seen(person).unwrap_or(start)));
        ages.max().unwrap_or_default()
    }

    /// Who of the way in `of` is missing, and how many others it has shown since the first of them
    /// was not. A person who was not looked up for longer than `within` says nothing any more.
    pub(super) fn missing(&self, of: &WayName, now: Timestamp, within: SignedDuration) -> Missing {
        let all = self.all();
        let lately = all.iter().filter_map(|(principal, known)| {
            let (at, seen) = known.seen(now)?;
            (principal.issuer() == of && age(now, at) <= within).then_some((principal, at, seen))
        });
        let lately: Vec<_> = lately.collect();
        let people = lately.iter().filter_map(|(principal, at, seen)| match seen {
            Seen::Missing { since, reason, .. } => {
                let known = MissingPerson { since: *since, seen_at: *at, reason: reason.clone() };
                Some(((*principal).clone(), known))
            }
            Seen::Good(_) | Seen::Gone(_) => None,
        });
        let people: BTreeMap<_, _> = people.collect();
        let since = people.values().map(|person| person.since).min();
        let is_shown = |(_, at, seen): &&(&Principal, Timestamp, &Seen)| {
            matches!(seen, Seen::Good(_) | Seen::Gone(_)) && since.is_some_and(|since| *at > since)
        };
        let shown = lately.iter().filter(is_shown).count();
        Missing { people, shown }
    }

    /// Why somebody of `people` could not be looked up, if that is so of anybody.
    pub(super) fn trouble(&self, people: &BTreeSet<Principal>) -> Option<Reason> {
        let all = self.all();
        let in_vain = |person| all.get(person).and_then(|known| known.in_vain.as_ref());
        people.iter().find_map(in_vain).map(|(_, reason)| reason.clone())
    }

    /// Forgets those of the way in `of` who are not among its `people` any more.
    pub(super) fn forget(&self, of: &WayName, people: &BTreeSet<Principal>, now: Timestamp) {
        self.all().retain(|principal, known| {
            let lately = known.seen.as_ref().is_some_and(|(seen, _)| age(now, *seen) < REMEMBERED);
            principal.issuer() != of || lately || people.contains(principal)
        });
    }
}

impl Broker {
    /// Looks `principal` up, unless what is known of them is no older than `limit`. Whoever asks
    /// while somebody looks waits for the same look.
    pub(super) async fn look(&self, principal: &Principal, limit: SignedDuration) -> Look {
        let looks = &self.0.looks;
        let known = || looks.known(principal).within(self.now(), limit);
        if let Some(look) = known() {
            return look;
        }
        let Some(way) = self.0.ways.get(principal.issuer()) else { return Look::Gone(removed()) };
        let _turn = self.0.turns.take(&format!("look:{}", principal.key()), 1).await;
        if let Some(look) = known() {
            return look;
        }
        let at = self.now();
        let standing = way.look_again(principal, at).await;
        looks.note(principal, at, standing)
    }

    /// A login with what is known best of its person, without looking.
    ///
    /// # Errors
    /// When the person was seen to be gone since, or was not shown.
    pub(super) fn as_known(&self, login: &Identity) -> Result<Identity, Absent> {
        let (known, since) = (self.0.looks.known(login.principal()), login.authenticated_at());
        match known.seen(self.now()).filter(|(at, _)| *at > since) {
            Some((_, Seen::Gone(reason))) => Err(Absent::Gone(reason.clone())),
            Some((_, Seen::Missing { reason, .. })) => Err(Absent::Missing(reason.clone())),
            Some((_, Seen::Good(seen))) => {
                login.as_seen_in(seen).ok_or_else(|| Absent::Gone(replaced()))
            }
            None => Ok(login.clone()),
        }
    }

    /// A login with the groups in which its person was seen no longer than `limit` ago. Whoever is
    /// gone loses all they have; whoever is missing is only refused, and looked up again soon.
    ///
    /// # Errors
    /// When the person is gone, or nobody could look and what was seen last is too old.
    pub(super) async fn standing(
        &self,
        login: &Identity,
        limit: SignedDuration,
    ) -> Result<Identity, Doubt> {
        let principal = login.principal();
        let gone = match self.look(principal, limit).await {
            // What is there by that name is somebody else's, and stays theirs.
            Look::Good(seen) => {
                return login.as_seen_in(&seen).ok_or_else(|| Doubt::Gone(replaced()));
            }
            Look::OnlyAtLogin(_) => return Ok(login.clone()),
            Look::Gone(reason) => reason,
            Look::Missing(reason) => return Err(Doubt::Gone(reason)),
            Look::Away(reason) => {
                let known = self.0.looks.known(principal);
                match known.meanwhile(login, self.now(), self.0.recheck_grace.span()) {
                    Meanwhile::Counts(identity) => return Ok(identity),
                    Meanwhile::TooOld => return Err(Doubt::Away(reason)),
                    Meanwhile::Missing(reason) => return Err(Doubt::Gone(reason)),
                    Meanwhile::Gone(reason) => reason,
                }
            }
        };
        self.end_person_or_warn(principal, &gone).await;
        Err(Doubt::Gone(gone))
    }

    /// The duties of `caller` as they are now.
    ///
    /// # Errors
    /// As [`Self::standing`].
    pub(super) async fn duties_now(&self, caller: &Caller) -> Result<Duties, Doubt> {
        let identity = self.standing(caller.identity(), self.0.recheck_every.span()).await?;
        Ok(self.policy().duties(&identity))
    }
}

/// Why nothing goes on for who had the name of an account before it was given to another.
pub(super) fn replaced() -> Reason {
    let detail = "another account has the name now: theirs was deleted".to_owned();
    Reason { word: "account_replaced", detail }
}

fn removed() -> Reason {
    let detail = "their way in is not in the configuration any more".to_owned();
    Reason { word: "way_removed", detail }
}

#[cfg(test)]
mod tests;
