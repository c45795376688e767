//! All integration tests, in one binary: each starts the real servers it needs.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy knows `#[test]` functions as tests, not the support module they stand on"
)]

mod bridge;
mod brokers;
mod chaos;
mod cli;
mod cluster;
mod config;
mod crash;
mod doctor;
mod ends;
mod faults;
mod floors;
mod http;
mod kerberos;
mod ldap;
mod mapping;
mod questions;
mod recheck;
mod reload;
mod smoke;
// The promises of a store are a part of debug builds only.
#[cfg(debug_assertions)]
mod store;
mod support;
