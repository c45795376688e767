//! What a verified identity may become: the map, the profiles, and the entitlement they give.
//!
//! Invariant: nothing here does I/O, reads the time or is async. Only here can an
//! [`Entitlement`] be made, and only from an identity.

mod backwards;
mod because;
mod entitlement;
mod explain;
mod ident;
mod near;
mod profile;
mod scan;
mod source;

pub use backwards::{
    Earlier, LineEnds, LineLetsIn, LineNever, PersonCan, RoleAnswer, WhatCan, Who, WhoCan,
};
pub use because::{Because, Matched};
pub use entitlement::{
    AccessMaps, Duties, Entitlement, Maps, Members, Offers, Policy, Refusal, Target,
};
pub use explain::{
    AskedLine, AskedMap, Cause, Explanation, Inquiry, InquiryError, LentTerms, LineSaid, NameOf,
    NearMiss, NetworkSaid, UnverifiedPerson, Verdict,
};
pub use ident::{
    Case, Considered, DatabaseUserView, Dialect, DialectError, IdentMap, MapDecision, MapFiles,
    MapMistake, MapRevision, MapText, Memberships, Question, RuleRef, RuleView, SystemUserView,
    Wanted,
};
pub use near::Near;
pub use profile::{ObjectPolicy, Profile, ReasonRule};
pub use scan::{KnownMembers, MapLine};
pub use source::{MapLook, MapReading, MapSource};

use ident::RoleAlone;
