//! How a typed name gets into a filter, a DN or a bind name: each by its own escaping, never mixed.

use std::borrow::Cow;

use ldap3::{dn_escape, ldap_escape, parse_filter};

use super::refusal::LdapRefusal;
use crate::names::is_account;

/// Longest filter in bytes, and how deep its parentheses may nest: its parser is recursive.
const FILTER_MAX: usize = 4096;
const FILTER_DEPTH_MAX: usize = 32;

const USERNAME: &str = "$username";
const DN: &str = "$dn";
/// What every entry matches.
const EVERYTHING: &str = "(objectClass=*)";

/// A name as it was typed, that could be an account's.
///
/// Invariant: not blank, at most 256 bytes, no control character. It is neither trimmed nor
/// folded: the directory's own matching rules decide whose it is.
#[derive(Clone, Copy)]
pub(super) struct TypedName<'a>(&'a str);

impl<'a> TypedName<'a> {
    pub(super) fn new(typed: &'a str) -> Result<Self, LdapRefusal> {
        if is_account(typed) { Ok(Self(typed)) } else { Err(LdapRefusal::ImpossibleName) }
    }

    pub(super) fn as_str(self) -> &'a str {
        self.0
    }
}

/// A search filter with `$username` and `$dn` where values stand, as in PostgreSQL's
/// `ldapsearchfilter`.
///
/// Invariant: filled with any two texts it is one filter of the same shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FilterTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Username,
    Dn,
}

/// What is wrong with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterProblem {
    /// It is no filter of RFC 4515, or a placeholder stands where no value can stand.
    #[error("is not a search filter of RFC 4515 with its placeholders in the place of values")]
    Malformed,
    /// It is longer than 4096 bytes or nests its parentheses more than 32 deep.
    #[error("is longer than 4096 bytes or has more than 32 parentheses inside each other")]
    TooLarge,
    /// Without a placeholder it would find the same for everybody.
    #[error("finds the same for everybody: it needs `$username` (or, for groups, `$dn`)")]
    NoPlaceholder,
    /// `$dn` is not known while the person is still being looked for.
    #[error("cannot use `$dn`: the entry is what it searches for")]
    DnNotKnownYet,
    /// What was typed could be any spelling of a name in Active Directory, each with a counter of
    /// failures of its own.
    #[error(
        "compares `$username` with no value as a whole, such as `(sAMAccountName=$username)`; in \
         Active Directory a name has to be spelled as the entry has it"
    )]
    NameInParts,
}

impl FilterTemplate {
    /// A filter that finds the entry of a name.
    pub(super) fn for_person(text: &str) -> Result<Self, FilterProblem> {
        let template = Self::parse(text)?;
        if template.0.contains(&Piece::Dn) {
            return Err(FilterProblem::DnNotKnownYet);
        }
        Ok(template)
    }

    /// A filter that finds the groups of an entry.
    pub(super) fn for_groups(text: &str) -> Result<Self, FilterProblem> {
        Self::parse(text)
    }

    /// `(attribute=$username)`.
    pub(super) fn equals(attribute: &str) -> Self {
        let head = Piece::Text(format!("({attribute}="));
        Self(vec![head, Piece::Username, Piece::Text(")".into())])
    }

    /// Finds the entry whose `attribute` is the account, if this filter can find that entry by any
    /// name: whoever is not among those that may log in is not found.
    pub(super) fn again(&self, attribute: &str) -> Self {
        let text: String = self.0.iter().map(Piece::as_text).collect();
        let admits = Piece::Text(format!("){})", by_any_name(&text)));
        let head = Piece::Text(format!("(&({attribute}="));
        Self(vec![head, Piece::Username, admits])
    }

