//! What a directory's section of the configuration says.

use crate::names::{LoginPassword, Ttl, WayName};

/// Settings of one directory. The words are those of PostgreSQL's `ldap` method where it has them
/// (manual, "LDAP Authentication").
pub struct LdapSettings {
    /// The way in, as maps and the audit call it.
    pub name: WayName,
    /// What kind of directory it is.
    pub directory_type: DirectoryType,
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

/// What kind of directory it is, where that makes a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectoryType {
    /// Any that speaks LDAP: OpenLDAP, 389 Directory Server and others.
    #[default]
    Ldap,
    /// Active Directory, of Windows or Samba. Its answers name the other partitions of the domain
    /// as places to look too, whoever is asked for; those hold no people.
    ActiveDirectory,
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
        /// when the bind name is no DN, and not read when it is; the password is then proven once
        /// more with that entry's own DN, so that nobody gets in under another's
        /// `userPrincipalName`.
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

/// `ldapbinddn` and `ldapbindpasswd` (here a file).
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
    /// Any name by which people log on to Active Directory: `alice`, `ADTEST\alice`,
    /// `alice@ad.test` or the DN of the entry.
    LogonName {
        /// The domain's short name, `ADTEST`. Without it nobody logs in by a name with a backslash.
        netbios_domain: Option<String>,
    },
}

/// Where the groups of an entry are found; all ways may be used, and their results are joined.
///
/// A group is its full DN, byte for byte as the directory writes it, and that is what a group map
/// compares. Two directories, or two ways of one, may write one DN differently (upper and lower
/// case, spaces): then the map needs both forms. Nothing is folded here, because a DN may hold
/// values in which case counts, and then folding would make two groups one.
///
/// Active Directory names neither the primary group (`Domain Users`) nor nested groups in
/// `memberOf`: there `tokens` has them all, and each by its SID too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLookup {
    /// Attribute of the entry that holds the DNs of its groups, such as `memberOf`.
    pub member_of: Option<String>,
    /// Search for entries that are its groups.
    pub search: Option<GroupSearch>,
    /// Whether Active Directory's own list is read.
    pub tokens: Option<TokenGroups>,
}

/// `tokenGroups` of Active Directory: every security group of the account, nested ones and the
/// primary one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGroups {
    /// The subtree in which their DNs are looked up. A group elsewhere has only its SID.
    pub names_below: String,
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
    /// `ldapsearchattribute` when it is not set, and `account_attribute` when neither is.
    pub const DEFAULT_ATTRIBUTE: &'static str = "uid";
}
