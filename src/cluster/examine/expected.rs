//! What the configuration says about a cluster, which the cluster is held against.

use std::sync::Arc;
use std::time::Duration;

use super::{Examiner, StorePlace};
use crate::cluster::client::{ClientConnection, ClientSslMode};
use crate::cluster::settings::ClusterSettings;
use crate::dial::{Host, ServerTls};
use crate::mapping::{Dialect, ObjectPolicy, Profile};
use crate::names::{ClusterName, DatabaseName, RoleName, RolePrefix};

/// What the configuration says about a cluster.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its name.
    pub cluster: ClusterName,
    /// Where the broker reaches it.
    pub host: Host,
    /// The port there.
    pub port: u16,
    /// How the broker's own connection is protected.
    pub protection: Protection,
    /// The broker's login.
    pub user: RoleName,
    /// Where roles are made.
    pub maintenance: DatabaseName,
    /// The group of all brokers.
    pub admin_role: Option<RoleName>,
    /// The role that gets what lease roles leave behind.
    pub attic_role: Option<RoleName>,
    /// Connections that one broker has open at most.
    pub connections: usize,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How clients come.
    pub client: ClientConnection,
    /// What is lent.
    pub profiles: Vec<Arc<Profile>>,
    /// What the names of lease roles begin with.
    pub role_prefix: RolePrefix,
    /// How far clocks may be apart for leases to be issued.
    pub max_clock_skew: Duration,
    /// The broker's own store, if it is on this server.
    pub store: Option<StorePlace>,
    /// The release as which the map is read.
    pub map_read_as: Dialect,
    /// Its release, when that is written.
    pub written_release: Option<Dialect>,
}

/// How the broker's own connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// TLS.
    Tls,
    /// It cannot leave the machine.
    Local,
    /// It is a Unix socket.
    Socket,
}

/// Connections beside the pools: one that ends what a revocation waits for, and one into another
/// database.
const BESIDE_THE_POOLS: usize = 2;

impl Expected {
    pub(super) fn new(
        settings: &ClusterSettings,
        client: ClientConnection,
        profiles: Vec<Arc<Profile>>,
        examiner: &Examiner,
    ) -> Self {
        let protection = match (&settings.host, &settings.tls) {
            (Host::Socket(_), _) => Protection::Socket,
            (_, ServerTls::VerifyFull { .. }) => Protection::Tls,
            (_, ServerTls::Disabled) => Protection::Local,
        };
        let revoking = settings.revoke_connections.saturating_mul(2);
        let pools = settings.issue_connections.saturating_add(revoking);
        Self {
            cluster: settings.name.clone(),
            host: settings.host.clone(),
            port: settings.port,
            protection,
            user: settings.user.clone(),
            maintenance: settings.database.clone(),
            admin_role: settings.admin_role.clone(),
            attic_role: settings.attic_role.clone(),
            connections: pools.saturating_add(BESIDE_THE_POOLS),
            connect_timeout: settings.connect_timeout,
            client,
            profiles,
            role_prefix: examiner.role_prefix.clone(),
            max_clock_skew: examiner.max_clock_skew.duration(),
            store: examiner
                .store
                .clone()
                .filter(|store| store.is_at(&settings.host, settings.port)),
            map_read_as: examiner.map_read_as,
            written_release: examiner.written_release,
        }
    }

    /// The databases of all profiles, each once, in the order of the configuration.
    pub(super) fn databases(&self) -> Vec<&DatabaseName> {
        let mut databases: Vec<&DatabaseName> = Vec::new();
        for database in self.profiles.iter().flat_map(|profile| &profile.databases) {
            if !databases.contains(&database) {
                databases.push(database);
            }
        }
        databases
    }

    /// The group roles of all profiles.
    pub(super) fn groups(&self) -> impl Iterator<Item = &RoleName> {
        self.profiles.iter().map(|profile| &profile.role)
    }

    /// Whether what a lease role owns goes to the attic.
    pub(super) fn reassigns(&self) -> bool {
        self.profiles.iter().any(|profile| profile.owned_objects == ObjectPolicy::Reassign)
    }

    /// Where clients reach it; nothing when that is no host.
    pub(super) fn client_host(&self) -> Option<Host> {
        self.client.host.parse().ok()
    }

    /// Whether clients are told to do without TLS, to a place on this machine.
    pub(super) fn clients_stay_local(&self) -> bool {
        self.client.sslmode == ClientSslMode::Disable
            && self.client_host().is_some_and(|host| host.is_local())
    }

    /// The role that holds ADMIN on the group roles: the group of all brokers, or else the login.
    pub(super) fn holder_of_admin(&self) -> &RoleName {
        self.admin_role.as_ref().unwrap_or(&self.user)
    }
}
