//! The address of a broker.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Where a broker is: `https://host[:port][/path]`.
///
/// Invariant: `https`, or `http` to the machine's own loopback, since passwords go there; no name
/// or password in it, no query and no fragment; the path ends with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl(Arc<Url>);

/// Why a text is no address of a broker. None of them shows the text: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// It is no URL.
    #[error("not a URL; write it as `https://pgbridge.example.test`")]
    Malformed,
    /// It is neither `https` nor `http`.
    #[error("not a web address; it begins with `https://`")]
    Scheme,
    /// It is `http`, and not to this machine.
    #[error("`http://` would send the password in the clear; use `https://`")]
    Clear,
    /// It holds a name, a password, a query or a fragment.
    #[error("only host, port and path belong in it, no name, password, `?` or `#`")]
    TooMuch,
}

impl ServerUrl {
    /// The address of `path` there; `path` is relative, such as `v1/login`.
    ///
    /// # Errors
    /// When `path` cannot stand in a URL.
    pub(super) fn at(&self, path: &str) -> Result<Url, ServerUrlError> {
        self.0.join(path).map_err(|_| ServerUrlError::Malformed)
    }

    /// The host, as a service of Kerberos is named after it: an IPv6 address without brackets.
    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Whether the way there is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let mut url = Url::parse(text).map_err(|_| ServerUrlError::Malformed)?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(ServerUrlError::Scheme);
        }
        let person = !url.username().is_empty() || url.password().is_some();
        if person || url.query().is_some() || url.fragment().is_some() {
            return Err(ServerUrlError::TooMuch);
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(ServerUrlError::Clear);
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(Arc::new(url)))
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = ServerUrlError;

    fn try_from(text: String) -> Result<Self, ServerUrlError> {
        text.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(server: ServerUrl) -> Self {
        server.to_string()
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        formatter.write_str(text.strip_suffix('/').unwrap_or(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_encrypted_or_stays_on_this_machine() {
        for good in [
            "https://pgbridge.example.test",
            "https://192.0.2.1:8432",
            "http://127.0.0.1:8432",
            "http://127.9.9.9",
            "http://[::1]:8432/",
            "http://localhost:8432",
        ] {
            assert!(good.parse::<ServerUrl>().is_ok(), "{good}");
        }
        for clear in [
            "http://pgbridge.example.test",
            "http://192.0.2.1",
            "http://0.0.0.0",
            "http://[2001:db8::1]",
            "http://localhost.example.test",
            "http://127.0.0.1.example.test",
        ] {
            assert_eq!(clear.parse::<ServerUrl>(), Err(ServerUrlError::Clear), "{clear}");
        }
    }

    #[test]
    fn nothing_else_hides_in_the_address() {
        for bad in ["https://bob:pw@example.test", "https://e.test/?x", "https://e.test/#x"] {
            assert_eq!(bad.parse::<ServerUrl>(), Err(ServerUrlError::TooMuch), "{bad}");
        }
        for bad in ["ftp://e.test", "file:///etc/passwd"] {
            assert_eq!(bad.parse::<ServerUrl>(), Err(ServerUrlError::Scheme), "{bad}");
        }
        assert_eq!("e.test".parse::<ServerUrl>(), Err(ServerUrlError::Malformed));
    }

    #[test]
    fn a_service_is_named_after_the_host_alone() {
        for (url, host) in [
            ("https://pgbridge.example.test:8432/x", "pgbridge.example.test"),
            ("https://PGbridge.Example.test", "pgbridge.example.test"),
            ("http://127.0.0.1:8432", "127.0.0.1"),
            ("http://[::1]:8432", "::1"),
        ] {
            assert_eq!(url.parse::<ServerUrl>().unwrap().host(), host, "{url}");
        }
    }

    #[test]
    fn paths_go_below_the_address() {
        let server: ServerUrl = "https://e.test/bridge".parse().unwrap();
        assert_eq!(server.at("v1/login").unwrap().as_str(), "https://e.test/bridge/v1/login");
        assert_eq!(server.to_string(), "https://e.test/bridge");
        assert_eq!(server.to_string().parse(), Ok(server));
    }
}
