//! Speaks to a broker over HTTP.
//!
//! Redirects are not followed, so a token goes to the server that gave it and nowhere else; a
//! proxy is never asked to carry an unencrypted password; every call ends in bounded time.

mod negotiate;

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Certificate, Method, RequestBuilder, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::answers::{LoggedIn, Problem};
use super::exit::Exit;
use super::secret::Secret;
use super::server::{ServerUrl, ServerUrlError};
use super::terminal::{Shown, safe_json};
pub(super) use negotiate::Offer;

use crate::names::{
    ClusterName, DatabaseName, LeaseId, LoginPassword, RoleName, SessionToken, Ttl, WayName,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A whole call. Longer than a broker takes for one (30 s unless set), since revoking waits for
/// sessions to end.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);

/// Bytes an answer may have: everybody's leases on a large cluster.
const ANSWER_MAX: usize = 128 * 1024 * 1024;

/// One broker, and the session there when there is one.
pub(super) struct Client {
    http: reqwest::Client,
    server: ServerUrl,
    authorization: Option<HeaderValue>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{path} with the server's root certificates cannot be read")]
    Ca { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no certificate in PEM")]
    NoCertificate { path: PathBuf, source: Option<reqwest::Error> },
    #[error("the connection to {server} cannot be prepared")]
    Setup { server: ServerUrl, source: reqwest::Error },
    #[error("the session token is no token: log in again with `pgbridge login`")]
    Token,
    #[error("no URL at {server}")]
    Url { server: ServerUrl, source: ServerUrlError },
    #[error("{server} cannot be reached: {cause}")]
    Unreachable { server: ServerUrl, cause: Shown },
    #[error("{server} gave no whole answer; whether it did what was asked is not known: {cause}")]
    NoAnswer { server: ServerUrl, cause: Shown },
    #[error("{}", problem_text(.problem))]
    Refused { status: StatusCode, problem: Problem },
    #[error("you are not logged in at {server} any more: run `pgbridge login`{}", request_text(.problem))]
    LoggedOut { server: ServerUrl, problem: Problem },
    #[error(
        "your ticket cannot be shown to {server}: {cause}; `pgbridge login --password` asks for the password"
    )]
    NoToken { server: ServerUrl, cause: Shown },
    #[error(
        "{server} refused your ticket: {}; `klist` shows whose it is, and `pgbridge login --password` asks for the password",
        problem_text(.problem)
    )]
    TicketRefused { server: ServerUrl, problem: Problem },
    #[error(
        "{server} let you in without proving that it is HTTP@{host}: the session was thrown away"
    )]
    NotProven { server: ServerUrl, host: String },
    #[error("{server} answers with a redirect to {location}: give that as `--server`")]
    Redirect { server: ServerUrl, location: Shown },
    #[error("{server} answers {status}, and not as a pgbridge does: is it the right address?")]
    Stranger { server: ServerUrl, status: StatusCode },
    #[error(
        "the answer of {server} cannot be read (line {line}, column {column}): is its version another?"
    )]
    Unreadable { server: ServerUrl, line: usize, column: usize },
}

/// The title and the detail, of which some say the title again.
fn problem_text(problem: &Problem) -> String {
    let (title, detail) = (problem.title.to_string(), problem.detail.to_string());
    let text = if detail.is_empty() {
        title
    } else if detail.to_lowercase().starts_with(&title.to_lowercase()) {
        detail
    } else {
        format!("{title}: {detail}")
    };
    text + &request_text(problem)
}

fn request_text(problem: &Problem) -> String {
    match problem.request_id.as_str() {
        "" => String::new(),
        id => format!(" (request {id})"),
    }
}

