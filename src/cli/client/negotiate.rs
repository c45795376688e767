//! Logging in by a ticket: `Authorization: Negotiate` (RFC 4559).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::tls::TlsInfo;
use reqwest::{Response, StatusCode};
use zeroize::Zeroizing;

use super::{Answer, Client, ClientError};
use crate::auth::way::EndPoint;
use crate::cli::answers::{LoggedIn, Problem};
use crate::cli::terminal::Shown;
use crate::cli::ticket::{Negotiation, TicketError};
use crate::names::{SessionToken, WayName};

const LOGIN: &str = "v1/login";

/// Tokens that are sent at most; Kerberos by SPNEGO takes one or two.
const TOKENS_MAX: usize = 4;

/// What a server takes of people who log in.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Offer {
    /// A name and a password.
    Passwords,
    /// A ticket too, or nothing else.
    Tickets {
        /// Whether passwords are taken of anybody.
        passwords_too: bool,
        /// The server's certificate, which a ticket is shown to; none on a way in the clear.
        end_point: Option<EndPoint>,
    },
}

/// An answer to a token.
struct Reply {
    status: StatusCode,
    location: Option<HeaderValue>,
    challenge: Option<Challenge>,
    body: Zeroizing<Vec<u8>>,
}

/// A challenge of the scheme `Negotiate`: to begin, or the next token.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Begin,
    Token(Vec<u8>),
}

impl Challenge {
    /// The first of an answer. Nothing when there is none, and when it cannot be read.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut challenges =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        challenges.find_map(|challenge| {
            let (scheme, token) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if !scheme.eq_ignore_ascii_case("negotiate") {
                return None;
            }
            match token.trim() {
                "" => Some(Self::Begin),
                token => STANDARD.decode(token).ok().map(Self::Token),
            }
        })
    }
}

impl Client {
    /// What the server takes of people who log in (at the way in `way`, if one is named). It is
    /// asked without any credential.
    ///
    /// # Errors
    /// When there is no answer, or the server redirects, or cannot let anybody in now.
    pub async fn offer(&self, way: Option<&WayName>) -> Result<Offer, ClientError> {
        let response = self.send(self.login_request(way)?).await?;
        let end_point = end_point(&response);
        let reply = self.reply(response).await?;
        if reply.status == StatusCode::UNAUTHORIZED && reply.challenge == Some(Challenge::Begin) {
            let problem: Problem = serde_json::from_slice(&reply.body).unwrap_or_default();
            let passwords_too = !problem.kind.as_str().ends_with(":ticket-needed");
            return Ok(Offer::Tickets { passwords_too, end_point });
        }
        let busy = reply.status == StatusCode::TOO_MANY_REQUESTS;
        if reply.status.is_client_error() && !busy {
            // It asks for a name and a password, as a server that takes no tickets does.
            return Ok(Offer::Passwords);
        }
        Err(self.refusal(reply.status, reply.location.as_ref(), &reply.body))
    }

    /// Logs in by the person's ticket, as somebody who speaks to `end_point`. The server must prove
    /// itself too: a session from a server that does not is ended, and not given.
    ///
    /// # Errors
    /// When there is no ticket for the server, it is refused, the server proves nothing, or there
    /// is no answer.
    pub async fn login_by_ticket(
        &self,
        way: Option<&WayName>,
        end_point: Option<&EndPoint>,
    ) -> Result<LoggedIn, ClientError> {
        let no_token = |error| self.no_token(error);
        let mut negotiation = Negotiation::with(self.server.host(), end_point).map_err(no_token)?;
        let mut told = None;
        for _ in 0..TOKENS_MAX {
            let (next, token) = negotiation.step(told.take()).await.map_err(no_token)?;
            negotiation = next;
            let Some(token) = token else { break };
            let request = self.login_request(way)?.header(AUTHORIZATION, credential(&token)?);
            let reply = self.reply(self.send(request).await?).await?;
            if reply.status.is_success() {
                return self.proven(negotiation, reply).await;
            }
            match reply {
                Reply { status, challenge: Some(Challenge::Token(token)), .. }
                    if status == StatusCode::UNAUTHORIZED =>
                {
                    told = Some(token);
                }
                reply => return Err(self.ticket_refusal(&reply)),
            }
        }
        Err(self.no_token(TicketError(Shown::new("the negotiation comes to no end"))))
    }

