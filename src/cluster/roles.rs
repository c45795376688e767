//! What the broker asks of a cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    AccessEnd, Cluster, ClusterError, ClusterHealth, CreateError, Created, HandedOver, Removal,
    RoleTarget, Witness,
};
use crate::lease::{FoundRole, Lease};
use crate::mapping::{Memberships, ObjectPolicy, Profile};
use crate::names::{ClusterName, LeaseId, RoleName, RoleOid, Ttl, Verifier};

/// The lease roles of one cluster. [`Cluster`] is the one that speaks to a server, and says with
/// each of these what it does and when it fails; the broker's model test has another.
#[async_trait]
#[expect(missing_docs, reason = "each is documented where `Cluster` has it")]
pub trait LeaseRoles: Send + Sync {
    fn name(&self) -> &ClusterName;

    async fn create(
        &self,
        lease: &Lease,
        profile: &Profile,
        verifier: &Verifier,
        ttl: Ttl,
        within: Duration,
    ) -> Result<Created, CreateError>;

    async fn extend(&self, lease: &Lease, remaining: Ttl) -> Result<Timestamp, ClusterError>;

    async fn end_access(&self, target: &RoleTarget) -> Result<AccessEnd, ClusterError>;

    async fn remove(
        &self,
        target: &RoleTarget,
        policy: ObjectPolicy,
    ) -> Result<Removal, ClusterError>;

    fn handed_over(&self, _lease: LeaseId) -> Vec<HandedOver> {
        Vec::new()
    }

    fn forget_handed_over(&self, _lease: LeaseId) {}

    fn tell(&self, _witness: Arc<dyn Witness>) {}

    async fn find(&self, lease: &Lease) -> Result<Option<RoleOid>, ClusterError>;

    async fn lease_roles(&self) -> Result<Vec<FoundRole>, ClusterError>;

    async fn without_role(&self) -> Result<Vec<RoleOid>, ClusterError>;

    async fn end_without_role(&self, oid: RoleOid) -> Result<usize, ClusterError>;

    async fn memberships(&self, roles: &[RoleName]) -> Result<Memberships, ClusterError>;

    async fn clock(&self) -> Result<Timestamp, ClusterError>;

    async fn probe(&self) -> Result<ClusterHealth, ClusterError>;
}

#[async_trait]
impl LeaseRoles for Cluster {
    fn name(&self) -> &ClusterName {
        Self::name(self)
    }

    async fn create(
        &self,
        lease: &Lease,
        profile: &Profile,
        verifier: &Verifier,
        ttl: Ttl,
        within: Duration,
    ) -> Result<Created, CreateError> {
        Self::create(self, lease, profile, verifier, ttl, within).await
    }

    async fn extend(&self, lease: &Lease, remaining: Ttl) -> Result<Timestamp, ClusterError> {
        Self::extend(self, lease, remaining).await
    }

    async fn end_access(&self, target: &RoleTarget) -> Result<AccessEnd, ClusterError> {
        Self::end_access(self, target).await
    }

    async fn remove(
        &self,
        target: &RoleTarget,
        policy: ObjectPolicy,
    ) -> Result<Removal, ClusterError> {
        Self::remove(self, target, policy).await
    }

    fn handed_over(&self, lease: LeaseId) -> Vec<HandedOver> {
        Self::handed_over(self, lease)
    }

    fn forget_handed_over(&self, lease: LeaseId) {
        Self::forget_handed_over(self, lease);
    }

    fn tell(&self, witness: Arc<dyn Witness>) {
        Self::tell(self, witness);
    }

    async fn find(&self, lease: &Lease) -> Result<Option<RoleOid>, ClusterError> {
        Self::find(self, lease).await
    }

    async fn lease_roles(&self) -> Result<Vec<FoundRole>, ClusterError> {
        Self::lease_roles(self).await
    }

    async fn without_role(&self) -> Result<Vec<RoleOid>, ClusterError> {
        Self::without_role(self).await
    }

    async fn end_without_role(&self, oid: RoleOid) -> Result<usize, ClusterError> {
        Self::end_without_role(self, oid).await
    }

    async fn memberships(&self, roles: &[RoleName]) -> Result<Memberships, ClusterError> {
        Self::memberships(self, roles).await
    }

    async fn clock(&self) -> Result<Timestamp, ClusterError> {
        Self::clock(self).await
    }

    async fn probe(&self) -> Result<ClusterHealth, ClusterError> {
        Self::probe(self).await
    }
}
