//! A role begins, or its end is moved.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{Row, SimpleQueryMessage};

use super::apply::Answer;
use super::connect::{Lane, Query};
use super::error::{ClusterError, CreateError, CreateRefusal, FailureKind};
use super::observe::{Located, column, moved_on};
use super::{Cluster, Created, RoleTarget};
use crate::clock::Stopwatch;
use crate::lease::plan::{self, Creation, ServerVersion};
use crate::lease::{Lease, Marker};
use crate::mapping::Profile;
use crate::names::{RoleName, RoleOid, Ttl, Verifier, printable};

/// How often a plan is made anew because the world moved while it was run.
const RETRIES: u32 = 3;

/// How much longer than the server's own check an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cluster {
    /// Makes the role of `lease`: log-in by `verifier`, rights by membership in the profile's
    /// role only, `VALID UNTIL` at most `ttl` from now. Both lengths count from the moment of
    /// this call: once `within` is over the cluster itself refuses to commit.
    ///
    /// Two round trips: one looks, one does it all. May be dropped at any await: then either
    /// nothing was made or, if the second was already sent, the role is found by
    /// [`Self::find`].
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
        let seen = self.look_before_create(&profile.role).await.map_err(failed)?;
        // All that has passed since the call is counted, so nothing lasts longer than was asked.
        let passed = begun.elapsed();
        let refused = |refusal| CreateError::Refused {
            cluster: self.name.clone(),
            role: profile.role.clone(),
            refusal,
        };
        let left = within.checked_sub(passed).filter(|left| !left.is_zero());
        let left = seen.allowed_within(left).map_err(refused)?;
        let valid_for = ttl.duration().saturating_sub(passed);
        let valid_until = later(seen.server_time, valid_for);

        let marker = Marker::new(&self.key, &self.broker, &self.name, lease.id);
        let statements = plan::create(&Creation {
            role: &lease.role_name,
            marker: &marker,
            profile,
            verifier,
            valid_until,
            deadline: later(seen.server_time, left),
            admin_role: self.admin_role.as_ref(),
            version: seen.version,
        });
        let patience = left.saturating_add(PATIENCE);
        let answer = self.connections.apply(Lane::Issue, &self.limits, &statements, patience).await;
        match answer {
            Ok(answer) => match last_oid(&answer) {
                Some(role_oid) => Ok(Created { role_oid, valid_until }),
                None => Err(CreateError::InDoubt {
                    role_name: lease.role_name.clone(),
                    source: self.unreadable("the new role's OID"),
                }),
            },
            Err(failure) if failure.is_one_of(&[plan::CHECK_FAILED]) => {
                Err(refused(CreateRefusal::TooLate))
            }
            Err(failure) => {
                let kind = failure.kind;
                let source = failure.without(verifier.expose()).on(&self.name, "making a role");
                let role_name = lease.role_name.clone();
                Err(match kind {
                    FailureKind::Rejected => CreateError::Failed { role_name, source },
                    FailureKind::Broken | FailureKind::TimedOut => {
                        CreateError::InDoubt { role_name, source }
                    }
                })
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
            let applied =
                self.connections.apply(Lane::Issue, &self.limits, &statements, Duration::MAX).await;
            match applied {
                Ok(_) => return Ok(valid_until),
                Err(failure) if moved_on(&failure) && tries < RETRIES => tries += 1,
                Err(failure) => return Err(failure.on(&self.name, DOING)),
            }
        }
    }

    async fn look_before_create(&self, group: &RoleName) -> Result<BeforeCreate, ClusterError> {
        let name = |role: &Option<RoleName>| {
            role.as_ref().map(|role| role.as_str().to_owned()).unwrap_or_default()
        };
        let (admin, attic) = (name(&self.admin_role), name(&self.attic_role));
        let query = Query {
            sql: include_str!("sql/before_create.sql"),
            parameters: &[&group.as_str(), &admin, &attic, &Marker::BEGIN],
        };
        let [rows] =
            self.connections.read(Lane::Issue, "looking at the role to lend", [query]).await?;
        let row = rows.first().ok_or_else(|| self.unreadable("an empty answer"))?;
        self.before_create(row)
    }

    fn before_create(&self, row: &Row) -> Result<BeforeCreate, ClusterError> {
        Ok(BeforeCreate {
            server_time: self.time(row, "server_time")?,
            version: self.version(row)?,
            standby: column(&self.name, row, "standby")?,
            known: column(&self.name, row, "known")?,
            too_powerful: column(&self.name, row, "too_powerful")?,
        })
    }
}

/// What `sql/before_create.sql` found.
struct BeforeCreate {
    server_time: Timestamp,
    version: ServerVersion,
    standby: bool,
    known: bool,
    too_powerful: Vec<String>,
}

impl BeforeCreate {
    /// Gives the time that is left, if the role may be lent and any is left.
    fn allowed_within(&self, left: Option<Duration>) -> Result<Duration, CreateRefusal> {
        if self.standby {
            Err(CreateRefusal::Standby)
        } else if !self.known {
            Err(CreateRefusal::NoSuchRole)
        } else if !self.too_powerful.is_empty() {
            Err(CreateRefusal::TooPowerful(printable(&self.too_powerful.join(", "))))
        } else {
            left.ok_or(CreateRefusal::TooLate)
        }
    }
}

/// `time` moved by `by`, cut to the microsecond that the server keeps.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    let microseconds = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    time.saturating_add(SignedDuration::from_micros(microseconds)).unwrap_or(Timestamp::MAX)
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
