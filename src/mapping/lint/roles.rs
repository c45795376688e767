//! What is given: roles that nobody lends, that do not exist, or that are too much.

use std::collections::BTreeSet;

use super::finding::{LintCode, LintFinding, printed, shown};
use super::{Checked, ClusterRoles};
use crate::mapping::line::{Giving, Grant, Line};
use crate::mapping::{Case, DatabaseUserView, MapUses};
use crate::names::RoleName;

/// Roles that a pattern can give which are few enough to have been spelled out, so that each is meant:
/// more come of `[0-9]`.
const SPELLED_OUT: usize = 8;
/// Roles that are told of one line.
const TOLD: usize = 3;

pub(super) fn check(checked: &Checked<'_>) -> Vec<LintFinding> {
    let Some((uses, used)) = checked.context.uses.zip(checked.used) else { return Vec::new() };
    let mut findings = Vec::new();
    for line in &checked.lines {
        if used.is_of_duties() {
            findings.extend(of_duty(line));
        }
    }
    for line in checked.lines_of_somebody() {
        findings.extend(of_nobody(checked, uses, line, used.is_of_duties()));
        if !used.is_of_duties() {
            for cluster in checked.context.clusters {
                findings.extend(on_cluster(uses, cluster, line, checked.case()));
            }
        }
    }
    findings
}

/// A line with `+` in a map that gives the broker's own duties.
fn of_duty(line: &Line<'_>) -> Option<LintFinding> {
    let DatabaseUserView::MemberOf(group) = line.database_user() else { return None };
    let message =
        format!("+{} gives no duty: these are the broker's own and have no members", shown(group));
    let hint = "write `auditor` or `operator`";
    Some(LintFinding::new(Some(line.reference()), LintCode::MembersOfDuty, message, hint))
}

/// A line that gives what there is not: roles that no cluster lends, or duties that the broker does
/// not have.
fn of_nobody(
    checked: &Checked<'_>,
    uses: &MapUses,
    line: &Line<'_>,
    is_of_duties: bool,
) -> Option<LintFinding> {
    let lacking = Lacking::of(checked, uses, line)?;
    let (code, nobody, hint) = if is_of_duties {
        (LintCode::UnknownDuty, "the broker has no duty", "write `auditor` or `operator`")
    } else {
        let hint = "correct the role, or lend it with a [[cluster.profile]]";
        (LintCode::RoleNotLent, "no cluster lends", hint)
    };
    let message = match (lacking, line.database_user()) {
        (Lacking::All(_), DatabaseUserView::Literal(role)) if !is_of_duties => {
            super::not_lent(role)
        }
        (Lacking::All(_), DatabaseUserView::Literal(role)) => format!("{nobody} {}", shown(role)),
        (Lacking::All(roles), _) => format!("{nobody} {roles}, so the line allows nothing"),
        (Lacking::Some(roles), _) => {
            format!("{nobody} {roles}, which the line gives besides others")
        }
    };
    Some(LintFinding::new(Some(line.reference()), code, message, hint))
}

/// What a line gives that there is not, as it is told.
enum Lacking {
    /// All of it.
    All(String),
    /// This of it.
    Some(String),
}

impl Lacking {
    /// Nothing also when it is not known.
    fn of(checked: &Checked<'_>, uses: &MapUses, line: &Line<'_>) -> Option<Self> {
        let Some(given) = few_given(line) else {
            let what = match line.grant() {
                Grant::RolesMatching(pattern) => {
                    format!("a role that matches /{}", printed(&pattern))
                }
                Grant::Captured { before, after } => {
                    let role = [before.as_slice(), b"\\1", after.as_slice()].concat();
                    format!("a role that {} can be", shown(&role))
                }
                Grant::Role(_) | Grant::Any | Grant::MembersOf(_) => return None,
            };
            return gives_none(checked, uses, line).then_some(Self::All(what));
        };
        let lacking: Vec<_> = given.iter().filter(|role| !is_among(checked, uses, role)).collect();
        let told = lacking.iter().take(TOLD).map(|role| shown(role)).collect::<Vec<_>>().join(", ");
        let told = match lacking.len().saturating_sub(TOLD) {
            0 => told,
            more => format!("{told} and {more} more"),
        };
        match lacking.len() {
            0 => None,
            all if all == given.len() => Some(Self::All(told)),
            _ => (given.len() <= SPELLED_OUT).then_some(Self::Some(told)),
        }
    }
}

