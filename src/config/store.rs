//! `[store]`: the broker's own database.

use std::path::Path;

use super::files;
use super::form::{self, SslMode};
use super::reader::Table;
use crate::dial::ServerTls;
use crate::store::StoreSettings;
use crate::store::postgres::{PostgresSettings, StorePassword, StoreUrl, StoreUrlError};

pub(super) fn read(table: Table<'_>) -> Option<StoreSettings> {
    settings(table, |table, path| files::path_to_make(table, "path", path))
}

/// The same for who only reads the store: whether a file could be made is no matter.
pub(super) fn read_existing(table: Table<'_>) -> Option<StoreSettings> {
    settings(table, |table, path| table.reader().resolve(path))
}

fn settings(
    table: Table<'_>,
    resolve: impl Fn(&Table<'_>, &std::path::Path) -> std::path::PathBuf,
) -> Option<StoreSettings> {
    let path = table.defaulted("path", "\"pgbridge.db\"", &form::path());
    let postgres = postgres(&table);
    let settings = if table.has("url") {
        if table.has("path") {
            // It may be the one before, with all that was in it.
            if let Some(path) = &path {
                note_files(&table, &table.reader().resolve(path));
            }
            let hint = "keep `path` for one broker on one SQLite file, or `url` for PostgreSQL";
            table.mistake("url", "cannot be used with `path`", hint);
        }
        postgres.map(StoreSettings::Postgres)
    } else {
        for key in ["password_file", "ca_file", "sslmode"].into_iter().filter(|key| table.has(key))
        {
            table.mistake(key, "does nothing without `url`", "an SQLite file needs none of it");
        }
        path.map(|path| {
            let path = resolve(&table, &path);
            note_files(&table, &path);
            StoreSettings::Sqlite { path }
        })
    };
    table.finish();
    settings
}

/// The files of a store hold hashes of tokens and what everybody asked for, and are as private as a
/// secret.
fn note_files(table: &Table<'_>, path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut file = path.to_owned().into_os_string();
        file.push(suffix);
        table.reader().note_secret(Path::new(&file));
    }
}

/// Every key is looked at, so that every mistake is told.
fn postgres(table: &Table<'_>) -> Option<PostgresSettings> {
    let url = url(table);
    let file = table.optional("password_file", &form::path());
    let password = file
        .and_then(|path| files::password(table, "password_file", &table.reader().resolve(&path)))
        .map(|password| StorePassword::new(password.to_string()));
    let roots = files::authorities(table, "ca_file").map(|authorities| authorities.pem);
    let mode = table.optional("sslmode", &form::ssl_mode());
    if table.has("sslmode") && mode.is_none() {
        return None;
    }
    let url = url?;
    if !url.is_socket() && !table.has("password_file") {
        let hint = "only a login over a socket may do without a password";
        table.mistake("url", "needs `password_file` beside it", hint);
    }
    let tls = match mode {
        Some(SslMode::Disable) => {
            if !url.is_local() {
                let what = "can only be \"disable\" when every host in `url` is this machine";
                table.mistake("sslmode", what, "use \"verify-full\" with the server's `ca_file`");
            }
            if table.has("ca_file") {
                table.mistake("ca_file", "does nothing, because no TLS is spoken", "remove it");
            }
            ServerTls::Disabled
        }
        Some(SslMode::VerifyFull) | None => ServerTls::VerifyFull { roots },
    };
    Some(PostgresSettings { url, password, tls })
}

fn url(table: &Table<'_>) -> Option<StoreUrl> {
    let text = table.optional("url", &form::text("the address of a database"))?;
    let error = match text.parse() {
        Ok(url) => return Some(url),
        Err(error) => error,
    };
    let hint = match error {
        StoreUrlError::Password => {
            "a secret never stands in this file: put it alone into a file of its own (chmod 600), \
             and its path in `password_file`. If it is in use, change it now"
        }
        StoreUrlError::Parameters => {
            "what can be set has keys of its own: `password_file`, `ca_file` and `sslmode`"
        }
        StoreUrlError::Mixed => "name the socket alone, as `%2Frun%2Fpostgresql`, or hosts only",
        _ => "write postgresql://user@host:port/database; several hosts stand between commas",
    };
    table.mistake("url", &error.to_string(), hint);
    None
}
