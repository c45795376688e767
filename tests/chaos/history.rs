//! What was written down while there was chaos, held against the invariants of the reference
//! (section 5).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::holder::Holder;
use crate::support::{StoreServer, TestBed};

/// Broker and cluster are on one machine and read one clock. A broker's time follows it in steps
/// of 10 ms a second, so that it is never farther off than this.
const SKEW: SignedDuration = SignedDuration::from_millis(250);

/// The audit, in order.
pub struct History {
    records: Vec<Value>,
}

impl History {
    pub fn of(bed: &TestBed) -> Self {
        Self { records: bed.records() }
    }

    /// What was done with each lease, with its places in the audit.
    fn stories(&self) -> BTreeMap<&str, Vec<(usize, &str)>> {
        let mut stories: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
        for (at, record) in self.records.iter().enumerate() {
            if record["outcome"] == "done"
                && let (Some(lease), Some(action)) =
                    (record["lease"].as_str(), record["action"].as_str())
            {
                stories.entry(lease).or_default().push((at, action));
            }
        }
        stories
    }

    /// I-12, as far as the audit has it: numbered from 1, and none is missing.
    pub fn is_numbered(&self) {
        let numbers = self.records.iter().map(|record| record["seq"].as_u64());
        let all: Vec<Option<u64>> = (1..).map(Some).take(self.records.len()).collect();
        assert_eq!(numbers.collect::<Vec<_>>(), all);
    }

    /// I-05: forward only, and each once.
    pub fn goes_forward(&self) {
        const STEPS: [&str; 5] = [
            "lease.requested",
            "lease.issued",
            "lease.revoke_requested",
            "lease.access_ended",
            "lease.revoked",
        ];
        for (lease, story) in self.stories() {
            let place = |action: &str| STEPS.iter().position(|step| *step == action);
            let places: Vec<usize> = story.iter().filter_map(|(_, action)| place(action)).collect();
            assert!(places.is_sorted_by(|one, next| one < next), "{lease}: {story:?}");
            let mut late = story.iter().skip_while(|(_, action)| *action != STEPS[2]);
            assert!(!late.any(|(_, action)| *action == "lease.renewed"), "{lease}: {story:?}");
        }
    }

    /// I-01: whoever has a password has a lease that is written down as issued, and by now as over.
    pub fn knows(&self, holders: &[Holder]) {
        let stories = self.stories();
        let ids: BTreeSet<&str> = holders.iter().map(|holder| holder.held.id.as_str()).collect();
        assert_eq!(ids.len(), holders.len());
        for id in ids {
            let has = |wanted: &str| {
                let mut story = stories.get(id).into_iter().flatten();
                story.any(|(_, action)| *action == wanted)
            };
            assert!(has("lease.issued") && has("lease.revoked"), "{id}: {:?}", stories.get(id));
        }
    }

    /// I-03: no statement that needs a right succeeded after access was written down as over.
    pub fn access_was_over(&self, holders: &[Holder]) {
        for holder in holders {
            let id = &holder.held.id;
            let is_end = |record: &&Value| {
                record["action"] == "lease.access_ended"
                    && record["outcome"] == "done"
                    && record["lease"] == id.as_str()
            };
            let ended = self.records.iter().find(is_end);
            let ended = ended.and_then(|record| record["at"].as_str());
            let ended: Timestamp = ended.expect("its access has ended").parse().expect("a time");
            let last = holder.last();
            assert!(last <= ended + SKEW, "{id} ran a statement at {last}, over at {ended}");
        }
    }

    /// I-10: of the leases of one wish, each ended before the next was handed out.
    pub fn has_one_lease_for_a_wish(&self, store: &StoreServer) {
        let wishes = store.postgres.sql(
            "store",
            "SELECT principal_key || ' ' || request_key, id FROM pgbridge.lease
             WHERE request_key IS NOT NULL",
        );
        let stories = self.stories();
        let mut lives: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
        for wish in &wishes {
            let story = stories.get(wish[1].as_str()).map(Vec::as_slice).unwrap_or_default();
            let place = |ends: &[&str]| {
                story.iter().find(|(_, action)| ends.contains(action)).map(|(at, _)| *at)
            };
            if let Some(issued) = place(&["lease.issued"]) {
                let ended = place(&["lease.revoke_requested", "lease.lost"]);
                let life = (issued, ended.unwrap_or(usize::MAX));
                lives.entry(&wish[0]).or_default().push(life);
            }
        }
        for (wish, mut lives) in lives {
            lives.sort_unstable();
            assert!(lives.is_sorted_by(|one, next| one.1 < next.0), "{wish}: {lives:?}");
        }
    }

    /// I-13: every denied request is there as refused, with why.
    pub fn tells_denials(&self, denied: &[String]) {
        let refused: BTreeSet<&str> = self
            .records
            .iter()
            .filter(|record| record["outcome"] == "refused" && record["cause"].is_string())
            .filter_map(|record| record["request_id"].as_str())
            .collect();
        for request in denied {
            assert!(refused.contains(request.as_str()), "nothing is told of {request}");
        }
    }

    /// I-13: no record holds a secret.
    pub fn holds_none_of(&self, secrets: &[String]) {
        let text = Value::from(self.records.clone()).to_string();
        for secret in secrets {
            assert!(!text.contains(secret), "the audit holds {secret}");
        }
    }
}
