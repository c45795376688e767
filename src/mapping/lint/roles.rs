//! What is given: roles that nobody lends, that do not exist, or that are too much.

use super::finding::{LintCode, LintFinding, shown};
use super::{Checked, ClusterRoles};
use crate::mapping::line::Line;
use crate::mapping::{Case, DatabaseUserView, MapUses};
use crate::names::RoleName;

pub(super) fn check(checked: &Checked<'_>) -> Vec<LintFinding> {
    let Some((uses, used)) = checked.context.uses.zip(checked.used) else { return Vec::new() };
    let mut findings = Vec::new();
    for line in &checked.lines {
        if used.is_of_duties() {
            findings.extend(duty(checked, uses, line));
        } else {
            findings.extend(not_lent(checked, uses, line));
            for cluster in checked.context.clusters {
                findings.extend(on_cluster(uses, cluster, line, checked.case()));
            }
        }
    }
    findings
}

/// A line of a map that gives the broker's own duties.
fn duty(checked: &Checked<'_>, uses: &MapUses, line: &Line<'_>) -> Option<LintFinding> {
    let place = Some(line.reference());
    match line.database_user() {
        DatabaseUserView::MemberOf(group) => Some(LintFinding::new(
            place,
            LintCode::MembersOfDuty,
            format!(
                "+{} gives no duty: these are the broker's own and have no members",
                shown(group)
            ),
            "write `auditor` or `operator`",
        )),
        DatabaseUserView::Literal(role) if !is_among(checked, uses, role) => {
            Some(LintFinding::new(
                place,
                LintCode::UnknownDuty,
                format!("the broker has no duty {}", shown(role)),
                "write `auditor` or `operator`",
            ))
        }
        _ => None,
    }
}

fn not_lent(checked: &Checked<'_>, uses: &MapUses, line: &Line<'_>) -> Option<LintFinding> {
    let DatabaseUserView::Literal(role) = line.database_user() else { return None };
    if is_among(checked, uses, role) {
        return None;
    }
    let message = super::not_lent(role);
    let hint = "correct the role, or lend it with a [[cluster.profile]]";
    Some(LintFinding::new(Some(line.reference()), LintCode::RoleNotLent, message, hint))
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
