//! `[[ldap]]`: a directory in which people prove who they are.

use super::diagnostic::Note;
use super::files;
use super::form::{self, Form};
use super::map::{self, NamedMap};
use super::reader::{Table, Unique};
use crate::auth::ldap::{
    BindMode, DirectoryType, Find, GroupLookup, GroupSearch, LdapSettings, LdapSettingsError,
    LdapWay, Scheme, ServiceAccount, StartTls, TokenGroups, domain_part,
};
use crate::mapping::Maps;
use crate::names::{LoginPassword, Ttl, WayName};

/// One directory and the maps that it uses.
pub(super) struct Directory {
    pub settings: LdapSettings,
    pub maps: Maps,
    /// What is allowed in it and may not be meant.
    pub note: Option<Note>,
}

const NOT_LOOKED_UP: &str = "without a search nobody is looked up again: who loses a group or the \
                             account keeps their sessions, and renews, until the login ends";

/// Reads one directory. An identity that it proves is good for `lifetime`.
pub(super) fn read(
    table: Table<'_>,
    names: &mut Unique<WayName>,
    named: &mut Vec<NamedMap>,
    lifetime: Option<Ttl>,
) -> Option<Directory> {
    let name = table.required("name", &form::label());
    if let Some(name) = &name {
        names.claim(&table, "name", name);
    }
    let maps = map::maps(&table, named);
    if !table.has("map") && !table.has("group_map") {
        let message =
            "this [[ldap]] has neither `map` nor `group_map`, so nobody gets a role by it";
        table.reader().mistake(table.place(), message, "name a map of the map file");
    }
    let connection = connection(&table);
    let directory_type = table.defaulted("directory_type", "\"ldap\"", &form::choice(TYPES));
    let kind = directory_type.unwrap_or_default();
    let account = Account::read(&table, kind);
    let groups = groups(&table, kind);
    let times = times(&table);
    if let Some((account, groups)) = account.as_ref().zip(groups.as_ref()) {
        try_out(&table, kind, account, groups);
    }
    let odd = table.reader().odd(table.place(), NOT_LOOKED_UP);
    table.finish();
    let (Connection { servers, port, scheme, tls, ca }, account) = connection.zip(account)?;
    let (timeout, deadline) = times?;
    let settings = LdapSettings {
        name: name?,
        directory_type: directory_type?,
        servers,
        port,
        scheme,
        tls,
        ca,
        account_attribute: account.attribute,
        bind: account.bind.with(account.service),
        groups: groups?,
        timeout,
        deadline,
        lifetime: lifetime?,
    };
    let note = matches!(settings.bind, BindMode::Simple { .. }).then_some(odd);
    Some(Directory { settings, maps, note })
}

const TYPES: &[(&str, DirectoryType)] =
    &[("ldap", DirectoryType::Ldap), ("active_directory", DirectoryType::ActiveDirectory)];

/// How the directory is reached.
struct Connection {
    servers: Vec<String>,
    port: Option<u16>,
    scheme: Scheme,
    tls: StartTls,
    ca: Option<Vec<u8>>,
}

const SCHEMES: &[(&str, Scheme)] = &[("ldap", Scheme::Ldap), ("ldaps", Scheme::Ldaps)];
const IN_CLEAR: &str = "set `ldapscheme = \"ldaps\"`, or `ldaptls = true` for StartTLS";

fn connection(table: &Table<'_>) -> Option<Connection> {
    let servers = table.required_list("ldapserver", &form::host());
    let port = table.optional("ldapport", &form::port());
    let scheme = table.defaulted("ldapscheme", "\"ldap\"", &form::choice(SCHEMES));
    let start_tls = table.defaulted("ldaptls", "false", &form::flag());
    let authorities = files::authorities(table, "ca_file");
    match (scheme, start_tls) {
        (Some(Scheme::Ldaps), Some(true)) => {
            let hint = "`ldaps` has TLS from the first byte: remove one of the two";
            table.mistake("ldaptls", "cannot be used with `ldapscheme = \"ldaps\"`", hint);
        }
        (Some(Scheme::Ldap), Some(false)) => {
            let is_away = |server: &String| !form::is_this_machine(server);
            if servers.iter().flatten().any(is_away) {
                let what = "is not this machine, and passwords would cross the network in clear";
                table.mistake("ldapserver", what, IN_CLEAR);
            } else if table.has("ca_file") {
                table.mistake("ca_file", "does nothing, because no TLS is spoken", IN_CLEAR);
            }
        }
        _ => {}
    }
    Some(Connection {
        servers: servers?,
        port,
        scheme: scheme?,
        tls: if start_tls? { StartTls::Yes } else { StartTls::No },
        ca: authorities.map(|authorities| authorities.pem.into_bytes()),
    })
}

