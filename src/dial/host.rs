//! Where a server listens.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
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
pub struct HostError(String);

impl Host {
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

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if text.starts_with('/') && !text.contains('\0') {
            Ok(Self::Socket(PathBuf::from(text)))
        } else if let Ok(address) = text.parse() {
            Ok(Self::Address(address))
        } else if (1..=253).contains(&text.len()) && text.bytes().all(letter) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(HostError(text.to_owned()))
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(address) => write!(formatter, "{address}"),
            Self::Socket(path) => write!(formatter, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_an_address_or_a_socket_directory() {
        let host = |text: &str| text.parse::<Host>();
        assert_eq!(host("db1.example.test"), Ok(Host::Name("db1.example.test".into())));
        assert_eq!(host("::1"), Ok(Host::Address("::1".parse().unwrap())));
        assert_eq!(host("/run/pg"), Ok(Host::Socket("/run/pg".into())));
        for bad in ["", "a b", "run/pg", "db:5432", "db,other", "ü"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_stay_on_the_machine() {
        let local = |text: &str| text.parse::<Host>().unwrap().is_local();
        for yes in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1", "localhost", "/run"] {
            assert!(local(yes), "{yes}");
        }
        for no in ["10.0.0.1", "0.0.0.0", "localhost.example.test", "127.0.0.1.example.test"] {
            assert!(!local(no), "{no}");
        }
    }
}
