//! How people stand: who was seen when by their way in, and what follows for whom.
//!
//! A login is a look, and so is each later one. What was seen last counts until somebody must look
//! again, and while nobody can, for the grace; then nothing that needs the person goes on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

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
}

/// What a look gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// They could log in, and are in these groups.
    Good(Identity),
    /// They could not log in.
    Gone(Reason),
    /// Nobody could look.
    Away(Reason),
    /// Their way in shows nobody; this is what their last login gave, if it is known.
    OnlyAtLogin(Option<Identity>),
}

/// Why what somebody proved at their login does not count now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// They could not log in any more. All they have has been told to end.
    Gone(Reason),
    /// Nobody could look, and what was seen last is too old.
    Away(Reason),
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
    /// The same when the last time was in vain.
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
        let (at, seen) = self.seen.as_ref()?;
        (age(now, *at) <= limit).then(|| match seen {
            Seen::Good(identity) => Look::Good(identity.clone()),
            Seen::Gone(reason) => Look::Gone(reason.clone()),
        })
    }

    /// Takes what was seen at `at`, unless something later was.
    fn see(&mut self, at: Timestamp, seen: Seen) {
        if self.seen.as_ref().is_none_or(|(before, _)| *before <= at) {
            self.seen = Some((at, seen));
        }
        if self.in_vain.as_ref().is_some_and(|(before, _)| *before <= at) {
            self.in_vain = None;
        }
    }

    fn good(&self) -> Option<(Timestamp, &Identity)> {
        match &self.seen {
            Some((at, Seen::Good(identity))) => Some((*at, identity)),
            _ => None,
        }
    }

    /// What a login still counts for while nobody can look.
    fn meanwhile(&self, login: &Identity, now: Timestamp, grace: SignedDuration) -> Meanwhile {
        let since = login.authenticated_at();
        let (at, identity) = match &self.seen {
            Some((at, Seen::Gone(reason))) if *at > since => {
                return Meanwhile::Gone(reason.clone());
            }
            Some((at, Seen::Good(seen))) if *at > since => (*at, login.as_seen_in(seen)),
            _ => (since, None),
        };
        if age(now, at) > grace {
            return Meanwhile::TooOld;
        }
        Meanwhile::Counts(identity.unwrap_or_else(|| login.clone()))
    }

    fn is_due(&self, now: Timestamp, pace: Pace) -> bool {
        let limit = if self.in_vain.is_some() { pace.after_trouble } else { pace.every };
        self.judged.is_none_or(|judged| age(now, judged) >= limit)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Meanwhile {
    Counts(Identity),
    Gone(Reason),
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
    pub(super) fn note_login(&self, identity: &Identity) {
        let seen = Seen::Good(identity.clone());
        let mut all = self.all();
        let known = all.entry(identity.principal().clone()).or_default();
        known.see(identity.authenticated_at(), seen);
        // Whoever has just come has little to be judged.
        known.judged.get_or_insert(identity.authenticated_at());
    }

    fn note(&self, principal: &Principal, at: Timestamp, standing: Standing) -> Look {
        let mut all = self.all();
        let known = all.entry(principal.clone()).or_default();
        match standing {
            Standing::Good(identity) => {
                known.see(at, Seen::Good(identity.clone()));
                Look::Good(identity)
            }
            Standing::Gone(reason) => {
                known.see(at, Seen::Gone(reason.clone()));
                Look::Gone(reason)
            }
            Standing::Unknown(reason) => {
                known.in_vain = Some((at, reason.clone()));
                Look::Away(reason)
            }
            Standing::OnlyAtLogin => {
                Look::OnlyAtLogin(known.good().map(|(_, identity)| identity.clone()))
            }
        }
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
    /// When the person was seen to be gone since.
    pub(super) fn as_known(&self, login: &Identity) -> Result<Identity, Reason> {
        match self.0.looks.known(login.principal()).seen {
            Some((at, Seen::Gone(reason))) if at > login.authenticated_at() => Err(reason),
            Some((at, Seen::Good(seen))) if at > login.authenticated_at() => {
                Ok(login.as_seen_in(&seen).unwrap_or_else(|| login.clone()))
            }
            _ => Ok(login.clone()),
        }
    }

    /// A login with the groups in which its person was seen no longer than `limit` ago. Whoever is
    /// gone loses all they have.
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
            Look::Good(seen) => {
                return Ok(login.as_seen_in(&seen).unwrap_or_else(|| login.clone()));
            }
            Look::OnlyAtLogin(_) => return Ok(login.clone()),
            Look::Gone(reason) => reason,
            Look::Away(reason) => {
                let known = self.0.looks.known(principal);
                match known.meanwhile(login, self.now(), self.0.recheck_grace.span()) {
                    Meanwhile::Counts(identity) => return Ok(identity),
                    Meanwhile::TooOld => return Err(Doubt::Away(reason)),
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
        Ok(self.0.policy.duties(&identity))
    }
}

fn removed() -> Reason {
    let detail = "their way in is not in the configuration any more".to_owned();
    Reason { word: "way_removed", detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: SignedDuration = SignedDuration::from_secs(100);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn person(account: &str) -> Principal {
        Principal::Ldap { directory: "corp".parse().unwrap(), account: account.to_owned() }
    }

    /// Alice, logged in at `seconds`, in `groups`.
    fn alice(seconds: i64, groups: &[&str]) -> Identity {
        let identity = serde_json::json!({
            "principal": person("alice"),
            "groups": groups,
            "authenticated_at": at(seconds),
            "expires_at": at(seconds + 28_800),
        });
        Identity::from_session_json(&identity.to_string()).unwrap()
    }

    fn reason(word: &'static str) -> Reason {
        Reason { word, detail: word.to_owned() }
    }

    fn known(looks: &Looks) -> Known {
        looks.known(&person("alice"))
    }

    #[test]
    fn a_look_is_good_for_as_long_as_who_asks_says() {
        let looks = Looks::default();
        looks.note_login(&alice(10, &["a"]));
        let within = |now, limit| known(&looks).within(at(now), SignedDuration::from_secs(limit));
        assert_eq!(within(12, 2), Some(Look::Good(alice(10, &["a"]))));
        assert_eq!(within(13, 2), None);
        assert_eq!(within(13, 3), Some(Look::Good(alice(10, &["a"]))));
        assert_eq!(within(7, 2), None, "a clock that was set back makes nothing fresh");
        assert_eq!(looks.known(&person("bob")).within(at(10), GRACE), None);
    }

    #[test]
    fn what_was_seen_later_counts_whoever_says_it_first() {
        let looks = Looks::default();
        looks.note(&person("alice"), at(20), Standing::Gone(reason("disabled")));
        looks.note_login(&alice(10, &["a"]));
        let now = at(21);
        assert_eq!(known(&looks).within(now, GRACE), Some(Look::Gone(reason("disabled"))));
        looks.note_login(&alice(30, &["a"]));
        assert_eq!(known(&looks).within(at(31), GRACE), Some(Look::Good(alice(30, &["a"]))));
    }

    #[test]
    fn a_look_in_vain_is_not_tried_again_at_once_and_forgets_nothing() {
        let looks = Looks::default();
        looks.note_login(&alice(10, &["a"]));
        looks.note(&person("alice"), at(50), Standing::Unknown(reason("timeout")));
        let within = |now| known(&looks).within(at(now), FRESH);
        assert_eq!(within(52), Some(Look::Away(reason("timeout"))));
        assert_eq!(within(53), None);
        looks.note(&person("alice"), at(53), Standing::Good(alice(53, &["b"])));
        assert_eq!(within(53), Some(Look::Good(alice(53, &["b"]))));
    }

    #[test]
    fn while_nobody_can_look_what_was_seen_last_counts_for_the_grace() {
        let meanwhile =
            |looks: &Looks, login: &Identity, now| known(looks).meanwhile(login, at(now), GRACE);
        let (looks, login) = (Looks::default(), alice(10, &["a"]));
        assert_eq!(meanwhile(&looks, &login, 110), Meanwhile::Counts(login.clone()));
        assert_eq!(meanwhile(&looks, &login, 111), Meanwhile::TooOld);
        looks.note(&person("alice"), at(60), Standing::Good(alice(60, &["b"])));
        // With the groups of the look, and the times of the login.
        assert_eq!(meanwhile(&looks, &login, 160), Meanwhile::Counts(alice(10, &["b"])));
        assert_eq!(meanwhile(&looks, &login, 161), Meanwhile::TooOld);
        looks.note(&person("alice"), at(70), Standing::Gone(reason("disabled")));
        assert_eq!(meanwhile(&looks, &login, 71), Meanwhile::Gone(reason("disabled")));
        assert_eq!(meanwhile(&looks, &alice(80, &["c"]), 81), Meanwhile::Counts(alice(80, &["c"])));
    }

    #[test]
    fn whoever_waits_longest_is_judged_first_and_a_login_is_no_judgement() {
        let looks = Looks::default();
        let people: BTreeSet<_> = ["alice", "bob", "carol", "dave"].map(person).into();
        let due = |now, most| {
            let pace = Pace {
                every: SignedDuration::from_secs(60),
                after_trouble: SignedDuration::from_secs(10),
                most,
            };
            let due = looks.due(&people, at(now), pace);
            due.iter().map(|person| person.subject().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(due(0, 9), ["alice", "bob", "carol", "dave"]);
        looks.note_judged(&person("alice"), at(100));
        looks.note_judged(&person("carol"), at(50));
        looks.note_judged(&person("dave"), at(120));
        assert_eq!(due(120, 9), ["bob", "carol"]);
        assert_eq!(due(160, 9), ["bob", "carol", "alice"]);
        assert_eq!(due(160, 2), ["bob", "carol"]);
        looks.note_login(&alice(159, &[]));
        assert_eq!(due(160, 9), ["bob", "carol", "alice"]);
        looks.note(&person("dave"), at(120), Standing::Unknown(reason("timeout")));
        assert_eq!(due(129, 9), ["bob", "carol"]);
        assert_eq!(due(130, 9), ["bob", "carol", "dave"]);
    }

    #[test]
    fn who_has_nothing_is_forgotten_after_a_while_and_who_has_something_is_not() {
        let looks = Looks::default();
        let corp = "corp".parse().unwrap();
        looks.note_login(&alice(0, &[]));
        looks.note(&person("bob"), at(0), Standing::Gone(reason("disabled")));
        let people: BTreeSet<_> = [person("alice")].into();
        looks.forget(&corp, &people, at(3599));
        assert_eq!(looks.all().len(), 2);
        looks.forget(&"other".parse().unwrap(), &people, at(3601));
        assert_eq!(looks.all().len(), 2);
        looks.forget(&corp, &people, at(3601));
        assert_eq!(looks.all().len(), 1);
        let oldest = |now, start| looks.oldest(&people, at(now), at(start)).as_secs();
        assert_eq!(oldest(40, 30), 40);
        let both: BTreeSet<_> = ["alice", "eve"].map(person).into();
        assert_eq!(looks.oldest(&both, at(40), at(-5)).as_secs(), 45);
        assert_eq!(looks.oldest(&BTreeSet::new(), at(40), at(0)).as_secs(), 0);
    }
}
