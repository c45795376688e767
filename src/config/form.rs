//! The forms that values have: what is expected, in words, and how it is read.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use toml::de::DeValue;

use crate::names::Ttl;

/// One form of a value. Reading answers nothing when the value does not have it.
pub(super) struct Form<T> {
    what: Cow<'static, str>,
    type_name: &'static str,
    hint: Option<&'static str>,
    read: Box<Read<T>>,
}

const STRING: &str = "a string";
const INTEGER: &str = "a whole number";
const BOOLEAN: &str = "true or false";

/// The type of a list, in words.
pub(super) const LIST: &str = "a list";
/// The type of a table, in words.
pub(super) const TABLE: &str = "a table";

type Read<T> = dyn Fn(&DeValue<'_>) -> Option<T>;

impl<T: 'static> Form<T> {
    fn new(
        what: impl Into<Cow<'static, str>>,
        type_name: &'static str,
        read: impl Fn(&DeValue<'_>) -> Option<T> + 'static,
    ) -> Self {
        Self { what: what.into(), type_name, hint: None, read: Box::new(read) }
    }

    fn string(
        what: impl Into<Cow<'static, str>>,
        read: impl Fn(&str) -> Option<T> + 'static,
    ) -> Self {
        Self::new(what, STRING, move |value| value.as_str().and_then(&read))
    }

    /// The same form with a hint for those who miss it.
    pub(super) fn hinting(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

impl<T> Form<T> {
    /// The form in words, to stand after "must be".
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// The type that a value of this form has, in words.
    pub(super) fn type_name(&self) -> &'static str {
        self.type_name
    }

    /// What may help whoever missed the form.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hint
    }

    /// The value, if it has the form.
    pub(super) fn read(&self, value: &DeValue<'_>) -> Option<T> {
        (self.read)(value)
    }
}

/// A text on one line that is not blank.
pub(super) fn text(what: &'static str) -> Form<String> {
    Form::string(what, |text| {
        let is_plain = !text.trim().is_empty() && !text.chars().any(char::is_control);
        is_plain.then(|| text.to_owned())
    })
}

/// A text on one line that may be empty.
pub(super) fn text_or_nothing() -> Form<String> {
    Form::string("a text on one line", |text| {
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    })
}

/// A text that `read` understands.
pub(super) fn checked<T: 'static>(
    what: &'static str,
    read: impl Fn(&str) -> Option<T> + 'static,
) -> Form<T> {
    Form::string(what, read)
}

/// A text that is checked by its own type.
pub(super) fn parsed<T: FromStr + 'static>(what: &'static str) -> Form<T> {
    Form::string(what, |text| text.parse().ok())
}

/// A name that the operator chooses.
pub(super) fn label<T: FromStr + 'static>() -> Form<T> {
    parsed("a name: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit")
}

/// A role of PostgreSQL.
pub(super) fn role<T: FromStr + 'static>() -> Form<T> {
    parsed("a role of PostgreSQL: 1 to 63 bytes, and not `public`, `none` or `pg_…`")
}

/// `true` or `false`.
pub(super) fn flag() -> Form<bool> {
    Form::new("true or false, without quotes", BOOLEAN, |value| match value {
        DeValue::Boolean(flag) => Some(*flag),
        _ => None,
    })
}

/// A length of time from `least` to `most` seconds.
pub(super) fn duration(least: &'static str, most: &'static str) -> Form<Ttl> {
    let bound = |text: &str| text.parse::<Ttl>().ok();
    let (from, to) = (bound(least), bound(most));
    let what = format!("a length of time with its unit, from \"{least}\" to \"{most}\"");
    let form = Form::string(what, move |text| {
        let ttl: Ttl = text.parse().ok()?;
        (from? <= ttl && ttl <= to?).then_some(ttl)
    });
    form.hinting("units are s, m, h and d, as in \"90s\" or \"1h30m\"")
}

/// A size of whole bytes, `KiB` or `MiB`, from `least` to `most` bytes.
pub(super) fn size(least: &'static str, most: &'static str) -> Form<usize> {
    let (from, to) = (bytes(least), bytes(most));
    let what = format!("a size with its unit, from \"{least}\" to \"{most}\"");
    let form = Form::string(what, move |text| {
        let size = bytes(text)?;
        (from? <= size && size <= to?).then_some(size)
    });
    form.hinting("units are B, KiB (1024 B) and MiB (1024 KiB), as in \"64KiB\"")
}

