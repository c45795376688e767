//! Whether a cluster is fit for lending roles, and safe: what operators check by hand otherwise.
//!
//! ```text
//! expected   what the configuration says about the cluster
//! session    whether a connection stays on one session of the server
//! read       what the server says of itself (../sql/examine_*.sql, runnable in psql)
//! knock      what the server asks for at its door, tried on the wire
//! judge      facts in, findings out; pure
//! prepare    the statements and the pg_hba.conf lines that make a cluster fit; pure
//! ```
//!
//! Invariants: nothing here changes anything on a cluster, and nothing here sends a password but
//! the broker's own, by the way that the broker itself uses. What is printed holds no secret.

mod expected;
mod facts;
mod finding;
mod judge;
mod knock;
mod prepare;
mod read;
mod session;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use self::facts::{Looked, Server};
use self::knock::Door;
use self::session::Session;
use super::client::ClientConnection;
use super::connect::Connections;
use super::error::ClusterError;
use super::settings::ClusterSettings;
use crate::clock::Clock;
use crate::dial::Host;
use crate::lease::MarkerKey;
use crate::mapping::{Dialect, Memberships, Profile};
use crate::names::{BrokerId, ClusterName, DatabaseName, RoleName, RolePrefix, Ttl, shortened};

pub use self::expected::Expected;
pub use self::finding::{Check, Finding, Verdict};
pub use self::prepare::HbaServer;

/// Bytes of the name of a role.
const ROLE_BYTES: usize = 63;

/// What of the broker's own is needed to examine a cluster.
#[derive(Clone)]
pub struct Examiner {
    /// The broker's name in its marks.
    pub broker: BrokerId,
    /// The key of its marks, if there is one yet.
    pub key: Option<Arc<MarkerKey>>,
    /// What the names of its lease roles begin with.
    pub role_prefix: RolePrefix,
    /// How far clocks may be apart for leases to be issued.
    pub max_clock_skew: Ttl,
    /// Where the broker's own store is, when that is on a server.
    pub store: Option<StorePlace>,
    /// The release as which the map is read.
    pub map_read_as: Dialect,
    /// The release of the cluster, when the configuration says it.
    pub written_release: Option<Dialect>,
}

/// The broker's own store on PostgreSQL, as its configuration names it.
#[derive(Clone, Debug)]
pub struct StorePlace {
    /// Its servers, each with its port.
    pub servers: Vec<(Host, u16)>,
    /// The broker's login there.
    pub user: RoleName,
    /// Its database.
    pub database: DatabaseName,
}

impl StorePlace {
    /// Whether one of its servers is that at `host` and `port`, as far as the addresses tell.
    fn is_at(&self, host: &Host, port: u16) -> bool {
        self.servers.iter().any(|(own, own_port)| {
            *own_port == port && (own == host || (own.is_local() && host.is_local()))
        })
    }
}

/// What a cluster says of roles that somebody asks about.
#[derive(Debug)]
pub struct LookedAtRoles {
    /// Those that it has, each with what it reaches that rules the cluster or the broker.
    pub powers: BTreeMap<String, Vec<String>>,
    /// The memberships of the roles that it lends.
    pub members: Memberships,
}

/// One cluster, to be examined. Connects when it is.
pub struct Examination {
    expected: Expected,
    connections: Connections,
    examiner: Examiner,
    doors: Vec<Door>,
}

impl Examination {
    /// The examination of a cluster that lends `profiles` and whose clients come by `client`.
    ///
    /// # Errors
    /// When the root certificates cannot be read, or TLS is disabled for a host that is not local.
    pub fn new(
        settings: &ClusterSettings,
        client: ClientConnection,
        profiles: Vec<Arc<Profile>>,
        examiner: Examiner,
    ) -> Result<Self, ClusterError> {
        let unusable = |mistake| ClusterError::Settings { cluster: settings.name.clone(), mistake };
        let connections = Connections::new(settings).map_err(unusable)?;
        let expected = Expected::new(settings, client, profiles, &examiner);
        let doors = Door::all(&expected, settings).map_err(unusable)?;
        Ok(Self { expected, connections, examiner, doors })
    }

