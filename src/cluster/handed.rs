//! What went to the attic, so that it can be written down.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::Cluster;
use crate::lease::plan::Named;
use crate::names::{LeaseId, printable};

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

impl fmt::Display for HandedOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, attic, count, first } = self;
        let objects = if *count == 1 { "object" } else { "objects" };
        let (database, attic) = (printable(database), printable(attic));
        write!(formatter, "{count} {objects} in database {database} now {attic}'s")?;
        for (at, Named { kind, identity, .. }) in first.iter().enumerate() {
            let before = if at == 0 { ": " } else { ", " };
            write!(formatter, "{before}{kind} {}", printable(identity))?;
        }
        match count.saturating_sub(first.len()) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// What was handed over and is not written down yet.
#[derive(Default)]
pub(super) struct Handed(Mutex<BTreeMap<LeaseId, Vec<HandedOver>>>);

impl Handed {
    /// Adds `portion`, which is as many as `count` or the first of them.
    pub(super) fn note(
        &self,
        lease: LeaseId,
        database: &str,
        attic: &str,
        count: usize,
        portion: &[Named],
    ) {
        let mut handed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_lease = handed.entry(lease).or_default();
        let at = of_lease.iter().position(|one| one.database == database).unwrap_or_else(|| {
            let (database, attic) = (database.to_owned(), attic.to_owned());
            of_lease.push(HandedOver { database, attic, count: 0, first: Vec::new() });
            of_lease.len() - 1
        });
        if let Some(one) = of_lease.get_mut(at) {
            one.count = one.count.saturating_add(count);
            let room = NAMED.saturating_sub(one.first.len());
            one.first.extend(portion.iter().take(room).cloned());
        }
    }
}

impl Cluster {
    /// What went from the role of `lease` to the attic and is not written down yet.
    #[must_use]
    pub fn handed_over(&self, lease: LeaseId) -> Vec<HandedOver> {
        let handed = self.handed.0.lock().unwrap_or_else(PoisonError::into_inner);
        handed.get(&lease).cloned().unwrap_or_default()
    }

    /// All of that is written down.
    pub fn forget_handed_over(&self, lease: LeaseId) {
        self.handed.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&lease);
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
        handed.note(lease, "orders", "attic", 1, &[table(0)]);
        handed.note(lease, "reports", "attic", 30, &(1..31).map(table).collect::<Vec<_>>());
        handed.note(lease, "reports", "attic", 2, &[table(31), table(32)]);
        let told = handed.0.into_inner().unwrap().remove(&lease).unwrap();
        assert_eq!(
            told[0].to_string(),
            "1 object in database orders now attic's: table s.t0\\u{a}"
        );
        let second = told[1].to_string();
        assert!(second.starts_with("32 objects in database reports now attic's: table s.t1"));
        assert!(second.ends_with("table s.t20\\u{a} and 12 more"), "{second}");
    }
}
