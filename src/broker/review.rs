//! Reading leases: one's own, and with a duty everybody's.

use super::standing::Doubt;
use super::{Broker, Caller, Request};
use crate::audit::{Action, Outcome, Record};
use crate::auth::way::Reason;
use crate::cluster::ClusterError;
use crate::lease::{Lease, LeaseState};
use crate::names::{ClusterName, LeaseId, Method, RoleName, RoleOid};
use crate::store::{LeaseFilter, StoreError};

/// Why a lease was not shown, or not ended.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// There is no such lease, or it is another person's: which of the two is not told.
    #[error("there is no lease {lease} of yours")]
    NotFound {
        /// The id asked for.
        lease: LeaseId,
    },
    /// This needs the duty of operator or auditor.
    #[error("this needs the duty of {needed}")]
    DutyNeeded {
        /// The duty.
        needed: &'static str,
    },
    /// What was given as a person can name nobody: an empty list would look like one of a person
    /// who has no leases.
    #[error(
        "`person` must be `method:issuer:name` or `method:name`, such as `ldap:corp:alice`; `person` in the list of leases shows it"
    )]
    PersonUnfit,
    /// Nothing was named that says which leases are meant.
    #[error("name at least one of `person`, `role`, `role_name`, `cluster` and `missing_from`")]
    NothingSelected,
    /// A reason is needed, and can be no longer than the audit keeps it.
    #[error("a reason is needed: at most 500 characters, without control or invisible characters")]
    ReasonUnfit,
    /// Only what is being taken away can be declared gone.
    #[error(
        "lease {lease} is {state}; only one that is being taken away can be declared gone, so revoke it first if it is not over"
    )]
    NotEnding {
        /// The lease.
        lease: LeaseId,
        /// The state it is in.
        state: LeaseState,
    },
    /// A role has the mark or the name of the lease.
    #[error(
        "role `{role}` (OID {oid}) carries the mark or the name of lease {lease}, so it is not gone; drop that role, or let the broker do it"
    )]
    StillThere {
        /// The lease.
        lease: LeaseId,
        /// The role.
        role: String,
        /// Its OID.
        oid: RoleOid,
    },
    /// No role of somebody else is in the way.
    #[error(
        "nothing that is not the broker's stands in the way of lease {lease}; it is taken away as ever"
    )]
    NothingInTheWay {
        /// The lease.
        lease: LeaseId,
    },
    /// The cluster cannot say whether the role is gone.
    #[error("cluster `{cluster}` cannot be asked now whether the role is gone; try again soon")]
    ClusterAway {
        /// The cluster.
        cluster: ClusterName,
        /// What it said.
        source: Box<ClusterError>,
    },
    /// The login has ended since the request began.
    #[error("the login has ended")]
    LoginEnded,
    /// The directory cannot say whether the person still has the duty.
    #[error("the directory cannot be asked now")]
    DirectoryAway,
    /// The store could not be asked.
    #[error("the store cannot be asked now")]
    Store(#[source] StoreError),
}

/// Which leases to list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Only of the person with this key (`method:issuer:subject`) or this printed form
    /// (`method:subject`).
    pub person: Option<String>,
    /// Only on this cluster.
    pub cluster: Option<ClusterName>,
    /// Only of this group role.
    pub role: Option<RoleName>,
    /// Only in one of these states; none given means any.
    pub states: Vec<LeaseState>,
}

/// Whether `person` can name somebody: it begins with the word of a method, as every principal
/// does.
pub(super) fn check_person(person: Option<&str>) -> Result<(), LeaseError> {
    let known = |word: &str| Method::ALL.into_iter().any(|method| method.as_str() == word);
    let names_somebody = |person: &str| {
        person.split_once(':').is_some_and(|(method, rest)| known(method) && !rest.is_empty())
    };
    if person.is_none_or(names_somebody) { Ok(()) } else { Err(LeaseError::PersonUnfit) }
}

/// Leases that one answer lists at most.
const LISTED_MAX: u32 = 1000;

