//! `[[cluster]]` and `[[cluster.profile]]`: PostgreSQL servers, and what they lend.

use std::sync::Arc;
use std::time::Duration;

use super::files::{self, Authorities};
use super::form::{self, Form, SslMode};
use super::reader::{Table, Unique};
use crate::cluster::{ClientConnection, ClientSslMode, ClusterPassword, ClusterSettings};
use crate::dial::{Host, ServerTls};
use crate::mapping::{Dialect, ObjectPolicy, Profile, ReasonRule, Target};
use crate::names::{
    ClusterName, ConnectionLimit, DatabaseName, LeaseLimit, RoleName, ScramIterations, Ttl,
};

/// One cluster: how the broker reaches it, and how clients do.
#[derive(Debug)]
pub struct ClusterEntry {
    /// For the broker.
    pub settings: ClusterSettings,
    /// For clients.
    pub client: ClientConnection,
    /// Its major release, when that is written.
    pub postgres: Option<Dialect>,
}

/// Reads one cluster, and what it lends.
pub(super) fn read(
    table: Table<'_>,
    names: &mut Unique<ClusterName>,
    dialects: &mut Vec<Dialect>,
) -> Option<(ClusterEntry, Target)> {
    let name = table.required("name", &form::label());
    if let Some(name) = &name {
        names.claim(&table, "name", name);
    }
    let postgres = table.optional("postgres", &form::number(13, 18));
    dialects.extend(postgres);
    let authorities = files::authorities(&table, "ca_file");
    let place = place(&table);
    let login = login(&table);
    let tls = tls(&table, place.as_ref().map(|(host, _)| host), authorities.as_ref());
    let roles = roles(&table);
    let pools = pools(&table);
    let times = times(&table);
    let client = client(&table, place.as_ref(), authorities.as_ref());
    let profiles = profiles(&table, &roles, login.as_ref().map(|login| &login.0));
    table.finish();

    let (host, port) = place?;
    let (user, password, database) = login?;
    let (issue_connections, revoke_connections) = pools?;
    let [connect_timeout, statement_timeout, lock_timeout] = times?;
    let target = Target { cluster: name.clone()?, profiles: profiles? };
    let settings = ClusterSettings {
        name: name?,
        host,
        port,
        user,
        password,
        database,
        tls: tls?,
        admin_role: roles.admin,
        attic_role: roles.attic,
        issue_connections,
        revoke_connections,
        connect_timeout,
        statement_timeout,
        lock_timeout,
    };
    Some((ClusterEntry { settings, client: client?, postgres }, target))
}

/// What one cluster lends. What it takes to reach it is not looked at, and none of its secrets is
/// read.
pub(super) fn read_target(
    table: &Table<'_>,
    names: &mut Unique<ClusterName>,
    dialects: &mut Vec<Dialect>,
) -> Option<Target> {
    let name = table.required("name", &form::label());
    if let Some(name) = &name {
        names.claim(table, "name", name);
    }
    dialects.extend(table.optional("postgres", &form::number::<Dialect>(13, 18)));
    let roles = roles(table);
    let user = table.defaulted("user", "\"pgbridge\"", &form::role());
    let profiles = profiles(table, &roles, user.as_ref());
    Some(Target { cluster: name?, profiles: profiles? })
}

fn place(table: &Table<'_>) -> Option<(Host, u16)> {
    let host = table.required("host", &form::host_or_socket());
    let port = table.defaulted("port", "5432", &form::port());
    host.and_then(|host| host.parse().ok()).zip(port)
}

/// The broker's login, its password and the maintenance database.
fn login(table: &Table<'_>) -> Option<(RoleName, ClusterPassword, DatabaseName)> {
    let user = table.defaulted("user", "\"pgbridge\"", &form::role());
    let path = table.required("password_file", &form::path());
    let password = path
        .and_then(|path| files::password(table, "password_file", &table.reader().resolve(&path)))
        .map(|password| ClusterPassword::from_file(password.to_string()));
    let database = table.defaulted("database", "\"postgres\"", &database());
    Some((user?, password?, database?))
}

