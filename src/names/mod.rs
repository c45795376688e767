//! The words of the field, each a type that is checked once, where it enters.
//!
//! Invariant: nothing here does I/O, reads the time or makes its own randomness, and nothing
//! here knows a module of a higher floor.

mod lease;
mod limits;
mod postgres;
mod principal;
mod quoting;
mod secret;
mod text;
mod ttl;

pub use lease::{LeaseId, LeaseIdError, LeaseRoleName, RolePrefix, RolePrefixError};
pub use limits::{ConnectionLimit, ConnectionLimitError, ScramIterations, ScramIterationsError};
pub use postgres::{DatabaseName, DatabaseNameError, RoleName, RoleNameError, RoleOid};
pub use principal::{AccountKey, Group, Method, Principal};
pub use quoting::{identifier, literal, printable};
pub use secret::{LoginPassword, Password, SessionToken, TokenHash, Verifier};
pub use text::{
    BrokerId, ClusterName, LabelError, MapName, MapNameError, RequestKey, RequestKeyError, WayName,
};
pub use ttl::{Ttl, TtlError};
