//! pgbridge beside the bare thing, in one run on one machine: issuing beside `CREATE ROLE`, a
//! login beside a bare bind, revoking beside the bare statements of a revocation, deciding by a map
//! beside PostgreSQL's own logins by it. One JSON line a measurement; every write is synced to
//! disk.
//!
//! `cargo bench --bench side_by_side [-- NAME …]`; `BENCH_SECONDS` sets how long each side of a
//! round runs (1 unless set), `BENCH_CLIENTS` measures issuing with that many clients only, and
//! `BENCH_POSTGRES` names another major than 15.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::manual_assert,
    reason = "a benchmark ends at the first failure, and measures time"
)]

#[expect(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod issue;
mod login;
mod map;
mod measure;
mod revoke;
mod stand;
mod stock;
mod wire;

use stand::Stand;

#[tokio::main]
async fn main() {
    // cargo adds `--bench`; what is left are names of benchmarks.
    let names: Vec<String> =
        std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    if wanted("revoke") {
        revoke::run().await;
        stock::run().await;
    } else if wanted("start") {
        stock::run().await;
    }
    if wanted("map") {
        map::run().await;
    }
    if !wanted("issue") && !wanted("login") {
        return;
    }
    let stand = Stand::start().await;
    if wanted("issue") {
        issue::run(&stand).await;
    }
    if wanted("login") {
        login::run(&stand).await;
    }
    println!("{}", serde_json::json!({"bench": "memory", "rss_mb": stand.peak_rss_mb()}));
}
