//! Decisions for which a cluster must be asked: who is a member of the group roles that the map
//! names by `+role`. It is asked anew for each, and only when the decision turns on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tracing::warn;

use super::Broker;
use crate::auth::Identity;
use crate::causes::with_causes;
use crate::mapping::{Entitlement, Members, Offers, Policy, Refusal};
use crate::names::{ClusterName, RoleName};

/// How long a cluster may take to answer: one that hangs keeps nobody from an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Roles whose memberships must be known, by cluster.
pub(super) type Wanted = BTreeMap<ClusterName, BTreeSet<RoleName>>;

impl Broker {
    /// [`Policy::entitle`], with what the cluster says of memberships now.
    ///
    /// # Errors
    /// As there; [`Refusal::MembersUnknown`] when the decision turns on what the cluster says, and
    /// it does not answer.
    pub(super) async fn entitle(
        &self,
        policy: &Policy,
        identity: &Identity,
        (cluster, role): (&str, &str),
        address: IpAddr,
    ) -> Result<Entitlement, Refusal> {
        match policy.entitle(identity, cluster, role, address, &Members::none()) {
            Err(Refusal::MembersUnknown { cluster: asked, role: of }) => {
                let members = self.ask_members([(asked, BTreeSet::from([of]))].into()).await;
                policy.entitle(identity, cluster, role, address, &members)
            }
            decided => decided,
        }
    }

    /// [`Policy::offers`], with what the clusters say of memberships now. What a cluster that does
    /// not answer would have to say is undecided.
    pub(super) async fn offers(
        &self,
        policy: &Policy,
        identity: &Identity,
        address: IpAddr,
    ) -> Offers {
        let offers = policy.offers(identity, address, &Members::none());
        if offers.undecided.is_empty() {
            return offers;
        }
        let members = self.ask_members(by_cluster(offers.undecided)).await;
        policy.offers(identity, address, &members)
    }

    /// Asks each cluster for the memberships of roles. One that does not answer is left out.
    pub(super) async fn ask_members(&self, wanted: Wanted) -> Members {
        let asked = wanted.into_iter().map(|(name, roles)| async move {
            let roles: Vec<RoleName> = roles.into_iter().collect();
            let site = self.site(&name)?;
            match timeout(ANSWER_WITHIN, site.cluster.memberships(&roles)).await {
                Ok(Ok(memberships)) => Some((name, memberships)),
                Ok(Err(failed)) => self.unanswered(&name, &with_causes(&failed)),
                Err(_) => self.unanswered(&name, "it does not answer"),
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

impl Broker {
    /// Says once a minute that a cluster cannot be asked: whoever is looked up asks it.
    fn unanswered<T>(&self, cluster: &ClusterName, cause: &str) -> Option<T> {
        if self.0.hushed.speak(&format!("members:{cluster}"), self.now()).is_some() {
            warn!(%cluster, cause, "who is a member of what cannot be asked");
        }
        None
    }
}

/// Roles by their clusters.
pub(super) fn by_cluster(roles: impl IntoIterator<Item = (ClusterName, RoleName)>) -> Wanted {
    let mut wanted = Wanted::new();
    for (cluster, role) in roles {
        wanted.entry(cluster).or_default().insert(role);
    }
    wanted
}
