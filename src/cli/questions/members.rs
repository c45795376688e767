//! What is known of the memberships on the clusters: what was said on the command line, or what
//! the clusters say, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::QuestionError;
use super::source::Source;
use crate::cli::args::Members;
use crate::cli::in_one_line;
use crate::cli::terminal::{Shown, warn};
use crate::cluster::{Cluster, ClusterError};
use crate::config::{ClusterEntry, Config};
use crate::lease::MarkerKey;
use crate::mapping::{KnownMembers, Memberships, Policy};
use crate::names::ClusterName;

/// What is known of the memberships, cluster by cluster.
pub(super) struct Clusters {
    known: BTreeMap<ClusterName, KnownMembers>,
    /// For every other.
    otherwise: KnownMembers,
}

impl Clusters {
    /// What is known of the memberships. The clusters `to_ask`, on which the answer turns, are asked
    /// when nothing was said of any.
    ///
    /// # Errors
    /// When what was said contradicts itself.
    pub(super) async fn ask(
        source: &Source,
        said: &Members,
        to_ask: BTreeSet<ClusterName>,
    ) -> Result<Self, QuestionError> {
        if let Some(group) = said.contradiction() {
            return Err(QuestionError::Contradiction { group: Shown::new(group).to_string() });
        }
        let mut clusters = Self { known: BTreeMap::new(), otherwise: KnownMembers::nothing() };
        if !said.members.is_empty() {
            clusters.otherwise = as_said(said);
            return Ok(clusters);
        }
        if to_ask.is_empty() {
            return Ok(clusters);
        }
        let config = match source.config() {
            Ok(config) => config,
            Err(unusable) => {
                warn(format!(
                    "no cluster can be asked who is a member of what, see `--member`: {}",
                    in_one_line(&unusable)
                ));
                return Ok(clusters);
            }
        };
        let Config { clusters: entries, broker, .. } = config;
        for ClusterEntry { settings, .. } in entries {
            let name = settings.name.clone();
            if !to_ask.contains(&name) {
                continue;
            }
            let prefix = broker.terms.role_prefix.clone();
            // No mark is read or made with it.
            let key = Arc::new(MarkerKey::random(&mut rand::rng()));
            let asked = match Cluster::new(settings, broker.id.clone(), key, prefix) {
                Ok(cluster) => memberships(&cluster, &source.policy).await,
                Err(unusable) => Err(unusable),
            };
            match asked {
                Ok(memberships) => {
                    clusters.known.insert(name, KnownMembers::all(memberships));
                }
                Err(failure) => warn(format!(
                    "cluster {} does not say who is a member of what, see `--member`: {}",
                    Shown::new(&name),
                    in_one_line(&failure)
                )),
            }
        }
        Ok(clusters)
    }

    /// What is known of `cluster`.
    pub(super) fn known(&self, cluster: &ClusterName) -> &KnownMembers {
        self.known.get(cluster).unwrap_or(&self.otherwise)
    }
}

/// What the cluster says of the roles that it lends.
async fn memberships(cluster: &Cluster, policy: &Policy) -> Result<Memberships, ClusterError> {
    let lent = policy.targets.iter().filter(|target| target.cluster == *cluster.name());
    let roles = lent.flat_map(|target| &target.profiles).map(|profile| profile.role.clone());
    let roles: Vec<_> = roles.collect();
    cluster.memberships(&roles).await
}

/// The groups that were named have these members and no others.
fn as_said(said: &Members) -> KnownMembers {
    let groups: BTreeSet<Vec<u8>> =
        said.members.iter().map(|member| member.group.clone().into_bytes()).collect();
    let names = said.members.iter().map(|member| member.group.clone());
    let edges = said.members.iter();
    let edges = edges.filter_map(|member| Some((member.role.clone()?, member.group.clone())));
    KnownMembers::of_groups(groups, Memberships::of_edges(names, edges))
}