impl ClientError {
    /// How the process ends on it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => Exit::Unreachable,
            Self::Refused { status, .. } => Exit::of_status(status.as_u16()),
            Self::LoggedOut { .. }
            | Self::Token
            | Self::NoToken { .. }
            | Self::TicketRefused { .. }
            | Self::NotProven { .. } => Exit::LoggedOut,
            Self::Ca { .. }
            | Self::NoCertificate { .. }
            | Self::Setup { .. }
            | Self::Url { .. }
            | Self::Redirect { .. }
            | Self::Stranger { .. }
            | Self::Unreadable { .. } => Exit::Failed,
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            Self::Refused { status, .. } | Self::Stranger { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

/// An answer that was not a refusal. Its text may hold a secret.
pub(super) struct Answer {
    server: ServerUrl,
    body: Zeroizing<Vec<u8>>,
}

#[derive(Serialize)]
struct LoginBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'a WayName>,
    username: &'a str,
    password: &'a str,
}

/// What is asked for (`POST /v1/leases`).
#[derive(Debug, Serialize)]
pub(super) struct LeaseWish<'a> {
    pub cluster: &'a ClusterName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a RoleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<&'a DatabaseName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// Which leases an operator ends (`POST /v1/operator/revoke`).
#[derive(Debug, Serialize)]
pub(super) struct Revocation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<&'a ClusterName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'a RoleName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_from: Option<&'a WayName>,
    pub dry_run: bool,
}

#[derive(Serialize)]
struct DeclarationBody<'a> {
    reason: &'a str,
}

#[derive(Serialize)]
struct RenewBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<Ttl>,
}

impl Client {
    /// Prepares calls to `server`, trusting the certificates in the file `ca`, or those of the
    /// system. Connects to nothing yet.
    ///
    /// # Errors
    /// When `ca` holds no certificate, or TLS cannot be set up.
    pub fn new(server: &ServerUrl, ca: Option<&Path>) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("pgbridge/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT);
        if server.is_encrypted() {
            // A ticket is bound to the certificate of the server.
            builder = builder.https_only(true).tls_info(true);
        } else {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                .map(|address| SocketAddr::new(address, 0));
            builder = builder.no_proxy().resolve_to_addrs("localhost", &loopback);
            // No TLS is spoken, so it does not matter that the system has no root certificates.
            builder = builder.tls_certs_only([]);
        }
        if let Some(path) = ca.filter(|_| server.is_encrypted()) {
            builder = builder.tls_certs_only(certificates(path)?);
        }
        let http = builder
            .build()
            .map_err(|source| ClientError::Setup { server: server.clone(), source })?;
        Ok(Self { http, server: server.clone(), authorization: None })
    }

    /// The same with the session of `token`.
    ///
    /// # Errors
    /// When the token cannot stand in a header.
    pub fn with_session(mut self, token: &SessionToken) -> Result<Self, ClientError> {
        let text = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| ClientError::Token)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Logs in.
    ///
    /// # Errors
    /// When the login is refused, or there is no answer.
    pub async fn login(
        &self,
        way: Option<&WayName>,
        username: &str,
        password: &LoginPassword,
    ) -> Result<LoggedIn, ClientError> {
        let body = LoginBody { way, username, password: password.expose() };
        self.call(Method::POST, "v1/login", Some(&body)).await?.read()
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When it is over already, or there is no answer.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.call(Method::POST, "v1/logout", None::<&()>).await.map(drop)
    }

