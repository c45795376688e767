//! What the answer to a person's bind means.
//!
//! OpenLDAP, 389 Directory Server and others tell the reason in the response control of
//! draft-behera-ldap-password-policy-10 section 6.2, Active Directory in the text of the answer.

use ldap3::LdapResult;
use ldap3::controls::{Control, RawControl};

use super::ber;
use super::refusal::{DirectoryAnswer, Ended, LdapRefusal, OutageReason};

const PASSWORD_POLICY: &str = "1.3.6.1.4.1.42.2.27.8.5.1";
/// 389 Directory Server: the bind is good and the password must be changed.
const NETSCAPE_PASSWORD_EXPIRED: &str = "2.16.840.1.113730.3.4.4";

/// A simple bind that would have to be protected (RFC 4511 appendix A): Active Directory says the
/// first, OpenLDAP the second.
const STRONGER_AUTH_REQUIRED: u32 = 8;
const CONFIDENTIALITY_REQUIRED: u32 = 13;

/// Asks the directory to say why it refuses. Not critical: who does not know it ignores it.
pub(super) fn policy_request() -> RawControl {
    RawControl { ctype: PASSWORD_POLICY.into(), crit: false, val: None }
}

/// Whether the server takes no password on such a connection.
pub(super) fn needs_tls(result: &LdapResult) -> bool {
    matches!(result.rc, STRONGER_AUTH_REQUIRED | CONFIDENTIALITY_REQUIRED)
}

/// Whether the answer proves the password.
///
/// # Errors
/// When it does not: with the best reason that the answer gives. A bind that succeeded is refused
/// too when the policy control says that the password must be changed, or cannot be read.
pub(super) fn judge(server: &str, result: &LdapResult) -> Result<(), Ended> {
    let policy = policy_error(&result.ctrls);
    let refusal = match (result.rc, policy) {
        (0, Ok(None)) if !has(&result.ctrls, NETSCAPE_PASSWORD_EXPIRED) => return Ok(()),
        (0, Ok(None)) => LdapRefusal::MustChangePassword,
        (0, Err(Unreadable)) => {
            return Err(
                OutageReason::BadAnswer("sent a password policy control of no shape").into()
            );
        }
        (0 | 19 | 49 | 50 | 53, Ok(Some(error))) => by_policy(server, error, result),
        (code, _) => return Err(by_code(server, code, &result.text)),
    };
    Err(refusal.into())
}

fn has(controls: &[Control], oid: &str) -> bool {
    controls.iter().any(|control| control.1.ctype == oid)
}

/// The error codes of the control (section 6.2).
fn by_policy(server: &str, error: u8, result: &LdapResult) -> LdapRefusal {
    match error {
        0 => LdapRefusal::PasswordExpired,
        1 => LdapRefusal::Locked,
        2 => LdapRefusal::MustChangePassword,
        _ if result.rc == 49 => LdapRefusal::WrongPassword,
        other => LdapRefusal::NotJudged {
            server: server.into(),
            answer: DirectoryAnswer::new(result.rc, &format!("password policy error {other}")),
        },
    }
}

/// The result codes a bind can have (RFC 4511 section 4.2.2, appendix A).
fn by_code(server: &str, code: u32, text: &str) -> Ended {
    let refusal = match code {
        10 => LdapRefusal::Referral { server: server.into() },
        // An entry without a password is answered with 48; 49 is everything else.
        48 | 49 => active_directory_reason(text).unwrap_or(LdapRefusal::WrongPassword),
        STRONGER_AUTH_REQUIRED | CONFIDENTIALITY_REQUIRED => {
            LdapRefusal::TlsNeeded { server: server.into() }
        }
        32 => LdapRefusal::UnknownAccount,
        34 => LdapRefusal::ImpossibleName,
        // 389 Directory Server: too many failures, account inactivated.
        19 => LdapRefusal::Locked,
        53 => LdapRefusal::LogonRestricted,
        3 | 51 | 52 => return OutageReason::Busy(DirectoryAnswer::new(code, text)).into(),
        _ => LdapRefusal::NotJudged {
            server: server.into(),
            answer: DirectoryAnswer::new(code, text),
        },
    };
    refusal.into()
}

/// The reason in Active Directory's text, `… AcceptSecurityContext error, data 775, v4563`: a
/// Windows error code in hexadecimal.
fn active_directory_reason(text: &str) -> Option<LdapRefusal> {
    let (_, after) = text.split_once(", data ")?;
    let code = after.split([',', ' ', '\0']).next()?;
    match code.to_ascii_lowercase().as_str() {
        "525" => Some(LdapRefusal::UnknownAccount),
        "52e" => Some(LdapRefusal::WrongPassword),
        "530" | "531" | "534" => Some(LdapRefusal::LogonRestricted),
        "532" => Some(LdapRefusal::PasswordExpired),
        "533" => Some(LdapRefusal::AccountDisabled),
        "701" => Some(LdapRefusal::AccountExpired),
        "773" => Some(LdapRefusal::MustChangePassword),
        "775" => Some(LdapRefusal::Locked),
        _ => None,
    }
}

/// The control is there and is not what the draft says.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

/// The error in the password policy control, if there is one. A warning (days left, logins left)
/// is no error.
fn policy_error(controls: &[Control]) -> Result<Option<u8>, Unreadable> {
    let mut policies = controls.iter().filter(|control| control.1.ctype == PASSWORD_POLICY);
    let Some(Control(_, policy)) = policies.next() else { return Ok(None) };
    if policies.next().is_some() {
        return Err(Unreadable);
    }
    policy.val.as_deref().map_or(Ok(None), decode_policy)
}

