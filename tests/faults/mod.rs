//! Faults of the network, the disk, the clocks and the store, on a real cluster.

mod cuts;
mod store;
