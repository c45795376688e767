//! What clients are told about a cluster.

use std::fmt;

/// `sslmode` of a connection string (libpq manual, 34.19 "SSL Support").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientSslMode {
    /// The server's certificate must fit the root and the name; the default.
    VerifyFull,
    /// The server's certificate must fit the root.
    VerifyCa,
    /// TLS without knowing with whom.
    Require,
    /// TLS if the server offers it.
    Prefer,
    /// No TLS.
    Disable,
}

impl ClientSslMode {
    /// libpq's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyFull => "verify-full",
            Self::VerifyCa => "verify-ca",
            Self::Require => "require",
            Self::Prefer => "prefer",
            Self::Disable => "disable",
        }
    }
}

impl fmt::Display for ClientSslMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How clients reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConnection {
    /// Host name or address as clients know it.
    pub host: String,
    /// Port as clients know it.
    pub port: u16,
    /// How much TLS a client must insist on.
    pub sslmode: ClientSslMode,
    /// Path of the root certificate on the client's machine, or `system`.
    pub sslrootcert: Option<String>,
    /// The root certificate itself, PEM, for clients that do not have it.
    pub root_certificate: Option<String>,
}
