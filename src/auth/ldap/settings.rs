//! What a directory's section of the configuration says, and what of it makes no sense.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::names::{LoginPassword, Ttl, WayName};

use super::names::{BindName, FilterProblem, FilterTemplate, is_attribute};

/// Settings of one directory. The words are those of PostgreSQL's `ldap` method where it has them
/// (manual, "LDAP Authentication").
pub struct LdapSettings {
    /// The way in, as maps and the audit call it.
    pub name: WayName,
    /// `ldapserver`: host names or addresses, asked in this order until one can answer.
    pub servers: Vec<String>,
    /// `ldapport`; 389, or 636 for `ldaps`, unless set.
    pub port: Option<u16>,
    /// `ldapscheme`.
    pub scheme: Scheme,
    /// `ldaptls`.
    pub tls: StartTls,
    /// The only certificate authorities that are trusted, PEM; the system's own without it.
    pub ca: Option<Vec<u8>>,
    /// How a name becomes an entry.
    pub bind: BindMode,
    /// Attribute whose one value is the account that maps see, as the directory writes it.
    pub account_attribute: String,
    /// Where the groups are found.
    pub groups: GroupLookup,
    /// Longest wait for one operation; for connecting too, TLS included.
    pub timeout: Ttl,
    /// Longest time for a whole login, over all servers. With a server that hangs, the next one is
    /// reached only if this is longer than `timeout`.
    pub deadline: Ttl,
    /// How long an identity is good after its proof.
    pub lifetime: Ttl,
}

/// `ldapscheme`: what is spoken from the first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// `ldap`: in clear, until StartTLS if that is asked for.
    #[default]
    Ldap,
    /// `ldaps`: TLS.
    Ldaps,
}

/// `ldaptls`: whether the StartTLS operation comes before everything else (RFC 4513 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartTls {
    /// No StartTLS.
    #[default]
    No,
    /// StartTLS, or no connection.
    Yes,
}

/// How a typed name is proven.
pub enum BindMode {
    /// Bind as `ldapprefix` + name + `ldapsuffix`.
    Simple {
        /// `ldapprefix`: `uid=`, `CORP\` or nothing.
        prefix: String,
        /// `ldapsuffix`: `,ou=people,dc=example`, `@corp.test` or nothing.
        suffix: String,
        /// `ldapbasedn`: where the entry is found whose `account_attribute` is the name. Needed
        /// when the bind name is no DN; the password is then proven once more with that entry's
        /// own DN, so that nobody gets in under another's `userPrincipalName`.
        base_dn: Option<String>,
    },
    /// Find the one entry of the name, then bind as that entry.
    Search {
        /// `ldapbasedn`: the subtree in which it is looked for.
        base_dn: String,
        /// Who searches; anonymous without it.
        service: Option<ServiceAccount>,
        /// What it is found by.
        find: Find,
    },
}

/// `ldapbinddn` and `ldapbindpasswd`.
pub struct ServiceAccount {
    /// Its DN.
    pub bind_dn: String,
    /// Its password.
    pub bind_password: LoginPassword,
}

/// What an entry is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Find {
    /// `ldapsearchattribute`: this attribute is the name.
    Attribute(String),
    /// `ldapsearchfilter`: this filter matches, with `$username` for the name.
    Filter(String),
}

/// Where the groups of an entry are found; both ways may be used, and their results are joined.
///
/// A group is its full DN, byte for byte as the directory writes it, and that is what a group map
/// compares. Two directories, or two ways of one, may write one DN differently (upper and lower
/// case, spaces): then the map needs both forms. Nothing is folded here, because a DN may hold
/// values in which case counts, and then folding would make two groups one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLookup {
    /// Attribute of the entry that holds the DNs of its groups, such as `memberOf`.
    pub member_of: Option<String>,
    /// Search for entries that are its groups.
    pub search: Option<GroupSearch>,
}

/// A search for groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSearch {
    /// The subtree of the groups.
    pub base_dn: String,
    /// With `$dn` for the person's DN or `$username` for the account, such as `(member=$dn)`, or
    /// `(member:1.2.840.113556.1.4.1941:=$dn)` for nested groups of Active Directory.
    pub filter: String,
}

impl LdapSettings {
    /// `ldapsearchattribute` and `account_attribute` when neither is set.
    pub const DEFAULT_ATTRIBUTE: &'static str = "uid";
    /// `member_of` when it is not set.
    pub const DEFAULT_MEMBER_OF: &'static str = "memberOf";
}

