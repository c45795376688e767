//! What is probably not meant in a map: allowed, decided exactly, and most likely a slip.
//!
//! ```text
//! finding   what was found, by a name that stays
//! patterns  one pattern by itself: matches more than it seems to
//! nobody    one pattern by itself: matches nobody, and then nothing else is told of its line
//! order     lines against those before them: never reached, never needed
//! names     names and maps: those that are nobody's
//! slips     fields that do not mean what they seem to
//! roles     what is given: roles that nobody lends, that do not exist, that are too much
//! ```
//!
//! A finding says nothing of what is not known: roles that are lent only where a configuration is
//! given, roles that exist only where clusters were asked.

mod finding;
mod names;
mod nobody;
mod order;
mod patterns;
mod roles;
mod slips;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::automaton::Effort;
use super::line::{Line, lines};
use super::{Case, Dialect, IdentMap, MapUse, MapUses, Memberships};
use crate::names::{ClusterName, MapName};

pub use finding::{LintCode, LintFinding, LintSeverity};
pub(super) use finding::{not_lent, printed, shown, unused_map};

/// What is known beside the map.
#[derive(Clone, Copy, Debug, Default)]
pub struct LintContext<'a> {
    /// Which map is used for what, and what is lent.
    pub uses: Option<&'a MapUses>,
    /// What clusters say of the roles that the map names.
    pub clusters: &'a [ClusterRoles],
}

/// What a cluster says of roles.
#[derive(Clone, Debug)]
pub struct ClusterRoles {
    /// The cluster.
    pub cluster: ClusterName,
    /// The roles that it has, of those it was asked about; with what each reaches that rules the
    /// cluster or the broker.
    pub roles: BTreeMap<String, Vec<String>>,
    /// The memberships that the roles it lends have.
    pub members: Memberships,
}

/// One map, and what it is used for.
struct Checked<'a> {
    name: &'a MapName,
    dialect: Dialect,
    lines: Vec<Line<'a>>,
    /// What is told of lines by which nobody comes, by their places.
    nobodys: BTreeMap<usize, LintFinding>,
    /// Nothing without a configuration, or when nobody uses it.
    used: Option<&'a MapUse>,
    context: &'a LintContext<'a>,
}

/// Finds what is probably not meant, in file order.
#[must_use]
pub fn lint(map: &IdentMap, context: &LintContext<'_>) -> Vec<LintFinding> {
    lint_within(map, context, &Effort::default())
}

/// The same as far as the effort allows. Lines are held against others last: that costs most, and
/// whoever wrote a map that is hard to check would hide what each line lets in.
fn lint_within(map: &IdentMap, context: &LintContext<'_>, effort: &Effort<'_>) -> Vec<LintFinding> {
    let mut findings = names::of_maps(map, context);
    findings.extend(slips::of_files(map));
    findings.extend(slips::half_included(map));
    let checked = |name| {
        let used = context.uses.and_then(|uses| uses.of_map(name));
        let (dialect, lines) = (map.dialect(), lines(map, name, effort).collect::<Vec<_>>());
        let nobodys = nobody::of_lines(&lines, used, effort);
        Checked { name, dialect, lines, nobodys, used, context }
    };
    let maps: Vec<Checked<'_>> = map.map_names().map(checked).collect();
    for checked in &maps {
        findings.extend(checked.nobodys.values().cloned());
        findings.extend(patterns::check(checked, effort));
        findings.extend(names::check(checked, effort));
        findings.extend(slips::check(checked));
        findings.extend(roles::check(checked));
    }
    for checked in &maps {
        findings.extend(order::check(checked, effort));
    }
    findings.extend(effort.is_spent().then(not_all));
    findings.sort();
    findings.dedup();
    findings
}

fn not_all() -> LintFinding {
    let message = "not all lines were checked, which would take too long: others may be found";
    let hint = "write fewer patterns, or check each map in a file of its own";
    LintFinding::new(None, LintCode::NotAllChecked, message, hint)
}

impl<'a> Checked<'a> {
    /// The lines by which somebody comes, as far as is known.
    fn lines_of_somebody(&self) -> impl Iterator<Item = &Line<'a>> {
        self.lines.iter().filter(|line| !self.nobodys.contains_key(&line.index))
    }

    /// The case in which the map is asked; where it is asked in both, that in which more differs.
    fn case(&self) -> Case {
        match self.used.map(|used| used.cases.as_slice()) {
            Some([only]) => *only,
            _ => Case::Sensitive,
        }
    }
}
