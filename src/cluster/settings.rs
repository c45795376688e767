//! What the broker must know to reach one cluster.

use std::fmt;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::dial::{Host, ServerTls};
use crate::names::{ClusterName, DatabaseName, RoleName};

/// One cluster as the configuration describes it.
#[derive(Debug)]
pub struct ClusterSettings {
    /// Its name in the configuration, and in every mark on its lease roles.
    pub name: ClusterName,
    /// Where it listens.
    pub host: Host,
    /// Its port; for a socket the number in the socket's file name.
    pub port: u16,
    /// The broker's login there. No superuser.
    pub user: RoleName,
    /// The login's password.
    pub password: ClusterPassword,
    /// The maintenance database, where roles are made and dropped.
    pub database: DatabaseName,
    /// How the connection is protected.
    pub tls: ServerTls,
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
