//! What a verified identity may become: the map, the profiles, and the entitlement they give.
//!
//! Invariant: nothing here does I/O, reads the time or is async. Only here can an
//! [`Entitlement`] be made, and only from an identity.

mod because;
mod entitlement;
mod ident;
mod profile;
mod source;

pub use because::{Because, Matched};
pub use entitlement::{
    AccessMaps, Duties, Entitlement, Maps, Members, Offers, Policy, Refusal, Target,
};
pub use ident::{
    Case, Considered, DatabaseUserView, Dialect, DialectError, IdentMap, MapDecision, MapFiles,
    MapMistake, MapRevision, MapText, Memberships, Question, RuleRef, RuleView, SystemUserView,
    Wanted,
};
pub use profile::{ObjectPolicy, Profile, ReasonRule};
pub use source::{MapLook, MapReading, MapSource};
