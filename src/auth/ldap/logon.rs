//! The names by which people log on to Active Directory. They are one account's: `alice`,
//! `ADTEST\alice`, `alice@ad.test` and the DN of its entry; and so is a `userPrincipalName` of
//! another suffix, if the directory gives it to that account.

use ldap3::{SearchEntry, ldap_escape};

use super::link::values;
use super::names::TypedName;
use super::refusal::LdapRefusal;

/// Entries of people; computers and service accounts of computers have another category.
const PEOPLE: &str = "(objectCategory=person)(objectClass=user)";

const ACCOUNT: &str = "sAMAccountName";
const PRINCIPAL: &str = "userPrincipalName";

/// What names of a domain may look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogonNames {
    /// The domain's name in DNS, if the search base says it: the suffix that every account has,
    /// whatever its `userPrincipalName` is.
    domain: Option<String>,
    /// The domain's short name, before the backslash.
    short: Option<String>,
}

/// What was typed, by its form.
#[derive(Debug, PartialEq, Eq)]
enum Form<'a> {
    /// `alice`, or the same with the domain's own name around it by a backslash.
    Account(&'a str),
    /// `alice@ad.test`, of the domain itself.
    OwnSuffix(&'a str),
    /// `alice@` and another suffix: whose that is the directory knows.
    OtherSuffix,
    Dn,
    /// `OTHER\alice`: nobody's here.
    Stranger,
}

impl LogonNames {
    /// The attributes that hold names; a DN is in none.
    pub(super) const ATTRIBUTES: [&str; 2] = [ACCOUNT, PRINCIPAL];

    /// Names of the domain that the search below `base_dn` is in.
    pub(super) fn new(base_dn: &str, short: Option<String>) -> Self {
        let root = domain_part(base_dn).unwrap_or_default();
        let labels = root.split(',').filter_map(|part| part.split_once('='));
        let labels: Vec<&str> = labels.map(|(_, label)| label.trim()).collect();
        Self { domain: (!labels.is_empty()).then(|| labels.join(".")), short }
    }

    /// The filter that everybody matches who can log on by any name; `$username` is any of them.
    pub(super) fn anybody() -> String {
        format!("(&({ACCOUNT}=$username){PEOPLE})")
    }

    /// The filter that finds whose name was `typed`.
    ///
    /// # Errors
    /// When it is a name of another domain.
    pub(super) fn filter(&self, typed: TypedName<'_>) -> Result<String, LdapRefusal> {
        let value = ldap_escape(typed.as_str());
        let named = match self.form(typed.as_str()) {
            Form::Account(account) => format!("({ACCOUNT}={})", ldap_escape(account)),
            // When these are two accounts nobody logs on by it.
            Form::OwnSuffix(account) => {
                let account = ldap_escape(account);
                format!("(|({PRINCIPAL}={value})({ACCOUNT}={account}))")
            }
            Form::OtherSuffix => format!("({PRINCIPAL}={value})"),
            Form::Dn => format!("(distinguishedName={value})"),
            Form::Stranger => return Err(LdapRefusal::UnknownAccount),
        };
        Ok(format!("(&{named}{PEOPLE})"))
    }

    /// The account that was meant, as far as what was typed says it: all forms share one counter
    /// of failures.
    pub(super) fn account<'a>(&self, typed: &'a str) -> &'a str {
        match self.form(typed.trim()) {
            Form::Account(account) | Form::OwnSuffix(account) => account,
            Form::OtherSuffix | Form::Dn | Form::Stranger => typed,
        }
    }

    /// Whether `typed` is the name of `entry`, as that itself has it, by which the filter finds it;
    /// `same` is whether two texts are counted as one.
    pub(super) fn is_of(
        &self,
        typed: &str,
        entry: &SearchEntry,
        same: impl Fn(&str, &str) -> bool,
    ) -> bool {
        let has_account = |name| values(entry, ACCOUNT).iter().any(|own| same(own, name));
        // Not when the one is of the domain itself, and the other is not known to be.
        let is_own = |own: &str| same(own, typed) && same(self.account(own), self.account(typed));
        let has_principal = || values(entry, PRINCIPAL).iter().any(|own| is_own(own));
        match self.form(typed) {
            Form::Account(account) => has_account(account),
            Form::OwnSuffix(account) => has_account(account) || has_principal(),
            Form::OtherSuffix => has_principal(),
            Form::Dn => same(&entry.dn, typed),
            Form::Stranger => false,
        }
    }

    fn form<'a>(&self, typed: &'a str) -> Form<'a> {
        let is = |own: &Option<String>, text: &str| {
            own.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(text))
        };
        // No other form has an equals sign ([MS-ADTS] 3.1.1.8.1), and a DN may have the rest.
        if typed.contains('=') {
            return Form::Dn;
        }
        if let Some((domain, account)) = typed.split_once('\\') {
            return if is(&self.short, domain) { Form::Account(account) } else { Form::Stranger };
        }
        match typed.rsplit_once('@') {
            Some((account, suffix)) if is(&self.domain, suffix) => Form::OwnSuffix(account),
            Some(_) => Form::OtherSuffix,
            None => Form::Account(typed),
        }
    }
}

