//! What goes to the attic, so that it can be written down: before, since nothing on the cluster says
//! later whose it was, and a crash must not leave it untold; and after, with the end of the lease.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use moka::sync::Cache;

use super::Cluster;
use crate::lease::plan::Named;
use crate::names::{ClusterName, LeaseId, RoleOid, printable};

/// Objects that are named of each database, of any number.
const NAMED: usize = 20;

/// What one role left in one database, and who owns it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The database.
    pub database: String,
    /// The new owner.
    pub attic: String,
    /// How many objects there are, counted as far as a removal does.
    pub count: usize,
    /// The first of them.
    pub first: Vec<Named>,
}

impl HandedOver {
    /// `count` objects in `database`, which `portion` names or begins to name.
    pub(super) fn new(database: &str, attic: &str, count: usize, portion: &[Named]) -> Self {
        let first = portion.iter().take(NAMED).cloned().collect();
        Self { database: database.to_owned(), attic: attic.to_owned(), count, first }
    }

    /// Adds what went the same way after it.
    fn add(&mut self, more: Self) {
        self.count = self.count.saturating_add(more.count);
        let room = NAMED.saturating_sub(self.first.len());
        self.first.extend(more.first.into_iter().take(room));
    }

    /// The same before it is.
    #[must_use]
    pub fn announced(&self) -> String {
        self.told("soon")
    }

    fn told(&self, when: &str) -> String {
        let Self { database, attic, count, first } = self;
        let objects = if *count == 1 { "object" } else { "objects" };
        let (database, attic) = (printable(database), printable(attic));
        let named = first
            .iter()
            .map(|Named { kind, identity, .. }| format!("{kind} {}", printable(identity)));
        let named = named.collect::<Vec<_>>().join(", ");
        let before = if named.is_empty() { "" } else { ": " };
        let more = match count.saturating_sub(first.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{count} {objects} in database {database} {when} {attic}'s{before}{named}{more}")
    }
}

impl fmt::Display for HandedOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.told("now"))
    }
}

/// What is handed over.
pub(super) struct Handed {
    /// What was, and is not written down yet.
    done: Mutex<BTreeMap<LeaseId, Vec<HandedOver>>>,
    /// What was announced last of a lease in a database, and has not gone yet. An attempt in vain is
    /// made again and again, and tells the same only once.
    announced: Cache<(LeaseId, String), HandedOver>,
}

impl Default for Handed {
    fn default() -> Self {
        Self { done: Mutex::default(), announced: Cache::new(10_000) }
    }
}

impl Handed {
    fn done(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Vec<HandedOver>>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, lease: LeaseId, portion: HandedOver) {
        self.announced.invalidate(&(lease, portion.database.clone()));
        let mut handed = self.done();
        let of_lease = handed.entry(lease).or_default();
        match of_lease.iter_mut().find(|one| one.database == portion.database) {
            Some(one) => one.add(portion),
            None => of_lease.push(portion),
        }
    }
}

/// Whether something was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is.
    Yes,
    /// It could not be.
    No,
}

/// Who is told of what is about to change hands.
#[async_trait]
pub trait Witness: Send + Sync {
    /// Writes down that `what` is about to go to the attic, by which the role `oid` of `lease` on
    /// `cluster` loses it. It goes whether or not that can be written.
    async fn hands_over(
        &self,
        cluster: &ClusterName,
        lease: LeaseId,
        oid: RoleOid,
        what: &HandedOver,
    ) -> Written;
}

impl Cluster {
    /// From now on `witness` is told what is about to change hands; the first one stays.
    pub fn tell(&self, witness: Arc<dyn Witness>) {
        let _ = self.witness.set(witness);
    }

    /// Tells what is about to change hands, unless that was told and nothing came of it.
    pub(super) async fn announce(&self, lease: LeaseId, oid: RoleOid, what: &HandedOver) {
        let Some(witness) = self.witness.get() else { return };
        let (announced, of) = (&self.handed.announced, (lease, what.database.clone()));
        if announced.get(&of).as_ref() == Some(what) {
            return;
        }
        if witness.hands_over(&self.name, lease, oid, what).await == Written::Yes {
            announced.insert(of, what.clone());
        }
    }

    /// What went from the role of `lease` to the attic and is not written down yet.
    #[must_use]
    pub fn handed_over(&self, lease: LeaseId) -> Vec<HandedOver> {
        self.handed.done().get(&lease).cloned().unwrap_or_default()
    }

    /// All of that is written down.
    pub fn forget_handed_over(&self, lease: LeaseId) {
        self.handed.done().remove(&lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(at: usize) -> Named {
        Named { kind: "table".into(), identity: format!("s.t{at}\n"), database: None }
    }

    #[test]
    fn what_was_handed_over_is_told_by_database_with_the_first_names() {
        let (handed, lease) = (Handed::default(), LeaseId::random(&mut rand::rng()));
        let note = |database, count, tables: std::ops::Range<usize>| {
            let portion: Vec<Named> = tables.map(table).collect();
            handed.note(lease, HandedOver::new(database, "attic", count, &portion));
        };
        note("orders", 1, 0..1);
        note("reports", 30, 1..31);
        note("reports", 2, 31..33);
        let told = handed.done().remove(&lease).unwrap();
        assert_eq!(
            told[0].to_string(),
            "1 object in database orders now attic's: table s.t0\\u{a}"
        );
        let second = told[1].to_string();
        assert!(second.starts_with("32 objects in database reports now attic's: table s.t1"));
        assert!(second.ends_with("table s.t20\\u{a} and 12 more"), "{second}");
        let announced = told[0].announced();
        assert_eq!(announced, "1 object in database orders soon attic's: table s.t0\\u{a}");
    }
}