/// What is wrong with the settings of a directory. Names the directory, the key and the remedy.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say what they are")]
pub enum LdapSettingsError {
    #[error("directory `{way}`: `ldapserver` names no host")]
    NoServer { way: WayName },
    #[error(
        "directory `{way}`: `ldapserver` has `{server}`, which is no host name or address; \
         scheme and port have their own keys"
    )]
    BadServer { way: WayName, server: String },
    #[error("directory `{way}`: `ldaptls` is for `ldapscheme = \"ldap\"`; `ldaps` has TLS already")]
    TlsTwice { way: WayName },
    #[error(
        "directory `{way}`: `ldapserver` `{server}` is not on this machine, and passwords would go \
         to it in clear; set `ldapscheme = \"ldaps\"` or `ldaptls = true`"
    )]
    ClearText { way: WayName, server: String },
    #[error("directory `{way}`: `ca_file` holds no certificate in PEM form")]
    BadCa { way: WayName },
    #[error("directory `{way}`: this machine trusts no certificate authority; set `ca_file`")]
    NoRoots { way: WayName },
    #[error("directory `{way}`: TLS cannot be set up")]
    Tls { way: WayName, source: rustls::Error },
    #[error("directory `{way}`: `{key}` is blank; a bind without it proves nothing")]
    Blank { way: WayName, key: &'static str },
    #[error("directory `{way}`: `{key}` is `{value}`, which is no attribute name")]
    BadAttribute { way: WayName, key: &'static str, value: String },
    #[error("directory `{way}`: `{key}` {problem}")]
    BadFilter { way: WayName, key: &'static str, problem: FilterProblem },
    #[error(
        "directory `{way}`: `ldapprefix` and `ldapsuffix` make neither a DN (`uid=` and \
         `,ou=people,dc=example`) nor an account (`@corp.test`, or `CORP\\`); \
         use `ldapbasedn` with a search instead"
    )]
    BadBindName { way: WayName },
    #[error(
        "directory `{way}`: with this `ldapprefix` or `ldapsuffix` the bind name is no DN, so \
         `ldapbasedn` must say where the account's entry is"
    )]
    NoAccountBase { way: WayName },
    #[error("directory `{way}`: `deadline` is shorter than `timeout`")]
    DeadlineTooShort { way: WayName },
}

/// Settings that make sense, in the form that a login needs.
pub(super) struct Checked {
    pub name: WayName,
    pub servers: Vec<Server>,
    pub security: Security,
    pub bind: Bind,
    pub account_attribute: String,
    pub member_of: Option<String>,
    pub group_search: Option<(String, FilterTemplate)>,
    pub timeout: Duration,
    pub deadline: Duration,
    pub lifetime: Ttl,
}

/// One server.
pub(super) struct Server {
    pub host: String,
    pub port: u16,
    /// The name its certificate must have.
    pub tls_name: ServerName<'static>,
}