    /// The session of an answer, once the server has proven itself.
    async fn proven(
        &self,
        negotiation: Negotiation,
        reply: Reply,
    ) -> Result<LoggedIn, ClientError> {
        let Reply { challenge, body, .. } = reply;
        let unverified: LoggedIn = Answer { server: self.server.clone(), body }.read()?;
        let proven = match challenge {
            Some(Challenge::Token(token)) => negotiation.step(Some(token)).await,
            Some(Challenge::Begin) | None => Ok((negotiation, None)),
        };
        if proven.is_ok_and(|(ended, token)| token.is_none() && ended.has_proven_the_server()) {
            return Ok(unverified);
        }
        self.throw_away(&unverified).await;
        let (server, host) = (self.server.clone(), self.server.host().to_owned());
        Err(ClientError::NotProven { server, host })
    }

    /// Ends a session that nobody shall have. When that fails it ends by itself.
    async fn throw_away(&self, unwanted: &LoggedIn) {
        let token = SessionToken::unverified(unwanted.token.expose());
        let (http, server) = (self.http.clone(), self.server.clone());
        let alone = Self { http, server, authorization: None }.with_session(&token);
        if let Ok(client) = alone {
            drop(client.logout().await);
        }
    }

    fn login_request(&self, way: Option<&WayName>) -> Result<reqwest::RequestBuilder, ClientError> {
        let request = self.http.post(self.url(LOGIN)?);
        Ok(match way {
            Some(way) => request.header("x-pgbridge-way", way.as_str()),
            None => request,
        })
    }

    async fn reply(&self, response: Response) -> Result<Reply, ClientError> {
        let status = response.status();
        let location = response.headers().get(LOCATION).cloned();
        let challenge = Challenge::of(response.headers());
        let body = self.body_of(response).await?;
        Ok(Reply { status, location, challenge, body })
    }

    fn ticket_refusal(&self, reply: &Reply) -> ClientError {
        match self.refusal(reply.status, reply.location.as_ref(), &reply.body) {
            ClientError::Refused { status: StatusCode::UNAUTHORIZED, problem } => {
                ClientError::TicketRefused { server: self.server.clone(), problem }
            }
            other => other,
        }
    }

    fn no_token(&self, TicketError(cause): TicketError) -> ClientError {
        ClientError::NoToken { server: self.server.clone(), cause }
    }
}

/// RFC 4559 section 4.2.
fn credential(token: &[u8]) -> Result<HeaderValue, ClientError> {
    let text = Zeroizing::new(format!("Negotiate {}", STANDARD.encode(token)));
    let mut value = HeaderValue::from_str(&text).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The end point of the connection that an answer came by.
fn end_point(response: &Response) -> Option<EndPoint> {
    let tls = response.extensions().get::<TlsInfo>()?;
    EndPoint::of_certificate(tls.peer_certificate()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(challenges: &[&'static str], expected: Option<&Challenge>) {
        let mut headers = HeaderMap::new();
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        assert_eq!(Challenge::of(&headers).as_ref(), expected, "{challenges:?}");
    }

    #[test]
    fn a_challenge_is_an_offer_or_a_token() {
        check(&["Negotiate"], Some(&Challenge::Begin));
        check(&["Bearer realm=\"x\"", "negotiate"], Some(&Challenge::Begin));
        check(&["Negotiate YII="], Some(&Challenge::Token(b"`\x82".to_vec())));
        for none in [&[][..], &["Bearer realm=\"x\""], &["Negotiates"], &["Negotiate !"]] {
            check(none, None);
        }
    }
}
