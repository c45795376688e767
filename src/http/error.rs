//! The one place that decides what a client sees of an error.
//!
//! Every variant of every use case's error is listed, so that a new one cannot slip through. A
//! detail is the error's own text only where that text says nothing but what the client said or
//! may know; causes go to the log. Every refusal of a login is one and the same.

use super::problem::{Kind, Problem};
use crate::broker::{AccessError, IssueError, LeaseError, QuestionError, RenewLeaseError};
use crate::causes::with_causes;
use crate::cluster::{ClusterError, CreateError};
use crate::names::{ClusterName, WayName};
use crate::store::StoreError;

/// What a path that takes sessions only says to those without (RFC 6750 section 3).
const BEARER_CHALLENGE: &str = "Bearer realm=\"pgbridge\"";

/// Seconds after which asking again makes sense when a party is away.
const PARTY_AWAY_SECONDS: u64 = 5;

/// Seconds after which asking again makes sense when something is nearly done.
const SOON_SECONDS: u64 = 2;

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Refused { ways } => login_refused(&ways),
            AccessError::NoSession => not_logged_in(),
            AccessError::TooManyAttempts { seconds } => {
                Self::new(Kind::TooManyAttempts, error.to_string()).retry_after(seconds)
            }
            AccessError::DirectoryAway => {
                Self::new(Kind::DirectoryAway, "who you are could not be checked; try again soon")
                    .retry_after(PARTY_AWAY_SECONDS)
            }
            AccessError::Store(source) => store_away(&source),
        }
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::NotFound { .. } => no_such_lease(),
            LeaseError::DutyNeeded { .. } => Self::new(Kind::DutyNeeded, error.to_string()),
            LeaseError::PersonUnfit => Self::new(Kind::PersonUnfit, error.to_string()),
            LeaseError::NothingSelected => Self::new(Kind::SelectionUnfit, error.to_string()),
            LeaseError::ReasonUnfit => Self::new(Kind::ReasonUnfit, error.to_string()),
            LeaseError::NotEnding { .. }
            | LeaseError::StillThere { .. }
            | LeaseError::NothingInTheWay { .. } => Self::new(Kind::NotGone, error.to_string()),
            LeaseError::ClusterAway { ref source, .. } => {
                let cause = with_causes(source);
                let problem = Self::new(Kind::ClusterAway, error.to_string()).because(cause);
                problem.retry_after(PARTY_AWAY_SECONDS)
            }
            LeaseError::LoginEnded => not_logged_in(),
            LeaseError::DirectoryAway => directory_away(),
            LeaseError::Store(source) => store_away(&source),
        }
    }
}

impl From<QuestionError> for Problem {
    fn from(error: QuestionError) -> Self {
        match error {
            QuestionError::Access(error) => error.into(),
            QuestionError::Inquiry(error) => Self::new(Kind::QueryUnfit, error.to_string()),
            QuestionError::Busy => {
                Self::new(Kind::DeskBusy, error.to_string()).retry_after(PARTY_AWAY_SECONDS)
            }
            QuestionError::Interrupted => Self::new(Kind::Internal, error.to_string())
                .because("the task that was to answer has died"),
        }
    }
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        let kind = match &error {
            IssueError::NotOnOffer { .. } => Kind::NotOnOffer,
            IssueError::RoleNeeded { .. } => Kind::RoleNeeded,
            IssueError::DatabaseNotLent { .. } => Kind::DatabaseNotLent,
            IssueError::TtlTooLong { .. } => Kind::TtlTooLong,
            IssueError::ReasonNeeded { .. } => Kind::ReasonNeeded,
            IssueError::ReasonUnfit => Kind::ReasonUnfit,
            IssueError::LoginTooOld { .. } => Kind::LoginTooOld,
            IssueError::LoginEnded => return not_logged_in(),
            IssueError::DirectoryAway => return directory_away(),
            IssueError::MembersUnknown { cluster } => return members_unknown(cluster),
            IssueError::TooManyLeases { .. } => Kind::TooManyLeases,
            IssueError::InProgress => Kind::InProgress,
            IssueError::NotReady { .. } | IssueError::ClocksApart { .. } => Kind::NotReady,
            IssueError::NotRecorded(source) => return store_away(source),
            IssueError::RoleNotCreated { cluster, source, .. } => {
                return role_not_created(&error, cluster, source);
            }
            IssueError::NotActivated { source, .. } => {
                let detail = "the lease could not be recorded; its role is being taken away";
                return Self::new(Kind::StoreAway, detail)
                    .retry_after(PARTY_AWAY_SECONDS)
                    .because(with_causes(source));
            }
            IssueError::Overtaken { .. } => Kind::Overtaken,
            IssueError::Interrupted => Kind::Internal,
        };
        let problem = Self::new(kind, error.to_string());
        match error {
            IssueError::InProgress
            | IssueError::NotReady { .. }
            | IssueError::ClocksApart { .. } => problem.retry_after(SOON_SECONDS),
            IssueError::Interrupted => problem.because("the task that issued has died"),
            _ => problem,
        }
    }
}

