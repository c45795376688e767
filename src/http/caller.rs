//! Who calls: from the `authorization` header to a proven [`Caller`].
//!
//! A credential that proves nothing ends the request: there is no second way to try, and no
//! anonymous caller.

use axum::extract::{FromRef, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::connection::Connection;
use super::context::Context;
use super::error::{negotiation_goes_on, not_logged_in};
use super::finish::to_the_end;
use super::problem::{Kind, Problem};
use crate::broker::{Broker, Caller, LoggedIn, Negotiated, Token};
use crate::names::{LoginPassword, SessionToken};

/// What a path that takes a password too says (RFC 7617 section 2.1: the charset tells clients
/// to send UTF-8).
const BASIC_CHALLENGE: &str =
    "Basic realm=\"pgbridge\", charset=\"UTF-8\", Bearer realm=\"pgbridge\"";

/// The way in for HTTP Basic, when there is more than one.
pub(super) const WAY_HEADER: &str = "x-pgbridge-way";

/// Longest credential that is looked at, but for a ticket.
const CREDENTIAL_MAX: usize = 4096;

/// Longest token of a negotiation, in bytes: as long as Windows makes a ticket at most.
const TICKET_MAX: usize = 64 * 1024;

/// A caller with a session: `Authorization: Bearer pgbs_…`.
pub(super) struct ByToken(pub(super) Caller);

/// A caller with a session, a password or a ticket: `Authorization: Bearer pgbs_…`, `Basic …` or
/// `Negotiate …`.
pub(super) struct ByCredential(pub(super) Caller);

/// A token of a negotiation, `Authorization: Negotiate …`, if the request has one and tickets are
/// taken at all.
pub(super) struct MaybeTicket(pub(super) Option<Ticket>);

/// A token of a negotiation, and the connection that it came by.
pub(super) struct Ticket {
    token: Vec<u8>,
    way: Option<String>,
    connection: Connection,
}

impl<State> FromRequestParts<State> for ByToken
where
    State: Send + Sync,
    Broker: FromRef<State>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Ok(context) = Context::from_request_parts(parts, state).await;
        match Credential::of(&parts.headers)? {
            Some(Credential::Token(token)) => {
                by_token(&Broker::from_ref(state), &context, token).await.map(Self)
            }
            Some(Credential::Password { .. } | Credential::Ticket(_)) | None => {
                Err(not_logged_in())
            }
        }
    }
}

impl<State> FromRequestParts<State> for ByCredential
where
    State: Send + Sync,
    Broker: FromRef<State>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Ok(context) = Context::from_request_parts(parts, state).await;
        let broker = Broker::from_ref(state);
        let takes_tickets = broker.takes_tickets();
        let caller = match Credential::of(&parts.headers)? {
            Some(Credential::Token(token)) => by_token(&broker, &context, token).await,
            Some(Credential::Password { username, password }) => {
                let way = way(&parts.headers)?;
                by_password(broker, &context, way, username, password).await
            }
            Some(Credential::Ticket(token)) if takes_tickets => {
                Ticket::new(parts, token)?.caller(broker, &context).await
            }
            Some(Credential::Ticket(_)) | None => Err(not_logged_in()),
        };
        let with_challenge = |problem: Problem| match problem.kind() {
            Kind::NotLoggedIn | Kind::LoginRefused => {
                offering(takes_tickets, problem.challenge(BASIC_CHALLENGE))
            }
            _ => problem,
        };
        caller.map(Self).map_err(with_challenge)
    }
}

impl<State> FromRequestParts<State> for MaybeTicket
where
    State: Send + Sync,
    Broker: FromRef<State>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let ticket = match Credential::of(&parts.headers)? {
            Some(Credential::Ticket(token)) if Broker::from_ref(state).takes_tickets() => {
                Some(Ticket::new(parts, token)?)
            }
            _ => None,
        };
        Ok(Self(ticket))
    }
}

