//! The API over HTTP: JSON in, JSON out, described by OpenAPI.
//!
//! ```text
//! server      listening, TLS, certificates renewed while running, stopping in good order
//! slots       how many connections there may be, and how long one may be silent
//! connection  the certificate that each was begun with, and a negotiation under way
//! router      every path on one page, and the layers around them:
//!   drain       what nobody read of a body is read before the answer goes out
//!   finish      request id, headers, problem bodies, log, metrics; a panic ends here
//!   guard       odd paths, other hosts, other sites
//!   caller      who calls
//!   body        JSON and queries, strictly
//!   api/        one file per resource; api/answers shows a secret, nothing else does
//! error       the one place that decides what a client sees of an error
//! ```
//!
//! Invariants: nothing that a client wrote is believed about where it is (forwarded headers) or
//! where we are (`host`); no log line and no problem holds a header, a body or a query; a client
//! that hangs up stops no work half-way.
//!
//! Where the audit begins: whatever somebody who is known is refused has a record with its reason,
//! and so has every login that is refused; the use cases write it (`crate::broker`), and what is
//! refused again and again is written once a minute with a count. No record has what asks for
//! nothing that could be allowed or denied: a request that cannot be read (its path, host, origin,
//! size, JSON, a field, an id or a TTL that is none, a selection that names nothing), an id that is
//! no lease's, a call without a credential, and a token of no session, which is only counted.

mod api;
mod body;
mod caller;
mod certificate;
mod connection;
mod context;
mod drain;
mod error;
mod finish;
mod guard;
mod openapi;
mod problem;
mod router;
mod server;
mod slots;
mod telemetry;
#[cfg(test)]
mod testing;

pub use openapi::document;
pub use router::router;
pub use server::{Listening, ServeError, until_told_to_stop};
pub use telemetry::metrics;
