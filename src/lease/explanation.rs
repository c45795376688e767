//! Why a lease was issued, explained again from the map of that time.

use serde::Serialize;
use utoipa::ToSchema;

use super::Lease;
use crate::mapping::{
    AskedMap, Because, Explanation, IdentMap, MapLine, Matched, UnverifiedPerson,
};

/// Why a lease was issued, and what today's map says of the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LeaseExplanation {
    /// The lease.
    #[schema(example = "abcdefghijklmnop")]
    pub lease: String,
    /// Who has it, as `method:issuer:name`.
    #[schema(example = "ldap:corp:alice")]
    pub person: String,
    /// The cluster.
    #[schema(example = "orders")]
    pub cluster: String,
    /// The group role whose rights it has.
    #[schema(example = "orders_read")]
    pub role: String,
    /// The decision by which it was issued, as it was written down.
    pub then: PastDecision,
    /// What today's map says of the same person, in the group by which they were let in; left out
    /// when the cluster or the way in is not configured any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Explanation>,
}

/// A decision that was written down, and made again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PastDecision {
    /// The file of the line that let them in.
    #[schema(example = "pg_ident.conf")]
    pub file: String,
    /// The line in it, from 1.
    #[schema(example = 3)]
    pub line: u32,
    /// Which content of the map.
    pub map_revision: String,
    /// Which PostgreSQL's reading of the map; left out when the map of that time was not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 16)]
    pub postgres: Option<u32>,
    /// Whether the map of that time says the same again.
    pub again: Again,
    /// The group by which they were let in; left out when that was their own name, or was not
    /// written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "cn=readers,ou=groups,dc=example,dc=test")]
    pub by_group: Option<String>,
    /// The map that let them in, with each line that was asked about that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedMap>,
}

/// What came of making a decision again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// The same line lets them in.
    Same,
    /// It does not, so what was written down is not what this version decides.
    Differs,
    /// It cannot be made again: the map of that time, or by what they were let in, was not kept.
    NotKept,
}

/// Explains `lease` from the map of its revision, if that was kept, with what today's map says.
#[must_use]
pub fn explain(
    lease: &Lease,
    map: Option<&IdentMap>,
    now: Option<Explanation>,
) -> LeaseExplanation {
    LeaseExplanation {
        lease: lease.id.to_string(),
        person: lease.principal.key(),
        cluster: lease.cluster.to_string(),
        role: lease.role.to_string(),
        then: past_decision(lease, map),
        now,
    }
}

/// Whoever has `lease`, as today's map can be asked about them: in the group by which they were let
/// in, for the others are not kept.
#[must_use]
pub fn holder_of(lease: &Lease) -> UnverifiedPerson {
    let groups = lease.because.as_ref().and_then(group).into_iter().collect();
    let (way, name) = (lease.principal.issuer().clone(), lease.principal.subject().to_owned());
    UnverifiedPerson::new(way, name, groups)
}

fn group(because: &Because) -> Option<String> {
    match &because.matched {
        Matched::Name(_) => None,
        Matched::Group(group) => Some(group.clone()),
    }
}

fn past_decision(lease: &Lease, map: Option<&IdentMap>) -> PastDecision {
    let (asked, again) = match (&lease.because, map) {
        (Some(because), Some(map)) => {
            let (asked, rule) = because.explain(map, &lease.role);
            let is_same = |line: MapLine| {
                line.line == lease.rule.line && map.is_same_file(&line.file, &lease.rule.file)
            };
            let same = rule.is_some_and(is_same);
            (Some(asked), if same { Again::Same } else { Again::Differs })
        }
        _ => (None, Again::NotKept),
    };
    PastDecision {
        file: lease.rule.file.clone(),
        line: lease.rule.line,
        map_revision: lease.revision.to_string(),
        postgres: map.map(|map| map.dialect().major()),
        again,
        by_group: lease.because.as_ref().and_then(group),
        asked,
    }
}
