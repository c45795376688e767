//! Why a directory login gave no identity.

use std::fmt;
use std::io;

use crate::auth::way::{Reason, Standing, Unproven};
use crate::names::GROUP_BYTES;

/// Why there is no identity. For the audit and the metrics only: towards the client every one of
/// these is the same answer.
#[derive(Debug, thiserror::Error)]
pub enum LdapRefusal {
    /// The name is blank, longer than 256 bytes, or holds control characters or characters that
    /// would change what is bound as; nothing was sent.
    #[error("the name cannot be an account's: blank, too long, or with characters no name has")]
    ImpossibleName,
    /// The password is empty or blank; nothing was sent (RFC 4513 section 5.1.2).
    #[error("the password is blank")]
    BlankPassword,
    /// No entry has this name.
    #[error("no entry has this name")]
    UnknownAccount,
    /// More than one entry has this name, so nobody may log in by it.
    #[error("more than one entry has this name; make the search base or filter narrower")]
    SeveralEntries,
    /// The directory refused the password, and gave no other reason.
    #[error("the directory refused the password")]
    WrongPassword,
    /// The account is locked after failures or by an administrator.
    #[error("the account is locked")]
    Locked,
    /// The password is too old.
    #[error("the password has expired")]
    PasswordExpired,
    /// The password is right and must be changed before it is good for anything.
    #[error("the password must be changed first")]
    MustChangePassword,
    /// The account is disabled.
    #[error("the account is disabled")]
    AccountDisabled,
    /// The account is past its last day.
    #[error("the account has expired")]
    AccountExpired,
    /// The account is written differently now, so it is another one to maps and leases.
    #[error("the account is called `{account}` now")]
    Renamed {
        /// The account as the directory writes it.
        account: String,
    },
    /// The entry says something about whether it may be used, or which one it is, that cannot be
    /// understood, or does not show what it must have.
    #[error("the entry's `{attribute}` is not shown, or says nothing; may it be read?")]
    UnreadableState {
        /// The attribute.
        attribute: &'static str,
    },
    /// The account may not log in now, from here or in this way.
    #[error("the account may not log in at this time, from here or in this way")]
    LogonRestricted,
    /// The account is a computer's: its name ends in `$`.
    #[error("`{account}` is a machine account")]
    MachineAccount {
        /// The account as the directory writes it.
        account: String,
    },
    /// The password is right, but the entry does not have exactly one usable account name.
    #[error(
        "the entry has {values} usable values of `{attribute}` and must have exactly one; \
         see `account_attribute`, and whether it may be read"
    )]
    UnreadableAccount {
        /// The attribute that should hold the account name.
        attribute: String,
        /// How many usable values it has.
        values: usize,
    },
    /// The person's groups could not be read completely, so none are trusted.
    #[error("the groups could not be read completely from `{server}`: {answer}")]
    UnreadableGroups {
        /// Which server.
        server: String,
        /// What it answered.
        answer: DirectoryAnswer,
    },
    /// A group has a longer name than maps are asked about, so none are trusted.
    #[error(
        "a group of theirs has a name of {bytes} bytes, and nobody logs in who is in one of more \
         than {GROUP_BYTES}"
    )]
    GroupTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The answer was a referral to another server; it is not followed, and never gets a password.
    #[error("`{server}` referred to another server, which is not followed")]
    Referral {
        /// Which server.
        server: String,
    },
    /// The service account could not bind, so nobody was looked for.
    #[error("the service account could not bind at `{server}`: {answer}")]
    ServiceBind {
        /// Which server.
        server: String,
        /// What it answered.
        answer: DirectoryAnswer,
    },
    /// The search for the account failed; nobody was judged.
    #[error("the search for the account failed at `{server}`: {answer}; see `ldapbasedn`")]
    Search {
        /// Which server.
        server: String,
        /// What it answered.
        answer: DirectoryAnswer,
    },
    /// The search finds nobody at all, whoever is asked for; nobody was judged.
    #[error(
        "`{server}` shows nobody: no entry below `ldapbasedn` has a `{attribute}`; see \
         `ldapbasedn`, `account_attribute`, and what the service account may read"
    )]
    NobodyThere {
        /// Which server.
        server: String,
        /// The attribute that should hold the account name.
        attribute: String,
    },
    /// The server takes no password on a connection without TLS (RFC 4513 section 5.1.3).
    #[error(
        "`{server}` takes no password without TLS: set `ldapscheme = \"ldaps\"`, or \
         `ldaptls = true` for StartTLS"
    )]
    TlsNeeded {
        /// Which server.
        server: String,
    },
    /// The bind was answered with something that judges neither account nor password.
    #[error("`{server}` did not judge the password: {answer}")]
    NotJudged {
        /// Which server.
        server: String,
        /// What it answered.
        answer: DirectoryAnswer,
    },
    /// No server could be asked.
    #[error("no server of the directory could be asked: {0}")]
    Unavailable(Outages),
}

