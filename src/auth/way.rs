//! What every way in can do, whatever it stands on.

mod end_point;

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

    /// The same way in as one that takes tickets, if it does; then it takes no passwords.
    fn tickets(&self) -> Option<&dyn Tickets> {
        None
    }

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

/// A way in that people enter by tickets: by tokens of GSSAPI, one or several (RFC 4559).
pub trait Tickets: Send + Sync {
    /// A negotiation that begins `now`. Nothing is kept of it anywhere else.
    fn begin(&self, now: Timestamp) -> Box<dyn Negotiation>;
}

/// A negotiation that waits for the client's next token.
#[async_trait]
pub trait Negotiation: Send {
    /// The way in that is negotiated with.
    fn way(&self) -> &WayName;

    /// Takes the next `token`, which came by a connection to `end_point`, at `now`.
    ///
    /// # Errors
    /// When it proves nobody; then the negotiation is over. The reason is for the audit: to the
    /// client all are one.
    async fn step(
        self: Box<Self>,
        token: Vec<u8>,
        end_point: Option<&EndPoint>,
        now: Timestamp,
    ) -> Result<Step, Unproven>;
}

/// How far a token has brought a negotiation.
pub enum Step {
    /// The client must answer `token`.
    Continue {
        /// What is sent to the client.
        token: Vec<u8>,
        /// What waits for the answer.
        negotiation: Box<dyn Negotiation>,
    },
    /// Somebody is proven.
    Proven(Box<Proven>),
}

/// What a ticket has proven.
pub struct Proven {
    /// Who it is.
    pub identity: Identity,
    /// What proves to the client whom it has reached; may be empty.
    pub reply: Vec<u8>,
    /// What must never have been accepted before, or nobody is let in.
    pub once: Once,
    /// What else the audit should have of it.
    pub note: Option<String>,
}

/// What tells a proof from every other, and until when it could be shown again.
pub struct Once {
    /// A hash.
    pub value: [u8; 32],
    /// From then on nobody accepts the proof any more.
    pub until: Timestamp,
}

/// The server's end of a TLS connection, as far as a token can be bound to it: a hash of its
/// certificate (`tls-server-end-point`, RFC 5929 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndPoint(Vec<u8>);

impl EndPoint {
    /// The end point whose certificate has this hash.
    #[must_use]
    pub fn of_hash(hash: &[u8]) -> Self {
        Self(hash.to_vec())
    }

    /// What GSSAPI binds to (RFC 5929 section 4, RFC 5056 section 2.1).
    #[must_use]
    pub fn application_data(&self) -> Vec<u8> {
        [b"tls-server-end-point:", &self.0[..]].concat()
    }
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
