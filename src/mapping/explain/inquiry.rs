//! What can be asked to be explained, and why it cannot.

use std::net::IpAddr;

use crate::mapping::instead::instead;
use crate::mapping::scan::KnownMembers;
use crate::mapping::{Maps, NamesError, Policy, Target, UnverifiedNames, UnverifiedPerson};
use crate::names::{ClusterName, RoleName, WayName};

/// A question: may this person act as this role there? Nobody has proven who the person is.
#[derive(Clone, Copy, Debug)]
pub struct Inquiry<'a> {
    /// The person.
    pub person: &'a UnverifiedPerson,
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The role.
    pub role: &'a RoleName,
    /// What is known of the memberships there.
    pub members: &'a KnownMembers,
    /// Where they would ask from, if that is to count.
    pub address: Option<IpAddr>,
}

/// The same of several: somebody by each way in that may be meant, and each role of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Inquiries<'a> {
    /// The person, by each way in.
    pub people: &'a [UnverifiedPerson],
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// The role; each that the cluster lends, when none is named.
    pub role: Option<&'a RoleName>,
    /// What is known of the memberships there.
    pub members: &'a KnownMembers,
    /// Where they would ask from, if that is to count.
    pub address: Option<IpAddr>,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InquiryError {
    /// No cluster of this name is configured.
    #[error("no cluster `{cluster}` is configured; {instead}")]
    UnknownCluster {
        /// The name.
        cluster: ClusterName,
        /// What may have been meant.
        instead: String,
    },
    /// No way in of this name is configured.
    #[error("no way in `{way}` is configured; {instead}")]
    UnknownWay {
        /// The name.
        way: WayName,
        /// What may have been meant.
        instead: String,
    },
    /// Whoever asked has gone away, or has waited too long.
    #[error("nobody waits for the answer any more")]
    CalledOff,
    /// Nobody can log in by such names.
    #[error(transparent)]
    Names(#[from] NamesError),
}

impl Policy {
    /// Somebody of these `names` by each way in that may be meant: `way`, or every one.
    ///
    /// # Errors
    /// When the way in is not configured.
    pub fn by_each_way(
        &self,
        names: &UnverifiedNames,
        way: Option<&WayName>,
    ) -> Result<Vec<UnverifiedPerson>, InquiryError> {
        let person = |way: &WayName| UnverifiedPerson::by(way.clone(), names.clone());
        Ok(self.meant(way)?.into_iter().map(person).collect())
    }

    /// The ways in that may be meant: `way`, or every one.
    ///
    /// # Errors
    /// When the way in is not configured.
    pub fn meant<'w>(&'w self, way: Option<&'w WayName>) -> Result<Vec<&'w WayName>, InquiryError> {
        match way {
            Some(way) => self.maps_of(way).map(|_| vec![way]),
            None => Ok(self.ways.keys().collect()),
        }
    }

    pub(in crate::mapping) fn target(
        &self,
        cluster: &ClusterName,
    ) -> Result<&Target, InquiryError> {
        let target = self.targets.iter().find(|target| target.cluster == *cluster);
        target.ok_or_else(|| {
            let known = self.targets.iter().map(|target| target.cluster.as_str());
            let instead = instead(cluster.as_str(), known);
            InquiryError::UnknownCluster { cluster: cluster.clone(), instead }
        })
    }

    pub(in crate::mapping) fn maps_of(&self, way: &WayName) -> Result<&Maps, InquiryError> {
        self.ways.get(way).ok_or_else(|| {
            let instead = instead(way.as_str(), self.ways.keys().map(WayName::as_str));
            InquiryError::UnknownWay { way: way.clone(), instead }
        })
    }
}

impl Maps {
    /// The map of groups, when no group is named to ask it about.
    pub(in crate::mapping) fn unasked_group_map(&self, names: &UnverifiedNames) -> Option<String> {
        let map = self.group_map.as_ref().filter(|_| names.groups().is_empty());
        map.map(ToString::to_string)
    }
}
