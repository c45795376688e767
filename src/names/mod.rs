//! The words of the field, each a type that is checked once, where it enters.
//!
//! Invariant: nothing here does I/O, reads the time or makes its own randomness, and nothing
//! here knows a module of a higher floor.

/// What every name has that is a checked text: `TryFrom<String>` by its `FromStr`, back into a
/// `String`, and `Display` as it is.
macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = <Self as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

mod account;
mod kerberos;
mod lease;
mod limits;
mod postgres;
mod principal;
mod quoting;
mod secret;
mod text;
mod ttl;

pub use account::AccountId;
pub use kerberos::{KerberosPrincipal, KerberosPrincipalError, Shape};
pub use lease::{LeaseId, LeaseIdError, LeaseRoleName, RolePrefix, RolePrefixError};
pub use limits::{
    ConnectionLimit, ConnectionLimitError, LeaseLimit, LeaseLimitError, ScramIterations,
    ScramIterationsError,
};
pub use postgres::{DatabaseName, DatabaseNameError, ROLE_BYTES, RoleName, RoleNameError, RoleOid};
pub use principal::{
    ACCOUNT_BYTES, AccountKey, GROUP_BYTES, GROUPS_MAX, Group, Method, Principal, is_account,
    is_machine,
};
pub use quoting::{identifier, literal, printable, printable_sql, shortened, steers};
pub use secret::{LoginPassword, Password, SessionToken, TokenHash, Verifier};
pub use text::{
    BrokerId, ClusterName, LabelError, MapName, MapNameError, RequestKey, RequestKeyError, WayName,
};
pub use ttl::{Ttl, TtlError};