    /// The filter with any name in the place of the name. Only for [`Self::again`], in which that
    /// stands alone as a value.
    pub(super) fn anybody(&self) -> String {
        let fill_in = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Username | Piece::Dn => "*".to_owned(),
        };
        self.0.iter().map(fill_in).collect()
    }

    /// The attributes that it asks to have a value made of `username`, and these values: not where
    /// the name stands beside a `*`, or is compared otherwise than by equality.
    pub(super) fn asked<'a>(&'a self, username: &str) -> Vec<(&'a str, String)> {
        let ask = |pieces: &'a [Piece]| {
            let [Piece::Text(before), Piece::Username, Piece::Text(after)] = pieces else {
                return None;
            };
            let (attribute, begin) = before.rsplit_once('(')?.1.split_once('=')?;
            let end = after.split_once(')')?.0;
            let is_whole = is_attribute(attribute) && !begin.contains('*') && !end.contains('*');
            is_whole.then(|| (attribute, format!("{begin}{username}{end}")))
        };
        self.0.windows(3).filter_map(ask).collect()
    }

    fn parse(text: &str) -> Result<Self, FilterProblem> {
        if text.len() > FILTER_MAX || depth(text) > FILTER_DEPTH_MAX {
            return Err(FilterProblem::TooLarge);
        }
        let template = Self(pieces(text));
        if !template.0.contains(&Piece::Username) && !template.0.contains(&Piece::Dn) {
            return Err(FilterProblem::NoPlaceholder);
        }
        // An escaped value can stand only where a value may: `(\2a=x)` is no filter.
        let probe = template.fill("*", "*");
        let is_whole = text.starts_with('(') && parse_filter(&probe).is_ok();
        if is_whole { Ok(template) } else { Err(FilterProblem::Malformed) }
    }

    /// The filter for one person. Both values are escaped (RFC 4515 section 3) and put in at once,
    /// so that a name that reads `$dn` stays a name.
    pub(super) fn fill(&self, username: &str, dn: &str) -> String {
        let fill_in = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Username => ldap_escape(username).into_owned(),
            Piece::Dn => ldap_escape(dn).into_owned(),
        };
        self.0.iter().map(fill_in).collect()
    }
}

impl Piece {
    fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Username => USERNAME,
            Self::Dn => DN,
        }
    }
}

/// A filter that everything matches which `filter` matches for some name, and that asks for no
/// name: each part with a name in it becomes one that asks only for the attribute, or, where that
/// would narrow it, for nothing. What stands in a value has no bare parentheses (RFC 4515 section
/// 3), so they show the parts.
fn by_any_name(filter: &str) -> String {
    if !filter.contains(USERNAME) {
        return filter.to_owned();
    }
    let inside = filter.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let inside = inside.unwrap_or_default();
    match inside.chars().next() {
        Some(operator @ ('&' | '|')) => {
            let parts = inside.get(1..).unwrap_or_default();
            let parts: String = parts_of(parts).into_iter().map(by_any_name).collect();
            format!("({operator}{parts})")
        }
        Some('!') | None => EVERYTHING.to_owned(),
        Some(_) => match inside.split(['=', '~', '<', '>', ':']).next() {
            Some(attribute) if is_attribute(attribute) => format!("({attribute}=*)"),
            _ => EVERYTHING.to_owned(),
        },
    }
}

/// The filters that stand side by side in `text`, each with its parentheses.
fn parts_of(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut begin) = (Vec::new(), 0_usize, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => {
                begin = if depth == 0 { at } else { begin };
                depth += 1;
            }
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    parts.extend(text.get(begin..=at));
                }
            }
            _ => {}
        }
    }
    parts
}

fn depth(text: &str) -> usize {
    let mut now: usize = 0;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'(' => now += 1,
            b')' => now = now.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(now);
    }
    deepest
}

fn pieces(mut text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while let Some(at) = text.find('$') {
        let (before, from) = text.split_at(at);
        let (piece, after) = if let Some(after) = from.strip_prefix(USERNAME) {
            (Piece::Username, after)
        } else if let Some(after) = from.strip_prefix(DN) {
            (Piece::Dn, after)
        } else {
            (Piece::Text("$".into()), from.strip_prefix('$').unwrap_or_default())
        };
        pieces.push(Piece::Text(before.into()));
        pieces.push(piece);
        text = after;
    }
    pieces.push(Piece::Text(text.into()));
    pieces
}

/// What a simple bind binds as: `ldapprefix` + name + `ldapsuffix`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BindName {
    /// A DN, such as `uid=` … `,ou=people,dc=example`: the name is one attribute value.
    Dn { prefix: String, suffix: String },
    /// Active Directory's `…@corp.test` or `CORP\…`.
    Account { prefix: String, suffix: String },
}

