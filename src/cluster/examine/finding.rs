//! What an examination has found.

use std::fmt;

use serde::Serialize;

use crate::names::shortened;

/// Letters of what was seen that are shown: a line of `pg_hba.conf` or an error of a server can be
/// of any length.
const SEEN: usize = 1000;

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// Works, and is less safe than it could be.
    Warn,
    /// Leases do not work, or do not keep what they promise.
    Fail,
}

impl Verdict {
    /// The word for it, as people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// What was looked at. The names are the same for people and programs, and stay.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum Check {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Check {
            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

checks! {
    /// Whether the broker can log in.
    Reach = "reach",
    /// Whether a pooler stands between.
    Pooler = "pooler",
    /// The server's major version.
    Version = "version",
    /// The server's minor version, and whether it still gets fixes.
    MinorRelease = "minor-release",
    /// The release as which the map is read, against the server's.
    MapRelease = "map-release",
    /// Whether the server is a standby.
    Standby = "standby",
    /// The server's clock against the broker's.
    Clock = "clock",
    /// The broker's login.
    Login = "login",
    /// CREATEROLE.
    CreateRole = "create-role",
    /// `pg_signal_backend`.
    Signal = "signal-backend",
    /// Connections that the broker may have.
    ConnectionLimit = "connection-limit",
    /// The group of all brokers.
    AdminRole = "admin-role",
    /// The role that gets what lease roles leave behind.
    AtticRole = "attic-role",
    /// A role that is lent.
    GroupRole = "group-role",
    /// Whether a role that is lent has any rights.
    GroupRights = "group-rights",
    /// What a role that is lent reaches.
    GroupReach = "group-reach",
    /// A database of a profile.
    Database = "database",
    /// What everybody may do in a database.
    PublicCreate = "public-create",
    /// What everybody may do with a database.
    PublicTemporary = "public-temporary",
    /// Databases that everybody may connect to.
    PublicConnect = "public-connect",
    /// Whether the broker's own store is on the server too.
    Store = "store",
    /// Whether the attic can take over what is made.
    AtticCreate = "attic-create",
    /// TLS.
    Ssl = "ssl",
    /// The oldest TLS that the server speaks.
    TlsMinimum = "tls-minimum",
    /// The server's certificate, as clients check it.
    Certificate = "certificate",
    /// What the server asks for over TLS.
    LoginByTls = "login-by-tls",
    /// What the server asks for without TLS.
    LoginInClear = "login-in-clear",
    /// `pg_hba.conf`, line by line.
    HbaFile = "hba-file",
    /// `password_encryption`.
    PasswordEncryption = "password-encryption",
    /// `listen_addresses`.
    ListenAddresses = "listen-addresses",
    /// Statements in the server's log.
    StatementLog = "statement-log",
    /// Values of parameters in the server's log.
    ParameterLog = "parameter-log",
    /// `pg_stat_statements`.
    StatStatements = "pg-stat-statements",
    /// pgaudit.
    PgAudit = "pgaudit",
    /// Log-ins in the server's log.
    LoginLog = "login-log",
    /// How long a log-in may take.
    AuthenticationTimeout = "authentication-timeout",
    /// What a crash of the server can undo.
    Durability = "durability",
    /// Copies of the server.
    Replicas = "replicas",
    /// Prepared transactions.
    PreparedTransactions = "prepared-transactions",
    /// Lease roles, and roles that look like some.
    LeaseRoles = "lease-roles",
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What one check has found. No secret is in it; names of the cluster are as they are, so whoever
/// shows it makes it safe to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, on one line.
    pub seen: String,
    /// Why it matters, in a sentence; nothing when all is well.
    pub why: Option<&'static str>,
    /// What mends it, line by line: SQL, or what else begins with `--` or `#`.
    pub mend: Vec<String>,
}

impl Finding {
    pub(super) fn pass(check: Check, seen: impl AsRef<str>) -> Self {
        let seen = shortened(seen.as_ref(), SEEN);
        Self { check, verdict: Verdict::Pass, seen, why: None, mend: Vec::new() }
    }

    pub(super) fn note(check: Check, seen: impl AsRef<str>, why: &'static str) -> Self {
        Self { verdict: Verdict::Note, why: Some(why), ..Self::pass(check, seen) }
    }

    pub(super) fn warn(check: Check, seen: impl AsRef<str>, why: &'static str) -> Self {
        Self { verdict: Verdict::Warn, why: Some(why), ..Self::pass(check, seen) }
    }

    pub(super) fn fail(check: Check, seen: impl AsRef<str>, why: &'static str) -> Self {
        Self { verdict: Verdict::Fail, why: Some(why), ..Self::pass(check, seen) }
    }

    /// The same with one more line that mends it.
    pub(super) fn mend(mut self, line: impl Into<String>) -> Self {
        self.mend.push(line.into());
        self
    }

    /// The same with more lines that mend it.
    pub(super) fn mend_all(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.mend.extend(lines);
        self
    }
}