/// The same with the offer to negotiate, where tickets are taken. That goes out over TLS, or on
/// this machine: nothing else is listened on.
pub(super) fn offering(takes_tickets: bool, problem: Problem) -> Problem {
    if takes_tickets { problem.offering_negotiation() } else { problem }
}

impl Ticket {
    fn new(parts: &Parts, token: Vec<u8>) -> Result<Self, Problem> {
        let connection = parts.extensions.get::<Connection>().cloned().unwrap_or_default();
        Ok(Self { token, way: way(&parts.headers)?, connection })
    }

    /// Begins a session. Goes on when the client goes away, so that no attempt escapes the audit.
    pub(super) async fn log_in(
        self,
        broker: Broker,
        context: &Context,
    ) -> Result<LoggedIn, Problem> {
        let (request, Self { token, way, connection }) = (context.request.clone(), self);
        let token = next(&connection, token);
        let negotiation =
            to_the_end(
                async move { broker.login_by_ticket(&request, way.as_deref(), token).await },
            );
        settle(negotiation.await?, &connection, context)
    }

    /// Who calls, for this call alone.
    async fn caller(self, broker: Broker, context: &Context) -> Result<Caller, Problem> {
        let (request, Self { token, way, connection }) = (context.request.clone(), self);
        let token = next(&connection, token);
        let negotiation =
            to_the_end(
                async move { broker.authenticate_ticket(&request, way.as_deref(), token).await },
            );
        let caller = settle(negotiation.await?, &connection, context)?;
        context.proven(&caller);
        Ok(caller)
    }
}

fn next(connection: &Connection, bytes: Vec<u8>) -> Token {
    let (negotiation, end_point) = (connection.take_negotiation(), connection.end_point());
    Token { bytes, negotiation, end_point }
}

/// What came of a token: what it was for, or a negotiation that waits for the next one.
fn settle<Done>(
    negotiated: Negotiated<Done>,
    connection: &Connection,
    context: &Context,
) -> Result<Done, Problem> {
    match negotiated {
        Negotiated::Done { done, reply } => {
            context.answers(reply);
            Ok(done)
        }
        Negotiated::Continue { token, negotiation } => {
            connection.keep_negotiation(negotiation);
            Err(negotiation_goes_on(token))
        }
    }
}

async fn by_token(
    broker: &Broker,
    context: &Context,
    token: SessionToken,
) -> Result<Caller, Problem> {
    let caller = broker.authenticate(&context.request, &token).await?;
    context.proven(&caller);
    Ok(caller)
}

/// Goes on when the client goes away, so that no attempt escapes the audit.
async fn by_password(
    broker: Broker,
    context: &Context,
    way: Option<String>,
    username: String,
    password: LoginPassword,
) -> Result<Caller, Problem> {
    let request = context.request.clone();
    let proof = to_the_end(async move {
        broker.authenticate_password(&request, way.as_deref(), &username, password).await
    });
    let caller = proof.await?;
    context.proven(&caller);
    Ok(caller)
}

/// What an `authorization` header holds, not verified.
enum Credential {
    Token(SessionToken),
    Password {
        username: String,
        password: LoginPassword,
    },
    /// A token of a negotiation; empty when it cannot be read, which proves nobody.
    Ticket(Vec<u8>),
}

