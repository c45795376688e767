//! The start of a broker and its end, as the audit has them: by which map it begins, whether that is
//! the one that was in force last, and which of those before were never compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::info;

use super::Broker;
use super::difference::{Configuration, Former, Taken};
use crate::audit::{Action, Record, Subject};
use crate::mapping::{MapRevision, Policy};
use crate::store::StoreError;

/// Records of maps that are looked through. What is further back was looked through before.
pub(super) const LOOKED_THROUGH: u32 = 200;

impl Broker {
    /// Notes that this broker begins to serve, and by which map. One that is not the map that was in
    /// force last has come like one that is read while the broker runs, and is told like it; so is
    /// the same under a configuration that goes by it otherwise. Of maps that came before and were
    /// not compared, since the broker was killed, the comparison is made up for.
    ///
    /// # Errors
    /// When the store does not take the record: a broker that cannot write must not serve.
    pub async fn record_start(&self) -> Result<(), StoreError> {
        let policy = self.policy();
        let revision = policy.map.revision();
        let records = self.store().map_records(LOOKED_THROUGH).await?;
        let last = records.iter().find(|record| record.action != Action::MapCompared);
        let changes = last.map(|last| reconfigured(last, &policy)).unwrap_or_default();
        let former = last.and_then(|last| last.map_revision.as_ref());
        let another = former.filter(|former| !policy.map.is_revision(former));
        let reloaded = match (another, changes.as_slice()) {
            (None, []) => None,
            (another, _) => Some(Record {
                detail: told(&changes),
                ..self.reloaded(&policy, another.unwrap_or(revision))
            }),
        };
        let started = Record {
            map_revision: Some(revision.clone()),
            policy: Some(policy.configured()),
            ..Record::new(self.now(), Action::BrokerStarted, Subject::Broker)
        };
        let written = [Some(started), reloaded].into_iter().flatten().collect();
        self.store().commit(vec![self.keep(&policy.map)], written).await?;
        for owed in uncompared(&records) {
            self.0.differences.find(owed.taken(&policy));
        }
        for change in &changes {
            info!(map.revision = %revision, "the configuration has changed: {change}");
        }
        if let Some(former) = another {
            info!(map.revision = %revision, map.former_revision = %former, "the map is another one than when a broker ran last");
            self.0.differences.find(Taken {
                former: Former::Kept(former.clone()),
                revision: revision.clone(),
                next: policy,
                configuration: Configuration::told_by(&changes),
                owed_since: None,
            });
        }
        Ok(())
    }

    /// Notes that this broker stops in good order, and whether by a time that can be believed.
    ///
    /// # Errors
    /// When the store does not take the record.
    pub async fn record_stop(&self) -> Result<(), StoreError> {
        let mut record = Record::new(self.now(), Action::BrokerStopped, Subject::Broker);
        if !self.0.time.is_settled() {
            record.cause = Some("clocks_not_compared".to_owned());
        }
        self.store().commit(Vec::new(), vec![record]).await
    }
}

/// What the configuration says otherwise than it did for `last`, a line each. Nothing when that does
/// not tell: older brokers did not write it down.
fn reconfigured(last: &Record, policy: &Policy) -> Vec<String> {
    let Some(before) = &last.policy else { return Vec::new() };
    let now = policy.configured();
    let gone = before.iter().filter(|line| !now.contains(line));
    let new = now.iter().filter(|line| !before.contains(line));
    let gone = gone.map(|line| format!("before: {line}"));
    gone.chain(new.map(|line| format!("now: {line}"))).collect()
}

fn told(changes: &[String]) -> Option<String> {
    let changes = Some(changes).filter(|changes| !changes.is_empty())?;
    Some(format!("the configuration has changed\n{}", changes.join("\n")))
}

/// A map that came, without a record that it was compared with the one before.
pub(super) struct Uncompared<'a> {
    former: &'a MapRevision,
    revision: &'a MapRevision,
    record: &'a Record,
}

