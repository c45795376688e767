//! What the server says of itself. Nothing here changes anything, and nothing here decides.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use super::facts::{
    Database, Facts, HbaLine, LeaseRole, Login, Looked, Replicas, Role, Schema, Server, Skew,
};
use super::{Examiner, Expected};
use crate::clock::Clock;
use crate::cluster::connect::{Connections, Query};
use crate::cluster::error::Failure;
use crate::cluster::members;
use crate::cluster::row::{count, name_or_empty};
use crate::lease::Marker;
use crate::mapping::Memberships;
use crate::names::RoleName;

/// The parameters that are looked at.
pub(super) const SETTINGS: &[&str] = &[
    "authentication_timeout",
    "fsync",
    "full_page_writes",
    "listen_addresses",
    "log_connections",
    "log_line_prefix",
    "log_min_duration_sample",
    "log_min_duration_statement",
    "log_parameter_max_length_on_error",
    "log_statement",
    "log_statement_sample_rate",
    "log_transaction_sample_rate",
    "max_connections",
    "max_prepared_transactions",
    "password_encryption",
    "pg_stat_statements.track_utility",
    "pgaudit.log",
    "pgaudit.log_parameter",
    "reserved_connections",
    "server_version",
    "ssl",
    "ssl_min_protocol_version",
    "superuser_reserved_connections",
    "synchronous_commit",
    "synchronous_standby_names",
];

/// Lines of `pg_hba.conf` that are read.
pub(super) const HBA_LINES: usize = 10_000;

/// Reads what a login of the broker may see.
pub(super) struct Reader<'a> {
    pub(super) connections: &'a Connections,
    pub(super) expected: &'a Expected,
    pub(super) examiner: &'a Examiner,
}

