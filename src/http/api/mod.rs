//! The handlers, one file per resource.

pub(super) mod answers;
pub(super) mod leases;
pub(super) mod map;
pub(super) mod operator;
pub(super) mod roles;
pub(super) mod session;
pub(super) mod status;
pub(super) mod uri;
