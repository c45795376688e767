//! Why a ticket proves nobody: one word each for the audit, and the same for a reader.

use std::io;

use super::gss::GssError;
use super::keytab::KeytabError;
use crate::auth::way::{Reason, Unproven};
use crate::names::{KerberosPrincipal, KerberosPrincipalError, printable, shortened};

/// Letters of the library's own text that are kept: parts of it are what a client sent.
const TEXT_MAX: usize = 300;

/// Why nobody is proven.
#[derive(Debug, thiserror::Error)]
pub enum KerberosRefusal {
    /// The keytab cannot be read.
    #[error("the keytab cannot be read: {0}")]
    KeytabUnreadable(#[source] io::Error),
    /// The keytab holds no key that can be used.
    #[error("the keytab {0}")]
    KeytabUnusable(#[source] KeytabError),
    /// The library does not take the keys, or cannot work.
    #[error("the Kerberos library cannot accept tickets: {0}")]
    Library(String),
    /// A name and a password: those are not for this way in.
    #[error("this way in takes tickets and no passwords")]
    Password,
    /// A token without a byte.
    #[error("the token is empty")]
    EmptyToken,
    /// The library does not accept the token.
    #[error("{text}")]
    Token {
        /// What kind of refusal that is.
        word: &'static str,
        /// The library's own text.
        text: String,
    },
    /// A negotiation that does not come to its end.
    #[error("the negotiation took more tokens than any needs")]
    TooManyLegs,
    /// A negotiation that was left lying.
    #[error("the next token of the negotiation came too late")]
    TooLate,
    /// Something else than Kerberos was negotiated.
    #[error("the mechanism is not Kerberos")]
    OtherMechanism,
    /// The client wants to stay unknown.
    #[error("the ticket is of somebody who stays unknown")]
    Anonymous,
    /// The name could read as another's.
    #[error("{name}: {problem}")]
    Name {
        /// The name as the library displays it.
        name: String,
        /// What is wrong with it.
        problem: KerberosPrincipalError,
    },
    /// Principals of this kind are not let in.
    #[error("{0}: a principal of kind `{kind}`, which `shapes` does not name", kind = .0.shape().as_str())]
    OtherShape(KerberosPrincipal),
    /// People of this realm are not let in.
    #[error("{0}: of a realm that `realms` does not name")]
    OtherRealm(KerberosPrincipal),
    /// A ticket of Active Directory, where none is expected.
    #[error("{0}: a ticket of Active Directory, where `kdc` is \"mit\"")]
    FromActiveDirectory(KerberosPrincipal),
    /// A ticket that does not say whose account it is.
    #[error(
        "{0}: the ticket does not say whose account it is, as one of Active Directory must (no PAC, or \
         one that cannot be read)"
    )]
    NoAccount(KerberosPrincipal),
    /// A ticket by a name that its account does not have.
    #[error("{principal}: the ticket is of the account `{account}`, which has another name")]
    OtherAccount {
        /// The name.
        principal: KerberosPrincipal,
        /// The account.
        account: String,
    },
    /// The token is bound to no connection, and must be.
    #[error("{0}: the token is not bound to the TLS connection")]
    Unbound(KerberosPrincipal),
    /// The connection is none that a token could be bound to.
    #[error(
        "tokens must be bound to the TLS connection, and this one has no certificate to bind to: \
         there is no TLS, or its certificate is signed without one hash (Ed25519)"
    )]
    NoChannel,
    /// The ticket has ended, by the broker's clock.
    #[error("{0}: the ticket has ended")]
    TicketOver(KerberosPrincipal),
}

/// Codes of the krb5 library: its table begins here, and the numbers of RFC 4120 section 7.5.9
/// follow.
const KRB5_TABLE: i32 = -1_765_328_384;

impl KerberosRefusal {
    /// What the library said of a token, in the place of a yes.
    pub(super) fn of_token(error: &GssError) -> Self {
        let text = shortened(&printable(&error.text), TEXT_MAX);
        Self::Token { word: word_of_token(error), text }
    }

    /// What the library said of the keys.
    pub(super) fn of_keys(error: &GssError) -> Self {
        Self::Library(shortened(&printable(&error.text), TEXT_MAX))
    }

    /// One stable word, for the audit and for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KeytabUnreadable(_) | Self::KeytabUnusable(_) => "keytab_unusable",
            Self::Library(_) => "kerberos_unusable",
            Self::Password => "password_not_taken",
            Self::EmptyToken => "token_malformed",
            Self::Token { word, .. } => word,
            Self::TooManyLegs => "too_many_tokens",
            Self::TooLate => "token_too_late",
            Self::OtherMechanism => "mechanism_not_kerberos",
            Self::Anonymous => "principal_anonymous",
            Self::Name { .. } => "principal_unfit",
            Self::OtherShape(_) => "principal_shape",
            Self::OtherRealm(_) => "realm_not_allowed",
            Self::FromActiveDirectory(_) => "ticket_of_active_directory",
            Self::NoAccount(_) => "ticket_without_account",
            Self::OtherAccount { .. } => "ticket_of_another_account",
            Self::Unbound(_) | Self::NoChannel => "channel_not_bound",
            Self::TicketOver(_) => "ticket_expired",
        }
    }

    /// Whether nobody could judge, rather than that somebody proved nothing.
    fn is_outage(&self) -> bool {
        matches!(self, Self::KeytabUnreadable(_) | Self::KeytabUnusable(_) | Self::Library(_))
    }
}

