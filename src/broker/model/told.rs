//! What the audit tells (I-05, I-12, I-13): every change of a lease has its record in the same
//! transaction and every record its change, nothing is told twice, and the audit alone says where
//! each lease stands. Nothing in it is a secret.

use std::collections::{BTreeMap, BTreeSet};

use super::directory::UNKNOWN;
use super::store::{Transaction, ends_access};
use super::world::{Feat, World};
use crate::audit::{Action, Outcome, Record, Subject};
use crate::lease::{Lease, LeaseState};
use crate::names::LeaseId;
use crate::store::Store;

/// What was read of the audit so far.
#[derive(Default)]
pub(super) struct Told {
    transactions: usize,
    /// Where each lease stands, by the audit alone.
    states: BTreeMap<LeaseId, LeaseState>,
    once: BTreeSet<(LeaseId, &'static str)>,
    refused: BTreeSet<String>,
    /// The records as they were when they were first read.
    lines: Vec<String>,
}

impl Told {
    /// Whether the request is told to have been refused, and why.
    pub(super) fn is_refused(&self, request: &str) -> bool {
        self.refused.contains(request)
    }

    /// Reads one more record; says what is wrong with it.
    fn read(&mut self, record: &Record) -> Result<(), String> {
        let is_done = record.outcome == Outcome::Done;
        if !is_done && record.cause.as_ref().is_none_or(String::is_empty) {
            return Err("a refusal or a failure without a cause".to_owned());
        }
        if record.outcome == Outcome::Refused
            && let Some(request) = &record.request_id
        {
            self.refused.insert(request.clone());
        }
        let Some(lease) = record.lease else { return Ok(()) };
        let (state, once) = match record.action {
            Action::LeaseRequested if is_done => (LeaseState::Intent, Some("requested")),
            Action::LeaseIssued => (LeaseState::Active, Some("issued")),
            Action::LeaseAborted => (LeaseState::Aborted, Some("over")),
            Action::RevokeRequested if is_done => (LeaseState::Revoking, Some("ending")),
            Action::LeaseQuarantined => (LeaseState::Quarantined, None),
            Action::LeaseRevoked | Action::LeaseLost => (LeaseState::Revoked, Some("over")),
            Action::AccessEnded if is_done => {
                let is_new = self.once.insert((lease, "access ended"));
                return if is_new { Ok(()) } else { Err("access ended twice".to_owned()) };
            }
            _ => return Ok(()),
        };
        self.states.insert(lease, state);
        match once {
            Some(once) if !self.once.insert((lease, once)) => Err(format!("{once} twice")),
            _ => Ok(()),
        }
    }
}

/// The record that a move must have beside it.
fn needed(before: Option<&Lease>, after: &Lease) -> (Action, Option<Outcome>) {
    use LeaseState::{Aborted, Active, Intent, Quarantined, Revoked, Revoking};
    let has_ended = |lease: &Lease| lease.access_ended_at.is_some();
    match (before.map(|lease| lease.state), after.state) {
        (None, Intent) => (Action::LeaseRequested, Some(Outcome::Done)),
        (Some(Intent), Active) => (Action::LeaseIssued, Some(Outcome::Done)),
        (Some(Intent), Aborted) => (Action::LeaseAborted, None),
        (Some(Active), Active) => (Action::LeaseRenewed, None),
        (Some(Intent | Active), Revoking) => (Action::RevokeRequested, Some(Outcome::Done)),
        (Some(Active), Revoked) => (Action::LeaseLost, Some(Outcome::Done)),
        (Some(Revoking | Quarantined), Revoked) => (Action::LeaseRevoked, Some(Outcome::Done)),
        (Some(Revoking | Quarantined), _) if !before.is_some_and(has_ended) && has_ended(after) => {
            (Action::AccessEnded, Some(Outcome::Done))
        }
        (Some(Revoking), Revoking) => (Action::AccessEnded, Some(Outcome::Failed)),
        (Some(Revoking | Quarantined), Quarantined) => {
            (Action::LeaseQuarantined, Some(Outcome::Failed))
        }
        (before, after) => panic!("no lease moves from {before:?} to {after}"),
    }
}

/// Whether the record says that a lease was changed.
fn tells_a_move(record: &Record) -> bool {
    let is_done = record.outcome == Outcome::Done;
    record.lease.is_some()
        && match record.action {
            Action::LeaseIssued
            | Action::LeaseAborted
            | Action::AccessEnded
            | Action::LeaseQuarantined
            | Action::LeaseRevoked
            | Action::LeaseLost => true,
            Action::LeaseRequested | Action::LeaseRenewed | Action::RevokeRequested => is_done,
            _ => false,
        }
}

/// Whether changes and records of one transaction fit each other.
fn fits(transaction: &Transaction, records: &[Record]) -> Result<(), String> {
    for (before, after) in &transaction.moves {
        let (action, outcome) = needed(before.as_ref(), after);
        let tells = |record: &&Record| {
            record.lease == Some(after.id)
                && record.action == action
                && outcome.is_none_or(|outcome| record.outcome == outcome)
                && record.role_name.as_ref() == Some(&after.role_name)
        };
        if records.iter().filter(tells).count() != 1 {
            return Err(format!("a move of {} without its one {action:?}", after.id));
        }
    }
    for record in records.iter().filter(|record| tells_a_move(record)) {
        if !transaction.moves.iter().any(|(_, after)| record.lease == Some(after.id)) {
            return Err(format!("{:?} without a move", record.action));
        }
    }
    let begins = |record: &Record| {
        let is_done = record.action == Action::Login && record.outcome == Outcome::Done;
        is_done && matches!(record.subject, Subject::Person { session: Some(_), .. })
    };
    if transaction.has_begun_session == records.iter().any(begins) {
        Ok(())
    } else {
        Err("a session without its login, or a login without its session".to_owned())
    }
}

impl World {
    /// Reads what was written since the last time.
    pub(super) fn check_audit(&mut self) {
        let (transactions, records, states) = {
            let rows = self.store.rows();
            let new = rows.journal[self.told.transactions..].to_vec();
            let first = new.first().map_or(rows.audit.len(), |one| one.records.start);
            let moved = new.iter().flat_map(|one| &one.moves).map(|(_, after)| after.id);
            let states: BTreeMap<LeaseId, LeaseState> =
                moved.map(|id| (id, rows.tables.leases[&id].state)).collect();
            (new, rows.audit[first..].to_vec(), states)
        };
        let read = self.told.lines.len();
        for transaction in &transactions {
            let range = transaction.records.start - read..transaction.records.end - read;
            let its = &records[range];
            let told = fits(transaction, its)
                .and_then(|()| its.iter().try_for_each(|record| self.told.read(record)));
            if let Err(wrong) = told {
                self.broken(&format!("the audit is not what happened: {wrong}\n{its:#?}"), None);
            }
        }
        self.note_missing(&records);
        self.check_access_was_over(&transactions);
        self.note_ends(&transactions);
        self.told.transactions += transactions.len();
        let line = |record: &Record| serde_json::to_string(record).unwrap();
        self.told.lines.extend(records.iter().map(line));
        let astray = states.iter().find(|(id, state)| self.told.states.get(id) != Some(state));
        if let Some((id, state)) = astray {
            let told = self.told.states.get(id);
            let promise = format!("the audit says {told:?} of a lease that is {state}");
            self.broken(&promise, self.lease(*id).as_ref());
        }
    }