impl Broker {
    /// The caller's own leases, newest first, at most 1,000.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn leases(
        &self,
        caller: &Caller,
        states: Vec<LeaseState>,
    ) -> Result<Vec<Lease>, LeaseError> {
        let principal = Some(caller.principal().clone());
        let filter = LeaseFilter { principal, cluster: None, states, limit: Some(LISTED_MAX) };
        let mut leases = self.store().leases(&filter).await.map_err(LeaseError::Store)?;
        leases.retain(|lease| lease.is_of(caller.identity()));
        Ok(leases)
    }

    /// The caller's own lease `id`.
    ///
    /// # Errors
    /// When there is none, or it is another person's (both the same from outside; the second is
    /// written down), or the store cannot be asked.
    pub async fn lease(
        &self,
        request: &Request,
        caller: &Caller,
        id: LeaseId,
    ) -> Result<Lease, LeaseError> {
        let lease = self.store().lease(id).await.map_err(LeaseError::Store)?;
        match lease {
            Some(lease) if lease.is_of(caller.identity()) => Ok(lease),
            Some(other) => {
                let record = self.record(request, Action::AccessRefused, caller.subject());
                let record = record.about(&other).ended(Outcome::Refused, "not_the_holder", "");
                self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)?;
                Err(LeaseError::NotFound { lease: id })
            }
            None => Err(LeaseError::NotFound { lease: id }),
        }
    }

    /// Everybody's leases, newest first, at most 1,000: for auditors and operators.
    ///
    /// # Errors
    /// When the caller has neither duty, nobody can say whether they still have, the listing's
    /// person can name nobody, or the store cannot be asked.
    pub async fn all_leases(
        &self,
        request: &Request,
        caller: &Caller,
        listing: Listing,
    ) -> Result<Vec<Lease>, LeaseError> {
        let duties = match self.duties_now(caller).await {
            Ok(duties) => duties,
            Err(doubt) => return Err(self.refuse_in_doubt(request, caller, doubt, "leases").await),
        };
        let needed = "auditor or operator";
        self.need(request, caller, duties.auditor || duties.operator, needed, "leases").await?;
        check_person(listing.person.as_deref())?;
        let mut record = self.record(request, Action::ReviewRead, caller.subject());
        record.detail = Some("leases".to_owned());
        self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)?;
        self.listed(listing).await
    }

    async fn listed(&self, listing: Listing) -> Result<Vec<Lease>, LeaseError> {
        let Listing { person, cluster, role, states } = listing;
        let is_narrow = person.is_some() || role.is_some();
        let limit = if is_narrow { None } else { Some(LISTED_MAX) };
        let filter = LeaseFilter { principal: None, cluster, states, limit };
        let leases = self.store().leases(&filter).await.map_err(LeaseError::Store)?;
        let wanted = |lease: &Lease| {
            person.as_ref().is_none_or(|person| is_of(lease, person))
                && role.as_ref().is_none_or(|role| lease.role == *role)
        };
        Ok(leases.into_iter().filter(wanted).take(LISTED_MAX as usize).collect())
    }

    /// Refuses, and writes down, what somebody tries of whom it is not certain that they are who
    /// they were when they logged in.
    async fn refuse_in_doubt(
        &self,
        request: &Request,
        caller: &Caller,
        doubt: Doubt,
        what: &str,
    ) -> LeaseError {
        let Reason { word, detail } = doubt.reason();
        let record = self.record(request, Action::AccessRefused, caller.subject());
        let record = record.ended(Outcome::Refused, word, &format!("{what}: {detail}"));
        match (self.store().commit(Vec::new(), vec![record]).await, doubt) {
            (Err(failed), _) => LeaseError::Store(failed),
            (Ok(()), Doubt::Gone(_)) => LeaseError::LoginEnded,
            (Ok(()), Doubt::Away(_)) => LeaseError::DirectoryAway,
        }
    }

    /// Refuses, and writes down, what somebody tries who is no operator. While nobody can look them
    /// up, what was seen last counts, however long ago: nobody must wait for a directory to take
    /// something away.
    pub(super) async fn need_operator(
        &self,
        request: &Request,
        caller: &Caller,
        what: &str,
    ) -> Result<(), LeaseError> {
        let duties = match self.duties_now(caller).await {
            Ok(duties) => duties,
            Err(Doubt::Away(_)) => caller.duties(),
            Err(gone @ Doubt::Gone(_)) => {
                return Err(self.refuse_in_doubt(request, caller, gone, what).await);
            }
        };
        self.need(request, caller, duties.operator, "operator", what).await
    }

    /// Refuses, and writes down, what somebody asks who is no auditor. What an auditor asks is
    /// written down too, with what `about` adds.
    pub(super) async fn need_auditor(
        &self,
        request: &Request,
        caller: &Caller,
        what: &str,
        about: impl FnOnce(Record) -> Record + Send,
    ) -> Result<(), LeaseError> {
        let duties = match self.duties_now(caller).await {
            Ok(duties) => duties,
            Err(doubt) => return Err(self.refuse_in_doubt(request, caller, doubt, what).await),
        };
        self.need(request, caller, duties.auditor, "auditor", what).await?;
        let mut record = self.record(request, Action::ReviewRead, caller.subject());
        record.detail = Some(what.to_owned());
        self.store().commit(Vec::new(), vec![about(record)]).await.map_err(LeaseError::Store)
    }

    /// Refuses, and writes down, what a caller without the duty tries.
    async fn need(
        &self,
        request: &Request,
        caller: &Caller,
        has: bool,
        needed: &'static str,
        what: &str,
    ) -> Result<(), LeaseError> {
        if has {
            return Ok(());
        }
        let record = self.record(request, Action::AccessRefused, caller.subject());
        let record = record.ended(Outcome::Refused, "duty_needed", what);
        self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)?;
        Err(LeaseError::DutyNeeded { needed })
    }
}

/// Whether `person` names who has the lease, by key or by printed form.
pub(super) fn is_of(lease: &Lease, person: &str) -> bool {
    person == lease.principal.key() || person == lease.principal.to_string()
}