impl Server {
    /// Host and port, for people.
    pub(super) fn label(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// What protects the connection.
pub(super) enum Security {
    /// Nothing; on this machine only.
    Loopback,
    Ldaps(TlsConnector),
    StartTls(TlsConnector),
}

/// A bind mode with its names and filters parsed.
pub(super) enum Bind {
    Dn(BindName),
    Account { name: BindName, base_dn: String, filter: FilterTemplate },
    Search { base_dn: String, service: Option<ServiceAccount>, filter: FilterTemplate },
}

impl LdapSettings {
    pub(super) fn check(self) -> Result<Checked, LdapSettingsError> {
        let way = &self.name;
        let servers = self.checked_servers()?;
        let security = self.checked_security()?;
        attribute(way, "account_attribute", &self.account_attribute)?;
        if let Some(member_of) = &self.groups.member_of {
            attribute(way, "member_of", member_of)?;
        }
        let group_search = self.groups.search.as_ref().map(|search| group_search(way, search));
        let group_search = group_search.transpose()?;
        if self.deadline < self.timeout {
            return Err(LdapSettingsError::DeadlineTooShort { way: way.clone() });
        }
        let bind = self.bind.check(way, &self.account_attribute)?;
        Ok(Checked {
            servers,
            security,
            bind,
            account_attribute: self.account_attribute,
            member_of: self.groups.member_of,
            group_search,
            timeout: self.timeout.duration(),
            deadline: self.deadline.duration(),
            lifetime: self.lifetime,
            name: self.name,
        })
    }

    fn checked_servers(&self) -> Result<Vec<Server>, LdapSettingsError> {
        let way = || self.name.clone();
        if self.servers.is_empty() {
            return Err(LdapSettingsError::NoServer { way: way() });
        }
        let default_port = if self.scheme == Scheme::Ldaps { 636 } else { 389 };
        let port = self.port.unwrap_or(default_port);
        let server = |host: &String| {
            let tls_name = ServerName::try_from(host.clone())
                .map_err(|_| LdapSettingsError::BadServer { way: way(), server: host.clone() })?;
            Ok(Server { host: host.clone(), port, tls_name })
        };
        self.servers.iter().map(server).collect()
    }

    fn checked_security(&self) -> Result<Security, LdapSettingsError> {
        let way = self.name.clone();
        match (self.scheme, self.tls) {
            (Scheme::Ldaps, StartTls::Yes) => Err(LdapSettingsError::TlsTwice { way }),
            (Scheme::Ldaps, StartTls::No) => Ok(Security::Ldaps(self.connector()?)),
            (Scheme::Ldap, StartTls::Yes) => Ok(Security::StartTls(self.connector()?)),
            (Scheme::Ldap, StartTls::No) => {
                match self.servers.iter().find(|host| !is_loopback(host)) {
                    Some(server) => {
                        Err(LdapSettingsError::ClearText { way, server: server.clone() })
                    }
                    None => Ok(Security::Loopback),
                }
            }
        }
    }

    fn connector(&self) -> Result<TlsConnector, LdapSettingsError> {
        let way = || self.name.clone();
        let mut roots = RootCertStore::empty();
        if let Some(pem) = &self.ca {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let certificates = certificates.unwrap_or_default();
            let all = certificates.len();
            if all == 0 || roots.add_parsable_certificates(certificates).0 != all {
                return Err(LdapSettingsError::BadCa { way: way() });
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(LdapSettingsError::NoRoots { way: way() });
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| LdapSettingsError::Tls { way: way(), source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl BindMode {
    fn check(self, way: &WayName, account_attribute: &str) -> Result<Bind, LdapSettingsError> {
        match self {
            Self::Simple { prefix, suffix, base_dn } => {
                let name = BindName::parse(&prefix, &suffix)
                    .ok_or_else(|| LdapSettingsError::BadBindName { way: way.clone() })?;
                if matches!(name, BindName::Dn { .. }) {
                    return Ok(Bind::Dn(name));
                }
                let base_dn =
                    base_dn.ok_or_else(|| LdapSettingsError::NoAccountBase { way: way.clone() })?;
                present(way, "ldapbasedn", &base_dn)?;
                Ok(Bind::Account {
                    name,
                    base_dn,
                    filter: FilterTemplate::equals(account_attribute),
                })
            }
            Self::Search { base_dn, service, find } => {
                present(way, "ldapbasedn", &base_dn)?;
                if let Some(ServiceAccount { bind_dn, bind_password }) = &service {
                    present(way, "ldapbinddn", bind_dn)?;
                    if bind_password.is_blank() {
                        return Err(blank(way, "ldapbindpasswd"));
                    }
                }
                Ok(Bind::Search { base_dn, service, filter: find.check(way)? })
            }
        }
    }
}

impl Find {
    fn check(&self, way: &WayName) -> Result<FilterTemplate, LdapSettingsError> {
        match self {
            Self::Attribute(name) => {
                attribute(way, "ldapsearchattribute", name)?;
                Ok(FilterTemplate::equals(name))
            }
            Self::Filter(text) => FilterTemplate::for_person(text).map_err(|problem| {
                LdapSettingsError::BadFilter { way: way.clone(), key: "ldapsearchfilter", problem }
            }),
        }
    }
}

fn group_search(
    way: &WayName,
    search: &GroupSearch,
) -> Result<(String, FilterTemplate), LdapSettingsError> {
    present(way, "group_base_dn", &search.base_dn)?;
    let filter = FilterTemplate::for_groups(&search.filter).map_err(|problem| {
        LdapSettingsError::BadFilter { way: way.clone(), key: "group_filter", problem }
    })?;
    Ok((search.base_dn.clone(), filter))
}

fn attribute(way: &WayName, key: &'static str, value: &str) -> Result<(), LdapSettingsError> {
    if is_attribute(value) {
        return Ok(());
    }
    Err(LdapSettingsError::BadAttribute { way: way.clone(), key, value: value.into() })
}

fn present(way: &WayName, key: &'static str, value: &str) -> Result<(), LdapSettingsError> {
    if value.trim().is_empty() { Err(blank(way, key)) } else { Ok(()) }
}

fn blank(way: &WayName, key: &'static str) -> LdapSettingsError {
    LdapSettingsError::Blank { way: way.clone(), key }
}

/// Whether `host` can only be this machine. `localhost` is held to that when it is resolved.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
