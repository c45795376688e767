//! Settings that make sense, in the form that a login needs; and what makes none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::names::{Ttl, WayName};

use super::logon::LogonNames;
use super::names::{BindName, FilterProblem, FilterTemplate, TypedName, is_attribute};
use super::refusal::LdapRefusal;
use super::settings::{
    BindMode, DirectoryType, Find, GroupSearch, LdapSettings, Scheme, ServiceAccount, StartTls,
    TokenGroups,
};

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
    pub directory_type: DirectoryType,
    pub servers: Vec<Server>,
    pub security: Security,
    pub bind: Bind,
    pub account_attribute: String,
    pub member_of: Option<String>,
    pub group_search: Option<(String, FilterTemplate)>,
    pub token_groups: Option<TokenGroups>,
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
    Account {
        name: BindName,
        base_dn: String,
        filter: FilterTemplate,
    },
    Search {
        base_dn: String,
        service: Option<ServiceAccount>,
        /// Finds the entry of a name that was typed.
        find: Finder,
        /// Finds the entry of an account, if it is one that the other filter can find.
        again: FilterTemplate,
    },
}

/// What finds the entry of a name that was typed.
pub(super) enum Finder {
    Filter(FilterTemplate),
    Logon(LogonNames),
}

impl Finder {
    /// The filter for one person.
    ///
    /// # Errors
    /// When the name is nobody's in this directory.
    pub(super) fn filter(&self, name: TypedName<'_>) -> Result<String, LdapRefusal> {
        match self {
            Self::Filter(template) => Ok(template.fill(name.as_str(), "")),
            Self::Logon(names) => names.filter(name),
        }
    }
}

impl LdapSettings {
    pub(super) fn check(self) -> Result<Checked, LdapSettingsError> {
        let way = &self.name;
        let servers = self.checked_servers()?;
        let security = self.checked_security()?;
        attribute(way, "account_attribute", &self.account_attribute)?;
        if let Some(member_of) = &self.groups.member_of {
            attribute(way, "member_of_attribute", member_of)?;
        }
        let group_search = self.groups.search.as_ref().map(|search| group_search(way, search));
        let group_search = group_search.transpose()?;
        if let Some(TokenGroups { names_below }) = &self.groups.tokens {
            present(way, "group_base_dn", names_below)?;
        }
        if self.deadline < self.timeout {
            return Err(LdapSettingsError::DeadlineTooShort { way: way.clone() });
        }
        let bind = self.bind.check(way, self.directory_type, &self.account_attribute)?;
        Ok(Checked {
            servers,
            security,
            bind,
            account_attribute: self.account_attribute,
            member_of: self.groups.member_of,
            group_search,
            token_groups: self.groups.tokens,
            directory_type: self.directory_type,
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
    fn check(
        self,
        way: &WayName,
        kind: DirectoryType,
        account_attribute: &str,
    ) -> Result<Bind, LdapSettingsError> {
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
                        return Err(blank(way, "ldapbindpasswd_file"));
                    }
                }
                let template = find.check(way, kind)?;
                let again = template.again(account_attribute);
                let find = match find {
                    Find::Attribute(_) | Find::Filter(_) => Finder::Filter(template),
                    Find::LogonName { netbios_domain } => {
                        Finder::Logon(LogonNames::new(&base_dn, netbios_domain))
                    }
                };
                Ok(Bind::Search { base_dn, service, find, again })
            }
        }
    }
}

