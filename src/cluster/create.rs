//! A role begins, or its end is moved.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::SimpleQueryMessage;

use super::apply::Answer;
use super::connect::Lane;
use super::error::{ClusterError, CreateError, CreateRefusal, Failure, FailureKind};
use super::locate::Located;
use super::look::later;
use super::{Cluster, Created, RoleTarget};
use crate::clock::Stopwatch;
use crate::lease::plan::{self, Creation};
use crate::lease::{Lease, Marker};
use crate::mapping::Profile;
use crate::names::{RoleName, RoleOid, Ttl, Verifier};

/// How often a plan is made anew because the world moved while it was run.
const RETRIES: u32 = 3;

/// How much longer than the server's own check an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cluster {
    /// Makes the role of `lease`: log-in by `verifier`, rights by membership in the profile's
    /// role only, `VALID UNTIL` at most `ttl` from now. Both lengths count from the moment of
    /// this call at the latest: once `within` is over the cluster itself refuses to commit.
    ///
    /// One message does it all; another looks, unless that was done within the last second. May be
    /// dropped at any await: then either nothing was made or, if the message was already sent, the
    /// role is found by [`Self::find`].
    ///
    /// # Errors
    /// When the role must not or could not be made, or nobody knows ([`CreateError::InDoubt`]).
    pub async fn create(
        &self,
        lease: &Lease,
        profile: &Profile,
        verifier: &Verifier,
        ttl: Ttl,
        within: Duration,
    ) -> Result<Created, CreateError> {
        let begun = Stopwatch::start();
        let failed = |source| CreateError::Failed { role_name: lease.role_name.clone(), source };
        let refused = |refusal| self.refused(&profile.role, refusal);
        let look = self.look(&profile.role).await.map_err(failed)?;
        look.check().map_err(refused)?;
        // Without a connection nothing was sent, and nothing is in doubt.
        let borrowed = self.connections.borrow(Lane::Issue).await.map_err(failed)?;
        // First the server's clock, then what is left: so nothing lasts longer than was asked.
        let server_now = look.server_now();
        let left = within.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        let left = left.ok_or_else(|| refused(CreateRefusal::TooLate))?;
        let valid_until = later(server_now, ttl.duration().saturating_sub(begun.elapsed()));

        let marker = Marker::new(&self.key, &self.broker, &self.name, lease.id);
        let statements = plan::create(&Creation {
            role: &lease.role_name,
            marker: &marker,
            profile,
            verifier,
            valid_until,
            deadline: later(server_now, left),
            admin_role: self.admin_role.as_ref(),
            version: look.version,
        });
        let patience = left.saturating_add(PATIENCE);
        let sent = self.connections.apply_in(borrowed, &self.limits, &statements, patience);
        match sent.await {
            Ok(answer) => match last_oid(&answer) {
                Some(role_oid) => Ok(Created { role_oid, valid_until }),
                None => Err(CreateError::InDoubt {
                    role_name: lease.role_name.clone(),
                    source: self.unreadable("the new role's OID"),
                }),
            },
            Err(failure) => {
                Err(self.not_made(lease, &profile.role, failure.without(verifier.expose())))
            }
        }
    }

    fn refused(&self, role: &RoleName, refusal: CreateRefusal) -> CreateError {
        CreateError::Refused { cluster: self.name.clone(), role: role.clone(), refusal }
    }

    /// What a failure after sending means.
    fn not_made(&self, lease: &Lease, role: &RoleName, failure: Failure) -> CreateError {
        if failure.is_one_of(&[plan::CHECK_FAILED]) {
            return self.refused(role, CreateRefusal::TooLate);
        }
        // The look is older than the fail-over.
        if failure.is_one_of(&["25006"]) {
            return self.refused(role, CreateRefusal::Standby);
        }
        let (kind, role_name) = (failure.kind, lease.role_name.clone());
        let source = failure.on(&self.name, "making a role");
        match kind {
            FailureKind::Rejected => CreateError::Failed { role_name, source },
            FailureKind::Broken | FailureKind::TimedOut => {
                CreateError::InDoubt { role_name, source }
            }
        }
    }

    /// Moves VALID UNTIL of the lease's role to at most `remaining` from now, on the cluster's
    /// clock, and gives it. Touches nothing else, so a role whose access has ended stays so.
    ///
    /// # Errors
    /// When the role is missing, not ours, or its access has ended; or the cluster failed.
    pub async fn extend(&self, lease: &Lease, remaining: Ttl) -> Result<Timestamp, ClusterError> {
        const DOING: &str = "moving a role's end";
        let begun = Stopwatch::start();
        let mut tries = 0;
        loop {
            let target = RoleTarget::of(lease);
            let (cluster, lease) = (self.name.clone(), lease.id);
            let role = match self.locate(Lane::Issue, &target).await? {
                Located::Ours(role) => role,
                Located::NotOurs(error) => return Err(error),
                Located::Missing | Located::OidTaken => {
                    return Err(ClusterError::RoleMissing { cluster, lease });
                }
            };
            if !role.can_login {
                return Err(ClusterError::AccessEnded { cluster, lease });
            }
            let left = remaining.duration().saturating_sub(begun.elapsed());
            let valid_until = later(role.server_time, left);
            let statements = plan::extend(&role.name, role.oid, valid_until);
            let applied = self.connections.apply(Lane::Issue, &self.limits, &statements).await;
            // A check of the plan failed, or somebody was quicker: what there is now says which.
            match applied {
                Ok(_) => return Ok(valid_until),
                Err(failure) if failure.moved_on() && tries < RETRIES => tries += 1,
                Err(failure) => return Err(failure.on(&self.name, DOING)),
            }
        }
    }
}

/// The first column of the last row, which is the check that also gives the OID.
fn last_oid(answer: &Answer) -> Option<RoleOid> {
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let text = rows.last()?.try_get(0).ok()??;
    text.parse().ok().map(RoleOid)
}
