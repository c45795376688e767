//! What of a configuration questions to the map need: who may become what, and no secret.

use std::collections::BTreeMap;

use super::map::{self, NamedMap};
use super::reader::{Table, Unique};
use super::{access, cluster, form, way_sections};
use crate::mapping::{Maps, Policy, Target};
use crate::names::{ClusterName, WayName};

/// Reads the map and the sections that say what it is used for. What else is wrong with them is for
/// `check` to tell.
pub(super) fn read(root: &Table<'_>) -> Option<Policy> {
    let mut named = Vec::new();
    let access = access::read(root.section("access", "[access]"), &mut named);
    let ways = ways(root, &mut named);
    let mut names = Unique::<ClusterName>::default();
    let mut dialects = Vec::new();
    let sections = root.sections("cluster", "[[cluster]]", "there is nothing to lend").into_iter();
    let targets: Vec<Option<Target>> =
        sections.map(|table| cluster::read_target(&table, &mut names, &mut dialects)).collect();
    let map = map::read(root.section("map", "[map]"), &dialects);
    if let Some(map) = &map {
        map::hold_against(root.reader(), map, &named, &access);
    }
    let targets = targets.into_iter().collect::<Option<_>>()?;
    Some(Policy { map: map?.map, ways: ways?, access, targets })
}

/// The maps of each way in.
fn ways(root: &Table<'_>, named: &mut Vec<NamedMap>) -> Option<BTreeMap<WayName, Maps>> {
    let mut names = Unique::default();
    let (directories, tickets) = way_sections(root);
    let read: Vec<Option<(WayName, Maps)>> = directories
        .into_iter()
        .chain(tickets)
        .map(|table| {
            let name: Option<WayName> = table.required("name", &form::label());
            if let Some(name) = &name {
                names.claim(&table, "name", name);
            }
            let maps = map::maps(&table, named);
            Some((name?, maps))
        })
        .collect();
    read.into_iter().collect()
}