/// How a name becomes an account.
struct Account {
    bind: Bind,
    service: Option<ServiceAccount>,
    attribute: String,
}

/// [`BindMode`] without its secret.
#[derive(Clone)]
enum Bind {
    Simple { prefix: String, suffix: String, base_dn: Option<String> },
    Search { base_dn: String, find: Find },
}

impl Bind {
    fn with(self, service: Option<ServiceAccount>) -> BindMode {
        match self {
            Self::Simple { prefix, suffix, base_dn } => {
                BindMode::Simple { prefix, suffix, base_dn }
            }
            Self::Search { base_dn, find } => BindMode::Search { base_dn, service, find },
        }
    }
}

const SIMPLE_WORDS: [&str; 2] = ["ldapprefix", "ldapsuffix"];
const SEARCH_WORDS: [&str; 5] = [
    "ldapbinddn",
    "ldapbindpasswd_file",
    "ldapsearchattribute",
    "ldapsearchfilter",
    "netbios_domain",
];
const TWO_MODES: &str = "either bind as `ldapprefix` + name + `ldapsuffix`, or search with \
                         `ldapbasedn` and bind as the entry found";

impl Account {
    fn read(table: &Table<'_>, kind: DirectoryType) -> Option<Self> {
        let dn = form::text("the DN of an entry");
        let prefix = table.optional("ldapprefix", &form::text_or_nothing());
        let suffix = table.optional("ldapsuffix", &form::text_or_nothing());
        let base_dn = table.optional("ldapbasedn", &dn);
        let service = service(table, &dn);
        let find = find(table, kind);
        let attribute = table.optional("account_attribute", &attribute());
        let attribute = attribute.unwrap_or_else(|| match &find {
            Some(Find::Attribute(name)) => name.clone(),
            _ => default_attribute(kind).to_owned(),
        });
        let is_simple = SIMPLE_WORDS.iter().any(|word| table.has(word));
        if is_simple {
            for word in SEARCH_WORDS.iter().filter(|word| table.has(word)) {
                table.mistake(word, "cannot be used with `ldapprefix` or `ldapsuffix`", TWO_MODES);
            }
            let (prefix, suffix) = (prefix.unwrap_or_default(), suffix.unwrap_or_default());
            return Some(Self {
                bind: Bind::Simple { prefix, suffix, base_dn },
                service,
                attribute,
            });
        }
        if !table.has("ldapbasedn") {
            let message = "this [[ldap]] does not say how an account is found";
            table.reader().mistake(table.place(), message, TWO_MODES);
        }
        Some(Self { bind: Bind::Search { base_dn: base_dn?, find: find? }, service, attribute })
    }
}

/// Who searches; nobody in particular when neither word is written.
fn service(table: &Table<'_>, dn: &Form<String>) -> Option<ServiceAccount> {
    let bind_dn = table.optional("ldapbinddn", dn);
    let path = table.optional("ldapbindpasswd_file", &form::path());
    let password = path.and_then(|path| {
        files::password(table, "ldapbindpasswd_file", &table.reader().resolve(&path))
    });
    let alone = |key: &str, other: &str| {
        let what = format!("needs `{other}` beside it");
        table.mistake(key, &what, "a bind without a password proves nothing (RFC 4513, 5.1.2)");
    };
    match (table.has("ldapbinddn"), table.has("ldapbindpasswd_file")) {
        (true, false) => alone("ldapbinddn", "ldapbindpasswd_file"),
        (false, true) => alone("ldapbindpasswd_file", "ldapbinddn"),
        _ => {}
    }
    let bind_password = LoginPassword::new(password?.to_string());
    Some(ServiceAccount { bind_dn: bind_dn?, bind_password })
}

