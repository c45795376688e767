//! The residue oracle: all that a lease could leave in any catalogue of a server, as lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pgbridge::names::literal;

use super::Site;

/// What every catalogue holds that could be a lease's doing, and how often.
pub(super) struct Residue(BTreeMap<String, i64>);

/// Every object that the role owns, but for sequences of columns, which go with their tables:
/// `database: type identity`.
pub(super) fn owned_by(site: &Site, role: &str) -> BTreeSet<String> {
    let databases = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname";
    let sql = include_str!("residue/owned.sql").replace("{role}", &literal(role));
    let mut owned = BTreeSet::new();
    for database in site.postgres.sql("postgres", databases).concat() {
        let objects = site.postgres.sql(&database, &sql).concat();
        owned.extend(objects.into_iter().map(|object| format!("{database}: {object}")));
    }
    owned
}

/// What changed between two looks.
#[derive(PartialEq, Eq)]
pub(super) struct Change {
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
}

impl Residue {
    /// Looks at every database of the server that takes connections.
    pub(super) fn of(site: &Site) -> Self {
        let mut lines = BTreeMap::new();
        let mut read = |place: &str, database: &str, sql: &str| {
            for row in site.postgres.sql(database, sql) {
                *lines.entry(format!("{place}: {}", row.concat())).or_insert(0) += 1;
            }
        };
        read("shared", "postgres", include_str!("residue/shared.sql"));
        if site.major >= 15 {
            read("shared", "postgres", include_str!("residue/parameters.sql"));
        }
        let databases = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname";
        for database in site.postgres.sql("postgres", databases).concat() {
            read(&database, &database, include_str!("residue/database.sql"));
        }
        Self(lines)
    }

    /// What is there now and was not `before`, and the other way round.
    pub(super) fn since(&self, before: &Self) -> Change {
        let more = |this: &Self, than: &Self| {
            let more =
                this.0.iter().filter(|(line, count)| than.0.get(*line).unwrap_or(&0) < count);
            more.map(|(line, _)| line.clone()).collect()
        };
        Change { added: more(self, before), removed: more(before, self) }
    }
}

impl Change {
    /// Nothing changed.
    #[track_caller]
    pub(super) fn assert_none(&self) {
        assert!(self.added.is_empty() && self.removed.is_empty(), "{self:?}");
    }

    /// All that changed is that `heir` owns more, which nobody else may use.
    #[track_caller]
    pub(super) fn assert_only_of(&self, heir: &str) {
        let owned = format!("|{heir}|");
        // How many objects it owns is counted, too.
        let foreign =
            |line: &&String| !line.contains(&owned) && !line.ends_with(&format!("|{heir}"));
        let added: Vec<_> = self.added.iter().filter(foreign).collect();
        let removed: Vec<_> = self.removed.iter().filter(foreign).collect();
        assert!(added.is_empty() && removed.is_empty(), "{added:#?} {removed:#?}");
        let granted = |line: &&String| {
            let acl = line.rsplit_once("|{").map_or("", |(_, acl)| acl);
            acl.split(',').any(|entry| {
                let grantee = entry.split('=').next().unwrap_or_default();
                let default =
                    grantee.is_empty() && (entry.contains("=X/") || entry.contains("=U/"));
                entry.contains('=') && grantee != heir && !default
            })
        };
        let granted: Vec<_> = self.added.iter().filter(granted).collect();
        assert!(granted.is_empty(), "others may use {granted:#?}");
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "added {:#?}", self.added)?;
        write!(formatter, "removed {:#?}", self.removed)
    }
}
