//! Ways in: each proves who somebody is, and only here can an [`Identity`] be made.

pub mod identity;
pub mod kerberos;
pub mod ldap;
pub mod way;

pub use identity::{
    Admission, Attempts, Identity, Lockout, LockoutRule, Session, SessionEnd, SessionTimes,
};