/// The roles that a line gives, when they are few.
fn few_given(line: &Line<'_>) -> Option<BTreeSet<Vec<u8>>> {
    let of_name = |name: &Vec<u8>| match line.given_to(Case::Sensitive, name) {
        Ok(Some(Grant::Role(role))) => Some(role),
        _ => None,
    };
    match line.database_user() {
        DatabaseUserView::Literal(role) => Some([role.to_vec()].into()),
        DatabaseUserView::Pattern(_) => Some(line.few_roles()?.iter().cloned().collect()),
        DatabaseUserView::WithCapture { .. } => {
            Some(line.words()?.iter().filter_map(of_name).collect())
        }
        DatabaseUserView::All | DatabaseUserView::MemberOf(_) => None,
    }
}

/// Whether it is known of each role that there is that the line gives it to nobody.
fn gives_none(checked: &Checked<'_>, uses: &MapUses, line: &Line<'_>) -> bool {
    let roles = uses.roles_of(checked.name).unwrap_or_default();
    let cases = checked.used.map(|used| used.cases.as_slice()).unwrap_or_default();
    let is_given = |role: &[u8], case: Case| match line.database_user() {
        DatabaseUserView::WithCapture { .. } => {
            !matches!(line.names_given(case, role), Giving::Nobody)
        }
        _ => line.gives(case, role) != Some(false),
    };
    !roles.iter().any(|role| cases.iter().any(|case| is_given(role.as_bytes(), *case)))
}

fn is_among(checked: &Checked<'_>, uses: &MapUses, role: &[u8]) -> bool {
    let roles = uses.roles_of(checked.name).unwrap_or_default();
    let cases = checked.used.map(|used| used.cases.as_slice()).unwrap_or_default();
    roles.iter().any(|known| cases.iter().any(|case| case.is_same(known.as_bytes(), role)))
}

/// What a cluster says of the roles that a line gives.
fn on_cluster(
    uses: &MapUses,
    cluster: &ClusterRoles,
    line: &Line<'_>,
    case: Case,
) -> Vec<LintFinding> {
    let lends = |role: &RoleName| {
        uses.lent().get(role).is_some_and(|clusters| clusters.contains(&cluster.cluster))
    };
    let place = || Some(line.reference());
    let name = &cluster.cluster;
    match line.database_user() {
        DatabaseUserView::MemberOf(group) => {
            let is_known =
                std::str::from_utf8(group).is_ok_and(|group| cluster.roles.contains_key(group));
            if !is_known {
                let message =
                    format!("cluster {name} has no role {}, so nobody is its member", shown(group));
                let hint = "correct the group, or make it: CREATE ROLE … NOLOGIN";
                return vec![LintFinding::new(place(), LintCode::GroupMissing, message, hint)];
            }
            let is_member = |role: &&RoleName| {
                lends(role) && cluster.members.is_member(role.as_str().as_bytes(), group)
            };
            let members = uses.lent().keys().filter(is_member);
            members.filter_map(|role| of_role(cluster, role, line)).collect()
        }
        given => {
            let is_named = matches!(given, DatabaseUserView::Literal(_));
            let roles = uses.lent().keys().filter(|role| lends(role) && gives(line, case, role));
            let found = roles.filter_map(|role| of_role(cluster, role, line));
            // Of `all` and patterns it is no slip when a role is missing.
            found.filter(|found| is_named || found.code == LintCode::PowerfulRole).collect()
        }
    }
}

/// Whether the line can let somebody be the role, but for `\1`.
fn gives(line: &Line<'_>, case: Case, role: &RoleName) -> bool {
    line.gives(case, role.as_str().as_bytes()) == Some(true)
}

fn of_role(cluster: &ClusterRoles, role: &RoleName, line: &Line<'_>) -> Option<LintFinding> {
    let name = &cluster.cluster;
    let written = shown(role.as_str().as_bytes());
    let place = Some(line.reference());
    match cluster.roles.get(role.as_str()) {
        None => Some(LintFinding::new(
            place,
            LintCode::RoleMissing,
            format!("cluster {name} lends {written} and has no such role"),
            "make the role, or correct the [[cluster.profile]] and the line",
        )),
        Some(powers) if !powers.is_empty() => Some(LintFinding::new(
            place,
            LintCode::PowerfulRole,
            format!(
                "on cluster {name} {written} reaches too much: {}",
                shown(powers.join("; ").as_bytes())
            ),
            "take it out of what leads there; no lease is made of it",
        )),
        Some(_) => None,
    }
}
