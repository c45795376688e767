//! What an entry itself says about whether it may be used.
//!
//! A directory judges this at a bind; here the same is read from the entry, for whoever is looked
//! up without a password, and once more at a login, since not every directory minds every one of
//! these. A lock that ends by itself (too many wrong passwords) is not looked at: anybody could
//! end other people's work by guessing at their passwords.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use ldap3::SearchEntry;

use super::link::values;
use super::refusal::LdapRefusal;

/// Active Directory: bits, of which one is "disabled" and three are of machines ([MS-ADTS] 2.2.16).
const USER_ACCOUNT_CONTROL: &str = "userAccountControl";
/// Active Directory: end of the account, in 100 ns since 1601 ([MS-ADA1] 2.1).
const ACCOUNT_EXPIRES: &str = "accountExpires";
/// Active Directory: when the password was set, or 0 when it must be changed first
/// ([MS-ADA3] 2.175).
const PASSWORD_SET: &str = "pwdLastSet";
/// Since when the account is locked, or for ever
/// (draft-behera-ldap-password-policy-10 section 5.3.3).
const LOCKED_TIME: &str = "pwdAccountLockedTime";
/// End of the account (the same, section 5.3.13).
const END_TIME: &str = "pwdEndTime";
/// First day on which the account is no good, counted from 1970 (shadow(5); RFC 2307).
const SHADOW_EXPIRE: &str = "shadowExpire";
/// 389 Directory Server and `FreeIPA`: whether an administrator has locked the account.
const ACCOUNT_LOCK: &str = "nsAccountLock";

/// What is asked for with every entry of a person. Most are there only if asked for by name.
pub(super) const ATTRIBUTES: [&str; 7] = [
    USER_ACCOUNT_CONTROL,
    ACCOUNT_EXPIRES,
    PASSWORD_SET,
    LOCKED_TIME,
    END_TIME,
    SHADOW_EXPIRE,
    ACCOUNT_LOCK,
];

/// Whether the account of `entry` is a computer's or a domain's, whatever it is called
/// (CVE-2021-42278 was a computer without the `$`).
///
/// # Errors
/// When that cannot be understood.
pub(super) fn is_machine(entry: &SearchEntry) -> Result<bool, LdapRefusal> {
    /// Trust between domains, workstation, domain controller.
    const TRUSTS: i64 = 0x800 | 0x1000 | 0x2000;

    Ok(number(entry, USER_ACCOUNT_CONTROL)?.is_some_and(|bits| bits & TRUSTS != 0))
}

/// That the entry of an account of Active Directory shows its state: who may not read it would take
/// everybody for good.
///
/// # Errors
/// When it does not.
pub(super) fn must_be_shown(entry: &SearchEntry) -> Result<(), LdapRefusal> {
    let is_shown = number(entry, USER_ACCOUNT_CONTROL)?.is_some();
    let attribute = USER_ACCOUNT_CONTROL;
    if is_shown { Ok(()) } else { Err(LdapRefusal::UnreadableState { attribute }) }
}

/// Whether the account of `entry` may be used at `now`, as far as the entry says.
///
/// # Errors
/// When it is disabled, locked for good or past its end, its password must be changed first, or an
/// attribute says nothing that can be
/// understood.
pub(super) fn judge(entry: &SearchEntry, now: Timestamp) -> Result<(), LdapRefusal> {
    const DISABLED: i64 = 0x2;

    let control = number(entry, USER_ACCOUNT_CONTROL)?;
    if control.is_some_and(|bits| bits & DISABLED != 0) {
        return Err(LdapRefusal::AccountDisabled);
    }
    if must_change(control, number(entry, PASSWORD_SET)?) {
        return Err(LdapRefusal::MustChangePassword);
    }
    if read(entry, ACCOUNT_LOCK, truth)?.is_some_and(|is_locked| is_locked) {
        return Err(LdapRefusal::AccountDisabled);
    }
    if read(entry, LOCKED_TIME, lock)? == Some(Lock::ForGood) {
        return Err(LdapRefusal::Locked);
    }
    let filetime_end = number(entry, ACCOUNT_EXPIRES)?.and_then(filetime);
    let shadow_end = number(entry, SHADOW_EXPIRE)?.and_then(day);
    let ends = [filetime_end, shadow_end, read(entry, END_TIME, generalized_time)?];
    if ends.into_iter().flatten().any(|end| end <= now) {
        return Err(LdapRefusal::AccountExpired);
    }
    Ok(())
}

/// Whether Active Directory takes no password until it is changed. It does not ask that of an
/// account whose password never expires or is not used.
fn must_change(control: Option<i64>, password_set: Option<i64>) -> bool {
    /// The password never expires; only a smart card counts.
    const EXEMPT: i64 = 0x1_0000 | 0x4_0000;

    password_set == Some(0) && control.is_none_or(|bits| bits & EXEMPT == 0)
}