impl Reader<'_> {
    /// Everything. What cannot be seen is missing in it, with the reason.
    pub(super) async fn facts(&self, client: &ClientWrapper, clock: &Clock) -> Facts {
        let login = self.login(client).await;
        let hba = match &login {
            Ok(Login { reads_hba: false, .. }) => Ok(None),
            _ => self.hba(client).await.map(Some),
        };
        let databases = self.databases(client).await;
        let schemas = self.schemas(databases.as_deref().unwrap_or_default()).await;
        Facts {
            now: clock.now(),
            server: server(self.connections, client, clock).await,
            settings: self.settings(client).await,
            login,
            roles: self.roles(client).await,
            reaches: self.reaches(client).await,
            databases,
            schemas,
            hba,
            replicas: self.replicas(client).await,
            lease_roles: self.lease_roles(client).await,
        }
    }

    async fn ask(
        &self,
        client: &ClientWrapper,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Looked<Vec<Row>> {
        self.connections.bounded(Duration::MAX, Query { sql, parameters }.ask(client)).await
    }

    async fn settings(&self, client: &ClientWrapper) -> Looked<BTreeMap<String, String>> {
        let rows = self.ask(client, include_str!("../sql/examine_settings.sql"), &[&SETTINGS]);
        rows.await?.iter().map(|row| Ok((field(row, "name")?, field(row, "setting")?))).collect()
    }

    async fn login(&self, client: &ClientWrapper) -> Looked<Login> {
        let rows = self.ask(client, include_str!("../sql/examine_login.sql"), &[]).await?;
        let row = first(&rows)?;
        Ok(Login {
            superuser: field(row, "superuser")?,
            can_create_roles: field(row, "can_create_roles")?,
            connection_limit: field(row, "connection_limit")?,
            expires: field(row, "expires")?,
            needless: field(row, "needless")?,
            may_signal: field(row, "may_signal")?,
            powers: field(row, "powers")?,
            reads_hba: field(row, "reads_hba")?,
        })
    }

    async fn roles(&self, client: &ClientWrapper) -> Looked<Vec<Role>> {
        let expected = self.expected;
        let service = expected.admin_role.iter().chain(&expected.attic_role);
        let names: Vec<&str> = service.chain(expected.groups()).map(RoleName::as_str).collect();
        let sql = include_str!("../sql/examine_roles.sql");
        let role = |row: &Row| {
            Ok(Role {
                name: field(row, "name")?,
                known: field(row, "known")?,
                can_login: field(row, "can_login")?,
                attributes: field(row, "attributes")?,
                inherited: field(row, "inherited")?,
                can_be_set: field(row, "can_be_set")?,
                can_be_granted: field(row, "can_be_granted")?,
                groups: field(row, "groups")?,
                members: field(row, "members")?,
                has_rights: field(row, "has_rights")?,
            })
        };
        self.ask(client, sql, &[&names, &Marker::BEGIN]).await?.iter().map(role).collect()
    }

    /// The same question that is asked before a role is made, for each that there is.
    async fn reaches(&self, client: &ClientWrapper) -> Looked<Vec<(String, Vec<String>)>> {
        let mut reaches = Vec::new();
        for group in self.expected.groups() {
            let reach = self.reach(client, group.as_str()).await?;
            reaches.extend(reach.map(|powers| (group.to_string(), powers)));
        }
        Ok(reaches)
    }

    /// What a role reaches that rules the cluster or the broker; nothing when there is no such role.
    pub(super) async fn reach(
        &self,
        client: &ClientWrapper,
        role: &str,
    ) -> Looked<Option<Vec<String>>> {
        let admin = name_or_empty(self.expected.admin_role.as_ref());
        let attic = name_or_empty(self.expected.attic_role.as_ref());
        let sql = include_str!("../sql/before_create.sql");
        // The doctor takes nothing away: whom a lease role made its members is told.
        let gave_themselves = Vec::<u32>::new();
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&role, &admin, &attic, &Marker::BEGIN, &gave_themselves];
        let rows = self.ask(client, sql, &parameters).await?;
        let row = first(&rows)?;
        let is_known: bool = field(row, "known")?;
        is_known.then(|| field(row, "too_powerful")).transpose()
    }

    /// What the roles that are lent are members of.
    pub(super) async fn members(&self, client: &ClientWrapper) -> Looked<Memberships> {
        let names: Vec<&str> = self.expected.groups().map(RoleName::as_str).collect();
        let rows = self.ask(client, include_str!("../sql/members.sql"), &[&names]).await?;
        members::of_rows(&names, &rows).map_err(unreadable)
    }

    async fn databases(&self, client: &ClientWrapper) -> Looked<Vec<Database>> {
        let databases = self.expected.databases();
        let wanted: Vec<&str> = databases.iter().map(|database| database.as_str()).collect();
        let groups: Vec<&str> = self.expected.groups().map(RoleName::as_str).collect();
        let sql = include_str!("../sql/examine_databases.sql");
        let database = |row: &Row| {
            Ok(Database {
                name: field(row, "name")?,
                wanted: field(row, "wanted")?,
                known: field(row, "known")?,
                connectable: field(row, "connectable")?,
                broker_connects: field(row, "broker_connects")?,
                public_connects: field(row, "public_connects")?,
                public_temporary: field(row, "public_temporary")?,
                shut_out: field(row, "shut_out")?,
            })
        };
        self.ask(client, sql, &[&wanted, &groups]).await?.iter().map(database).collect()
    }

    /// What can be made in each database of a profile that the broker may connect to.
    async fn schemas(&self, databases: &[Database]) -> Vec<(String, Looked<Vec<Schema>>)> {
        let mut schemas = Vec::new();
        let open = |database: &&Database| {
            database.wanted && database.connectable && database.broker_connects
        };
        for database in databases.iter().filter(open) {
            schemas.push((database.name.clone(), self.schemas_of(&database.name).await));
        }
        schemas
    }

    async fn schemas_of(&self, database: &str) -> Looked<Vec<Schema>> {
        let client = self.connections.open(database).await?;
        let groups: Vec<&str> = self.expected.groups().map(RoleName::as_str).collect();
        let attic = name_or_empty(self.expected.attic_role.as_ref());
        let sql = include_str!("../sql/examine_schemas.sql");
        let schema = |row: &Row| {
            Ok(Schema {
                name: field(row, "schema")?,
                public_creates: field(row, "public_creates")?,
                groups_create: field(row, "groups_create")?,
                attic_creates: field(row, "attic_creates")?,
            })
        };
        self.ask(&client, sql, &[&groups, &attic]).await?.iter().map(schema).collect()
    }

    async fn hba(&self, client: &ClientWrapper) -> Looked<Vec<HbaLine>> {
        let line = |row: &Row| {
            Ok(HbaLine {
                file: field(row, "file")?,
                line: field(row, "line")?,
                kind: field(row, "type")?,
                databases: field(row, "databases")?,
                users: field(row, "users")?,
                is_cut: field(row, "is_cut")?,
                address: field(row, "address")?,
                netmask: field(row, "netmask")?,
                method: field(row, "method")?,
                options: field(row, "options")?,
                error: field(row, "error")?,
            })
        };
        let sql = include_str!("../sql/examine_hba.sql");
        self.ask(client, sql, &[&count(HBA_LINES)]).await?.iter().map(line).collect()
    }

    async fn replicas(&self, client: &ClientWrapper) -> Looked<Replicas> {
        let rows = self.ask(client, include_str!("../sql/examine_replicas.sql"), &[]).await?;
        let row = first(&rows)?;
        Ok(Replicas {
            attached: field(row, "attached")?,
            synchronous: field(row, "synchronous")?,
            hidden: field(row, "hidden")?,
        })
    }

    async fn lease_roles(&self, client: &ClientWrapper) -> Looked<Vec<LeaseRole>> {
        let Examiner { broker, key, role_prefix, .. } = self.examiner;
        let cluster = &self.expected.cluster;
        let sql = include_str!("../sql/examine_lease_roles.sql");
        let role = |row: &Row| {
            let comment: String = field(row, "comment")?;
            Ok(LeaseRole {
                name: field(row, "name")?,
                marker: key.as_ref().map(|key| Marker::read(&comment, key, broker, cluster)),
                can_login: field(row, "can_login")?,
            })
        };
        let parameters: [&(dyn ToSql + Sync); 2] = [&Marker::BEGIN, &role_prefix.as_str()];
        self.ask(client, sql, &parameters).await?.iter().map(role).collect()
    }
}

/// What the server is, and how far its clock is from the broker's.
pub(super) async fn server(
    connections: &Connections,
    client: &ClientWrapper,
    clock: &Clock,
) -> Looked<Server> {
    let query = Query { sql: include_str!("../sql/examine_server.sql"), parameters: &[] };
    let before = clock.now();
    let rows = connections.bounded(Duration::MAX, query.ask(client)).await?;
    let after = clock.now();
    let row = first(&rows)?;
    let version: i32 = field(row, "version")?;
    let server_time: SystemTime = field(row, "server_time")?;
    let server_time = Timestamp::try_from(server_time).map_err(|_| unreadable("server_time"))?;
    Ok(Server {
        version: u32::try_from(version).map_err(|_| unreadable("version"))?,
        standby: field(row, "standby")?,
        skew: Skew::between(before, server_time, after),
        broker_address: field(row, "broker_address")?,
    })
}

fn first(rows: &[Row]) -> Looked<&Row> {
    rows.first().ok_or_else(|| Failure::broken("an empty answer"))
}

fn field<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Looked<T> {
    row.try_get(name).map_err(|_| unreadable(name))
}

fn unreadable(what: &str) -> Failure {
    Failure::broken(&format!("the answer cannot be understood: {what}"))
}
