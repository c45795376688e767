//! People whom their way in does not show any more. One may have left. When many are missing at
//! once it is rather the directory: it was restored empty, lags behind, or is searched in another
//! place or by another filter than before.
//!
//! So nobody loses what they have by one look: who is missing is looked up once more, and others of
//! the same way in are looked up soon, to see whether it shows anybody. It is believed when it shows
//! two others for each who is missing. If it does not, and more than
//! [`Parts::max_missing`](super::Parts::max_missing) are missing, they are held back: nothing of theirs
//! ends. That is written down, shown by a metric that an alert watches, and over by itself when the
//! directory shows them again, or enough others; or when an operator ends what they have. When no
//! more are missing than that, it is believed after a whole `recheck_every`, in which everybody
//! was looked up.
//!
//! That does not put off anybody's end for ever: from the first look on nothing is issued to who is
//! missing, and nothing is renewed, so their leases end at their own time at the latest.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use metrics::gauge;
use tracing::{info, warn};

use super::Broker;
use crate::audit::{Action, Outcome, Record, Subject};
use crate::auth::way::Reason;
use crate::causes::with_causes;
use crate::names::{Principal, WayName};
use crate::store::StoreError;

/// Who of a way in is missing.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Those who were not shown when they were last looked up.
    pub people: BTreeMap<Principal, MissingPerson>,
    /// How many others were shown since the first of them was not.
    pub shown: usize,
}

/// One who is missing.
#[derive(Debug)]
pub(super) struct MissingPerson {
    /// The first look that did not show them.
    pub since: Timestamp,
    /// The last one.
    pub seen_at: Timestamp,
    /// What the way in said.
    pub reason: Reason,
}

/// What is to be done about those who are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The way in shows enough others: what they have ends, once they were missing twice.
    Believed,
    /// It does not, but they are few: what they have ends after a whole period.
    Few,
    /// It does not, and they are many: nothing of theirs ends.
    HeldBack,
}

/// What was last written down of a way in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// That nobody is held back, or nothing yet.
    #[default]
    Nothing,
    /// That people are held back.
    HeldBack,
}

/// How far apart two looks are by which somebody is missing for certain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apart {
    /// When the way in shows enough others.
    pub believed: SignedDuration,
    /// When it does not: time for everybody to be looked up.
    pub few: SignedDuration,
}

impl Missing {
    /// Whether others should be looked up soon, to see whether the way in shows anybody.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.people.len().saturating_mul(2) > self.shown
    }

    fn judge(&self, most: u32) -> Verdict {
        match (self.is_in_doubt(), self.people.len() > most as usize) {
            (false, _) => Verdict::Believed,
            (true, false) => Verdict::Few,
            (true, true) => Verdict::HeldBack,
        }
    }
}

impl MissingPerson {
    /// Whether they are missing for certain.
    fn is_certain(&self, verdict: Verdict, apart: Apart) -> bool {
        let looks_apart = self.seen_at.duration_since(self.since);
        match verdict {
            Verdict::Believed => looks_apart >= apart.believed,
            Verdict::Few => looks_apart >= apart.few,
            Verdict::HeldBack => false,
        }
    }
}

impl Broker {
    /// Who of the way in `of` is missing now.
    pub(super) fn missing_from(&self, of: &WayName) -> Missing {
        self.0.looks.missing(of, self.now(), self.0.recheck_every.span())
    }

    /// Ends all that those of `looked_up` have who are missing for certain.
    pub(super) async fn judge_missing(
        &self,
        of: &WayName,
        looked_up: Vec<Principal>,
        apart: Apart,
        told: &mut Told,
    ) {
        let missing = self.missing_from(of);
        let verdict = missing.judge(self.0.max_missing);
        show(of, if verdict == Verdict::HeldBack { missing.people.len() } else { 0 });
        self.tell(of, &missing, verdict, told).await;
        for principal in looked_up {
            let person = missing.people.get(&principal);
            let done = match person.filter(|person| person.is_certain(verdict, apart)) {
                Some(MissingPerson { reason, .. }) => self.end_person(&principal, reason).await,
                None => Ok(()),
            };
            self.judged(&principal, done);
        }
    }