/// The value of an attribute of one value; nothing when the entry does not show it.
fn read<T>(
    entry: &SearchEntry,
    attribute: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, LdapRefusal> {
    let unreadable = || LdapRefusal::UnreadableState { attribute };
    if entry.bin_attrs.keys().any(|name| name.eq_ignore_ascii_case(attribute)) {
        return Err(unreadable());
    }
    match values(entry, attribute) {
        [] => Ok(None),
        [value] => read(value).map(Some).ok_or_else(unreadable),
        _ => Err(unreadable()),
    }
}

fn number(entry: &SearchEntry, attribute: &'static str) -> Result<Option<i64>, LdapRefusal> {
    read(entry, attribute, |text| text.parse().ok())
}

/// For how long an account is locked.
#[derive(Debug, PartialEq, Eq)]
enum Lock {
    /// Until an administrator unlocks it: the year 0 stands for that.
    ForGood,
    /// Since a time; the directory knows when that is over.
    Since,
}

fn lock(text: &str) -> Option<Lock> {
    if text.starts_with("0000") {
        return Some(Lock::ForGood);
    }
    generalized_time(text).map(|_| Lock::Since)
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// 100 ns since 1601; 0 and the largest number there is stand for never.
fn filetime(count: i64) -> Option<Timestamp> {
    const SECONDS_1601_TO_1970: i64 = 11_644_473_600;
    if count == 0 || count == i64::MAX {
        return None;
    }
    let second = count.div_euclid(10_000_000).saturating_sub(SECONDS_1601_TO_1970);
    Some(Timestamp::from_second(second).unwrap_or(if second < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    }))
}

/// Begin of a day counted from 1970; a negative number stands for never.
fn day(count: i64) -> Option<Timestamp> {
    let seconds = u64::try_from(count).ok()?.saturating_mul(86_400);
    let begin = i64::try_from(seconds).ok().and_then(|second| Timestamp::from_second(second).ok());
    Some(begin.unwrap_or(Timestamp::MAX))
}

/// `YYYYMMDDHH[MM[SS]][.f]` and `Z` or `+HH[MM]` (RFC 4517 section 3.3.13). Fractions are left
/// away: of a second they do not matter, and of longer units nobody writes them.
fn generalized_time(text: &str) -> Option<Timestamp> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at_checked(digits)?;
    let zone = match rest.strip_prefix(['.', ',']) {
        Some(fraction) if digits.len() == 14 => {
            fraction.trim_start_matches(|letter: char| letter.is_ascii_digit())
        }
        Some(_) => return None,
        None => rest,
    };
    let pair = |at: usize| digits.get(at..at + 2)?.parse::<i8>().ok();
    let year = digits.get(..4)?.parse().ok()?;
    let date = Date::new(year, pair(4)?, pair(6)?).ok()?;
    let (minute, second) = match digits.len() {
        10 => (0, 0),
        12 => (pair(10)?, 0),
        // A leap second is the one before it.
        14 => (pair(10)?, pair(12).filter(|second| *second <= 60)?.min(59)),
        _ => return None,
    };
    let time = jiff::civil::Time::new(pair(8)?, minute, second, 0).ok()?;
    let utc = DateTime::from_parts(date, time).to_zoned(TimeZone::fixed(Offset::UTC)).ok()?;
    utc.timestamp().checked_sub(offset(zone)?).ok()
}