/// The attribute with the account, where nothing says another.
fn default_attribute(kind: DirectoryType) -> &'static str {
    match kind {
        DirectoryType::Ldap => LdapSettings::DEFAULT_ATTRIBUTE,
        DirectoryType::ActiveDirectory => "sAMAccountName",
    }
}

/// What an account is found by. Nothing when it is wrong.
fn find(table: &Table<'_>, kind: DirectoryType) -> Option<Find> {
    let netbios_domain = table.optional("netbios_domain", &netbios_domain());
    let is_searched = table.has("ldapsearchattribute") || table.has("ldapsearchfilter");
    if table.has("netbios_domain") && (kind == DirectoryType::Ldap || is_searched) {
        let hint = "it is for `directory_type = \"active_directory\"`, where nothing else says what \
                    is searched";
        table.mistake("netbios_domain", "does nothing", hint);
    }
    let name = table.optional("ldapsearchattribute", &attribute());
    let filter = table.optional("ldapsearchfilter", &form::text("a search filter"));
    match (table.has("ldapsearchattribute"), table.has("ldapsearchfilter")) {
        (true, true) => {
            let what = "cannot be used with `ldapsearchattribute`";
            table.mistake("ldapsearchfilter", what, "keep one of the two");
            None
        }
        (true, false) => name.map(Find::Attribute),
        (false, true) => filter.map(Find::Filter),
        (false, false) => Some(match kind {
            DirectoryType::Ldap => Find::Attribute(default_attribute(kind).to_owned()),
            DirectoryType::ActiveDirectory => Find::LogonName { netbios_domain },
        }),
    }
}

/// Where the groups are found. Nothing when that is wrong. Active Directory lists them itself, unless
/// another way is written.
fn groups(table: &Table<'_>, kind: DirectoryType) -> Option<GroupLookup> {
    let member_of = table.optional("member_of_attribute", &attribute());
    let base_dn = table.optional("group_base_dn", &form::text("the DN of an entry"));
    let filter = table.optional("group_filter", &form::text("a search filter"));
    let alone = |key: &str, other: &str| {
        table.mistake(
            key,
            &format!("needs `{other}` beside it"),
            "both say which groups there are",
        );
    };
    let words = (table.has("group_base_dn"), table.has("group_filter"));
    if kind == DirectoryType::ActiveDirectory && !table.has("member_of_attribute") && !words.1 {
        let base_dn = if words.0 { base_dn } else { domain(table) };
        let tokens = Some(TokenGroups { names_below: base_dn? });
        return Some(GroupLookup { member_of: None, search: None, tokens });
    }
    match words {
        (true, false) => alone("group_base_dn", "group_filter"),
        (false, true) => alone("group_filter", "group_base_dn"),
        _ => {}
    }
    let is_blind = !table.has("member_of_attribute") && words == (false, false);
    if table.has("group_map") && is_blind {
        let hint = "set `member_of_attribute`, or `group_base_dn` and `group_filter`";
        table.mistake("group_map", "can match nothing, because no groups are read", hint);
    }
    let search = match words {
        (true, true) => Some(GroupSearch { base_dn: base_dn?, filter: filter? }),
        _ => None,
    };
    Some(GroupLookup { member_of, search, tokens: None })
}

/// The domain in which the accounts are, as a DN.
fn domain(table: &Table<'_>) -> Option<String> {
    let domain = |key| domain_part(table.text_of(key)?).map(str::to_owned);
    let found = domain("ldapbasedn").or_else(|| domain("ldapsuffix"));
    if found.is_none() {
        let hint = "such as \"DC=ad,DC=example,DC=test\": the names of groups are found below it";
        table.reader().mistake(
            table.place(),
            "neither `ldapbasedn` nor `group_base_dn` says which domain this is",
            hint,
        );
    }
    found
}

