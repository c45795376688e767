//! People whom the directory does not show any more, at the end of a run. Whoever left loses what they
//! have; a slip of the directory takes nothing from anybody; and when many are missing at once nothing
//! of theirs ends until they are shown again, or until an operator ends it.

use std::time::Duration;

use super::commands::Asked;
use super::directory::Account;
use super::rest::BOUND;
use super::stand::{GROUPS, PEOPLE, RECHECK, ttl};
use super::world::{Feat, World};
use crate::lease::{Lease, LeaseState};

/// Who ends what others have, and is shown then.
const OPERATOR: &str = "carol";

/// How long a request takes at most when nothing fails.
const ANSWERED: Duration = Duration::from_secs(15);

impl World {
    pub(super) fn let_people_go_missing(&mut self) {
        self.let_everybody_have_a_lease();
        match self.chance.below(4) {
            0 => self.let_one_leave(),
            1 => self.let_the_directory_slip(),
            2 => self.let_many_be_missing_for_a_while(),
            _ => self.let_an_operator_end_what_many_have(),
        }
        self.check();
        self.directory.show_all();
        self.note_denied();
    }

    fn let_everybody_have_a_lease(&mut self) {
        self.remember_rest("everybody has a lease");
        for person in PEOPLE {
            self.directory.set_account(person, Account::Open);
            for group in GROUPS {
                self.directory.set_member(person, group, true);
            }
            self.log_in(0, person, false);
        }
        self.note_denied();
        self.pass_in_steps(ANSWERED);
        for person in PEOPLE {
            let role = Some("orders_read");
            self.issue(Asked { at: 0, person, role, ttl: "1h", key: None });
        }
        self.pass_in_steps(ANSWERED);
    }

    /// Their leases end, and nobody else's.
    fn let_one_leave(&mut self) {
        let person = self.chance.pick(&PEOPLE).unwrap();
        self.remember_rest(&format!("{person} is not shown any more"));
        let others = self.live_but_of(&[person]);
        self.directory.set_account(person, Account::Hidden);
        self.check_renews_nothing(&[person]);
        self.pass_in_steps(period() * 3 / 2);
        self.check_nobody_has_too_much();
        self.check_goes_on(&others);
    }

    /// Nobody loses what they have by one look.
    fn let_the_directory_slip(&mut self) {
        let person = self.chance.pick(&PEOPLE).unwrap();
        self.remember_rest(&format!("{person} is not shown once"));
        let (all, before) = (self.live_but_of(&[]), self.directory.looks_in_vain());
        self.directory.set_account(person, Account::Hidden);
        for _ in 0..period().as_secs() {
            self.pass_in_steps(Duration::from_secs(1));
            if self.directory.looks_in_vain() > before {
                break;
            }
        }
        self.directory.set_account(person, Account::Open);
        self.pass_in_steps(period());
        self.check_goes_on(&all);
    }

    /// They are held back, and when they are shown again all is as it was.
    fn let_many_be_missing_for_a_while(&mut self) {
        self.remember_rest("many are not shown any more");
        let all = self.live_but_of(&[]);
        let shown = Some(OPERATOR).filter(|_| self.chance.once_in(2));
        self.directory.show_only(shown);
        self.check_renews_nothing(&hidden_but(shown));
        self.pass_in_steps(BOUND);
        self.check_goes_on(&all);

        self.remember_rest("all are shown again");
        self.directory.show_all();
        self.note_denied();
        self.pass_in_steps(period());
        self.check_goes_on(&all);
        let before = self.count(Feat::Renewed);
        self.renew_all(&PEOPLE);
        if self.count(Feat::Renewed) == before && !all.is_empty() {
            self.broken("whoever is shown again renews nothing", all.first());
        }
    }

    /// What those have ends who are missing as far as the broker has looked, and nothing else.
    fn let_an_operator_end_what_many_have(&mut self) {
        self.remember_rest("an operator ends what many have who are not shown any more");
        let hidden = hidden_but(Some(OPERATOR));
        let (all, operators) = (self.live_but_of(&[]), self.live_but_of(&hidden));
        self.directory.show_only(Some(OPERATOR));
        self.note_denied();
        self.pass_in_steps(period() * 3 / 2);
        self.check_goes_on(&all);
        self.revoke_missing(0, OPERATOR);
        self.pass_in_steps(ANSWERED);
        self.check_nobody_has_too_much();
        self.check_goes_on(&operators);
        if all.len() > operators.len() {
            self.note(Feat::HeldBackEndedByOperator);
        }
        let is_hidden = |person: &str| hidden.contains(&person);
        let is_in = self
            .store
            .rows()
            .tables
            .sessions
            .values()
            .any(|session| is_hidden(session.identity.principal().subject()));
        if is_in {
            self.broken("an operator ended all that somebody has, and a session is left", None);
        }
    }

    /// I-11: whoever is not shown renews nothing from the next look on.
    fn check_renews_nothing(&mut self, hidden: &[&'static str]) {
        self.note_denied();
        self.pass_in_steps(ANSWERED);
        // Each answer is held against who may have what.
        self.renew_all(hidden);
    }

    /// Lets people renew what they have.
    fn renew_all(&mut self, people: &[&'static str]) {
        for person in people {
            for lease in self.live_but_of(&[]) {
                if lease.principal.subject() == *person {
                    self.renew_this(0, person, lease.id, "15m");
                }
            }
        }
        self.pass_in_steps(ANSWERED);
    }

    /// The active leases of everybody but these people.
    fn live_but_of(&self, people: &[&str]) -> Vec<Lease> {
        let mut leases = self.leases();
        leases.retain(|lease| lease.state == LeaseState::Active);
        leases.retain(|lease| !people.contains(&lease.principal.subject()));
        leases
    }

    /// None of these has ended before its time.
    fn check_goes_on(&self, leases: &[Lease]) {
        let soon = self.time.now() + BOUND;
        for lease in leases.iter().filter(|lease| lease.expires_at > soon) {
            let now = self.lease(lease.id);
            if now.as_ref().is_none_or(|now| now.state != LeaseState::Active) {
                self.broken("somebody lost what they may have", now.as_ref());
            }
        }
    }

    fn count(&self, feat: Feat) -> u32 {
        self.feats.get(&feat).copied().unwrap_or(0)
    }
}

/// In which everybody is looked up.
fn period() -> Duration {
    ttl(RECHECK).duration()
}

/// Everybody but who is shown.
fn hidden_but(shown: Option<&str>) -> Vec<&'static str> {
    PEOPLE.into_iter().filter(|person| shown != Some(*person)).collect()
}
