//! Lease roles, and roles that look like some.

use super::super::Expected;
use super::super::facts::{Facts, LeaseRole};
use super::super::finding::{Check, Finding};
use super::{listed, seen};
use crate::lease::MarkerReading;
use crate::names::identifier;

const CHECK: Check = Check::LeaseRoles;

pub(super) fn judge(expected: &Expected, facts: &Facts) -> Vec<Finding> {
    seen(CHECK, &facts.lease_roles, |roles| lease_roles(expected, roles))
}

fn lease_roles(expected: &Expected, roles: &[LeaseRole]) -> Vec<Finding> {
    let (mut live, mut ended, mut others, mut strangers) =
        (0_usize, Vec::new(), 0_usize, Vec::new());
    for role in roles {
        match &role.marker {
            None => {
                let why = "There is no marker key yet (it is made at the first start), so nobody \
                           can tell whose roles they are.";
                let seen = format!("{} roles with a mark or our prefix", roles.len());
                return vec![Finding::warn(CHECK, seen, why).mend(
                    "# marker_key_file in [broker]: if this broker has run before, bring the key back",
                )];
            }
            Some(MarkerReading::Ours(_)) if role.can_login => live += 1,
            Some(MarkerReading::Ours(_)) => ended.push(&role.name),
            Some(MarkerReading::Foreign) => others += 1,
            Some(MarkerReading::Invalid) => strangers.push(&role.name),
        }
    }
    let foreign = if others > 0 { format!(", {others} of other brokers") } else { String::new() };
    let mut findings = vec![Finding::pass(CHECK, format!("{live} of ours{foreign}"))];
    findings.extend((!ended.is_empty()).then(|| cannot_log_in(&ended)));
    findings.extend((!strangers.is_empty()).then(|| look_like_ours(expected, &strangers)));
    findings
}

fn cannot_log_in(ended: &[&String]) -> Finding {
    let seen = format!("{} of ours cannot log in any more: {}", ended.len(), listed(ended));
    let why = "Their access has ended, and something keeps them from being dropped; they have no \
               rights left, and the broker tries on.";
    Finding::note(CHECK, seen, why)
        .mend("# the broker lists what keeps each: `blockers` of the lease")
}

fn look_like_ours(expected: &Expected, strangers: &[&String]) -> Finding {
    let prefix = expected.role_prefix.as_str();
    let (count, names) = (strangers.len(), listed(strangers));
    let seen = format!("{count} with {prefix} and without our mark: {names}");
    let why = "The broker never touches them, so nobody ends them; a mark that was changed looks \
               the same.";
    let drop = strangers.iter().map(|name| format!("-- DROP ROLE {};", identifier(name)));
    Finding::warn(CHECK, seen, why).mend("-- once you know whose they are:").mend_all(drop.take(5))
}