/// By the number of the krb5 error, or by its text: what comes through SPNEGO has another number each
/// time, made up by the library. Its text is in English, since nobody here sets a locale. Parts of
/// it may be what a client sent; but that it is refused is certain, and only the word turns on it.
fn word_of_token(error: &GssError) -> &'static str {
    if let Some(word) = word_of_code(error.minor.wrapping_sub(KRB5_TABLE)) {
        return word;
    }
    if let Some((_, word)) = TEXTS.iter().find(|(text, _)| error.text.contains(text)) {
        return word;
    }
    match error.routine {
        1 => "mechanism_not_kerberos",
        4 => "channel_binding_mismatch",
        9 | 10 => "token_malformed",
        _ => "token_refused",
    }
}

/// The words for errors of RFC 4120 section 7.5.9.
fn word_of_code(code: i32) -> Option<&'static str> {
    Some(match code {
        31 => "ticket_not_decrypted",
        32 => "ticket_expired",
        33 => "ticket_not_yet_valid",
        34 => "token_replayed",
        35 | 45 => "ticket_for_another_service",
        37 => "clock_skew",
        44 => "ticket_of_another_key",
        _ => return None,
    })
}

/// What MIT's library says of the same errors (`krb5_err.et`, `rd_req_dec.c`).
const TEXTS: [(&str, &str); 12] = [
    ("Clock skew too great", "clock_skew"),
    ("Ticket expired", "ticket_expired"),
    ("Ticket not yet valid", "ticket_not_yet_valid"),
    ("Cannot find key for", "ticket_of_another_key"),
    ("is likely out of date", "ticket_of_another_key"),
    ("found in keytab but not with enctype", "ticket_of_another_key"),
    ("cannot decrypt ticket", "ticket_not_decrypted"),
    ("Cannot decrypt ticket for", "ticket_for_another_service"),
    ("does not match request ticket server", "ticket_for_another_service"),
    ("does not match server principal", "ticket_for_another_service"),
    ("not found in keytab (ticket kvno", "ticket_for_another_service"),
    ("does not match any keys in keytab", "ticket_for_another_service"),
];

impl From<KerberosRefusal> for Unproven {
    fn from(refusal: KerberosRefusal) -> Self {
        let reason = Reason { word: refusal.kind(), detail: refusal.to_string() };
        if refusal.is_outage() { Self::Outage(reason) } else { Self::Refused(reason) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(routine: u32, minor: i32) -> &'static str {
        KerberosRefusal::of_token(&GssError { routine, minor, text: String::new() }).kind()
    }

    #[test]
    fn the_numbers_of_the_library_become_words() {
        let of = |code: i32| word(13, KRB5_TABLE + code);
        assert_eq!(of(37), "clock_skew");
        assert_eq!(of(32), "ticket_expired");
        assert_eq!(of(44), "ticket_of_another_key");
        assert_eq!(of(45), "ticket_for_another_service");
        assert_eq!(word(1, 0), "mechanism_not_kerberos");
        assert_eq!(word(4, 0), "channel_binding_mismatch");
        assert_eq!(word(9, 7), "token_malformed");
        assert_eq!(word(13, 12345), "token_refused");
        let said = |text: &str| {
            let error = GssError { routine: 13, minor: 100_001, text: text.to_owned() };
            KerberosRefusal::of_token(&error).kind()
        };
        assert_eq!(said("Clock skew too great; Unspecified GSS failure"), "clock_skew");
        assert_eq!(said("Unspecified GSS failure"), "token_refused");
    }

    #[test]
    fn the_librarys_text_stays_on_one_short_line() {
        let error = GssError { routine: 9, minor: 0, text: format!("a\nb{}", "x".repeat(900)) };
        let text = KerberosRefusal::of_token(&error).to_string();
        assert!(!text.contains('\n') && text.chars().count() < 320, "{text}");
    }

    #[test]
    fn only_what_is_nobodys_guess_is_an_outage() {
        let missing = KerberosRefusal::KeytabUnreadable(io::ErrorKind::NotFound.into());
        assert!(matches!(Unproven::from(missing), Unproven::Outage(_)));
        assert!(matches!(Unproven::from(KerberosRefusal::EmptyToken), Unproven::Refused(_)));
    }
}
