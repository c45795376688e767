//! What is about to go to the attic, written down before it goes: nothing on the cluster says later
//! whose it was.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::warn;

use crate::audit::{Action, Record, Subject};
use crate::causes::with_causes;
use crate::clock::Clock;
use crate::cluster::{HandedOver, Witness, Written};
use crate::names::{ClusterName, LeaseId, RoleOid};
use crate::store::Store;

/// Writes it down.
pub(super) struct Scribe {
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Scribe {
    pub(super) fn new(store: &Arc<dyn Store>, clock: &Clock) -> Self {
        Self { store: Arc::clone(store), clock: clock.clone() }
    }
}

#[async_trait]
impl Witness for Scribe {
    async fn hands_over(
        &self,
        cluster: &ClusterName,
        lease: LeaseId,
        oid: RoleOid,
        what: &HandedOver,
    ) -> Written {
        let record = Record {
            lease: Some(lease),
            cluster: Some(cluster.clone()),
            role_oid: Some(oid),
            detail: Some(what.announced()),
            ..Record::new(self.clock.now(), Action::HandingOver, Subject::Broker)
        };
        if let Err(failed) = self.store.commit(Vec::new(), vec![record]).await {
            warn!(%lease, cause = with_causes(&failed), "what is about to go to the attic is not written down yet; it is once the attempt is over");
            return Written::No;
        }
        Written::Yes
    }
}
