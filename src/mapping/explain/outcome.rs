//! The answer of an explanation, and why.

use std::net::IpAddr;

use super::Sought;
use super::answer::{Cause, Verdict};
use crate::mapping::instead::instead;
use crate::mapping::scan::{Arrival, Of, Step};
use crate::mapping::{Profile, Target};
use crate::names::{ClusterName, RoleName};

/// Most lines that one reason names.
const NAMED_MAX: usize = 20;

/// The answer, with its reason.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) cause: Cause,
    pub(super) reason: String,
}

impl Outcome {
    fn new(verdict: Verdict, cause: Cause, reason: String) -> Self {
        Self { verdict, cause, reason }
    }

    /// What follows for a role of a cluster: the profile is asked for before the map, the address
    /// after it, as whoever asks for a lease is judged.
    pub(super) fn of_role(
        arrival: &Arrival,
        profile: Result<&Profile, String>,
        address: Option<IpAddr>,
        sought: Sought<'_>,
    ) -> Self {
        let profile = match profile {
            Ok(profile) => profile,
            Err(reason) => return Self::new(Verdict::Denied, Cause::NoProfile, reason),
        };
        let turned_away = address.filter(|address| !profile.admits(*address));
        match (arrival, turned_away) {
            (Arrival::Open(_) | Arrival::Allowed { .. }, Some(address)) => {
                let reason = format!("role `{}` is not issued to {address}", sought.role);
                Self::new(Verdict::Denied, Cause::Network, reason)
            }
            _ => Self::of_map(arrival, sought),
        }
    }

    /// What the map says.
    pub(super) fn of_map(arrival: &Arrival, sought: Sought<'_>) -> Self {
        let role = sought.role;
        match arrival {
            Arrival::NoMatch => {
                let reason = format!("no line lets them act as `{role}`");
                Self::new(Verdict::Denied, Cause::NotMapped, reason)
            }
            Arrival::Failed { at, reason } => {
                let line = &at.line;
                let reason = format!("{line} ends in an error, which denies: {reason}");
                Self::new(Verdict::Denied, Cause::MapFailed, reason)
            }
            Arrival::Open(open) => {
                let lines = places(open);
                let reason = format!(
                    "it depends on the members of a group role, which are not known: {lines}"
                );
                Self::new(Verdict::Unknown, Cause::MembersUnknown, reason)
            }
            Arrival::Allowed { by: Step { line, of, name }, .. } => {
                let whom = match of {
                    Of::Person => format!("`{name}`"),
                    Of::Group => format!("group `{name}`"),
                };
                let reason = format!("{line} lets {whom} act as `{role}`");
                Self::new(Verdict::Allowed, Cause::Mapped, reason)
            }
        }
    }
}

/// The places of lines, as part of a sentence.
fn places(steps: &[Step]) -> String {
    let named = steps.iter().take(NAMED_MAX).map(|step| step.line.to_string());
    let named = named.collect::<Vec<_>>().join(", ");
    match steps.len().saturating_sub(NAMED_MAX) {
        0 => named,
        others => format!("{named} and {others} more"),
    }
}

impl Target {
    /// The terms on which the cluster lends `role`.
    ///
    /// # Errors
    /// When it does not lend it: that as a sentence, with what it does.
    pub(in crate::mapping) fn lends(&self, role: &RoleName) -> Result<&Profile, String> {
        let profile = self.profiles.iter().find(|profile| profile.role == *role);
        profile.map(AsRef::as_ref).ok_or_else(|| self.does_not_lend(role))
    }

    fn does_not_lend(&self, role: &RoleName) -> String {
        let cluster: &ClusterName = &self.cluster;
        let lent = self.profiles.iter().map(|profile| profile.role.as_str());
        let instead = instead(role.as_str(), lent);
        format!(
            "cluster `{cluster}` does not lend role `{role}` (no `[[cluster.profile]]` of it names the \
             role), so that nobody gets it from pgbridge; {instead}"
        )
    }
}
