//! Any bytes as a map and as names: what the tests promise of them, asked by a fuzzer.
//!
//! The first byte chooses the release of PostgreSQL and whether case counts. The rest is cut at `~`
//! into the main file, three files to include, a system user and a role.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgbridge::mapping::{Case, Dialect};

#[path = "../../tests/mapping/promises.rs"]
mod promises;

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let dialect = Dialect::ALL[usize::from(choice % 6)];
    let case = if choice & 0x80 == 0 { Case::Sensitive } else { Case::Insensitive };
    let mut parts = rest.splitn(6, |byte| *byte == b'~');
    let mut part = || parts.next().unwrap_or_default();
    let files = [part(), part(), part(), part()];
    let (user, role) = (part(), part());
    promises::Anything { dialect, files, user, role, case }.keeps_all_promises();
});