impl LdapRefusal {
    /// One stable word, for the audit and for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ImpossibleName => "impossible_name",
            Self::BlankPassword => "blank_password",
            Self::UnknownAccount => "unknown_account",
            Self::SeveralEntries => "several_entries",
            Self::WrongPassword => "wrong_password",
            Self::Locked => "locked",
            Self::PasswordExpired => "password_expired",
            Self::MustChangePassword => "must_change_password",
            Self::AccountDisabled => "account_disabled",
            Self::AccountExpired => "account_expired",
            Self::Renamed { .. } => "renamed",
            Self::UnreadableState { .. } => "unreadable_state",
            Self::LogonRestricted => "logon_restricted",
            Self::MachineAccount { .. } => "machine_account",
            Self::UnreadableAccount { .. } => "unreadable_account",
            Self::UnreadableGroups { .. } => "unreadable_groups",
            Self::GroupTooLong { .. } => "group_too_long",
            Self::Referral { .. } => "referral",
            Self::ServiceBind { .. } => "service_bind",
            Self::Search { .. } => "search_failed",
            Self::NobodyThere { .. } => "nobody_there",
            Self::TlsNeeded { .. } => "tls_needed",
            Self::NotJudged { .. } => "not_judged",
            Self::Unavailable(outages) => outages.kind(),
        }
    }

    fn reason(&self) -> Reason {
        Reason { word: self.kind(), detail: self.to_string() }
    }

    /// Whether the directory could not judge. Such a failure is nobody's wrong guess: it must not
    /// count towards a lock-out.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Referral { .. }
            | Self::ServiceBind { .. }
            | Self::Search { .. }
            | Self::NobodyThere { .. }
            | Self::TlsNeeded { .. }
            | Self::NotJudged { .. }
            | Self::UnreadableGroups { .. }
            | Self::GroupTooLong { .. }
            | Self::UnreadableState { .. }
            | Self::Unavailable(_) => true,
            Self::ImpossibleName
            | Self::BlankPassword
            | Self::UnknownAccount
            | Self::SeveralEntries
            | Self::WrongPassword
            | Self::Locked
            | Self::PasswordExpired
            | Self::MustChangePassword
            | Self::AccountDisabled
            | Self::AccountExpired
            | Self::Renamed { .. }
            | Self::LogonRestricted
            | Self::MachineAccount { .. }
            | Self::UnreadableAccount { .. } => false,
        }
    }
}

impl From<LdapRefusal> for Unproven {
    fn from(refusal: LdapRefusal) -> Self {
        let reason = refusal.reason();
        if refusal.is_outage() { Self::Outage(reason) } else { Self::Refused(reason) }
    }
}

/// What it says of somebody who was proven before.
impl From<LdapRefusal> for Standing {
    fn from(refusal: LdapRefusal) -> Self {
        use LdapRefusal as R;

        let reason = refusal.reason();
        match refusal {
            // No entry is theirs any more, and of none is it said that it may not be used.
            R::UnknownAccount | R::Renamed { .. } => Self::Missing(reason),
            // An entry that cannot be told apart from another or read says nothing of its person.
            R::SeveralEntries
            | R::UnreadableAccount { .. }
            | R::UnreadableGroups { .. }
            | R::GroupTooLong { .. }
            | R::UnreadableState { .. }
            | R::Referral { .. }
            | R::ServiceBind { .. }
            | R::Search { .. }
            | R::NobodyThere { .. }
            | R::TlsNeeded { .. }
            | R::NotJudged { .. }
            | R::Unavailable(_) => Self::Unknown(reason),
            R::ImpossibleName
            | R::BlankPassword
            | R::WrongPassword
            | R::Locked
            | R::PasswordExpired
            | R::MustChangePassword
            | R::AccountDisabled
            | R::AccountExpired
            | R::LogonRestricted
            | R::MachineAccount { .. } => Self::Gone(reason),
        }
    }
}

