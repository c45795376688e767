//! The Kerberos ticket of the person, shown to a server by SPNEGO (RFC 4178, RFC 4559).
//!
//! The one module of the command line that speaks to the GSSAPI library. The library finds tickets
//! and settings by the environment (`KRB5CCNAME`, `KRB5_CONFIG`) and may ask a KDC, so it is called
//! on threads that may block. Nobody is ever given the ticket itself (no delegation).

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::error::{Error, MajorFlags};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE, OidSet};
use tokio::task::spawn_blocking;

use super::terminal::Shown;
use crate::auth::way::EndPoint;

/// What the person has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ticket {
    /// Nothing.
    Missing,
    /// A ticket whose time is over.
    Expired,
    /// A ticket that a server may take.
    Valid,
}

/// Why there is no token, in the words of the library.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TicketError(pub Shown);

impl TicketError {
    /// The library keeps the words of its last errors for each thread: this is called where the
    /// error came up.
    fn of(error: Error) -> Self {
        Self(Shown::new(error.to_string().trim_end()))
    }
}

/// Which ticket the person has. One that cannot be read is none.
pub(super) async fn look() -> Ticket {
    spawn_blocking(find).await.unwrap_or(Ticket::Missing)
}

fn find() -> Ticket {
    let lifetime = OidSet::singleton(GSS_MECH_KRB5)
        .and_then(|kerberos| Cred::acquire(None, None, CredUsage::Initiate, Some(&kerberos)))
        .and_then(|ticket| ticket.lifetime());
    match lifetime {
        Ok(left) if !left.is_zero() => Ticket::Valid,
        Ok(_) => Ticket::Expired,
        Err(error) if error.major.bits() == MajorFlags::GSS_S_CREDENTIALS_EXPIRED.bits() => {
            Ticket::Expired
        }
        Err(_) => Ticket::Missing,
    }
}

/// A conversation in which the person proves who they are, and the server that it is the service
/// that was meant.
pub(super) struct Negotiation {
    context: ClientCtx,
    channel: Option<Vec<u8>>,
}

impl Negotiation {
    /// With the service `HTTP` of `host`. Where there is an `end_point`, tokens are good on
    /// connections to that certificate only.
    ///
    /// # Errors
    /// When the host can be in no name of a service.
    pub fn with(host: &str, end_point: Option<&EndPoint>) -> Result<Self, TicketError> {
        let service = format!("HTTP@{host}");
        let service = Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE));
        let service = service.map_err(TicketError::of)?;
        // Mutual authentication and nothing else: above all no delegation.
        let flags = CtxFlags::GSS_C_MUTUAL_FLAG;
        let context = ClientCtx::new(None, service, flags, Some(GSS_MECH_SPNEGO));
        Ok(Self { context, channel: end_point.map(EndPoint::application_data) })
    }

    /// Takes the server's `reply`, none at the beginning, and gives the next token to send, if one
    /// is.
    ///
    /// # Errors
    /// When the ticket is not good for the service, no KDC knows the service or none answers, or the
    /// reply is not the service's.
    pub async fn step(
        mut self,
        reply: Option<Vec<u8>>,
    ) -> Result<(Self, Option<Vec<u8>>), TicketError> {
        let stepped = spawn_blocking(move || {
            let token = self.context.step(reply.as_deref(), self.channel.as_deref());
            let token = token.map_err(TicketError::of)?;
            let token = token.map(|token| token.to_vec()).filter(|token| !token.is_empty());
            Ok((self, token))
        });
        stepped.await.unwrap_or_else(|stopped| Err(TicketError(Shown::new(stopped))))
    }

    /// Whether the server has proven by Kerberos that it is the service that was meant. SPNEGO could
    /// have agreed on another mechanism.
    pub fn has_proven_the_server(&self) -> bool {
        self.context.is_complete()
            && self.context.mechanism().is_ok_and(|mechanism| mechanism == GSS_MECH_KRB5)
            && self.context.flags().is_ok_and(|flags| flags.contains(CtxFlags::GSS_C_MUTUAL_FLAG))
    }
}
