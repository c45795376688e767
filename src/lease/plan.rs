//! Plans