fn bytes(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

/// A whole number from `least` to `most`.
pub(super) fn integer(least: u32, most: u32) -> Form<u32> {
    let what = format!("a whole number from {least} to {most}, without quotes");
    Form::new(what, INTEGER, move |value| {
        let integer = value.as_integer()?;
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        (least..=most).contains(&number).then_some(number)
    })
}

/// A whole number that is checked by its own type.
pub(super) fn number<T: TryFrom<u32> + 'static>(least: u32, most: u32) -> Form<T> {
    let plain = integer(least, most);
    let what = plain.what.clone();
    Form::new(what, INTEGER, move |value| plain.read(value)?.try_into().ok())
}

/// `sslmode`: what protects a connection of the broker's own, in libpq's words.
#[derive(Clone, Copy)]
pub(super) enum SslMode {
    VerifyFull,
    Disable,
}

/// One of the two that the broker connects with: there is nothing between.
pub(super) fn ssl_mode() -> Form<SslMode> {
    choice(&[("verify-full", SslMode::VerifyFull), ("disable", SslMode::Disable)])
}

/// A TCP port.
pub(super) fn port() -> Form<u16> {
    number(1, 65_535)
}

/// An address with its port.
pub(super) fn socket_address() -> Form<SocketAddr> {
    parsed("an IP address with a port, such as \"127.0.0.1:8432\" or \"[::1]:8432\"")
}

/// A path.
pub(super) fn path() -> Form<PathBuf> {
    let form = text("the path of a file");
    Form::string("the path of a file", move |value| {
        form.read(&DeValue::String(value.into())).map(PathBuf::from)
    })
}

/// One of a few words.
pub(super) fn choice<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Form<T> {
    let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    Form::string(format!("one of {}", all.join(", ")), |text| {
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
    })
}

/// A host by its DNS name or address, without scheme and port.
pub(super) fn host() -> Form<String> {
    Form::string("a host name or IP address", |text| is_host(text).then(|| text.to_owned()))
        .hinting("scheme and port have keys of their own")
}

/// A host, or the directory of a Unix socket.
pub(super) fn host_or_socket() -> Form<String> {
    let what = "a host name, an IP address, or the absolute directory of a Unix socket";
    Form::string(what, |text| {
        let is_directory = text.starts_with('/') && !text.chars().any(char::is_control);
        (is_directory || is_host(text)).then(|| text.to_owned())
    })
}

fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(plain)
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_name = text.len() <= 253 && name.split('.').all(is_label);
    // `1.2.3` and `300.1.1.1` are names only to those who have not met `inet_aton`.
    let ends_with_number =
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse::<IpAddr>().is_ok() || (is_name && !ends_with_number)
}

/// Whether `host` can only be this machine: a loopback address, `localhost`, or a socket's
/// directory.
pub(super) fn is_this_machine(host: &str) -> bool {
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(is_loopback)
}

/// The type of a value, in words.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => STRING,
        DeValue::Integer(_) => INTEGER,
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => BOOLEAN,
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => LIST,
        DeValue::Table(_) => TABLE,
    }
}

/// A key for a message. One that does not look like a key may be something pasted.
pub(super) fn shown_key(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= 40 && name.bytes().all(plain) {
        format!("`{name}`")
    } else {
        "this".to_owned()
    }
}

/// What may help whoever wrote the unknown key `name` where `known` ones stand.
pub(super) fn key_hint(name: &str, known: &[&'static str]) -> Option<String> {
    let looks_secret = ["pass", "pw", "secret", "token", "credential", "private"];
    let name = name.to_lowercase().replace('-', "_");
    if looks_secret.iter().any(|word| name.contains(word)) && !name.ends_with("_file") {
        let files = known.iter().filter(|key| key.ends_with("_file"));
        let secrets = files.filter(|key| looks_secret.iter().any(|word| key.contains(word)));
        let key = nearest(&name, secrets.copied(), 0.0);
        let through = key.map_or_else(String::new, |key| format!(", and its path in `{key}`"));
        let hint = "a secret never stands in this file: put it alone into a file of its own \
                    (chmod 600)";
        return Some(format!("{hint}{through}. If it is in use, change it now"));
    }
    let near = nearest(&name, known.iter().copied(), 0.8);
    near.map(|near| format!("did you mean `{near}`?"))
}

fn nearest(
    name: &str,
    candidates: impl Iterator<Item = &'static str>,
    least: f64,
) -> Option<&'static str> {
    let scored = candidates.map(|key| (strsim::jaro_winkler(name, key), key));
    let close = scored.filter(|(score, _)| *score >= least);
    close.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
}