    /// The cluster's name in the configuration.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.expected.cluster
    }

    /// Where the broker reaches it, for people.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.expected.host, self.expected.port)
    }

    /// Looks at everything, changes nothing, and says what was found. A cluster that cannot be
    /// reached is a finding too.
    pub async fn examine(&self, clock: &Clock) -> Vec<Finding> {
        let knocks = async {
            let mut opened = Vec::new();
            for door in &self.doors {
                opened.push(door.knock(&self.expected).await);
            }
            opened
        };
        let (inside, outside) = tokio::join!(self.inside(clock), knocks);
        let (mut findings, version) = inside;
        findings.extend(judge::doors(&self.expected, version, &outside, clock.now()));
        findings
    }

    /// What is seen by who is logged in as the broker, and the server's version.
    async fn inside(&self, clock: &Clock) -> (Vec<Finding>, Option<u32>) {
        let session = match session::begin(&self.connections, &self.expected).await {
            Ok(Session::Own(client)) => client,
            Ok(Session::Shared(how)) => return (vec![judge::shared(&how)], None),
            Err(failure) => return (vec![judge::out_of_reach(&self.expected, &failure)], None),
        };
        let reader = read::Reader {
            connections: &self.connections,
            expected: &self.expected,
            examiner: &self.examiner,
        };
        let facts = reader.facts(&session, clock).await;
        let version = facts.server.as_ref().ok().map(|server| server.version);
        (judge::inside(&self.expected, &facts), version)
    }

    /// Which of these roles the cluster has, what each of them reaches that rules the cluster or
    /// the broker, and which roles those that it lends are members of.
    ///
    /// # Errors
    /// A text for a person, when it cannot be asked.
    pub async fn look_at_roles(&self, names: &BTreeSet<String>) -> Result<LookedAtRoles, String> {
        let (connections, expected) = (&self.connections, &self.expected);
        let reader = read::Reader { connections, expected, examiner: &self.examiner };
        let looked: Looked<LookedAtRoles> = async {
            let client = connections.open(expected.maintenance.as_str()).await?;
            let mut powers = BTreeMap::new();
            // The server would cut a longer name, and answer for another role.
            for name in names.iter().filter(|name| name.len() <= ROLE_BYTES) {
                let reach = reader.reach(&client, name).await?;
                powers.extend(reach.map(|powers| (name.clone(), powers)));
            }
            Ok(LookedAtRoles { powers, members: reader.members(&client).await? })
        }
        .await;
        looked.map_err(|failure| shortened(&failure.to_string(), 1000))
    }

    /// The statements that prepare the cluster, for psql and a superuser.
    #[must_use]
    pub fn preparation(&self) -> String {
        prepare::sql(&self.expected)
    }

    /// The lines for `pg_hba.conf` of a server as `server` says.
    #[must_use]
    pub fn hba(&self, server: HbaServer<'_>) -> String {
        prepare::hba(&self.expected, server)
    }

    /// Asks the cluster for its major version, and for the address that it sees the broker at.
    ///
    /// # Errors
    /// A text for a person, when it cannot be asked.
    pub async fn ask_for_hba(&self, clock: &Clock) -> Result<(u32, Option<String>), String> {
        let server: Looked<Server> = async {
            let client = self.connections.open(self.expected.maintenance.as_str()).await?;
            read::server(&self.connections, &client, clock).await
        }
        .await;
        let server = server.map_err(|failure| shortened(&failure.to_string(), 1000))?;
        Ok((server.version / 10_000, server.broker_address))
    }
}

impl fmt::Debug for Examination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.expected.cluster;
        formatter.debug_struct("Examination").field("cluster", name).finish_non_exhaustive()
    }
}