impl BindName {
    /// The attribute that names the entry, when it is a DN.
    pub(super) fn attribute(&self) -> Option<&str> {
        let Self::Dn { prefix, .. } = self else { return None };
        let attribute = prefix.rsplit(',').next()?.strip_suffix('=')?.trim();
        is_attribute(attribute).then_some(attribute)
    }

    /// The kind of bind name that the two ends make; none if it is neither, so that it would not
    /// be known how to keep a name from changing its meaning.
    pub(super) fn parse(prefix: &str, suffix: &str) -> Option<Self> {
        let (prefix, suffix) = (prefix.to_owned(), suffix.to_owned());
        let is_domain = |text: &str| !text.is_empty() && !text.contains(NOT_IN_ACCOUNTS);
        let is_upn = || prefix.is_empty() && suffix.strip_prefix('@').is_some_and(is_domain);
        let is_logon = || suffix.is_empty() && prefix.strip_suffix('\\').is_some_and(is_domain);
        if prefix.ends_with('=') && (suffix.is_empty() || suffix.starts_with(',')) {
            Some(Self::Dn { prefix, suffix })
        } else if is_upn() || is_logon() {
            Some(Self::Account { prefix, suffix })
        } else {
            None
        }
    }

    /// The bind name of `name`, never empty.
    ///
    /// # Errors
    /// When the name holds a character that would change the domain or the kind of the bind name.
    pub(super) fn fill(&self, name: TypedName<'_>) -> Result<String, LdapRefusal> {
        let (prefix, value, suffix): (_, Cow<'_, str>, _) = match self {
            Self::Dn { prefix, suffix } => (prefix, dn_escape(name.as_str()), suffix),
            Self::Account { prefix, suffix } => {
                let typed = name.as_str();
                if typed.contains(NOT_IN_ACCOUNTS) || typed.trim() != typed {
                    return Err(LdapRefusal::ImpossibleName);
                }
                (prefix, typed.into(), suffix)
            }
        };
        Ok(format!("{prefix}{value}{suffix}"))
    }
}