impl From<RenewLeaseError> for Problem {
    fn from(error: RenewLeaseError) -> Self {
        match error {
            RenewLeaseError::Lease(error) => error.into(),
            RenewLeaseError::NotOnOffer(_) => {
                let detail = "not from here, so the lease is not renewed and ends at its time; \
                              the administrators can see why";
                Self::new(Kind::NotOnOffer, detail)
            }
            RenewLeaseError::Withdrawn(_) => {
                let detail = "not any more, so the lease is not renewed and ends now; the \
                              administrators can see why";
                Self::new(Kind::NotOnOffer, detail)
            }
            RenewLeaseError::DirectoryAway => directory_away(),
            RenewLeaseError::MembersUnknown { cluster } => members_unknown(&cluster),
            RenewLeaseError::NotReady => {
                Self::new(Kind::NotReady, error.to_string()).retry_after(SOON_SECONDS)
            }
            RenewLeaseError::TtlTooLong { .. } => Self::new(Kind::TtlTooLong, error.to_string()),
            RenewLeaseError::LoginEnded => not_logged_in(),
            RenewLeaseError::State(_) => Self::new(Kind::LeaseOver, error.to_string()),
            RenewLeaseError::Overtaken => {
                let detail =
                    "something else changed it at the same moment; look at it, then try again";
                Self::new(Kind::Overtaken, detail)
            }
            RenewLeaseError::NotExtended { .. } => {
                let detail = format!("{error}; the administrators can see why");
                Self::new(Kind::NotExtended, detail)
            }
        }
    }
}

/// What the cluster said is in the log already; whether it said anything may be told.
fn role_not_created(error: &IssueError, cluster: &ClusterName, source: &CreateError) -> Problem {
    let away = |what_now: &str| {
        let detail =
            format!("cluster `{cluster}` cannot be reached now, nothing was issued; {what_now}");
        Problem::new(Kind::ClusterAway, detail).retry_after(PARTY_AWAY_SECONDS)
    };
    match source {
        CreateError::Failed { source: ClusterError::Unreachable { .. }, .. } => {
            away("try again soon")
        }
        CreateError::InDoubt { source: ClusterError::Unreachable { .. }, .. } => {
            away("what may have been made is being taken away")
        }
        CreateError::Failed { .. } | CreateError::InDoubt { .. } | CreateError::Refused { .. } => {
            let detail = format!("{error}; the administrators can see why");
            Problem::new(Kind::RoleNotCreated, detail)
        }
    }
}

/// Wrong, unknown, locked, disabled: from outside there is one answer. It names the ways in to
/// everybody, since nobody can log in without knowing theirs.
fn login_refused(ways: &[WayName]) -> Problem {
    let ways = ways.iter().map(WayName::as_str).collect::<Vec<_>>().join(", ");
    let detail = format!(
        "name and password, or the ticket, did not let you in; ways in: {ways}; the administrators \
         can see why"
    );
    Problem::new(Kind::LoginRefused, detail).challenge(BEARER_CHALLENGE)
}

/// Somebody proved who they are, and nobody can say whether that is still so.
fn directory_away() -> Problem {
    let detail = "whether you may still have this could not be checked; try again soon";
    Problem::new(Kind::DirectoryAway, detail).retry_after(PARTY_AWAY_SECONDS)
}

/// Whether they may have it turns on memberships that a cluster does not tell.
fn members_unknown(cluster: &ClusterName) -> Problem {
    let detail = format!(
        "whether you may have this could not be checked on cluster `{cluster}`; try again soon"
    );
    Problem::new(Kind::ClusterAway, detail).retry_after(PARTY_AWAY_SECONDS)
}

/// A negotiation that needs one more token of the client.
pub(super) fn negotiation_goes_on(token: Vec<u8>) -> Problem {
    let detail = "the negotiation goes on: answer the token in the header `www-authenticate`, on \
                  this connection";
    Problem::new(Kind::NotLoggedIn, detail).going_on_with(token)
}

/// Nobody's call, or one with a token that is good for nothing.
pub(super) fn not_logged_in() -> Problem {
    let detail =
        "this needs a session: log in at /v1/login and send its token as `Authorization: Bearer`";
    Problem::new(Kind::NotLoggedIn, detail).challenge(BEARER_CHALLENGE)
}

/// What nobody can begin by a password where only tickets are taken.
pub(super) fn ticket_needed() -> Problem {
    let detail = "nobody logs in by password here: get a ticket with `kinit`, and show it as \
                  `Authorization: Negotiate`";
    Problem::new(Kind::TicketNeeded, detail).challenge(BEARER_CHALLENGE)
}

/// The same for a lease of another person, one that never was, and a text that is no id.
pub(super) fn no_such_lease() -> Problem {
    let detail = "no lease of yours has this id; `GET /v1/leases` or `pgbridge leases` lists yours, \
                  and an operator ends another's by the name of its role";
    Problem::new(Kind::NotFound, detail)
}

fn store_away(source: &StoreError) -> Problem {
    Problem::new(Kind::StoreAway, "nothing was done; try again soon")
        .retry_after(PARTY_AWAY_SECONDS)
        .because(with_causes(source))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::http::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn whoever_finds_the_desk_busy_is_told_when_to_come_again() {
        let problem = Problem::from(QuestionError::Busy);
        let response = problem.render("id", HeaderMap::new());
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        assert!(problem.detail().contains("ask again soon"), "{problem:?}");
    }
}
