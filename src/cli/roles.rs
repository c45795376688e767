//! Which role is meant when none is named.

use super::answers::Offer;
use super::args::Target;
use super::exit::Exit;
use super::terminal::Shown;
use crate::names::RoleName;

/// Why no role could be chosen.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChoiceError {
    #[error("no role on {target} is on offer to you; on offer: {on_offer}")]
    None { target: Shown, on_offer: Shown },
    #[error("several roles on {target} are on offer to you; choose by `--role`: {roles}")]
    Several { target: Shown, roles: Shown },
}

impl ChoiceError {
    /// How the process ends on it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::None { .. } => Exit::Refused,
            Self::Several { .. } => Exit::Usage,
        }
    }
}

/// The only role on offer at `target`.
///
/// # Errors
/// When there is none, or more than one.
pub(super) fn only_role<'a>(
    offers: &'a [Offer],
    target: &Target,
) -> Result<&'a RoleName, ChoiceError> {
    let mut roles: Vec<&RoleName> = offers
        .iter()
        .filter(|offer| offer.cluster == target.cluster)
        .filter(|offer| target.database.as_ref().is_none_or(|name| offer.databases.contains(name)))
        .map(|offer| &offer.role)
        .collect();
    roles.sort_unstable();
    roles.dedup();
    match roles.as_slice() {
        [role] => Ok(role),
        [] => Err(ChoiceError::None { target: shown(target), on_offer: on_offer(offers, target) }),
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            let roles = Shown::new(names.join(", "));
            Err(ChoiceError::Several { target: shown(target), roles })
        }
    }
}

/// What could be meant instead: the databases of the same cluster, or else the other clusters.
fn on_offer(offers: &[Offer], target: &Target) -> Shown {
    let of_cluster = |offer: &&Offer| offer.cluster == target.cluster;
    let mut names: Vec<String> = offers
        .iter()
        .filter(of_cluster)
        .flat_map(|offer| offer.databases.iter().map(|name| format!("{}/{name}", offer.cluster)))
        .collect();
    if names.is_empty() {
        names = offers.iter().map(|offer| offer.cluster.to_string()).collect();
    }
    names.sort_unstable();
    names.dedup();
    Shown::new(if names.is_empty() { "nothing".to_owned() } else { names.join(", ") })
}

fn shown(target: &Target) -> Shown {
    match &target.database {
        Some(database) => Shown::new(format!("{}/{database}", target.cluster)),
        None => Shown::new(&target.cluster),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(cluster: &str, role: &str, databases: &[&str]) -> Offer {
        serde_json::from_value(serde_json::json!({
            "cluster": cluster, "role": role, "databases": databases, "ttl_seconds": 3600,
            "max_ttl_seconds": 7200, "reason_required": false, "rule": {"file": "f", "line": 1},
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(target: &str, expected: Result<&str, Exit>) {
        let offers = [
            offer("orders", "read", &["orders", "archive"]),
            offer("orders", "write", &["orders"]),
            offer("stock", "count", &["stock"]),
            offer("stock", "count", &["other"]),
        ];
        let chosen = only_role(&offers, &target.parse().unwrap()).map(ToString::to_string);
        assert_eq!(chosen.as_deref().map_err(ChoiceError::exit), expected);
    }

    #[test]
    fn the_only_role_on_offer_is_taken_and_nothing_is_guessed() {
        check("stock", Ok("count"));
        check("orders/archive", Ok("read"));
        check("orders", Err(Exit::Usage));
        check("orders/none", Err(Exit::Refused));
        check("nowhere", Err(Exit::Refused));
    }

    #[test]
    fn who_asks_for_nothing_on_offer_is_told_what_is() {
        let offers = [offer("orders", "read", &["orders", "archive"]), offer("stock", "x", &["s"])];
        let told = |offers: &[Offer], target: &str| {
            only_role(offers, &target.parse().unwrap()).unwrap_err().to_string()
        };
        let start = "no role on order is on offer to you; on offer: ";
        assert_eq!(told(&offers, "order"), format!("{start}orders, stock"));
        assert_eq!(told(&[], "order"), format!("{start}nothing"));
        assert!(told(&offers, "orders/x").ends_with("on offer: orders/archive, orders/orders"));
    }

    #[test]
    fn the_choice_is_listed() {
        let offers = [offer("orders", "write", &["o"]), offer("orders", "re\nad", &["o"])];
        let refusal = only_role(&offers, &"orders".parse().unwrap()).unwrap_err();
        assert!(refusal.to_string().ends_with("choose by `--role`: re\\nad, write"), "{refusal}");
    }
}
