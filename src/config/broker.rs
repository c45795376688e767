//! `[broker]`: what the broker is called, and how it makes and ends leases.

use std::path::{Path, PathBuf};

use super::files::{self, Privacy};
use super::form;
use super::reader::Table;
use crate::lease::{MarkerKey, Terms};
use crate::names::{BrokerId, RolePrefix, Ttl};

/// How leases are made and ended.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    /// The broker's name in the mark on every lease role.
    pub id: BrokerId,
    /// The file of the key of the marks. It is made at the first start; when it is there it held
    /// a key when it was checked.
    pub marker_key_file: PathBuf,
    /// The terms of every lease.
    pub terms: Terms,
    /// How often what is on the clusters is compared with the store.
    pub reconcile_every: Ttl,
    /// Longest time between two looks at somebody who has a lease or a session.
    pub recheck_every: Ttl,
    /// How long what was seen last counts while nobody can look; at least `recheck_every`.
    pub recheck_grace: Ttl,
    /// How many people of one way in may be missing at once; more are held back, unless it shows two
    /// others for each.
    pub max_missing: u32,
    /// How far clocks may be apart for leases to be issued.
    pub max_clock_skew: Ttl,
}

pub(super) fn read(table: Table<'_>) -> Option<BrokerSettings> {
    let id = table.defaulted("id", "\"main\"", &form::label());
    let key_file: Option<PathBuf> =
        table.defaulted("marker_key_file", "\"marker.key\"", &form::path());
    let marker_key_file = key_file.map(|path| marker_key(&table, &path));
    let prefix = form::parsed::<RolePrefix>(
        "2 to 16 of a-z, 0-9 and `_`, beginning with a letter, ending with `_`, and not `pg_…`",
    );
    let role_prefix = table.defaulted("role_prefix", "\"pgb_\"", &prefix);
    let create_within = table.defaulted("create_within", "\"30s\"", &form::duration("1s", "10m"));
    let outlive_login = table.defaulted("outlive_login", "false", &form::flag());
    let reconcile_every = table.defaulted("reconcile_every", "\"1m\"", &form::duration("1s", "1h"));
    let max_clock_skew = table.defaulted("max_clock_skew", "\"2m\"", &form::duration("30s", "1d"));
    let (recheck_every, recheck_grace) = recheck(&table);
    let max_missing = table.defaulted("max_missing", "5", &form::integer(1, 1_000_000));
    table.finish();
    Some(BrokerSettings {
        id: id?,
        marker_key_file: marker_key_file?,
        terms: Terms {
            role_prefix: role_prefix?,
            create_within: create_within?,
            outlive_login: outlive_login?,
        },
        reconcile_every: reconcile_every?,
        recheck_every: recheck_every?,
        recheck_grace: recheck_grace?,
        max_missing: max_missing?,
        max_clock_skew: max_clock_skew?,
    })
}

/// How often people are looked up again, and for how long what was seen counts.
fn recheck(table: &Table<'_>) -> (Option<Ttl>, Option<Ttl>) {
    let length = form::duration("10s", "1d");
    let every = table.defaulted("recheck_every", "\"5m\"", &length);
    let grace = table.defaulted("recheck_grace", "\"15m\"", &length);
    if every.zip(grace).is_some_and(|(every, grace)| grace < every) {
        let key = if table.has("recheck_grace") { "recheck_grace" } else { "recheck_every" };
        let message = "`recheck_grace` in [broker] is shorter than `recheck_every`";
        let hint = "what was seen must count at least until the next look";
        table.reader().mistake(table.place_of(key), message, hint);
    }
    (every, grace)
}

/// The path of the key's file. It may be missing, for it is made at the first start; if it is
/// there it must be private and hold a key.
fn marker_key(table: &Table<'_>, path: &Path) -> PathBuf {
    const KEY: &str = "marker_key_file";
    let path = files::path_to_make(table, KEY, path);
    table.reader().note_secret(&path);
    if path.is_file()
        && let Some(bytes) = files::read(table, KEY, &path, Privacy::Secret)
    {
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        if MarkerKey::from_hex(text).is_err() {
            let hint = "64 characters of hex are needed; a lost key comes back from the backup \
                        only, for the roles on the clusters are marked with it";
            table.mistake(KEY, "names a file without a marker key", hint);
        }
    }
    path
}
