//! What of a configuration comparing and checking maps needs: no secret, and no file but its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::diagnostic::Diagnostic;
use super::files;
use super::form;
use super::map::{self, MapDisk};
use super::reader::Table;
use crate::mapping::{Dialect, MapUses, Maps};
use crate::names::{ClusterName, RoleName, WayName};

/// What of a configuration comparing and checking maps needs.
#[derive(Debug)]
pub struct MapSettings {
    /// The main file of the map.
    pub file: PathBuf,
    /// What is told when this user may not read that: the key names it.
    pub closed: Diagnostic,
    /// Whose reading of it counts.
    pub dialect: Dialect,
    /// Which map is used for what, and what is lent.
    pub uses: MapUses,
    /// The files of maps: all but the secrets.
    pub disk: MapDisk,
}

/// Reads the sections that say it. What else is wrong with them is for `check` to tell.
pub(super) fn read(root: &Table<'_>) -> Option<MapSettings> {
    let mut named = Vec::new();
    let access = map::maps(&root.section("access", "[access]"), &mut named);
    let mut ways = BTreeMap::new();
    for table in root.sections("ldap", "[[ldap]]", "nobody could log in") {
        let way: Option<WayName> = table.required("name", &form::label());
        let maps: Maps = map::maps(&table, &mut named);
        ways.extend(way.map(|way| (way, maps)));
    }
    let mut lent = Vec::new();
    let mut dialects = Vec::new();
    for table in root.sections("cluster", "[[cluster]]", "there is nothing to lend") {
        let name: Option<ClusterName> = table.required("name", &form::label());
        dialects.extend(table.optional("postgres", &form::number::<Dialect>(13, 18)));
        for profile in table.sections("profile", "[[cluster.profile]]", "the cluster lends nothing")
        {
            let role: Option<RoleName> = profile.required("role", &form::role());
            lent.extend(role.zip(name.clone()));
        }
    }
    let table = root.section("map", "[map]");
    let file: Option<PathBuf> = table.required("file", &form::path());
    let dialect = map::dialect(&table, &dialects);
    let file = root.reader().resolve(&file?);
    let closed = files::closed(&table, "file", &file);
    let (uses, disk) = (MapUses::new(&ways, &access, lent), MapDisk::but(root.reader().secrets()));
    Some(MapSettings { file, closed, dialect, uses, disk })
}
