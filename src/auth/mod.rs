//! Ways in: each proves who somebody is, and only here can an [`Identity`] be made.

mod identity;
pub mod ldap;

pub use identity::{Identity, Session, SessionEnd, SessionTimes};