/// The end of `dn` that names a domain, `DC=ad,DC=test`; nothing when there is none.
#[must_use]
pub fn domain_part(dn: &str) -> Option<&str> {
    let mut part = None;
    let begins = dn.match_indices(',').map(|(at, _)| at + 1);
    let begins: Vec<usize> = std::iter::once(0).chain(begins).collect();
    for begin in begins.into_iter().rev() {
        let rest = dn.get(begin..)?;
        let label = rest.trim_start().get(..3);
        let is_label = label.is_some_and(|label| label.eq_ignore_ascii_case("dc="));
        // A comma behind a backslash is a part of a value.
        let is_escaped = dn.get(..begin).is_some_and(|before| before.ends_with("\\,"));
        if !is_label || is_escaped {
            break;
        }
        part = Some(rest.trim());
    }
    part
}

#[cfg(test)]
mod tests {
    use ldap3::parse_filter;

    use super::*;
    use crate::names::AccountKey;

    fn names() -> LogonNames {
        LogonNames::new("OU=people,DC=ad,DC=test", Some("ADTEST".into()))
    }

    fn named(typed: &str) -> Option<String> {
        let filter = names().filter(TypedName::new(typed).unwrap()).ok()?;
        assert!(parse_filter(&filter).is_ok(), "{filter}");
        let rest = filter.strip_prefix("(&").unwrap().strip_suffix(")").unwrap();
        Some(rest.strip_suffix(PEOPLE).unwrap().to_owned())
    }

    #[test]
    fn each_form_of_a_name_finds_what_it_names() {
        for (typed, filter) in [
            ("alice", "(sAMAccountName=alice)"),
            (r"ADTEST\alice", "(sAMAccountName=alice)"),
            (r"adtest\alice", "(sAMAccountName=alice)"),
            ("alice@ad.test", "(|(userPrincipalName=alice@ad.test)(sAMAccountName=alice))"),
            ("alice@AD.TEST", "(|(userPrincipalName=alice@AD.TEST)(sAMAccountName=alice))"),
            ("alice@other.test", "(userPrincipalName=alice@other.test)"),
            ("alice@ad.test@other.test", "(userPrincipalName=alice@ad.test@other.test)"),
            ("CN=Alice,DC=ad,DC=test", "(distinguishedName=CN=Alice,DC=ad,DC=test)"),
            (r"CN=a\,b,DC=ad,DC=test", r"(distinguishedName=CN=a\5c,b,DC=ad,DC=test)"),
            ("a*)(cn=x", r"(distinguishedName=a\2a\29\28cn=x)"),
            ("a*)(cn", r"(sAMAccountName=a\2a\29\28cn)"),
        ] {
            assert_eq!(named(typed).unwrap(), filter, "{typed}");
        }
        for stranger in [r"OTHER\alice", r"\alice", r"ad.test\alice"] {
            assert_eq!(named(stranger), None, "{stranger}");
        }
        let without = LogonNames::new("ou=people,o=corp", None);
        for typed in [r"ADTEST\alice", r"\alice"] {
            assert!(without.filter(TypedName::new(typed).unwrap()).is_err(), "{typed}");
        }
        assert_eq!(without.form("alice@ad.test"), Form::OtherSuffix);
    }

