//! pgbridge: an authentication bridge in front of PostgreSQL.

pub mod auth;
pub mod clock;
pub mod names;