    /// Writes down when people begin to be held back, and when that is over.
    async fn tell(&self, of: &WayName, missing: &Missing, verdict: Verdict, told: &mut Told) {
        let (count, shown) = (missing.people.len(), missing.shown);
        let written = match (verdict, *told) {
            (Verdict::HeldBack, Told::Nothing) => {
                warn!(way = %of, missing = count, shown, "many people are missing at once; nothing of theirs ends until the directory shows them again or an operator ends it");
                let detail = format!(
                    "`{of}` does not show {count} people, and showed {shown} others meanwhile; \
                     they get and renew nothing, and what they have is left to its own end, or to \
                     `pgbridge revoke --missing-from {of}`"
                );
                self.write_missing(Outcome::Refused, "held_back", &detail).await
            }
            (Verdict::Believed | Verdict::Few, Told::HeldBack) => {
                info!(way = %of, missing = count, shown, "nobody is held back any more");
                let detail = format!("`{of}` does not show {count} people now, and shows {shown}");
                self.write_missing(Outcome::Done, "over", &detail).await
            }
            _ => return,
        };
        match written {
            Ok(()) if verdict == Verdict::HeldBack => *told = Told::HeldBack,
            Ok(()) => *told = Told::Nothing,
            // It is written with the next round.
            Err(failed) => {
                warn!(
                    cause = with_causes(&failed),
                    "that many people are missing, or no longer are, is not recorded yet"
                );
            }
        }
    }

    async fn write_missing(
        &self,
        outcome: Outcome,
        cause: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        let record = Record::new(self.now(), Action::PeopleMissing, Subject::Broker);
        self.store().commit(Vec::new(), vec![record.ended(outcome, cause, detail)]).await
    }
}

/// Shows how many people are held back.
#[expect(clippy::cast_precision_loss, reason = "a count of people is far below 2^52")]
pub(super) fn show(of: &WayName, people: usize) {
    gauge!("pgbridge_people_held_back", "way" => of.to_string()).set(people as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn missing(count: usize, shown: usize) -> Missing {
        let person = |at_| MissingPerson {
            since: at(0),
            seen_at: at(at_),
            reason: Reason { word: "unknown_account", detail: String::new() },
        };
        let principal = |number: usize| Principal::Ldap {
            directory: "corp".parse().unwrap(),
            account: format!("p{number}"),
        };
        Missing { people: (0..count).map(|each| (principal(each), person(1))).collect(), shown }
    }

    #[track_caller]
    fn check(count: usize, shown: usize, verdict: Verdict) {
        assert_eq!(missing(count, shown).judge(5), verdict, "{count} missing, {shown} shown");
    }

    #[test]
    fn a_few_may_be_missing_and_of_many_a_third() {
        check(0, 0, Verdict::Believed);
        check(1, 2, Verdict::Believed);
        check(1, 1, Verdict::Few);
        check(5, 0, Verdict::Few);
        check(6, 0, Verdict::HeldBack);
        check(6, 11, Verdict::HeldBack);
        check(6, 12, Verdict::Believed);
        check(100, 199, Verdict::HeldBack);
        check(100, 200, Verdict::Believed);
    }

    #[test]
    fn one_look_makes_nobody_certainly_missing() {
        let apart =
            Apart { believed: SignedDuration::from_secs(5), few: SignedDuration::from_secs(60) };
        let is_certain = |seen_at, verdict| {
            let reason = Reason { word: "unknown_account", detail: String::new() };
            let person = MissingPerson { since: at(10), seen_at: at(seen_at), reason };
            person.is_certain(verdict, apart)
        };
        for (seen_at, believed, few) in
            [(10, false, false), (14, false, false), (15, true, false), (70, true, true)]
        {
            assert_eq!(is_certain(seen_at, Verdict::Believed), believed, "{seen_at}");
            assert_eq!(is_certain(seen_at, Verdict::Few), few, "{seen_at}");
            assert!(!is_certain(seen_at, Verdict::HeldBack), "{seen_at}");
        }
    }
}
