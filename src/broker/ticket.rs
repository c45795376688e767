//! Logging in by a ticket: a token or several, each a call of its own.
//!
//! Nothing is written before something is proven or refused: a negotiation that goes on, or is left
//! lying, has no row anywhere, and counts as no failure. A token that proves nobody counts for the
//! address that it came from, as a wrong password for an unknown name does. It is no guess, but it
//! makes a record, and nobody may fill the store with those.

use tracing::info;

use super::access::{AccessError, LoggedIn};
use super::{Broker, Caller, Request};
use crate::audit::{Action, Record, Subject};
use crate::auth::way::{EndPoint, Negotiation, Once, Proven, Reason, Step, Tickets, Unproven};
use crate::store::OneTimeValue;

/// The kind of a token's one-time value in the store.
const TOKEN: &str = "kerberos-token";

/// One token of a client, and what it belongs to.
pub struct Token {
    /// The token.
    pub bytes: Vec<u8>,
    /// The negotiation that waited for it, when one did on this connection.
    pub negotiation: Option<Box<dyn Negotiation>>,
    /// The server's end of the connection that it came by.
    pub end_point: Option<EndPoint>,
}

/// How far a token has brought its client.
pub enum Negotiated<Done> {
    /// Another token is needed.
    Continue {
        /// What the client must answer.
        token: Vec<u8>,
        /// What waits for the answer.
        negotiation: Box<dyn Negotiation>,
    },
    /// They are let in.
    Done {
        /// As whom.
        done: Done,
        /// What proves to the client whom it has reached.
        reply: Vec<u8>,
    },
}

impl Broker {
    /// Whether anybody can log in by a ticket.
    #[must_use]
    pub fn takes_tickets(&self) -> bool {
        self.takes_tickets_at(None)
    }

    /// The same at the way in `way`; at any when none is named.
    #[must_use]
    pub fn takes_tickets_at(&self, way: Option<&str>) -> bool {
        let mut ways = self.0.ways.values();
        ways.any(|known| {
            way.is_none_or(|name| known.name().as_str() == name) && known.tickets().is_some()
        })
    }

    /// Whether anybody can log in by a password.
    #[must_use]
    pub fn takes_passwords(&self) -> bool {
        self.0.ways.values().any(|way| way.tickets().is_none())
    }

    /// Takes a token of a negotiation with the way in `way` (the only one that takes tickets when
    /// there is only one); the last one begins a session.
    ///
    /// # Errors
    /// When it proves nobody, too many that did came before it, or keytab or store are away.
    pub async fn login_by_ticket(
        &self,
        request: &Request,
        way: Option<&str>,
        token: Token,
    ) -> Result<Negotiated<LoggedIn>, AccessError> {
        let Proven { identity, reply, note, .. } = match self.negotiate(request, way, token).await?
        {
            Step::Proven(proven) => *proven,
            Step::Continue { token, negotiation } => {
                return Ok(Negotiated::Continue { token, negotiation });
            }
        };
        let done = self.begin_session(request, identity, Vec::new(), note).await?;
        Ok(Negotiated::Done { done, reply })
    }

    /// The same for this call alone.
    ///
    /// # Errors
    /// As [`Self::login_by_ticket`].
    pub async fn authenticate_ticket(
        &self,
        request: &Request,
        way: Option<&str>,
        token: Token,
    ) -> Result<Negotiated<Caller>, AccessError> {
        let Proven { identity, reply, note, .. } = match self.negotiate(request, way, token).await?
        {
            Step::Proven(proven) => *proven,
            Step::Continue { token, negotiation } => {
                return Ok(Negotiated::Continue { token, negotiation });
            }
        };
        let caller = self.caller(identity, None);
        let record = self.record(request, Action::Login, caller.subject());
        let record = Record { detail: note, ..record };
        self.accept(request, caller.identity(), Vec::new(), record).await?;
        Ok(Negotiated::Done { done: caller, reply })
    }

    /// Takes a token. What it proved is spent over all brokers when this returns.
    async fn negotiate(
        &self,
        request: &Request,
        named: Option<&str>,
        token: Token,
    ) -> Result<Step, AccessError> {
        let Token { bytes, negotiation, end_point } = token;
        let now = self.now();
        // What was begun with another way in is not gone on with.
        let begun =
            negotiation.filter(|begun| named.is_none_or(|name| begun.way().as_str() == name));
        let fresh = || self.by_tickets(named).map(|way| way.begin(now));
        let Some(negotiation) = begun.or_else(fresh) else {
            let subject = Subject::unproven(named.unwrap_or_default(), "");
            let reason = Reason { word: "unknown_way", detail: String::new() };
            return Err(self.not_proven(request, subject, Unproven::Refused(reason)).await?);
        };
        let subject = Subject::unproven(negotiation.way().as_str(), "");
        let step = match negotiation.step(bytes, end_point.as_ref(), now).await {
            Ok(step) => step,
            Err(unproven) => return Err(self.not_proven(request, subject, unproven).await?),
        };
        if let Step::Proven(proven) = &step {
            self.spend(request, proven).await?;
            self.0.looks.note_login(&proven.identity, self.now());
        }
        Ok(step)
    }

    /// Takes care that the proof is accepted once.
    async fn spend(&self, request: &Request, proven: &Proven) -> Result<(), AccessError> {
        let Once { value, until } = &proven.once;
        let value = OneTimeValue::new(TOKEN, value);
        if self.store().spend(&value, *until, self.now()).await? {
            return Ok(());
        }
        let principal = proven.identity.principal();
        let subject = Subject::unproven(principal.issuer().as_str(), principal.subject());
        let detail = "the token was shown before, here or to another broker".to_owned();
        let reason = Reason { word: "token_replayed", detail };
        Err(self.not_proven(request, subject, Unproven::Refused(reason)).await?)
    }

    /// The way in of that name, or the only one, if it takes tickets.
    fn by_tickets(&self, name: Option<&str>) -> Option<&dyn Tickets> {
        let mut ways = self.0.ways.values().filter(|way| way.tickets().is_some());
        let way = match name {
            Some(name) => ways.find(|way| way.name().as_str() == name),
            None => ways.next().filter(|_| ways.next().is_none()),
        };
        way.and_then(|way| way.tickets())
    }

    /// Counts a token that proved nobody, and writes down why.
    async fn not_proven(
        &self,
        request: &Request,
        subject: Subject,
        unproven: Unproven,
    ) -> Result<AccessError, AccessError> {
        info!(request.id, cause = unproven.reason().word, "a ticket proved nobody");
        let counters = self.counters(request, None, &subject, "").await?;
        self.admit(request, &subject, &counters).await?;
        self.refused(request, subject, unproven, counters).await
    }
}