/// What protects the broker's own connection.
fn tls(
    table: &Table<'_>,
    host: Option<&Host>,
    authorities: Option<&Authorities>,
) -> Option<ServerTls> {
    match table.defaulted("sslmode", "\"verify-full\"", &form::ssl_mode())? {
        SslMode::VerifyFull => {
            let roots = authorities.map(|authorities| authorities.pem.clone());
            Some(ServerTls::VerifyFull { roots })
        }
        SslMode::Disable => {
            if host.is_some_and(|host| !host.is_local()) {
                let what = "can only be \"disable\" when `host` is this machine or a socket";
                table.mistake("sslmode", what, "use \"verify-full\" with the cluster's `ca_file`");
            }
            Some(ServerTls::Disabled)
        }
    }
}

/// The roles of the cluster that serve the broker itself.
struct ServiceRoles {
    admin: Option<RoleName>,
    attic: Option<RoleName>,
}

fn roles(table: &Table<'_>) -> ServiceRoles {
    ServiceRoles {
        admin: table.optional("admin_role", &form::role()),
        attic: table.optional("attic_role", &form::role()),
    }
}

fn pools(table: &Table<'_>) -> Option<(usize, usize)> {
    let count = form::number::<usize>(1, 200);
    let issue = table.defaulted("issue_connections", "8", &count);
    let revoke = table.defaulted("revoke_connections", "2", &count);
    issue.zip(revoke)
}

fn times(table: &Table<'_>) -> Option<[Duration; 3]> {
    let length = form::duration("1s", "10m");
    let connect = table.defaulted("connect_timeout", "\"5s\"", &length);
    let statement = table.defaulted("statement_timeout", "\"15s\"", &length);
    let lock = table.defaulted("lock_timeout", "\"5s\"", &length);
    let times = [connect?, statement?, lock?];
    Some(times.map(Ttl::duration))
}

const CLIENT_MODES: &[(&str, ClientSslMode)] = &[
    ("verify-full", ClientSslMode::VerifyFull),
    ("verify-ca", ClientSslMode::VerifyCa),
    ("require", ClientSslMode::Require),
    ("prefer", ClientSslMode::Prefer),
    ("disable", ClientSslMode::Disable),
];

/// What clients are told: as the broker reaches the cluster, unless it is written otherwise.
fn client(
    table: &Table<'_>,
    place: Option<&(Host, u16)>,
    authorities: Option<&Authorities>,
) -> Option<ClientConnection> {
    let host = table.optional("client_host", &form::host_or_socket());
    let port = table.optional("client_port", &form::port());
    let sslmode = table.defaulted("client_sslmode", "\"verify-full\"", &form::choice(CLIENT_MODES));
    let path = form::text("a path as clients have it, or \"system\"");
    let written = table.optional("client_sslrootcert", &path);
    let of_ca_file = || authorities.map(|authorities| authorities.path.display().to_string());
    let is_known = table.has("client_sslrootcert") || table.has("ca_file");
    let sslrootcert = match sslmode? {
        ClientSslMode::VerifyFull if !is_known => Some("system".to_owned()),
        ClientSslMode::VerifyCa if !is_known => {
            let what = "is \"verify-ca\", which needs a root certificate";
            table.mistake("client_sslmode", what, "set `ca_file` or `client_sslrootcert`");
            None
        }
        ClientSslMode::VerifyFull | ClientSslMode::VerifyCa => written.or_else(of_ca_file),
        ClientSslMode::Require | ClientSslMode::Prefer | ClientSslMode::Disable => written,
    };
    let (broker_host, broker_port) = place?;
    Some(ClientConnection {
        host: host.unwrap_or_else(|| broker_host.to_string()),
        port: port.unwrap_or(*broker_port),
        sslmode: sslmode?,
        sslrootcert,
        root_certificate: authorities.map(|authorities| authorities.pem.clone()),
    })
}