    fn note_missing(&mut self, records: &[Record]) {
        for record in records {
            let cause = record.cause.as_deref().unwrap_or_default();
            match record.action {
                Action::PersonGone if cause == UNKNOWN => self.note(Feat::EndedAsMissing),
                Action::PeopleMissing if record.outcome == Outcome::Refused => {
                    self.note(Feat::HeldBack);
                }
                _ => {}
            }
        }
    }

    /// I-03: in the moment in which it is written down that access is over, no session has rights.
    fn check_access_was_over(&self, transactions: &[Transaction]) {
        if self.is_restored() {
            return;
        }
        for transaction in transactions {
            let moves = transaction.moves.iter();
            let mut ended = moves.filter(|(before, after)| ends_access(before.as_ref(), after));
            let has_rights = |lease: &Lease| {
                lease.role_oid.is_some_and(|oid| transaction.privileged.contains(&oid))
            };
            if let Some((_, lease)) = ended.find(|(_, after)| has_rights(after)) {
                self.broken("access is said to be over, and a session has rights", Some(lease));
            }
        }
    }

    /// Notes how far the end of each lease was ever moved, also if it was taken back at once.
    fn note_ends(&mut self, transactions: &[Transaction]) {
        let behind = self.behind();
        for (_, after) in transactions.iter().flat_map(|one| &one.moves) {
            if let Some(seen) = self.seen.get_mut(&after.id) {
                seen.latest_end = seen.latest_end.max(after.expires_at + behind);
            }
        }
    }

    /// The whole audit, read page by page as whoever exports it does: numbered from 1 without a
    /// gap, each record as it was when it was first read, and no secret in any.
    pub(super) fn check_whole_audit(&self) {
        let mut exported = Vec::new();
        loop {
            let after = exported.len() as u64;
            let page = futures::executor::block_on(self.store.audit_after(after, 500)).unwrap();
            if page.is_empty() {
                break;
            }
            for (entry, number) in page.iter().zip(after + 1..) {
                assert_eq!(entry.seq, number, "the audit is numbered without a gap");
            }
            exported.extend(page.into_iter().map(|entry| entry.json));
        }
        if exported != self.told.lines {
            self.broken("the audit is not what it was", None);
        }
        let text = exported.join("\n");
        let leaked = self.people.secrets.iter().find(|secret| text.contains(secret.as_str()));
        if let Some(leaked) = leaked {
            self.broken(&format!("the audit holds a secret: {leaked}"), None);
        }
    }
}