/// Result code and text of an answer (RFC 4511 section 4.1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryAnswer {
    /// The result code (RFC 4511 appendix A).
    pub code: u32,
    /// The directory's own words: at most 200 characters, on one line.
    pub text: String,
}

impl DirectoryAnswer {
    pub(super) fn new(code: u32, text: &str) -> Self {
        let visible = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
        Self { code, text: visible.take(200).collect() }
    }
}

impl fmt::Display for DirectoryAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "result {}", self.code)?;
        if self.text.is_empty() { Ok(()) } else { write!(formatter, " ({})", self.text) }
    }
}

/// Every server that was asked in vain, in order. Prints each with its reason.
#[derive(Debug)]
pub struct Outages(pub Vec<Outage>);

/// One server that could not be asked.
#[derive(Debug)]
pub struct Outage {
    /// Host and port.
    pub server: String,
    /// Why not.
    pub reason: OutageReason,
}

impl Outages {
    /// The reason all servers share, or that there are several.
    fn kind(&self) -> &'static str {
        let mut kinds = self.0.iter().map(|outage| outage.reason.kind());
        match kinds.next() {
            Some(kind) if kinds.all(|other| other == kind) => kind,
            _ => "directory_unavailable",
        }
    }
}

impl fmt::Display for Outages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Outage { server, reason }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}`{server}`: {reason}")?;
        }
        Ok(())
    }
}

/// Why a server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OutageReason {
    /// The host has no address, or nothing answers there.
    #[error("cannot be reached ({0})")]
    Unreachable(io::Error),
    /// TLS could not be set up: the certificate is not trusted or is another host's, or the
    /// server speaks no TLS.
    #[error("no safe connection ({0})")]
    Tls(io::Error),
    /// The server refused StartTLS; nothing else was sent.
    #[error("refuses StartTLS with result {0}")]
    StartTlsRefused(usize),
    /// No answer within the time for one operation.
    #[error("no answer in time")]
    Timeout,
    /// The time for the whole login was over.
    #[error("the time for the whole login was over")]
    Deadline,
    /// The connection ended before the answer.
    #[error("closed the connection")]
    Closed,
    /// The server says it is busy, unavailable or out of time.
    #[error("is busy or unavailable: {0}")]
    Busy(DirectoryAnswer),
    /// The answer is no LDAP, or longer than any answer to such a question.
    #[error("{0}")]
    BadAnswer(&'static str),
}

impl OutageReason {
    fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Closed => "directory_unreachable",
            Self::Tls(_) | Self::StartTlsRefused(_) => "directory_tls",
            Self::Timeout | Self::Deadline => "directory_timeout",
            Self::Busy(_) => "directory_busy",
            Self::BadAnswer(_) => "directory_protocol",
        }
    }
}

/// How an attempt at one server ends without a person.
#[derive(Debug)]
pub(super) enum Ended {
    /// The server could not be asked: the next one may be.
    TryNext(OutageReason),
    /// The directory has spoken, or asking another server cannot help.
    Refused(LdapRefusal),
}

impl From<OutageReason> for Ended {
    fn from(reason: OutageReason) -> Self {
        Self::TryNext(reason)
    }
}

impl From<LdapRefusal> for Ended {
    fn from(refusal: LdapRefusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(reasons: Vec<OutageReason>) -> LdapRefusal {
        let outage = |reason| Outage { server: "ldap1:636".into(), reason };
        LdapRefusal::Unavailable(Outages(reasons.into_iter().map(outage).collect()))
    }

    #[test]
    fn every_server_stands_in_the_text_and_the_kind_is_what_they_share() {
        let both = unavailable(vec![OutageReason::Timeout, OutageReason::Deadline]);
        assert_eq!(both.kind(), "directory_timeout");
        let mixed = unavailable(vec![OutageReason::Timeout, OutageReason::Closed]);
        assert_eq!(mixed.kind(), "directory_unavailable");
        assert_eq!(
            mixed.to_string(),
            "no server of the directory could be asked: `ldap1:636`: no answer in time; \
             `ldap1:636`: closed the connection"
        );
        assert!(mixed.is_outage());
        assert!(!LdapRefusal::WrongPassword.is_outage());
    }

    #[test]
    fn a_directorys_words_stay_on_one_short_line() {
        let answer = DirectoryAnswer::new(49, &format!("a\nb\0{}", "x".repeat(900)));
        assert!(answer.text.starts_with("a b x"));
        assert_eq!(answer.text.chars().count(), 200);
        assert_eq!(DirectoryAnswer::new(53, "").to_string(), "result 53");
    }
}
