//! What a broker must know to reach its store.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::dial::{Host, ServerTls};
use crate::names::{DatabaseName, RoleName};

/// The port of a host that names none.
const PORT: u16 = 5432;

/// Where the store is and how it is reached.
#[derive(Debug)]
pub struct PostgresSettings {
    /// The servers, the login and the database.
    pub url: StoreUrl,
    /// The login's password; nothing when the server asks for none, as over a socket.
    pub password: Option<StorePassword>,
    /// How the connection is protected.
    pub tls: ServerTls,
}

/// `postgresql://user@host[:port][,host…]/database`.
///
/// Of several hosts the one is used that takes writes: the primary, wherever it is just now. The
/// directory of a Unix socket is written with `%2F` for each slash.
///
/// Invariant: at least one host, a socket only alone; no password and no parameters in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    user: RoleName,
    hosts: Vec<(Host, u16)>,
    database: DatabaseName,
}

/// Why a text is no address of a store. None of them shows the text: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// It does not begin with `postgresql://`.
    #[error("must begin with postgresql://")]
    Scheme,
    /// Something stands behind the database.
    #[error("has parameters, and none are known")]
    Parameters,
    /// A password stands in it.
    #[error("holds a password")]
    Password,
    /// It names no login.
    #[error("names no login")]
    User,
    /// It names no database.
    #[error("names no database")]
    Database,
    /// One of its hosts is none.
    #[error("has a host or port that is none")]
    Host,
    /// A socket stands beside other hosts.
    #[error("names a socket and other hosts")]
    Mixed,
}

impl StoreUrl {
    /// The login.
    #[must_use]
    pub fn user(&self) -> &RoleName {
        &self.user
    }

    /// The servers, each with its port.
    #[must_use]
    pub fn hosts(&self) -> &[(Host, u16)] {
        &self.hosts
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &DatabaseName {
        &self.database
    }

    /// Whether what is sent there cannot leave this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(|(host, _)| host.is_local())
    }

    /// Whether it is a socket, where the server may know the login by its system user.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.hosts.iter().any(|(host, _)| matches!(host, Host::Socket(_)))
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or(StoreUrlError::Scheme)?;
        // A password may hold any character, so it is looked for before anything else.
        let unverified_login = rest.rsplit_once('@').map_or("", |(login, _)| login);
        if unverified_login.contains(':') {
            return Err(StoreUrlError::Password);
        }
        if rest.contains(['?', '#']) {
            return Err(StoreUrlError::Parameters);
        }
        let (place, database) = rest.split_once('/').ok_or(StoreUrlError::Database)?;
        let (user, hosts) = place.rsplit_once('@').ok_or(StoreUrlError::User)?;
        let name = |text: &str| decoded(text).filter(|name| !name.is_empty());
        let user = name(user).and_then(|user| user.parse().ok()).ok_or(StoreUrlError::User)?;
        let database = name(database).and_then(|database| database.parse().ok());
        let database = database.ok_or(StoreUrlError::Database)?;
        let hosts = hosts.split(',').map(host).collect::<Option<Vec<_>>>();
        let url = Self { user, hosts: hosts.ok_or(StoreUrlError::Host)?, database };
        if url.is_socket() && url.hosts.len() > 1 {
            return Err(StoreUrlError::Mixed);
        }
        Ok(url)
    }
}

/// `name`, `address`, `[address]` or an escaped directory, each with or without `:port`.
fn host(text: &str) -> Option<(Host, u16)> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            (address, rest.strip_prefix(':').or((rest.is_empty()).then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = if port.is_empty() { PORT } else { port.parse().ok().filter(|port| *port > 0)? };
    let host: Host = decoded(name)?.parse().ok()?;
    let needs_brackets = matches!(host, Host::Address(IpAddr::V6(_)));
    (text.starts_with('[') == needs_brackets).then_some((host, port))
}

/// A host with its port, as an address has it.
pub(super) fn place(host: &Host, port: u16) -> String {
    match host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// The text without its `%xx` (RFC 3986 section 2.1); nothing when that is no UTF-8 or holds a NUL.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        rest = others;
        if *first == b'%' {
            let (code, others) = rest.split_at_checked(2)?;
            bytes.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(code).ok()?);
            rest = others;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "postgresql://{}@", self.user)?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(formatter, "{comma}{}", place(host, *port))?;
        }
        write!(formatter, "/{}", self.database)
    }
}

/// Password of the broker's login at its store.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct StorePassword(String);

impl StorePassword {
    /// The password, without the line end of its file.
    #[must_use]
    pub fn new(password: String) -> Self {
        Self(password)
    }

    /// The password, for the one place that connects.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StorePassword {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StorePassword(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<StoreUrl, StoreUrlError> {
        text.parse()
    }

    #[test]
    fn an_address_names_login_hosts_and_database() {
        for (text, shown) in [
            ("postgresql://pgb@db/store", "postgresql://pgb@db:5432/store"),
            ("postgres://pgb@db:6432/store", "postgresql://pgb@db:6432/store"),
            ("postgresql://pgb@a,b:1/s", "postgresql://pgb@a:5432,b:1/s"),
            ("postgresql://pgb@[::1]:99/s", "postgresql://pgb@[::1]:99/s"),
            ("postgresql://pgb@[::1],10.0.0.1/s", "postgresql://pgb@[::1]:5432,10.0.0.1:5432/s"),
            ("postgresql://p%40b@%2Frun%2Fpg:5433/s", "postgresql://p@b@/run/pg:5433/s"),
        ] {
            assert_eq!(url(text).map(|url| url.to_string()).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_wrong() {
        for (text, error) in [
            ("db/store", StoreUrlError::Scheme),
            ("http://pgb@db/store", StoreUrlError::Scheme),
            ("postgresql://pgb:secret@db/store", StoreUrlError::Password),
            ("postgresql://pgb:se/c?r#t@db/store", StoreUrlError::Password),
            ("postgresql://pgb@db/store?sslmode=disable", StoreUrlError::Parameters),
            ("postgresql://pgb@db/store#x", StoreUrlError::Parameters),
            ("postgresql://db/store", StoreUrlError::User),
            ("postgresql://@db/store", StoreUrlError::User),
            ("postgresql://pg_x@db/store", StoreUrlError::User),
            ("postgresql://pgb@db", StoreUrlError::Database),
            ("postgresql://pgb@db/", StoreUrlError::Database),
            ("postgresql://pgb@/store", StoreUrlError::Host),
            ("postgresql://pgb@db:0/store", StoreUrlError::Host),
            ("postgresql://pgb@db:x/store", StoreUrlError::Host),
            ("postgresql://pgb@a,,b/store", StoreUrlError::Host),
            ("postgresql://pgb@::1/store", StoreUrlError::Host),
            ("postgresql://pgb@[db]/store", StoreUrlError::Host),
            ("postgresql://pgb@[::1]x/store", StoreUrlError::Host),
            ("postgresql://pgb@%zz/store", StoreUrlError::Host),
            ("postgresql://pgb@%2Frun,db/store", StoreUrlError::Mixed),
        ] {
            assert_eq!(url(text), Err(error), "{text}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_stay_on_the_machine() {
        for (hosts, local) in [
            ("127.0.0.1", true),
            ("localhost:1,[::1]", true),
            ("%2Frun", true),
            ("10.0.0.1", false),
            ("127.0.0.1,db", false),
            ("localhost.example.test", false),
        ] {
            let url = url(&format!("postgresql://pgb@{hosts}/s"));
            assert_eq!(url.map(|url| url.is_local()), Ok(local), "{hosts}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let shown = format!("{:?}", StorePassword::new("s3cret".into()));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