    /// Reads `path`, such as `v1/roles`.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Asks for a lease. The answer holds its password.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    pub async fn issue(&self, wish: &LeaseWish<'_>) -> Result<Answer, ClientError> {
        self.call(Method::POST, "v1/leases", Some(wish)).await
    }

    /// Moves the end of a lease to `ttl` from now.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    pub async fn renew(&self, lease: LeaseId, ttl: Option<Ttl>) -> Result<Answer, ClientError> {
        self.call(Method::POST, &format!("v1/leases/{lease}/renew"), Some(&RenewBody { ttl })).await
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    pub async fn revoke(&self, lease: LeaseId) -> Result<Answer, ClientError> {
        self.call(Method::DELETE, &format!("v1/leases/{lease}"), None::<&()>).await
    }

    /// Ends every lease that is meant, as an operator.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    pub async fn revoke_selected(&self, which: &Revocation<'_>) -> Result<Answer, ClientError> {
        self.call(Method::POST, "v1/operator/revoke", Some(which)).await
    }

    /// Declares a lease gone, as an operator.
    ///
    /// # Errors
    /// When it is refused, or there is no answer.
    pub async fn declare_gone(&self, lease: LeaseId, reason: &str) -> Result<Answer, ClientError> {
        let path = format!("v1/operator/leases/{lease}/declare-gone");
        self.call(Method::POST, &path, Some(&DeclarationBody { reason })).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answer, ClientError> {
        let mut request = self.http.request(method, self.url(path)?);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        let (status, location) = (response.status(), response.headers().get(LOCATION).cloned());
        let body = self.body_of(response).await?;
        if status.is_success() {
            return Ok(Answer { server: self.server.clone(), body });
        }
        Err(self.refusal(status, location.as_ref(), &body))
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        let server = self.server.clone();
        self.server.at(path).map_err(|source| ClientError::Url { server, source })
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response, ClientError> {
        request.send().await.map_err(|source| {
            let (server, cause) = (self.server.clone(), cause(&source));
            if source.is_connect() {
                ClientError::Unreachable { server, cause }
            } else {
                ClientError::NoAnswer { server, cause }
            }
        })
    }

    async fn body_of(
        &self,
        mut response: reqwest::Response,
    ) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let mut body = Zeroizing::new(Vec::new());
        loop {
            let chunk = response.chunk().await.map_err(|source| {
                let (server, cause) = (self.server.clone(), cause(&source));
                ClientError::NoAnswer { server, cause }
            })?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len() + chunk.len() > ANSWER_MAX {
                let (server, status) = (self.server.clone(), response.status());
                return Err(ClientError::Stranger { server, status });
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn refusal(
        &self,
        status: StatusCode,
        location: Option<&HeaderValue>,
        body: &[u8],
    ) -> ClientError {
        let server = self.server.clone();
        if let Some(location) = location.filter(|_| status.is_redirection()) {
            let location = Shown::new(String::from_utf8_lossy(location.as_bytes()));
            return ClientError::Redirect { server, location };
        }
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) if !problem.title.as_str().is_empty() => {
                // A refused login is told as it is; any other call had a session that is over.
                if status == StatusCode::UNAUTHORIZED && self.authorization.is_some() {
                    ClientError::LoggedOut { server, problem }
                } else {
                    ClientError::Refused { status, problem }
                }
            }
            _ => ClientError::Stranger { server, status },
        }
    }
}

/// The last cause of a failed call: those before it say no more than that the call failed.
fn cause(failure: &reqwest::Error) -> Shown {
    let mut last: &dyn Error = failure;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    // What TLS says to an answer in the clear, and HTTP to one by TLS.
    let other_protocol = ["InvalidContentType", "invalid HTTP version"];
    let hint = if other_protocol.iter().any(|sign| text.contains(sign)) {
        "; does it speak https?"
    } else {
        ""
    };
    Shown::new(format!("{text}{hint}"))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let pem =
        std::fs::read(path).map_err(|source| ClientError::Ca { path: path.to_owned(), source })?;
    let none = |source| ClientError::NoCertificate { path: path.to_owned(), source };
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|source| none(Some(source)))?;
    if certificates.is_empty() { Err(none(None)) } else { Ok(certificates) }
}

impl Answer {
    /// The answer as `T`.
    ///
    /// # Errors
    /// When it is not one. The error does not quote the answer, which may hold a secret.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|mistake| self.unreadable(&mistake))
    }

    /// The answer as JSON for people and programs.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn json(&self) -> Result<Secret, ClientError> {
        self.json_with(|_| ())
    }

    /// The same after `change`.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn json_with(
        &self,
        change: impl FnOnce(&mut serde_json::Value),
    ) -> Result<Secret, ClientError> {
        let mut value = self.read()?;
        change(&mut value);
        let text = serde_json::to_string_pretty(&value).map(Zeroizing::new);
        let text = text.map_err(|mistake| self.unreadable(&mistake))?;
        Ok(Secret::new(safe_json(&text)))
    }

    fn unreadable(&self, mistake: &serde_json::Error) -> ClientError {
        let (line, column) = (mistake.line(), mistake.column());
        ClientError::Unreadable { server: self.server.clone(), line, column }
    }
}
