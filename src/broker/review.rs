//! Reading leases: one's own, and with a duty everybody's.

use super::{Broker, Caller, Request};
use crate::audit::{Action, Outcome, Record};
use crate::lease::{Lease, LeaseState};
use crate::names::{ClusterName, LeaseId, Method};
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
    /// Only in one of these states; none given means any.
    pub states: Vec<LeaseState>,
}

impl Listing {
    /// A person begins with the word of a method, as every principal does.
    pub(super) fn check(&self) -> Result<(), LeaseError> {
        let known = |word: &str| Method::ALL.into_iter().any(|method| method.as_str() == word);
        let names_somebody = |person: &String| {
            person.split_once(':').is_some_and(|(method, rest)| known(method) && !rest.is_empty())
        };
        let fits = self.person.as_ref().is_none_or(names_somebody);
        if fits { Ok(()) } else { Err(LeaseError::PersonUnfit) }
    }
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
        self.store().leases(&filter).await.map_err(LeaseError::Store)
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
            Some(lease) if lease.principal == *caller.principal() => Ok(lease),
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
    /// When the caller has neither duty, the listing's person can name nobody, or the store cannot
    /// be asked.
    pub async fn all_leases(
        &self,
        request: &Request,
        caller: &Caller,
        listing: Listing,
    ) -> Result<Vec<Lease>, LeaseError> {
        let duties = caller.duties();
        let needed = "auditor or operator";
        self.need(request, caller, duties.auditor || duties.operator, needed, "leases").await?;
        listing.check()?;
        let mut record = self.record(request, Action::ReviewRead, caller.subject());
        record.detail = Some("leases".to_owned());
        self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)?;
        self.listed(listing).await
    }

    async fn listed(&self, listing: Listing) -> Result<Vec<Lease>, LeaseError> {
        let Listing { person, cluster, states } = listing;
        let limit = if person.is_some() { None } else { Some(LISTED_MAX) };
        let filter = LeaseFilter { principal: None, cluster, states, limit };
        let leases = self.store().leases(&filter).await.map_err(LeaseError::Store)?;
        let wanted = |lease: &Lease| person.as_ref().is_none_or(|person| is_of(lease, person));
        Ok(leases.into_iter().filter(wanted).take(LISTED_MAX as usize).collect())
    }

    /// Every lease of a person that has not begun to end, however many.
    pub(super) async fn live_leases_of(&self, person: &str) -> Result<Vec<Lease>, LeaseError> {
        let states = vec![LeaseState::Intent, LeaseState::Active];
        let filter = LeaseFilter { states, ..LeaseFilter::default() };
        let leases = self.store().leases(&filter).await.map_err(LeaseError::Store)?;
        Ok(leases.into_iter().filter(|lease| is_of(lease, person)).collect())
    }

    /// Refuses, and writes down, what a caller without the duty tries.
    pub(super) async fn need(
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
        let record: Record = record.ended(Outcome::Refused, "duty_needed", what);
        self.store().commit(Vec::new(), vec![record]).await.map_err(LeaseError::Store)?;
        Err(LeaseError::DutyNeeded { needed })
    }
}

/// Whether `person` names who has the lease, by key or by printed form.
fn is_of(lease: &Lease, person: &str) -> bool {
    person == lease.principal.key() || person == lease.principal.to_string()
}