/// A network, written by its address and the length of its prefix.
pub(super) fn network() -> Form<IpNet> {
    checked("a network, such as \"10.0.0.0/8\" or \"2001:db8::/32\"", |text| {
        let network: IpNet = text.parse().ok()?;
        (network.trunc() == network).then_some(network)
    })
    .hinting("bits behind the prefix must be zero; one address is \"10.1.2.3/32\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn accepts<T>(form: &Form<T>, good: &[&str], bad: &[&str]) {
        let reads = |text: &&str| form.read(DeValue::parse(text).unwrap().get_ref()).is_some();
        assert_eq!(good.iter().find(|text| !reads(text)), None, "{} refused", form.what());
        assert_eq!(bad.iter().find(|text| reads(text)), None, "{} accepted", form.what());
    }

    #[test]
    fn a_size_has_a_unit_and_a_bound() {
        accepts(
            &size("1KiB", "1MiB"),
            &["'1KiB'", "'64KiB'", "'1MiB'", "'1024B'"],
            &[
                "'1B'",
                "'2MiB'",
                "'64'",
                "64",
                "'64kb'",
                "'KiB'",
                "'-1KiB'",
                "'99999999999999999999MiB'",
            ],
        );
    }

    #[test]
    fn a_length_of_time_has_a_unit_and_a_bound() {
        accepts(&duration("1m", "1h"), &["'1m'", "'60s'", "'1h'"], &["'59s'", "'61m'", "'5'", "5"]);
    }

    #[test]
    fn a_whole_number_is_bounded_in_every_base() {
        accepts(
            &integer(1, 255),
            &["1", "255", "0xff", "0b1", "1_0"],
            &["0", "256", "-1", "1.0", "'1'", "99999999999999999999999"],
        );
        accepts(&port(), &["1", "65535"], &["0", "65536"]);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_around_it() {
        accepts(
            &host(),
            &["'db'", "'dc1.example.test'", "'10.0.0.1'", "'::1'", "'a.b.'", "'x1'", "'1x.2x'"],
            &[
                "''",
                "'a b'",
                "'ldap://a'",
                "'a:389'",
                "'[::1]'",
                "'a..b'",
                "'-a'",
                "'1.2.3'",
                "'300.1.1.1'",
                "'/run'",
                "'0x7f.1'",
                "'a,b'",
                "'é'",
            ],
        );
        accepts(&host_or_socket(), &["'/run/postgresql'", "'db'"], &["'run/x'", "''", "\"/a\\n\""]);
    }

    #[test]
    fn this_machine_is_told_by_address_and_not_by_likeness() {
        for here in
            ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost", "::ffff:127.0.0.1", "/run"]
        {
            assert!(is_this_machine(here), "{here}");
        }
        for away in
            ["128.0.0.1", "0.0.0.0", "localhost.example.test", "::", "127.0.0.1.example", "db"]
        {
            assert!(!is_this_machine(away), "{away}");
        }
    }

    #[test]
    fn a_text_is_one_line_and_not_blank() {
        accepts(&text("text"), &["'a b'"], &["''", "' '", "\"a\\nb\"", "\"a\\u0000\"", "1"]);
        accepts(&text_or_nothing(), &["''", "'a'"], &["\"\\n\"", "1"]);
        accepts(&path(), &["'a/b'"], &["''", "1"]);
    }

    #[test]
    fn an_unknown_key_is_met_with_its_likeliest_meaning() {
        let known = ["ldapbinddn", "ldapbindpasswd_file", "ldapserver"];
        let hint = |name: &str| key_hint(name, &known).unwrap_or_default();
        assert_eq!(hint("ldapservers"), "did you mean `ldapserver`?");
        assert_eq!(hint("zzz"), "");
        for secret in ["ldapbindpasswd", "password", "bindpw", "secret", "Bind-Password"] {
            assert!(hint(secret).contains("`ldapbindpasswd_file`"), "{secret}: {}", hint(secret));
        }
        assert!(
            key_hint("token", &["a"]).unwrap_or_default().contains("never stands in this file")
        );
    }

    #[test]
    fn a_key_that_looks_like_no_key_is_not_shown() {
        assert_eq!(shown_key("ldap_server2"), "`ldap_server2`");
        for odd in ["Tr0ub4dor&3", "correct horse", "", &"a".repeat(41)] {
            assert_eq!(shown_key(odd), "this", "{odd}");
        }
    }
}