impl Find {
    /// The filter that everybody matches who can be found.
    fn check(
        &self,
        way: &WayName,
        kind: DirectoryType,
    ) -> Result<FilterTemplate, LdapSettingsError> {
        let bad = |problem| {
            let key = "ldapsearchfilter";
            LdapSettingsError::BadFilter { way: way.clone(), key, problem }
        };
        let filter = |text: &str| {
            let template = FilterTemplate::for_person(text).map_err(bad)?;
            if kind == DirectoryType::ActiveDirectory && template.asked("").is_empty() {
                return Err(bad(FilterProblem::NameInParts));
            }
            Ok(template)
        };
        match self {
            Self::Attribute(name) => {
                attribute(way, "ldapsearchattribute", name)?;
                Ok(FilterTemplate::equals(name))
            }
            Self::Filter(text) => filter(text),
            Self::LogonName { .. } => filter(&LogonNames::anybody()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ldap::settings::GroupLookup;
    use crate::names::LoginPassword;

    fn by_search() -> BindMode {
        let find = Find::Attribute("uid".into());
        BindMode::Search { base_dn: "dc=x".into(), service: None, find }
    }

    fn settings() -> LdapSettings {
        LdapSettings {
            name: "corp".parse().unwrap(),
            directory_type: DirectoryType::Ldap,
            servers: vec!["127.0.0.1".into()],
            port: None,
            scheme: Scheme::Ldap,
            tls: StartTls::No,
            ca: None,
            bind: by_search(),
            account_attribute: "uid".into(),
            groups: GroupLookup { member_of: None, search: None, tokens: None },
            timeout: "5s".parse().unwrap(),
            deadline: "15s".parse().unwrap(),
            lifetime: "8h".parse().unwrap(),
        }
    }

    fn a_certificate() -> Vec<u8> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem().into_bytes()
    }

    #[track_caller]
    fn accepted(settings: LdapSettings) -> Checked {
        settings.check().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The error, which always names the directory, and the key it is about.
    #[track_caller]
    fn refused(settings: LdapSettings, key: &str) {
        let error = settings.check().err().expect("these settings were accepted").to_string();
        assert!(error.starts_with("directory `corp`: "), "{error}");
        assert!(error.contains(&format!("`{key}`")), "{error}");
    }

    #[test]
    fn a_password_in_clear_stays_on_this_machine() {
        let at = |host: &str| LdapSettings { servers: vec![host.into()], ..settings() };
        for loopback in ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"] {
            assert!(matches!(accepted(at(loopback)).security, Security::Loopback), "{loopback}");
        }
        for elsewhere in ["ldap.example", "192.0.2.1", "::ffff:192.0.2.1", "localhost.example"] {
            refused(at(elsewhere), "ldapserver");
            refused(at(elsewhere), elsewhere);
            let ca = Some(a_certificate());
            let tls = LdapSettings { tls: StartTls::Yes, ca: ca.clone(), ..at(elsewhere) };
            assert!(matches!(accepted(tls).security, Security::StartTls(_)));
            let ldaps = LdapSettings { scheme: Scheme::Ldaps, ca, ..at(elsewhere) };
            assert!(matches!(accepted(ldaps).security, Security::Ldaps(_)));
        }
        let servers = vec!["127.0.0.1".into(), "ldap.example".into()];
        refused(LdapSettings { servers, ..settings() }, "ldap.example");
    }

    #[test]
    fn a_server_is_a_host_and_the_port_follows_the_scheme() {
        let at = |servers: &[&str]| {
            let servers = servers.iter().map(ToString::to_string).collect();
            LdapSettings { servers, ..settings() }
        };
        refused(at(&[]), "ldapserver");
        for bad in ["", "ldap://127.0.0.1", "127.0.0.1:389", "a b", "a/b", "[::1]"] {
            refused(at(&["127.0.0.1", bad]), "ldapserver");
        }
        assert_eq!(accepted(settings()).servers[0].label(), "127.0.0.1:389");
        let ca = Some(a_certificate());
        let ldaps = || LdapSettings { scheme: Scheme::Ldaps, ca: ca.clone(), ..settings() };
        assert_eq!(accepted(ldaps()).servers[0].label(), "127.0.0.1:636");
        let own = LdapSettings { port: Some(3636), ..ldaps() };
        assert_eq!(accepted(own).servers[0].label(), "127.0.0.1:3636");
        refused(LdapSettings { tls: StartTls::Yes, ..ldaps() }, "ldaptls");
    }

    #[test]
    fn a_ca_file_that_holds_no_certificate_is_not_taken_for_an_empty_wish() {
        let with =
            |ca: &[u8]| LdapSettings { scheme: Scheme::Ldaps, ca: Some(ca.to_vec()), ..settings() };
        let good = a_certificate();
        accepted(with(&good));
        let not_der = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bad in [&b""[..], b"no PEM", not_der, &[&good[..], not_der].concat()] {
            refused(with(bad), "ca_file");
        }
    }

    #[test]
    fn a_bind_that_would_prove_nothing_is_refused() {
        let with = |bind_dn: &str, password: &str| {
            let bind_password = LoginPassword::new(password.into());
            let service = Some(ServiceAccount { bind_dn: bind_dn.into(), bind_password });
            let find = Find::Attribute("uid".into());
            let bind = BindMode::Search { base_dn: "dc=x".into(), service, find };
            LdapSettings { bind, ..settings() }
        };
        accepted(with("cn=svc,dc=x", "secret"));
        for blank in ["", " "] {
            refused(with(blank, "secret"), "ldapbinddn");
            refused(with("cn=svc,dc=x", blank), "ldapbindpasswd_file");
        }
    }

    #[test]
    fn a_simple_bind_makes_a_dn_or_says_where_the_account_is() {
        let with = |prefix: &str, suffix: &str, base_dn: Option<&str>| {
            let (prefix, suffix) = (prefix.into(), suffix.into());
            let base_dn = base_dn.map(Into::into);
            LdapSettings { bind: BindMode::Simple { prefix, suffix, base_dn }, ..settings() }
        };
        accepted(with("uid=", ",dc=x", None));
        accepted(with("", "@corp.test", Some("dc=corp,dc=test")));
        accepted(with(r"CORP\", "", Some("dc=corp,dc=test")));
        refused(with("", "@corp.test", None), "ldapbasedn");
        refused(with("", "@corp.test", Some(" ")), "ldapbasedn");
        refused(with("", "", Some("dc=x")), "ldapprefix");
        refused(with("", ",dc=x", None), "ldapsuffix");
    }

    #[test]
    fn attributes_and_filters_are_checked_before_anybody_logs_in() {
        let find = |find| {
            let bind = BindMode::Search { base_dn: "dc=x".into(), service: None, find };
            LdapSettings { bind, ..settings() }
        };
        accepted(find(Find::Filter("(&(objectClass=person)(uid=$username))".into())));
        refused(find(Find::Filter("(uid=alice)".into())), "ldapsearchfilter");
        let windows = |filter: &str| {
            let directory_type = DirectoryType::ActiveDirectory;
            LdapSettings { directory_type, ..find(Find::Filter(filter.into())) }
        };
        accepted(windows("(|(cn=$username*)(sAMAccountName=$username))"));
        accepted(find(Find::Filter("(cn=$username*)".into())));
        refused(windows("(cn=$username*)"), "ldapsearchfilter");
        refused(find(Find::Attribute("uid=*)(x".into())), "ldapsearchattribute");
        refused(
            LdapSettings { account_attribute: "a b".into(), ..settings() },
            "account_attribute",
        );
        let groups = |member_of: Option<&str>, filter: &str| {
            let search = GroupSearch { base_dn: "ou=g".into(), filter: filter.into() };
            let member_of = member_of.map(Into::into);
            let groups = GroupLookup { member_of, search: Some(search), tokens: None };
            LdapSettings { groups, ..settings() }
        };
        accepted(groups(Some("memberOf"), "(member=$dn)"));
        refused(groups(None, "(objectClass=groupOfNames)"), "group_filter");
        refused(groups(Some(""), "(member=$dn)"), "member_of_attribute");
    }

    #[test]
    fn the_deadline_leaves_room_for_one_operation() {
        let with =
            |deadline: &str| LdapSettings { deadline: deadline.parse().unwrap(), ..settings() };
        accepted(with("5s"));
        refused(with("4s"), "deadline");
    }
}
