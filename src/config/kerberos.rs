//! `[[kerberos]]`: tickets of Kerberos in the place of names and passwords.

use super::diagnostic::Note;
use super::files::{self, Privacy};
use super::form::{self, Form};
use super::map::{self, NamedMap};
use super::reader::{Table, Unique};
use crate::auth::kerberos::{ChannelBinding, Kdc, KerberosSettings, Keys, KeytabError};
use crate::mapping::Maps;
use crate::names::{KerberosPrincipal, Shape, Ttl, WayName};

/// One way in by tickets, and the maps that it uses.
pub(super) struct TicketWay {
    pub settings: KerberosSettings,
    pub maps: Maps,
    /// What is allowed in it and may not be meant.
    pub note: Option<Note>,
}

const KDCS: &[(&str, Kdc)] = &[("mit", Kdc::Mit), ("active_directory", Kdc::ActiveDirectory)];

const SHAPES: &[(&str, Shape)] = &[
    ("person", Shape::Person),
    ("instance", Shape::Instance),
    ("machine", Shape::Machine),
    ("host", Shape::Host),
    ("service", Shape::Service),
];

const BINDINGS: &[(&str, ChannelBinding)] = &[
    ("off", ChannelBinding::Off),
    ("offered", ChannelBinding::Offered),
    ("required", ChannelBinding::Required),
];

const NO_GROUPS: &str =
    "map the principals themselves with `map`, or let these people in by a [[ldap]]";

const WEAK: &str = "the keytab has weak keys of the service beside good ones (RC4, DES): they are \
                    never used, and can be removed";

/// Reads one way in by tickets. An identity that it proves is good for `lifetime` at most; `has_tls`
/// says whether the broker speaks TLS.
pub(super) fn read(
    table: Table<'_>,
    names: &mut Unique<WayName>,
    named: &mut Vec<NamedMap>,
    lifetime: Option<Ttl>,
    has_tls: bool,
) -> Option<TicketWay> {
    let name = table.required("name", &form::label());
    if let Some(name) = &name {
        names.claim(&table, "name", name);
    }
    let maps = map::map_alone(&table, named);
    table.refuse("group_map", "can match nothing: a ticket gives no groups so far", NO_GROUPS);
    let service = table.required("service", &service());
    let keytab = table.required("keytab_file", &form::path());
    let keytab = keytab.map(|path| table.reader().resolve(&path));
    let keys = keytab.as_ref().and_then(|path| {
        let bytes = files::read(&table, "keytab_file", path, Privacy::Secret)?;
        keys(&table, &bytes, service.as_ref()?)
    });
    let realms = table.required_list("realms", &realm());
    let kdc = table.required("kdc", &form::choice(KDCS));
    let shapes = table.defaulted_list("shapes", "[\"person\"]", &form::choice(SHAPES));
    if shapes.as_ref().is_some_and(Vec::is_empty) {
        table.mistake("shapes", "is empty, so nobody could log in", "name `person` at least");
    }
    let channel_binding =
        table.defaulted("channel_binding", "\"offered\"", &form::choice(BINDINGS));
    if channel_binding == Some(ChannelBinding::Required) && !has_tls {
        let hint = "set `certificate_file` and `key_file` in [server], or \"offered\" here";
        table.mistake("channel_binding", "needs TLS, which the broker does not speak", hint);
    }
    let weak = table.reader().odd(table.place(), WEAK);
    table.finish();
    let settings = KerberosSettings {
        name: name?,
        service: service?,
        keytab: keytab?,
        realms: realms?,
        kdc: kdc?,
        shapes: shapes?,
        channel_binding: channel_binding?,
        lifetime: lifetime?,
    };
    let note = keys.is_some_and(|keys| keys.weak() > 0).then_some(weak);
    Some(TicketWay { settings, maps, note })
}

/// The keys that tickets can be accepted by. Nothing when there are none; that is noted.
fn keys(table: &Table<'_>, bytes: &[u8], service: &KerberosPrincipal) -> Option<Keys> {
    let error = match Keys::read(bytes, service) {
        Ok(keys) => return Some(keys),
        Err(error) => error,
    };
    let hint = match error {
        KeytabError::NotAKeytab | KeytabError::Damaged => {
            "write it anew: `ktadd -k FILE SERVICE` in kadmin, or `ktpass` on Windows"
        }
        KeytabError::NotThere { .. } => {
            "the name is compared letter by letter, the realm too; `klist -k FILE` shows them"
        }
        KeytabError::OnlyWeak => {
            "make AES keys: `ktadd -e aes256-cts:normal`, or on Active Directory set \
             msDS-SupportedEncryptionTypes of the account to 24 and its password anew"
        }
    };
    table.mistake("keytab_file", &format!("names a file that {error}"), hint);
    None
}

/// A service: two components or more, and a realm.
fn service() -> Form<KerberosPrincipal> {
    let what = "a service with its realm, such as \"HTTP/pgbridge.example.test@EXAMPLE.TEST\"";
    form::checked(what, |text| {
        let principal: KerberosPrincipal = text.parse().ok()?;
        matches!(principal.shape(), Shape::Service | Shape::Host).then_some(principal)
    })
}

/// A realm, as it stands behind the `@` of a principal.
fn realm() -> Form<String> {
    form::checked("a realm, such as \"EXAMPLE.TEST\"", |text| {
        let principal: KerberosPrincipal = format!("x@{text}").parse().ok()?;
        (principal.realm() == text && principal.shape() == Shape::Person).then(|| text.to_owned())
    })
}
