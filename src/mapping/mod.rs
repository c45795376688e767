//! What a verified identity may become: the map, the profiles, and the entitlement they give.
//!
//! Invariant: nothing here does I/O, reads the time or is async. Only here can an
//! [`Entitlement`] be made, and only from an identity.

mod automaton;
mod backwards;
mod because;
mod bytes;
mod diff;
mod duty;
mod entitlement;
mod eval;
mod explain;
mod ident;
mod instead;
mod line;
mod lint;
mod matched;
mod near;
mod person;
mod policy;
mod possible;
mod profile;
mod scan;
mod source;
mod uses;

pub use automaton::Effort;
pub use backwards::{
    DutyAnswer, LineAnswer, LineEnds, LineLetsIn, LineNever, PersonCan, PlacedLine, RoleAnswer,
    WhatCan, Who, WhoCan, WhyNever,
};
pub use because::{Because, Matched};
pub use diff::{
    Certainty, ChangedFor, DiffContext, Direction, Example, Given, IdleLine, MapChange,
    MapDifference, NotCompared, WhyIdle, diff,
};
pub use duty::{Duty, DutyError};
pub use entitlement::{Duties, Entitlement, Members, Offers, Refusal};
pub use eval::{EvalAnswer, EvalDecision, Evaluated, QUESTION_BYTES, evaluate, load_error};
pub use explain::{
    AskedLine, AskedMap, Cause, Explanation, Inquiries, Inquiry, InquiryError, LentTerms, LineSaid,
    NameOf, NearMiss, NetworkSaid, Spelled, Verdict,
};
pub use ident::{
    Case, Considered, DatabaseUserView, Dialect, DialectError, HoldsSecret, IdentMap, MapDecision,
    MapFiles, MapMistake, MapRevision, MapText, Memberships, Question, RevisionBeginning, RuleRef,
    RuleView, SystemUserView, Wanted,
};
pub use line::Grant;
pub use lint::{ClusterRoles, LintCode, LintContext, LintFinding, LintSeverity, lint};
pub use near::Near;
pub use person::{NamesError, UnverifiedNames, UnverifiedPerson};
pub use policy::{AccessMaps, Maps, Policy, Target};
pub use profile::{ObjectPolicy, Profile, ReasonRule};
pub use scan::{KnownMembers, MapLine};
pub use source::{MapLook, MapReading, MapSource};
pub use uses::{MapUse, MapUses};

use ident::{Index, RoleAlone};