    #[test]
    fn every_form_of_one_account_is_counted_as_one() {
        for typed in ["alice", r"ADTEST\alice", r"Adtest\alice", "alice@ad.test", " alice@AD.test "]
        {
            assert_eq!(names().account(typed), "alice", "{typed}");
        }
        for other in ["alice@other.test", r"OTHER\alice", "CN=alice,DC=ad,DC=test"] {
            assert_eq!(names().account(other), other);
        }
    }

    #[test]
    fn a_name_has_one_spelling_in_each_form() {
        let attrs = [
            (ACCOUNT.to_owned(), vec!["alice".to_owned()]),
            (PRINCIPAL.to_owned(), vec!["Alice.Baker@ad.test".to_owned()]),
        ];
        let dn = r"CN=Baker\, Alice,DC=ad,DC=test".to_owned();
        let mut entry = SearchEntry { dn, attrs: attrs.into(), bin_attrs: [].into() };
        let way = "corp".parse().unwrap();
        let same =
            |one: &str, other: &str| AccountKey::new(&way, one) == AccountKey::new(&way, other);
        let is_of = |entry: &SearchEntry, typed| names().is_of(typed, entry, same);
        for typed in [
            "alice",
            " ALICE",
            "\u{ff41}lice",
            r"adtest\Alice",
            "alice@AD.test",
            "alice.baker@ad.test",
            r"cn=baker\, alice,dc=AD,dc=test",
        ] {
            assert!(is_of(&entry, typed), "{typed}");
        }
        for typed in [
            "älice",
            "al\u{200b}ice",
            r"ADTEST\älice",
            "älice@ad.test",
            "alice.bäker@ad.test",
            "alice.baker@\u{ff41}d.test",
            "alice.baker",
            "alice@other.test",
            r"OTHER\alice",
            r"CN=\42aker\, Alice,DC=ad,DC=test",
            r"CN=Baker\2c Alice,DC=ad,DC=test",
            r"CN=Baker\, Alice, DC=ad, DC=test",
            "<SID=S-1-5-21-1-2-3-1104>",
        ] {
            assert!(!is_of(&entry, typed), "{typed}");
        }
        entry.attrs.insert(PRINCIPAL.to_owned(), vec!["alice@other.test".to_owned()]);
        assert!(is_of(&entry, "Alice@other.test"));
        assert!(is_of(&entry, "alice@ad.test"));
        assert!(!is_of(&entry, "alice.baker@ad.test"));
    }

    #[test]
    fn the_domain_is_the_end_of_a_dn() {
        for (dn, part) in [
            ("DC=ad,DC=test", Some("DC=ad,DC=test")),
            ("OU=people,dc=ad, dc=test", Some("dc=ad, dc=test")),
            ("OU=dc=x,DC=test", Some("DC=test")),
            (r"CN=a\,dc=x,DC=test", Some("DC=test")),
            ("ou=people,o=corp", None),
            ("dc=ad,o=corp", None),
            ("", None),
        ] {
            assert_eq!(domain_part(dn), part, "{dn}");
        }
        let spaced = LogonNames::new("OU=people, dc=ad, dc=test", None);
        assert_eq!(spaced.domain.as_deref(), Some("ad.test"));
    }
}