/// The short name of a domain of Windows: at most 15 characters ([MS-NBTE] 2.2.1).
fn netbios_domain() -> Form<String> {
    form::checked("the short name of a domain, such as \"CORP\"", |text| {
        let letter = |letter: char| !letter.is_control() && !"\\/:*?\"<>|@=,".contains(letter);
        let fits = (1..=15).contains(&text.chars().count());
        (fits && text.chars().all(letter)).then(|| text.to_owned())
    })
}

/// The times of one operation and of a whole login.
fn times(table: &Table<'_>) -> Option<(Ttl, Ttl)> {
    let length = form::duration("1s", "5m");
    let timeout = table.defaulted("timeout", "\"5s\"", &length);
    let deadline = table.defaulted("deadline", "\"15s\"", &length);
    let times = timeout.zip(deadline);
    if times.is_some_and(|(timeout, deadline)| deadline < timeout) {
        let hint = "several servers need several timeouts";
        table.mistake("deadline", "is shorter than `timeout`", hint);
    }
    times
}

/// An attribute of an entry (RFC 4512 section 2.5).
fn attribute() -> Form<String> {
    form::checked("the name of an attribute, such as \"uid\"", |text| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-.;".contains(&byte);
        let fits = (1..=128).contains(&text.len()) && !text.starts_with(['-', '.', ';']);
        (fits && text.bytes().all(letter)).then(|| text.to_owned())
    })
}

/// Lets the directory itself judge filters and bind names, each with everything around it in
/// order, so that one mistake does not hide another.
fn try_out(table: &Table<'_>, kind: DirectoryType, account: &Account, groups: &GroupLookup) {
    let no_groups = GroupLookup { member_of: None, search: None, tokens: None };
    let uid = LdapSettings::DEFAULT_ATTRIBUTE.to_owned();
    let by_uid = Bind::Search { base_dn: "dc=test".to_owned(), find: Find::Attribute(uid) };
    for (bind, groups) in [(account.bind.clone(), no_groups), (by_uid, groups.clone())] {
        let attribute = account.attribute.clone();
        let Some(settings) = sound_settings(kind, bind.with(None), attribute, groups) else {
            continue;
        };
        if let Err(error) = LdapWay::new(settings) {
            let (key, what, hint) = explain(&error);
            table.mistake(key, &what, hint);
        }
    }
}

/// Settings in which nothing else can be wrong.
fn sound_settings(
    directory_type: DirectoryType,
    bind: BindMode,
    account_attribute: String,
    groups: GroupLookup,
) -> Option<LdapSettings> {
    let second = Ttl::from_seconds(1).ok()?;
    Some(LdapSettings {
        name: "tried-out".parse().ok()?,
        directory_type,
        servers: vec!["127.0.0.1".to_owned()],
        port: None,
        scheme: Scheme::Ldap,
        tls: StartTls::No,
        ca: None,
        bind,
        account_attribute,
        groups,
        timeout: second,
        deadline: second,
        lifetime: second,
    })
}

/// The key that an error is about, what is wrong with it, and a hint. The error's own text holds
/// values, so it is not used.
fn explain(error: &LdapSettingsError) -> (&'static str, String, &'static str) {
    const FILTER: &str = "write it as RFC 4515 does, such as \"(&(uid=$username)(objectClass=person))\" \
                          or \"(member=$dn)\"";
    match error {
        LdapSettingsError::BadFilter { key, problem, .. } => (key, problem.to_string(), FILTER),
        LdapSettingsError::BadBindName { .. } => (
            "ldapprefix",
            "and `ldapsuffix` make neither a DN nor an account of Active Directory".to_owned(),
            "such as `uid=` and `,ou=people,dc=example,dc=test`, nothing and `@corp.test`, or \
             `CORP\\` and nothing; anything else needs a search",
        ),
        LdapSettingsError::NoAccountBase { .. } => (
            "ldapbasedn",
            "is missing, and the bind name is no DN".to_owned(),
            "it says where the entry of the account is",
        ),
        _ => ("name", "belongs to a directory that cannot be used".to_owned(), TWO_MODES),
    }
}
