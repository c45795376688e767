//! What the broker must know to reach one cluster.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::names::{ClusterName, DatabaseName, RoleName};

/// One cluster as the configuration describes it.
#[derive(Debug)]
pub struct ClusterSettings {
    /// Its name in the configuration, and in every mark on its lease roles.
    pub name: ClusterName,
    /// Where it listens.
    pub host: ClusterHost,
    /// Its port; for a socket the number in the socket's file name.
    pub port: u16,
    /// The broker's login there. No superuser.
    pub user: RoleName,
    /// The login's password.
    pub password: ClusterPassword,
    /// The maintenance database, where roles are made and dropped.
    pub database: DatabaseName,
    /// How the connection is protected.
    pub tls: ClusterTls,
    /// Group role of all brokers that share the store; since 16 it gets ADMIN on every lease role,
    /// so that another broker's login can end the lease. (Before 16 every login with CREATEROLE can.)
    pub admin_role: Option<RoleName>,
    /// Role nobody can log in as, which gets what lease roles leave behind.
    pub attic_role: Option<RoleName>,
    /// Connections kept for issuing and renewing, at least 1.
    pub issue_connections: usize,
    /// Connections kept for ending access and reconciling, at least 1; and as many for removing roles.
    pub revoke_connections: usize,
    /// How long a connection may take to be made, and how long one is waited for.
    pub connect_timeout: Duration,
    /// How long the server may work on one statement.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
}

/// Where a cluster listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterHost {
    /// A DNS name; with TLS the name that the certificate must carry.
    Name(String),
    /// An IP address; with TLS the address that the certificate must carry.
    Address(IpAddr),
    /// The absolute path of the directory of a Unix socket.
    Socket(PathBuf),
}

/// The text is no host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no host: write a DNS name, an IP address or the absolute path of a socket directory"
)]
pub struct ClusterHostError(String);

impl ClusterHost {
    /// Whether what is sent there cannot leave this machine: a loopback address, `localhost`, or
    /// a socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Address(address) => address.to_canonical().is_loopback(),
            Self::Socket(_) => true,
        }
    }
}

impl FromStr for ClusterHost {
    type Err = ClusterHostError;

    fn from_str(text: &str) -> Result<Self, ClusterHostError> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.starts_with('/') && !text.contains('\0') {
            Ok(Self::Socket(PathBuf::from(text)))
        } else if let Ok(address) = text.parse() {
            Ok(Self::Address(address))
        } else if (1..=253).contains(&text.len()) && text.bytes().all(letter) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(ClusterHostError(text.to_owned()))
        }
    }
}

impl fmt::Display for ClusterHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(address) => write!(formatter, "{address}"),
            Self::Socket(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// How the connection to a cluster is protected. There is nothing between: a connection that
/// anybody on the way can read or answer is either refused or cannot leave the machine.
#[derive(Clone, Debug)]
pub enum ClusterTls {
    /// TLS, the certificate checked against the roots, and the host against the certificate
    /// (libpq's `verify-full`). A socket needs no TLS and has none, as with libpq.
    VerifyFull {
        /// Root certificates as PEM, and only these; without them the system's roots.
        roots: Option<String>,
    },
    /// No TLS: accepted only for a host that [`ClusterHost::is_local`].
    Disabled,
}

/// Password of the broker's own login on a cluster, as its file holds it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ClusterPassword(String);

impl ClusterPassword {
    /// Takes the content of the password file; one line break at its end is not part of it.
    #[must_use]
    pub fn from_file(mut content: String) -> Self {
        if content.ends_with('\n') {
            content.pop();
            if content.ends_with('\r') {
                content.pop();
            }
        }
        Self(content)
    }

    /// The password, for the one place that connects.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClusterPassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterPassword(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_an_address_or_a_socket_directory() {
        let host = |text: &str| text.parse::<ClusterHost>();
        assert_eq!(host("db1.example.test"), Ok(ClusterHost::Name("db1.example.test".into())));
        assert_eq!(host("::1"), Ok(ClusterHost::Address("::1".parse().unwrap())));
        assert_eq!(host("/run/pg"), Ok(ClusterHost::Socket("/run/pg".into())));
        for bad in ["", "a b", "run/pg", "db:5432", "db,other", "ü"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_stay_on_the_machine() {
        let local = |text: &str| text.parse::<ClusterHost>().unwrap().is_local();
        for yes in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1", "localhost", "/run"] {
            assert!(local(yes), "{yes}");
        }
        for no in ["10.0.0.1", "0.0.0.0", "localhost.example.test", "127.0.0.1.example.test"] {
            assert!(!local(no), "{no}");
        }
    }

    #[test]
    fn a_password_file_may_end_with_one_line_break_and_is_never_printed() {
        for (content, password) in
            [("s3\n", "s3"), ("s3\r\n", "s3"), ("s3", "s3"), (" s\n\n", " s\n")]
        {
            assert_eq!(ClusterPassword::from_file(content.into()).expose(), password);
        }
        let shown = format!("{:?}", ClusterPassword::from_file("s3".into()));
        assert!(!shown.contains("s3"), "{shown}");
    }
}
