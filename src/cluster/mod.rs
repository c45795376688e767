//! One PostgreSQL server where lease roles live.

mod client;

pub use client::{ClientConnection, ClientSslMode};
