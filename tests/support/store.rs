//! A PostgreSQL server for stores of brokers, each a database of its own.

use std::fs;

use pgbridge::dial::ServerTls;
use pgbridge::store::postgres::{PostgresSettings, StorePassword};

use super::{Postgres, Scratch};

/// The login of the brokers at their store; it owns every database made for them.
pub const STORE_LOGIN: &str = "pgbridge_store";
/// Its password.
pub const STORE_PASSWORD: &str = "store-login-password";

/// A server for stores; ends on drop.
pub struct StoreServer {
    pub postgres: Postgres,
    scratch: Scratch,
}

impl StoreServer {
    /// Starts a server of `major`.
    pub fn start(major: u32) -> Self {
        Self::on(Postgres::start(major))
    }

    /// Starts a server of `major` that has connections for many stores at once.
    pub fn start_for_many(major: u32) -> Self {
        Self::on(Postgres::start_with(major, "max_connections = 300"))
    }

    fn on(postgres: Postgres) -> Self {
        let scratch = Scratch::new("store");
        let login = format!("CREATE ROLE {STORE_LOGIN} LOGIN PASSWORD '{STORE_PASSWORD}'");
        postgres.sql("postgres", &login);
        scratch.write("store.password", STORE_PASSWORD, None);
        Self { postgres, scratch }
    }

    /// Makes the database `name`, empty.
    pub fn make(&self, name: &str) {
        let make = format!(
            "CREATE DATABASE {name} OWNER {STORE_LOGIN} TEMPLATE template0 ENCODING 'UTF8'"
        );
        self.postgres.sql("postgres", &make);
    }

    /// Makes the database `name` and gives what a store needs to open it.
    pub fn fresh(&self, name: &str) -> PostgresSettings {
        self.make(name);
        self.settings(&self.url(name))
    }

    /// Makes the database `name` as `from` is, which nobody may be connected to, and gives what a
    /// store needs to open it.
    pub fn copy(&self, from: &str, name: &str) -> PostgresSettings {
        let make = format!("CREATE DATABASE {name} OWNER {STORE_LOGIN} TEMPLATE {from}");
        self.postgres.sql("postgres", &make);
        self.settings(&self.url(name))
    }

    /// The address of the database `name`.
    pub fn url(&self, name: &str) -> String {
        format!("postgresql://{STORE_LOGIN}@127.0.0.1:{}/{name}", self.postgres.port())
    }

    /// What a store needs to open `url` over TLS.
    pub fn settings(&self, url: &str) -> PostgresSettings {
        let roots = fs::read_to_string(self.postgres.ca_file()).expect("the authority is there");
        PostgresSettings {
            url: url.parse().expect("a good address"),
            password: Some(StorePassword::new(STORE_PASSWORD.to_owned())),
            tls: ServerTls::VerifyFull { roots: Some(roots) },
        }
    }

    /// The lines of `[store]` for the database `name`.
    pub fn lines(&self, name: &str) -> String {
        let url = self.url(name);
        let (password, ca) = (self.scratch.join("store.password"), self.postgres.ca_file());
        format!(
            "url = \"{url}\"\npassword_file = \"{}\"\nca_file = \"{}\"",
            password.display(),
            ca.display()
        )
    }
}