impl Uncompared<'_> {
    /// The comparison is made as the configuration of today goes by maps, which says who gained then
    /// only where that was the same.
    fn taken(&self, policy: &Arc<Policy>) -> Taken {
        let is_same = self.record.policy.as_deref() == Some(policy.configured().as_slice());
        let configuration = if is_same && self.record.detail.is_none() {
            Configuration::Same
        } else {
            Configuration::Changed
        };
        Taken {
            former: Former::Kept(self.former.clone()),
            revision: self.revision.clone(),
            next: Arc::clone(policy),
            configuration,
            owed_since: Some(self.record.at),
        }
    }

    /// Whether it is this map in the place of that one.
    pub(super) fn is_of(&self, taken: &Taken) -> bool {
        (self.former, self.revision) == (taken.former.revision(), &taken.revision)
    }
}

/// The maps of `records` that came and were not compared after, oldest first; `records` begin with
/// the newest. When several brokers took the same, one comparison is enough.
pub(super) fn uncompared(records: &[Record]) -> Vec<Uncompared<'_>> {
    let mut told = BTreeSet::new();
    let mut left = Vec::new();
    for record in records {
        let both = record.former_map_revision.as_ref().zip(record.map_revision.as_ref());
        let Some((former, revision)) = both.filter(|(former, revision)| former != revision) else {
            continue;
        };
        match record.action {
            Action::MapCompared => {
                told.insert((former, revision));
            }
            Action::MapReloaded if told.insert((former, revision)) => {
                left.push(Uncompared { former, revision, record });
            }
            _ => {}
        }
    }
    left.reverse();
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    use crate::mapping::{Dialect, IdentMap};

    fn revision(letter: char) -> MapRevision {
        let line = format!("corp {letter} all\n");
        let map = IdentMap::parse(Dialect::default(), "pg_ident.conf", line.as_bytes()).unwrap();
        map.revision().clone()
    }

    /// What is left of records such as `r:ab`, oldest first: the map `a` was reloaded as `b`.
    #[track_caller]
    fn check(records: &[&str], left: &[&str]) {
        let record = |text: &&str| {
            let action = match &text[..2] {
                "r:" => Action::MapReloaded,
                "c:" => Action::MapCompared,
                _ => Action::BrokerStarted,
            };
            let letters: Vec<char> = text[2..].chars().collect();
            Record {
                map_revision: letters.last().copied().map(revision),
                former_map_revision: (letters.len() > 1).then(|| revision(letters[0])),
                ..Record::new(Timestamp::UNIX_EPOCH, action, Subject::Broker)
            }
        };
        let records: Vec<Record> = records.iter().rev().map(record).collect();
        let found = uncompared(&records);
        let found: Vec<_> = found.iter().map(|one| (one.former, one.revision)).collect();
        let left: Vec<_> = left
            .iter()
            .map(|text| (revision(text.as_bytes()[0].into()), revision(text.as_bytes()[1].into())))
            .collect();
        assert_eq!(found, left.iter().map(|(one, other)| (one, other)).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_never_compared_is_found_behind_starts_and_later_maps() {
        check(&[], &[]);
        check(&["s:a"], &[]);
        check(&["s:a", "r:ab", "c:ab"], &[]);
        check(&["s:a", "r:ab"], &["ab"]);
        check(&["s:a", "r:ab", "s:b", "s:b"], &["ab"]);
        check(&["r:ab", "c:ab", "r:bc"], &["bc"]);
        check(&["r:ab", "r:bc"], &["ab", "bc"]);
        check(&["r:ab", "r:bc", "c:bc"], &["ab"]);
        // It came again after it was compared.
        check(&["r:ab", "c:ab", "r:ba", "c:ba", "r:ab"], &["ab"]);
        // Another broker compared it, or both were killed.
        check(&["r:ab", "r:ab", "c:ab"], &[]);
        check(&["r:ab", "r:ab"], &["ab"]);
        // The same map under another configuration is nothing to compare.
        check(&["r:aa"], &[]);
    }
}
