//! What every way in can do, whatever it stands on.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::auth::identity::Identity;
use crate::names::{LoginPassword, Principal, WayName};

/// A party that knows people: it proves who somebody is, and says later whether they still are.
#[async_trait]
pub trait Way: Send + Sync {
    /// Its name, as maps and the audit call it.
    fn name(&self) -> &WayName;

    /// Proves `username` by `password`, at `now`.
    ///
    /// # Errors
    /// When it is not proven. The reason is for the audit: to the client all are one.
    async fn login(
        &self,
        username: &str,
        password: &LoginPassword,
        now: Timestamp,
    ) -> Result<Identity, Unproven>;

    /// The account that `typed` means, as far as it says that by itself. Failures are counted by
    /// that, so that an account with several names has no more of them.
    fn counted_as<'a>(&self, typed: &'a str) -> &'a str {
        typed
    }

    /// Looks up `principal`, whom this way in proved before, without a password: whether a login
    /// would still let them in at `now`, and which groups they are in.
    async fn look_again(&self, principal: &Principal, now: Timestamp) -> Standing;

    /// Whether a login could be judged now.
    ///
    /// # Errors
    /// When it could not, as a login would be refused.
    async fn probe(&self) -> Result<(), Unproven>;
}

/// How somebody stands who was proven before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They could log in, and are in the groups of this identity. Its times are those of the look;
    /// whoever logged in keeps the times of the login ([`Identity::as_seen_in`]).
    Good(Identity),
    /// They could not, as the party says of them: nothing that rests on them may go on.
    Gone(Reason),
    /// The party does not show them. Either they are gone, or it shows less than it should: it was
    /// restored, lags behind, or is searched in another place than before.
    Missing(Reason),
    /// The party could not say: what was known before may count for a while.
    Unknown(Reason),
    /// This way in can look nobody up: what was proven at the login counts for as long as that.
    OnlyAtLogin,
}

/// Why there is no identity. For the audit and the metrics only: towards the client every one of
/// these is the same answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// The party has judged, or there was nothing to judge.
    #[error("{0}")]
    Refused(Reason),
    /// The party could not judge. That is nobody's wrong guess: it must not count towards a
    /// lock-out.
    #[error("{0}")]
    Outage(Reason),
}

/// Why something is so: in a word that stays the same, and for a reader. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Reason {
    /// One stable word, for the audit and for metrics.
    pub word: &'static str,
    /// The same for a reader.
    pub detail: String,
}

impl Unproven {
    /// The reason, whoever's fault it is.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        match self {
            Self::Refused(reason) | Self::Outage(reason) => reason,
        }
    }
}
