//! What a `[[kerberos]]` section of the configuration says.

use std::path::PathBuf;

use crate::names::{KerberosPrincipal, Shape, Ttl, WayName};

/// Settings of one way in by tickets.
#[derive(Clone, Debug)]
pub struct KerberosSettings {
    /// The way in, as maps and the audit call it.
    pub name: WayName,
    /// Which service the tickets must be for, such as `HTTP/pgbridge.example.test@CORP.TEST`. What a
    /// client says of the host has no influence on it.
    pub service: KerberosPrincipal,
    /// The file with the keys of that service. Read again whenever somebody comes.
    pub keytab: PathBuf,
    /// The realms whose people are let in, compared byte by byte. A realm that is trusted by the
    /// service's own is none of them unless it stands here.
    pub realms: Vec<String>,
    /// What the KDCs of these realms are.
    pub kdc: Kdc,
    /// The kinds of principals that are let in; never [`Shape::Reserved`].
    pub shapes: Vec<Shape>,
    /// Whether a ticket must be bound to the TLS connection that it came by.
    pub channel_binding: ChannelBinding,
    /// How long an identity is good after its proof, and never longer than its ticket.
    pub lifetime: Ttl,
}

/// What a KDC is, by what it puts into its tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kdc {
    /// MIT Kerberos or another that gives tickets by the name of their principal alone.
    Mit,
    /// A domain controller of Active Directory, or Samba's: it gives tickets by names that an account
    /// does not have, and says in each whose it is ([MS-PAC]).
    ActiveDirectory,
}

/// Whether a token must name the certificate of the connection that it came by
/// (`tls-server-end-point`, RFC 5929 section 4), so that nobody in between can use it elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// It is not looked at.
    Off,
    /// A token that names another certificate is refused; one that names none is not.
    #[default]
    Offered,
    /// Only a token that names this one is taken.
    Required,
}