/// What no `sAMAccountName` holds ([MS-ADTS] 3.1.1.8.1), and `@`, which begins a domain.
const NOT_IN_ACCOUNTS: [char; 16] =
    ['"', '/', '\\', '[', ']', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@'];

/// Whether `text` is an attribute description (RFC 4512 section 2.5), such as `uid`,
/// `userCertificate;binary` or `1.2.840.113556.1.4.221`.
pub(super) fn is_attribute(text: &str) -> bool {
    let fits = (1..=128).contains(&text.len()) && !text.starts_with(['-', '.', ';']);
    fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.;".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INJECTIONS: [&str; 10] = [
        "*",
        "*)(uid=*",
        "alice)(|(uid=*",
        r"\2a",
        r"alice\",
        "alice,ou=x",
        "(((((",
        "$dn",
        "$username",
        "a)(objectClass=*))(&(uid=a",
    ];

    #[test]
    fn a_typed_name_is_not_blank_not_long_and_has_no_control_characters() {
        for good in ["alice", " alice", "jürgen", "we, ird (x)*\\", &"a".repeat(256)] {
            assert!(TypedName::new(good).is_ok(), "{good:?}");
        }
        let long = "a".repeat(257);
        for bad in ["", " ", "\u{a0}", "a\0", "a\nb", "\u{7f}a", "a\u{85}", &long] {
            assert!(TypedName::new(bad).is_err(), "{bad:?}");
        }
    }

    /// Decodes `\xx` (RFC 4515 section 3), independently of the library.
    fn unescaped(text: &str) -> Vec<u8> {
        let mut bytes = text.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            if byte == b'\\' {
                let hex: Vec<u8> = bytes.by_ref().take(2).collect();
                out.push(u8::from_str_radix(str::from_utf8(&hex).unwrap(), 16).unwrap());
            } else {
                out.push(byte);
            }
        }
        out
    }

    fn every_character() -> impl Iterator<Item = String> {
        let short = (0..=0x17ff_u32).filter_map(char::from_u32);
        short.flat_map(|letter| [format!("{letter}"), format!("a{letter}b"), format!("b{letter}")])
    }

    #[test]
    fn no_character_gets_out_of_a_filter_value() {
        for name in every_character() {
            let escaped = ldap_escape(name.as_str());
            assert!(!escaped.contains(['*', '(', ')', '\0']), "{name:?}");
            assert_eq!(unescaped(&escaped), name.as_bytes(), "{name:?}");
            assert!(
                parse_filter(FilterTemplate::equals("uid").fill(&name, "")).is_ok(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn no_character_gets_out_of_a_dn_value() {
        for name in every_character() {
            let escaped = dn_escape(name.as_str());
            assert_eq!(unescaped(&escaped), name.as_bytes(), "{name:?}");
            assert!(!escaped.contains(['"', '+', ',', ';', '<', '=', '>', '\0']), "{name:?}");
            assert!(!escaped.starts_with([' ', '#']) && !escaped.ends_with(' '), "{name:?}");
        }
    }

    #[test]
    fn an_injection_stays_one_value_of_the_same_filter() {
        let template = FilterTemplate::for_groups("(&(member=$dn)(o=$username)(x=$y))").unwrap();
        for name in INJECTIONS {
            let filter = template.fill(name, name);
            assert_eq!(filter.matches('(').count(), 4, "{filter}");
            assert_eq!(filter.matches(')').count(), 4, "{filter}");
            assert!(!filter.contains('*'), "{filter}");
        }
        assert_eq!(template.fill("$dn", "$username"), "(&(member=$username)(o=$dn)(x=$y))");
    }

    #[test]
    fn a_filter_is_refused_when_its_placeholder_is_missing_or_stands_in_no_value() {
        assert!(FilterTemplate::for_person("(&(objectClass=person)(uid=$username))").is_ok());
        assert!(FilterTemplate::for_person("(|(uid=$username)(mail=$username))").is_ok());
        assert!(FilterTemplate::for_groups("(member:1.2.840.113556.1.4.1941:=$dn)").is_ok());
        for (filter, problem) in [
            ("(uid=alice)", FilterProblem::NoPlaceholder),
            ("(uid=$username", FilterProblem::Malformed),
            ("uid=$username", FilterProblem::Malformed),
            ("($username=*)", FilterProblem::Malformed),
            ("(uid=$username)(x=y)", FilterProblem::Malformed),
            ("$username", FilterProblem::Malformed),
            ("(member=$dn)", FilterProblem::DnNotKnownYet),
        ] {
            assert_eq!(FilterTemplate::for_person(filter), Err(problem), "{filter}");
        }
    }

    #[test]
    fn who_is_looked_up_again_is_found_by_the_account_among_those_that_may_log_in() {
        for (filter, admits) in [
            ("(uid=$username)", "(uid=*)"),
            ("(&(uid=$username)(objectClass=person))", "(&(uid=*)(objectClass=person))"),
            ("(|(uid=$username)(mail=$username))", "(|(uid=*)(mail=*))"),
            (
                "(|(&(uid=$username)(a=1))(&(mail=$username)(a=1)))",
                "(|(&(uid=*)(a=1))(&(mail=*)(a=1)))",
            ),
            ("(&(uid=$username)(!(status=gone)))", "(&(uid=*)(!(status=gone)))"),
            // Whatever the name does there, the part without it lets more in, never less.
            ("(&(uid=$username)(!(denied=$username)))", "(&(uid=*)(objectClass=*))"),
            ("(cn=*$username*)", "(cn=*)"),
            ("(sn~=$username)", "(sn=*)"),
            ("(uid:caseExactMatch:=$username)", "(uid=*)"),
            ("(:dn:2.4.6.8:=$username)", "(objectClass=*)"),
            (r"(&(cn=a\28b)(uid=$username))", r"(&(cn=a\28b)(uid=*))"),
        ] {
            let again = FilterTemplate::for_person(filter).unwrap().again("account");
            let text = again.fill("a*", "");
            assert_eq!(text, format!(r"(&(account=a\2a){admits})"), "{filter}");
            assert!(parse_filter(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_filter_tells_which_values_it_compares_as_a_whole() {
        let asked = |filter| {
            let template = FilterTemplate::for_person(filter).unwrap();
            let asked = template.asked("x").into_iter();
            asked.map(|(attribute, value)| format!("{attribute}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(asked("(&(uid=$username)(objectClass=person))"), ["uid=x"]);
        assert_eq!(
            asked("(|(uid=$username)(upn=a$username@corp.test)(cn=*$username*))"),
            ["uid=x", "upn=ax@corp.test"]
        );
        for parts in ["(cn=$username*)", "(sn~=$username)", "(uid:caseExactMatch:=$username)"] {
            assert_eq!(asked(parts), [""; 0], "{parts}");
        }
        let attribute =
            |prefix| BindName::parse(prefix, ",dc=x").unwrap().attribute().map(str::to_owned);
        assert_eq!(attribute("CN=").as_deref(), Some("CN"));
        assert_eq!(attribute("a b="), None);
    }

    #[test]
    fn a_deep_or_long_filter_is_an_error_and_no_stack_overflow() {
        let deep = format!("{}(uid=$username){}", "(!".repeat(100_000), ")".repeat(100_000));
        assert_eq!(FilterTemplate::for_person(&deep), Err(FilterProblem::TooLarge));
        let nested =
            |levels| format!("{}(uid=$username){}", "(!".repeat(levels), ")".repeat(levels));
        assert!(FilterTemplate::for_person(&nested(31)).is_ok());
        assert_eq!(FilterTemplate::for_person(&nested(32)), Err(FilterProblem::TooLarge));
    }

    #[test]
    fn a_bind_name_is_a_dn_or_an_account_and_nothing_between() {
        for (prefix, suffix) in [("uid=", ",ou=people,dc=x"), ("cn=", ""), ("uid=", ",")] {
            assert!(matches!(BindName::parse(prefix, suffix), Some(BindName::Dn { .. })));
        }
        for (prefix, suffix) in [("", "@corp.test"), (r"CORP\", "")] {
            assert!(matches!(BindName::parse(prefix, suffix), Some(BindName::Account { .. })));
        }
        for (prefix, suffix) in [
            ("", ""),
            ("", "@"),
            ("\\", ""),
            ("", ",dc=x"),
            ("uid=", "dc=x"),
            ("CORP", ""),
            ("x", "@corp.test"),
            ("uid", "=x"),
        ] {
            assert_eq!(BindName::parse(prefix, suffix), None, "{prefix:?} {suffix:?}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_dn_or_its_domain() {
        let name = |typed| TypedName::new(typed).unwrap();
        let dn = BindName::parse("uid=", ",ou=people").unwrap();
        assert_eq!(dn.fill(name("alice")).unwrap(), "uid=alice,ou=people");
        assert_eq!(dn.fill(name("alice,ou=x")).unwrap(), r"uid=alice\2cou\3dx,ou=people");

        let upn = BindName::parse("", "@corp.test").unwrap();
        assert_eq!(upn.fill(name("alice")).unwrap(), "alice@corp.test");
        assert_eq!(upn.fill(name("jürgen.x-y_z")).unwrap(), "jürgen.x-y_z@corp.test");
        let down_level = BindName::parse(r"CORP\", "").unwrap();
        assert_eq!(down_level.fill(name("alice")).unwrap(), r"CORP\alice");
        for typed in ["a@evil.test", r"EVIL\a", "uid=a,dc=x", " a", "a ", "a*", "a/b", "a:b"] {
            assert!(upn.fill(name(typed)).is_err(), "{typed:?}");
            assert!(down_level.fill(name(typed)).is_err(), "{typed:?}");
        }
    }

    #[test]
    fn an_attribute_is_a_name_or_an_oid() {
        for good in
            ["uid", "sAMAccountName", "memberOf;range=0-1".split('=').next().unwrap(), "1.2.3"]
        {
            assert!(is_attribute(good), "{good}");
        }
        for bad in ["", "uid=", "a b", "*", "uid)", ";x", &"a".repeat(129)] {
            assert!(!is_attribute(bad), "{bad}");
        }
    }
}
