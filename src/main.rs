//! pgbridge
fn main() {}
