//! What is known of a request before it is looked at: its id, its peer, its program.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use uuid::Uuid;

use crate::broker::{Caller, Request};

/// Characters of a program's name for itself that are kept.
const AGENT_MAX: usize = 256;

/// Where a call comes from. Made once a request, by the outermost layer.
///
/// The id is always our own: one that a client sends could be used to hide among another's
/// records. The address is that of the peer: forwarded headers can be written by anybody.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// For the use cases and the audit.
    pub(super) request: Request,
    /// Who was proven to call, for the access log; set by [`Self::proven`].
    principal: Arc<OnceLock<String>>,
    /// What proves to the client whom it has reached; set by [`Self::answers`].
    reply: Arc<OnceLock<Vec<u8>>>,
}

impl Context {
    /// The context of a request with these parts; nothing when nobody noted the peer's address,
    /// which a server always does.
    pub(super) fn new(parts: &Parts) -> Option<Self> {
        let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
        let agent = parts.headers.get(USER_AGENT).map(|agent| {
            let text = String::from_utf8_lossy(agent.as_bytes());
            text.chars().filter(|letter| !letter.is_control()).take(AGENT_MAX).collect()
        });
        let id = Uuid::new_v4().simple().to_string();
        let request = Request { id, client: peer.ip().to_canonical(), agent };
        Some(Self { request, principal: Arc::default(), reply: Arc::default() })
    }

    /// Notes who was proven to call.
    pub(super) fn proven(&self, caller: &Caller) {
        let key = caller.identity().principal().key();
        // A request is proven once; a second time could only say the same.
        self.principal.get_or_init(|| key.escape_debug().to_string());
    }

    /// Notes the last token of a negotiation, which goes out with the answer whatever that is: it
    /// proves to the client whom it has reached (RFC 4559 section 4.1).
    pub(super) fn answers(&self, reply: Vec<u8>) {
        self.reply.get_or_init(|| reply);
    }

    /// The last token of the negotiation, if there was one that has come to its end.
    pub(super) fn reply(&self) -> Option<&[u8]> {
        self.reply.get().map(Vec::as_slice).filter(|reply| !reply.is_empty())
    }

    /// The key of the principal that was proven, control characters escaped.
    pub(super) fn principal(&self) -> Option<&str> {
        self.principal.get().map(String::as_str)
    }

    /// The peer's address, an IPv4 address as such.
    pub(super) fn client(&self) -> IpAddr {
        self.request.client
    }
}

/// Every request that reaches a handler has one: the outermost layer refuses those without.
impl<State: Send + Sync> FromRequestParts<State> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Infallible> {
        match parts.extensions.get::<Self>() {
            Some(context) => Ok(context.clone()),
            None => std::future::pending().await,
        }
    }
}