impl Credential {
    /// Nothing when there is no such header, or none that could prove anything.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, another) = (values.next(), values.next());
        if another.is_some() {
            let detail = "there is more than one header `authorization`";
            return Err(Problem::new(Kind::BadRequest, detail));
        }
        let Some(text) = value.and_then(|value| value.to_str().ok()) else { return Ok(None) };
        let Some((scheme, credential)) = text.split_once(' ') else { return Ok(None) };
        if scheme.eq_ignore_ascii_case("negotiate") {
            return Ok(Some(Self::ticket(credential)));
        }
        if credential.len() > CREDENTIAL_MAX {
            return Ok(None);
        }
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::token(credential));
        }
        Ok(if scheme.eq_ignore_ascii_case("basic") { Self::password(credential) } else { None })
    }

    fn token(credential: &str) -> Option<Self> {
        credential.starts_with("pgbs_").then(|| Self::Token(SessionToken::unverified(credential)))
    }

    /// RFC 4559 section 4.2: base64 of a token.
    fn ticket(credential: &str) -> Self {
        let token = STANDARD.decode(credential.trim_start_matches(' ')).unwrap_or_default();
        Self::Ticket(if token.len() > TICKET_MAX { Vec::new() } else { token })
    }

    /// RFC 7617 section 2: base64 of name, colon, password; the name holds no colon. The password
    /// is taken byte for byte.
    fn password(credential: &str) -> Option<Self> {
        let decoded = Zeroizing::new(STANDARD.decode(credential).ok()?);
        let text = std::str::from_utf8(&decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        let (username, password) = (username.to_owned(), LoginPassword::new(password.to_owned()));
        Some(Self::Password { username, password })
    }
}

/// The way in that the header names.
pub(super) fn way(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(WAY_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(way), None) => Ok(Some(String::from_utf8_lossy(way.as_bytes()).into_owned())),
        (Some(_), Some(_)) => {
            let detail = "there is more than one header `x-pgbridge-way`";
            Err(Problem::new(Kind::BadRequest, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(values: &[&[u8]]) -> Result<Option<Credential>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        Credential::of(&headers)
    }

    #[track_caller]
    fn check_password(pair: &str, username: &str, password: &str) {
        let header = format!("basic {}", STANDARD.encode(pair));
        let Ok(Some(Credential::Password { username: name, password: word })) =
            of(&[header.as_bytes()])
        else {
            panic!("{pair} was not read");
        };
        assert_eq!((name.as_str(), word.expose()), (username, password));
    }

    #[test]
    fn a_password_is_taken_byte_for_byte() {
        check_password("alice:secret", "alice", "secret");
        check_password("alice: a:b ", "alice", " a:b ");
        check_password("alice:", "alice", "");
        check_password("älice:pässwörd\u{a0}", "älice", "pässwörd\u{a0}");
        check_password("corp\\alice:x", "corp\\alice", "x");
    }

    #[test]
    fn only_a_token_of_ours_is_looked_at() {
        assert!(matches!(of(&[b"Bearer pgbs_x"]), Ok(Some(Credential::Token(_)))));
        assert!(matches!(of(&[b"bearer pgbs_x"]), Ok(Some(Credential::Token(_)))));
        let others: [&[u8]; 6] =
            [b"Bearer x", b"Bearer", b"pgbs_x", b"Basic !", b"Basic YWxpY2U=", b"Bearer pgbs_\xff"];
        for other in others {
            assert!(matches!(of(&[other]), Ok(None)), "{other:?}");
        }
        let long = format!("Bearer pgbs_{}", "x".repeat(CREDENTIAL_MAX));
        assert!(matches!(of(&[long.as_bytes()]), Ok(None)));
        assert!(matches!(of(&[]), Ok(None)));
    }

    #[track_caller]
    fn check_ticket(credential: &str, token: &[u8]) {
        let header = format!("negotiate {credential}");
        let Ok(Some(Credential::Ticket(read))) = of(&[header.as_bytes()]) else {
            panic!("{credential} was not read");
        };
        assert_eq!(read, token);
    }

    #[test]
    fn a_token_is_base64_of_bounded_length_or_proves_nobody() {
        check_ticket("YII=", b"`\x82");
        check_ticket(" YII=", b"`\x82");
        let longest = vec![b'x'; TICKET_MAX];
        check_ticket(&STANDARD.encode(&longest), &longest);
        let too_long = STANDARD.encode(vec![0; TICKET_MAX + 1]);
        for bad in ["", "!", "YII", "YII= YII=", "YII=,x", &too_long] {
            check_ticket(bad, b"");
        }
    }

    #[test]
    fn two_credentials_are_one_too_many() {
        let two = of(&[b"Bearer pgbs_x", b"Basic YTpi"]);
        assert_eq!(two.err().unwrap().kind(), Kind::BadRequest);
    }
}
