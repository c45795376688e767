//! pgbridge: an authentication bridge in front of PostgreSQL.
//!
//! ```text
//! request -> auth       proves it        -> Identity     (only auth can make one)
//!         -> mapping    says what it may -> Entitlement  (only mapping can make one)
//!         -> lease      decides the steps-> Lease, plan  (pure)
//!         -> cluster    runs the plan    -> Credential   (the password leaves once)
//!         -> audit      has recorded it before the answer leaves
//! ... later: renew, revoke, reconcile: the same plans, the same record
//! ```
//!
//! Floors: a module imports only from lower floors; modules on one floor do not import each
//! other, except along the flow on floor 1, and that each way in knows `auth::way`, and `cluster`
//! and `store` know `dial`. A test holds the `use crate::` lines against this.
//!
//! | floor | modules | may do |
//! | --- | --- | --- |
//! | 5 | `main` | read arguments, build, connect, run |
//! | 4 | `http`, `cli` | speak to people and programs |
//! | 3 | `broker`, `config` | use cases; composing the settings that the edges declare |
//! | 2 | `auth::way`, `auth::ldap`, `auth::kerberos`, `dial`, `cluster`, `store` | I/O, each with one outside party |
//! | 1 | `auth::identity` -> `mapping` -> `lease` -> `audit` | pure: no I/O, no clock, no async, no randomness of their own |
//! | 0 | `names`, `causes`, `clock`, `crash` | words of the field, what an error says, the time, and where tests end the process |
//!
//! Two words that never mix: the *store* is the broker's own database, a *cluster* is a
//! PostgreSQL server where lease roles live.
//!
//! Deliberately absent: other secrets than database roles, SQL templates from configuration,
//! consensus of our own, plug-ins, and a password in plain text towards a cluster.

pub mod audit;
pub mod auth;
pub mod broker;
pub mod causes;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crash;
pub mod dial;
pub mod http;
pub mod lease;
pub mod mapping;
pub mod names;
pub mod store;