/// How far a zone is ahead of UTC.
fn offset(zone: &str) -> Option<SignedDuration> {
    if zone == "Z" {
        return Some(SignedDuration::ZERO);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let number = |range| digits.get(range).and_then(|pair: &str| pair.parse::<u8>().ok());
    let hours = number(0..2).filter(|hours| *hours < 24)?;
    let minutes = match digits.len() {
        2 => 0,
        4 => number(2..4).filter(|minutes| *minutes < 60)?,
        _ => return None,
    };
    let minutes = i64::from(hours) * 60 + i64::from(minutes);
    Some(SignedDuration::from_mins(sign * minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 20:00:00 UTC.
    fn now() -> Timestamp {
        "2026-11-20T20:00:00Z".parse().unwrap()
    }

    fn entry(attributes: &[(&str, &str)]) -> SearchEntry {
        let attrs = attributes.iter();
        let attrs = attrs.map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        SearchEntry { dn: "cn=x".into(), attrs: attrs.collect(), bin_attrs: [].into() }
    }

    #[track_caller]
    fn check(attribute: &str, value: &str, expected: &str) {
        let judged = judge(&entry(&[(attribute, value)]), now());
        let word = judged.map_or_else(|refusal| refusal.kind(), |()| "good");
        assert_eq!(word, expected, "{attribute}: {value}");
    }

    #[test]
    fn an_entry_that_says_nothing_is_good() {
        assert!(judge(&entry(&[]), now()).is_ok());
        assert!(judge(&entry(&[("uid", "alice"), ("userPassword", "x")]), now()).is_ok());
    }

    #[test]
    fn active_directory_says_disabled_and_expired() {
        for (value, expected) in [
            ("512", "good"),             // NORMAL_ACCOUNT
            ("514", "account_disabled"), // and ACCOUNTDISABLE
            ("66048", "good"),           // DONT_EXPIRE_PASSWORD
            ("66050", "account_disabled"),
            ("528", "good"), // LOCKOUT, which passes by itself
            ("-2147483136", "good"),
            ("x", "unreadable_state"),
            ("", "unreadable_state"),
        ] {
            check("useraccountcontrol", value, expected);
        }
        for (value, expected) in [
            ("0", "good"),
            ("9223372036854775807", "good"),
            ("134396784000000000", "account_expired"), // 2026-11-20 20:00:00
            ("134396784010000000", "good"),            // a second later
            ("134396783990000000", "account_expired"),
            ("1", "account_expired"),
            ("9223372036854775806", "good"),
            ("never", "unreadable_state"),
        ] {
            check("accountExpires", value, expected);
        }
    }

    #[test]
    fn active_directory_says_that_a_password_must_be_changed_first() {
        let with = |control: &str, set: &str| {
            let entry = entry(&[("userAccountControl", control), ("pwdLastSet", set)]);
            judge(&entry, now()).map_or_else(|refusal| refusal.kind(), |()| "good")
        };
        assert_eq!(with("512", "0"), "must_change_password");
        assert_eq!(with("512", "134396784000000000"), "good");
        assert_eq!(with("66048", "0"), "good"); // DONT_EXPIRE_PASSWORD
        assert_eq!(with("262656", "0"), "good"); // SMARTCARD_REQUIRED
        assert_eq!(with("512", "soon"), "unreadable_state");
        check("pwdLastSet", "0", "must_change_password");
    }

    #[test]
    fn a_machine_is_one_whatever_it_is_called() {
        for (control, expected) in
            [("512", false), ("4096", true), ("8192", true), ("2048", true), ("66048", false)]
        {
            let entry = entry(&[("userAccountControl", control)]);
            assert_eq!(is_machine(&entry).unwrap(), expected, "{control}");
        }
        assert!(!is_machine(&entry(&[])).unwrap());
        assert!(must_be_shown(&entry(&[("userAccountControl", "512")])).is_ok());
        assert!(must_be_shown(&entry(&[])).is_err());
    }

    #[test]
    fn a_password_policy_says_locked_for_good_and_past_its_end() {
        for (value, expected) in [
            ("000001010000Z", "locked"),
            ("00000101000000Z", "locked"),
            ("20261120195900Z", "good"), // after wrong passwords, for a while
            ("soon", "unreadable_state"),
        ] {
            check("pwdAccountLockedTime", value, expected);
        }
        for (value, expected) in [
            ("20261120200000Z", "account_expired"),
            ("20261120200001Z", "good"),
            ("20261120200000.999999Z", "account_expired"),
            ("202611202000Z", "account_expired"),
            ("2026112021Z", "good"),
            ("20261120210000+0100", "account_expired"),
            ("20261120210001+01", "good"),
            ("20261120153000-0430", "account_expired"),
            ("20161231235960Z", "account_expired"),
            ("20261120200000", "unreadable_state"),
            ("20261320200000Z", "unreadable_state"),
            ("20261120200000+1", "unreadable_state"),
            ("202611202000000Z", "unreadable_state"),
            ("2026112020.5Z", "unreadable_state"),
            ("Z", "unreadable_state"),
        ] {
            check("pwdEndTime", value, expected);
        }
    }

    #[test]
    fn unix_and_389_directories_say_it_in_their_own_way() {
        for (value, expected) in [
            ("-1", "good"),
            ("0", "account_expired"),     // chage -E 0
            ("20777", "account_expired"), // 2026-11-20
            ("20778", "good"),
            ("99999999999999", "good"),
            ("1.5", "unreadable_state"),
        ] {
            check("shadowExpire", value, expected);
        }
        for (value, expected) in [
            ("true", "account_disabled"),
            ("TRUE", "account_disabled"),
            ("false", "good"),
            ("yes", "unreadable_state"),
        ] {
            check("nsAccountLock", value, expected);
        }
    }

    #[test]
    fn one_bad_word_is_enough_and_two_values_say_nothing() {
        let both = entry(&[("userAccountControl", "512"), ("shadowExpire", "1")]);
        assert_eq!(judge(&both, now()).unwrap_err().kind(), "account_expired");
        let mut twice = entry(&[("nsAccountLock", "false")]);
        twice.attrs.insert("nsAccountLock".into(), vec!["false".into(), "true".into()]);
        assert_eq!(judge(&twice, now()).unwrap_err().kind(), "unreadable_state");
        let mut binary = entry(&[]);
        binary.bin_attrs.insert("nsaccountlock".into(), vec![vec![0xff]]);
        assert_eq!(judge(&binary, now()).unwrap_err().kind(), "unreadable_state");
    }
}