/// What the cluster lends: each role once, and none that serves the broker.
fn profiles(
    table: &Table<'_>,
    roles: &ServiceRoles,
    user: Option<&RoleName>,
) -> Option<Vec<Arc<Profile>>> {
    let sections = table.sections("profile", "[[cluster.profile]]", "the cluster lends nothing");
    let mut lent = Unique::default();
    let mut profiles = Some(Vec::new());
    for section in sections {
        let role: Option<RoleName> = section.required("role", &form::role());
        if let Some(role) = &role {
            lent.claim(&section, "role", role);
            if [user, roles.admin.as_ref(), roles.attic.as_ref()].contains(&Some(role)) {
                let what = "is also the `user`, `admin_role` or `attic_role` of its cluster";
                section.mistake("role", what, "whoever got it could act as the broker");
            }
        }
        let profile = profile(section, role, roles.attic.is_some());
        profiles = profiles.zip(profile).map(|(mut profiles, profile)| {
            profiles.push(Arc::new(profile));
            profiles
        });
    }
    profiles
}

const REASONS: &[(&str, ReasonRule)] =
    &[("optional", ReasonRule::Optional), ("required", ReasonRule::Required)];
const POLICIES: &[(&str, ObjectPolicy)] = &[
    ("reassign", ObjectPolicy::Reassign),
    ("drop", ObjectPolicy::Drop),
    ("keep", ObjectPolicy::Keep),
];

fn profile(table: Table<'_>, role: Option<RoleName>, has_attic: bool) -> Option<Profile> {
    let databases = table.required_list("databases", &database());
    let (ttl, max_ttl) = ttls(&table);
    let max_leases = table.defaulted("max_leases", "20", &form::number::<LeaseLimit>(1, 1_000_000));
    let connection_limit =
        table.defaulted("connection_limit", "10", &form::number::<ConnectionLimit>(1, 10_000));
    let scram_iterations =
        table.defaulted("scram_iterations", "4096", &form::number::<ScramIterations>(1, 100_000));
    let networks = table.optional_list("networks", &form::network());
    let reason = table.defaulted("reason", "\"optional\"", &form::choice(REASONS));
    let owned_objects = table.optional("owned_objects", &form::choice(POLICIES));
    if owned_objects == Some(ObjectPolicy::Reassign) && !has_attic {
        let what = "is \"reassign\", but the cluster has no `attic_role` to give them to";
        table.mistake(
            "owned_objects",
            what,
            "set `attic_role` in [[cluster]], or use \"drop\" or \"keep\"",
        );
    }
    let by_default = if has_attic { ObjectPolicy::Reassign } else { ObjectPolicy::Drop };
    let settings = table.pairs("settings", &parameter(), &form::text_or_nothing());
    table.finish();
    Some(Profile {
        role: role?,
        databases: databases?,
        ttl: ttl?,
        max_ttl: max_ttl?,
        max_leases: max_leases?,
        connection_limit: connection_limit?,
        scram_iterations: scram_iterations?,
        settings: settings?,
        networks,
        reason: reason?,
        owned_objects: owned_objects.unwrap_or(by_default),
    })
}

fn ttls(table: &Table<'_>) -> (Option<Ttl>, Option<Ttl>) {
    let length = form::duration("1s", "366d");
    let ttl = table.defaulted("ttl", "\"1h\"", &length);
    let max_ttl = table.defaulted("max_ttl", "\"8h\"", &length);
    if ttl.zip(max_ttl).is_some_and(|(ttl, max_ttl)| ttl > max_ttl) {
        let key = if table.has("ttl") { "ttl" } else { "max_ttl" };
        let hint = "a lease begins with `ttl` and ends with `max_ttl`, renewals included";
        let message = format!("`ttl` in {} is longer than `max_ttl`", table.title());
        table.reader().mistake(table.place_of(key), message, hint);
    }
    (ttl, max_ttl)
}

fn database() -> Form<DatabaseName> {
    form::parsed("a database of PostgreSQL: 1 to 63 bytes")
}

/// The name of a parameter of PostgreSQL that a role may be given. Those that would make every
/// session of the role another role are refused.
fn parameter() -> Form<String> {
    form::checked("a parameter of PostgreSQL, such as statement_timeout", |text| {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_word = |word: &str| {
            word.bytes().all(letter)
                && word.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
        };
        let fits = text.len() <= 63 && text.split('.').count() <= 2 && text.split('.').all(is_word);
        let is_another_role = ["role", "session_authorization"].contains(&text);
        (fits && !is_another_role).then(|| text.to_owned())
    })
    .hinting("in lower case; `role` and `session_authorization` cannot be set")
}