/// `SEQUENCE { warning [0] CHOICE OPTIONAL, error [1] ENUMERATED OPTIONAL }`.
fn decode_policy(value: &[u8]) -> Result<Option<u8>, Unreadable> {
    const SEQUENCE: u8 = 0x30;
    const WARNING: u8 = 0xa0;
    const ERROR: u8 = 0x81;

    let sequence = ber::first(value).ok_or(Unreadable)?;
    if sequence.tag != SEQUENCE || !sequence.rest.is_empty() || !ber::is_well_formed(value) {
        return Err(Unreadable);
    }
    let mut rest = sequence.content;
    if let Some(warning) = ber::first(rest).filter(|element| element.tag == WARNING) {
        rest = warning.rest;
    }
    match ber::first(rest) {
        None if rest.is_empty() => Ok(None),
        Some(ber::Element { tag: ERROR, content: [error], rest: [] }) => Ok(Some(*error)),
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(value: &[u8]) -> Vec<Control> {
        let raw =
            RawControl { ctype: PASSWORD_POLICY.into(), crit: false, val: Some(value.to_vec()) };
        vec![Control(None, raw)]
    }

    fn judged(rc: u32, text: &str, ctrls: Vec<Control>) -> String {
        let result =
            LdapResult { rc, matched: String::new(), text: text.into(), refs: vec![], ctrls };
        match judge("ldap1", &result) {
            Ok(()) => "proven".into(),
            Err(Ended::Refused(refusal)) => refusal.kind().into(),
            Err(Ended::TryNext(reason)) => format!("next: {reason}"),
        }
    }

    #[test]
    fn the_policy_control_tells_locked_expired_and_must_change() {
        assert_eq!(judged(49, "", policy(&[0x30, 3, 0x81, 1, 1])), "locked");
        assert_eq!(judged(49, "", policy(&[0x30, 3, 0x81, 1, 0])), "password_expired");
        assert_eq!(judged(0, "", policy(&[0x30, 3, 0x81, 1, 2])), "must_change_password");
        assert_eq!(judged(0, "", policy(&[0x30, 3, 0x81, 1, 1])), "locked");
        assert_eq!(judged(0, "", policy(&[0x30, 3, 0x81, 1, 8])), "not_judged");
        assert_eq!(judged(49, "", policy(&[0x30, 0])), "wrong_password");
    }

    #[test]
    fn a_warning_alone_does_not_refuse() {
        let seconds_left = [0x30, 6, 0xa0, 4, 0x80, 2, 0x0e, 0x10];
        assert_eq!(judged(0, "", policy(&seconds_left)), "proven");
        let with_error = [0x30, 8, 0xa0, 3, 0x81, 1, 2, 0x81, 1, 2];
        assert_eq!(judged(0, "", policy(&with_error)), "must_change_password");
        assert_eq!(judged(0, "", policy(&[0x30, 0])), "proven");
        assert_eq!(judged(0, "", vec![]), "proven");
    }

    #[test]
    fn a_control_cut_short_never_lets_anybody_in() {
        let whole = [0x30, 8, 0xa0, 3, 0x81, 1, 2, 0x81, 1, 2];
        for cut in 0..whole.len() {
            assert_eq!(decode_policy(&whole[..cut]), Err(Unreadable), "{cut} bytes");
        }
        for bad in [&[0x31, 0][..], &[0x30, 0, 0], &[0x30, 2, 0x81, 0], &[0x30, 3, 0x82, 1, 2]] {
            assert_eq!(decode_policy(bad), Err(Unreadable), "{bad:?}");
            assert!(judged(0, "", policy(bad)).starts_with("next: "), "{bad:?}");
            assert_eq!(judged(49, "", policy(bad)), "wrong_password", "{bad:?}");
        }
        let twice = [policy(&[0x30, 0]), policy(&[0x30, 0])].concat();
        assert!(judged(0, "", twice).starts_with("next: "));
    }

    #[test]
    fn netscape_expiry_on_a_good_bind_refuses() {
        let raw = RawControl {
            ctype: NETSCAPE_PASSWORD_EXPIRED.into(),
            crit: false,
            val: Some("0".into()),
        };
        assert_eq!(judged(0, "", vec![Control(None, raw)]), "must_change_password");
    }

    #[test]
    fn active_directory_tells_the_reason_in_its_text() {
        let text = |data: &str| {
            format!(
                "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, \
                 data {data}, v4563\0"
            )
        };
        for (data, kind) in [
            ("525", "unknown_account"),
            ("52e", "wrong_password"),
            ("530", "logon_restricted"),
            ("532", "password_expired"),
            ("533", "account_disabled"),
            ("701", "account_expired"),
            ("773", "must_change_password"),
            ("775", "locked"),
            ("775x", "wrong_password"),
            ("", "wrong_password"),
        ] {
            assert_eq!(judged(49, &text(data), vec![]), kind, "{data}");
        }
        // Only a refusal has a reason: the same words on success mean nothing.
        assert_eq!(judged(0, &text("775"), vec![]), "proven");
    }

    #[test]
    fn every_other_code_refuses_and_only_outages_go_on_to_the_next_server() {
        for (code, kind) in [
            (10, "referral"),
            (19, "locked"),
            (32, "unknown_account"),
            (34, "impossible_name"),
            (48, "wrong_password"),
            (49, "wrong_password"),
            (53, "logon_restricted"),
            (1, "not_judged"),
            (8, "tls_needed"),
            (13, "tls_needed"),
            (14, "not_judged"),
            (80, "not_judged"),
        ] {
            assert_eq!(judged(code, "", vec![]), kind, "result {code}");
        }
        for busy in [3, 51, 52] {
            assert!(judged(busy, "", vec![]).starts_with("next: is busy"), "result {busy}");
        }
    }
}
