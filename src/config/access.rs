//! `[access]`: who may be auditor or operator of the broker itself.

use super::map::{self, NamedMap};
use super::reader::Table;
use crate::mapping::AccessMaps;

pub(super) fn read(table: Table<'_>, named: &mut Vec<NamedMap>) -> AccessMaps {
    let maps = map::maps(&table, named);
    table.finish();
    maps
}
