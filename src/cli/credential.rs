//! A role with its password, in the forms that programs take.
//!
//! Each form escapes by the rules of the program that reads it, and refuses what that program
//! cannot hold, so that no value can end its place and begin another.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::answers::Issued;
use super::args::Format;
use super::client::{Answer, ClientError};
use super::secret::Secret;
use super::state::{StateDir, StateError};
use super::table;
use super::terminal::Shown;

/// A role with its password, and where to connect with it from this machine.
pub(super) struct Credential {
    pub issued: Issued,
    /// File with the root certificates of the cluster, as libpq is told.
    pub root: Option<String>,
}

/// Why a credential cannot be used or printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("the {field} that the server gave holds a NUL byte: it cannot be used")]
    Nul { field: &'static str },
    #[error("the {field} cannot stand in the format {format}: choose another one")]
    Unfit { field: &'static str, format: &'static str },
    #[error("the state directory's path is not UTF-8")]
    Path,
    #[error("standard output cannot be written")]
    Unwritten(#[source] std::io::Error),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Credential {
    /// Reads the answer to an issuing call, and keeps the cluster's root certificates that came
    /// with it.
    ///
    /// # Errors
    /// When the answer is none, holds what cannot be used, or the certificates cannot be kept.
    pub fn accept(answer: &Answer, state: &StateDir) -> Result<Self, CredentialError> {
        let issued: Issued = answer.read()?;
        let root = match &issued.connection.root_certificate {
            Some(pem) => {
                let path = state.keep_certificate(&issued.lease.cluster, pem)?;
                Some(path.to_str().ok_or(CredentialError::Path)?.to_owned())
            }
            None => issued.connection.sslrootcert.clone(),
        };
        let credential = Self { issued, root };
        let hostile = credential.fields().into_iter().find(|(_, value)| value.contains('\0'));
        match hostile {
            Some((field, _)) => Err(CredentialError::Nul { field }),
            None => Ok(credential),
        }
    }

    /// In `format`.
    ///
    /// # Errors
    /// When a value cannot stand in it.
    pub fn print(
        &self,
        answer: &Answer,
        format: Format,
        now: Timestamp,
    ) -> Result<Secret, CredentialError> {
        match format {
            Format::Table => Ok(self.table(now)),
            Format::Json => Ok(self.json(answer)?),
            Format::Env => Ok(self.env()),
            Format::Uri => Ok(Secret::new(self.uri(Some(self.issued.password.expose())))),
            Format::Pgpass => self.pgpass(),
            Format::Service => self.service(),
        }
    }

    /// What libpq is told by its environment (PostgreSQL manual, "Environment Variables").
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let connection = &self.issued.connection;
        let mut variables = vec![
            ("PGHOST", connection.host.clone()),
            ("PGPORT", connection.port.to_string()),
            ("PGDATABASE", connection.database.clone()),
            ("PGUSER", connection.user.clone()),
            ("PGSSLMODE", connection.sslmode.clone()),
        ];
        variables.extend(self.root.clone().map(|root| ("PGSSLROOTCERT", root)));
        variables
    }

    /// Variables that would lead libpq somewhere else, and so must not be inherited.
    pub fn strangers(&self) -> Vec<&'static str> {
        let mut strangers = vec!["PGHOSTADDR", "PGSERVICE"];
        if self.root.is_none() {
            strangers.push("PGSSLROOTCERT");
        }
        strangers
    }

    fn fields(&self) -> [(&'static str, &str); 6] {
        let connection = &self.issued.connection;
        [
            ("host", &connection.host),
            ("database name", &connection.database),
            ("user", &connection.user),
            ("password", self.issued.password.expose()),
            ("sslmode", &connection.sslmode),
            ("path of the root certificate", self.root.as_deref().unwrap_or_default()),
        ]
    }

    fn table(&self, now: Timestamp) -> Secret {
        let (lease, connection) = (&self.issued.lease, &self.issued.connection);
        let mut pairs = vec![
            ("lease", Shown::new(lease.id)),
            ("ends", table::time(lease.expires_at, now)),
            ("renewable until", table::time(lease.ceiling, now)),
            ("cluster", Shown::new(&lease.cluster)),
            ("role", Shown::new(&lease.role)),
            ("host", Shown::new(&connection.host)),
            ("port", Shown::new(connection.port)),
            ("database", Shown::new(&connection.database)),
            ("user", Shown::new(&connection.user)),
            ("password", Shown::new(self.issued.password.expose())),
            ("sslmode", Shown::new(&connection.sslmode)),
        ];
        pairs.extend(self.root.as_ref().map(|root| ("sslrootcert", Shown::new(root))));
        Secret::new(table::pairs(&pairs))
    }

    fn json(&self, answer: &Answer) -> Result<Secret, ClientError> {
        let uri = self.uri(Some(self.issued.password.expose()));
        answer.json_with(|value| {
            let Some(answer) = value.as_object_mut() else { return };
            answer.insert("uri".to_owned(), uri.into());
            let connection = answer.get_mut("connection").and_then(|value| value.as_object_mut());
            if let (Some(connection), Some(root)) = (connection, &self.root) {
                connection.insert("sslrootcert".to_owned(), root.as_str().into());
            }
        })
    }

    fn env(&self) -> Secret {
        let mut lines = format!("unset {}\n", self.strangers().join(" "));
        for (name, value) in self.variables() {
            let _ = writeln!(lines, "export {name}={}", shell_quoted(&value));
        }
        let _ =
            writeln!(lines, "export PGPASSWORD={}", shell_quoted(self.issued.password.expose()));
        Secret::new(lines)
    }

    /// The connection URI (PostgreSQL manual, "Connection URIs"), with or without the password.
    fn uri(&self, password: Option<&str>) -> String {
        let connection = &self.issued.connection;
        let host = match connection.host.as_str() {
            address if address.contains(':') && !address.starts_with('/') => {
                format!("[{}]", percent_encoded(address).replace("%3A", ":"))
            }
            name => percent_encoded(name),
        };
        let password = password.map(|text| format!(":{}", percent_encoded(text)));
        let mut uri = format!(
            "postgresql://{}{}@{host}:{}/{}?sslmode={}",
            percent_encoded(&connection.user),
            password.unwrap_or_default(),
            connection.port,
            percent_encoded(&connection.database),
            percent_encoded(&connection.sslmode),
        );
        if let Some(root) = &self.root {
            let _ = write!(uri, "&sslrootcert={}", percent_encoded(root));
        }
        uri
    }

    /// A line of a password file (PostgreSQL manual, "The Password File"), below a comment with
    /// the rest of the connection, which such a line cannot hold.
    fn pgpass(&self) -> Result<Secret, CredentialError> {
        self.refuse("pgpass", |value| value.contains(['\n', '\r']))?;
        let connection = &self.issued.connection;
        let line = [
            &connection.host,
            &connection.port.to_string(),
            &connection.database,
            &connection.user,
            self.issued.password.expose(),
        ]
        .map(pgpass_escaped)
        .join(":");
        Ok(Secret::new(format!("# {}\n{line}\n", self.uri(None))))
    }

    /// A section of a connection service file (PostgreSQL manual, "The Connection Service File"),
    /// called as the cluster is. A value there ends with the line, without the white space at its
    /// end, and nothing can be escaped.
    fn service(&self) -> Result<Secret, CredentialError> {
        self.refuse("service", |value| {
            value.contains(['\n', '\r']) || value.ends_with(|letter: char| letter.is_whitespace())
        })?;
        let connection = &self.issued.connection;
        let mut section = format!(
            "[{}]\nhost={}\nport={}\ndbname={}\nuser={}\npassword={}\nsslmode={}\n",
            self.issued.lease.cluster,
            connection.host,
            connection.port,
            connection.database,
            connection.user,
            self.issued.password.expose(),
            connection.sslmode,
        );
        if let Some(root) = &self.root {
            let _ = writeln!(section, "sslrootcert={root}");
        }
        Ok(Secret::new(section))
    }

    fn refuse(
        &self,
        format: &'static str,
        unfit: impl Fn(&str) -> bool,
    ) -> Result<(), CredentialError> {
        match self.fields().into_iter().find(|(_, value)| unfit(value)) {
            Some((field, _)) => Err(CredentialError::Unfit { field, format }),
            None => Ok(()),
        }
    }
}

/// One word for a POSIX shell: in single quotes nothing means anything but the quote itself.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// RFC 3986 section 2.1; everything but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// One field of a password file. A `*` alone would match anything and a `#` at the beginning
/// would make a comment; libpq takes any escaped character as itself.
fn pgpass_escaped(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace(':', r"\:");
    if escaped == "*" || escaped.starts_with('#') { format!("\\{escaped}") } else { escaped }
}

#[cfg(test)]
pub(super) mod tests {
    use std::process::Command;

    use super::*;
    use crate::cli::answers::Connection;

    const HOSTILE: [&str; 12] = [
        "plain",
        "it's",
        "$(touch x) `id` \\ \" !",
        "a:b:c",
        "back\\slash\\",
        "*",
        "#comment",
        "per%20cent+plus&x=y?z#f/@",
        "Zoë 中",
        "[section]",
        "host=evil",
        " leading",
    ];

    /// A credential in which every text is `text`.
    pub(in crate::cli) fn credential(text: &str) -> Credential {
        let lease = serde_json::json!({
            "id": "abcdefghijklmnop", "state": "active", "cluster": "orders", "database": "db",
            "role": "r", "role_name": "pgb_x", "requested_at": "2026-11-20T20:00:00Z",
            "expires_at": "2026-11-20T20:15:00Z", "ceiling": "2026-11-20T21:00:00Z",
        });
        let connection = Connection {
            host: text.to_owned(),
            port: 5432,
            database: text.to_owned(),
            user: text.to_owned(),
            sslmode: "verify-full".to_owned(),
            sslrootcert: None,
            root_certificate: None,
        };
        let lease = serde_json::from_value(lease).unwrap();
        let issued = Issued { lease, password: Secret::new(text.to_owned()), connection };
        Credential { issued, root: Some(format!("/{text}")) }
    }

    /// What a POSIX shell makes of the commands.
    fn through_sh(commands: &str, name: &str) -> String {
        let script = format!("{commands}\nprintf %s \"${name}\"");
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_shell_reads_every_value_as_it_was() {
        for text in HOSTILE.into_iter().chain(["two\nlines\r", "\t", ""]) {
            let env = credential(text).env();
            for name in ["PGHOST", "PGDATABASE", "PGUSER", "PGPASSWORD"] {
                assert_eq!(through_sh(env.expose(), name), text, "{name}");
            }
            assert_eq!(through_sh(env.expose(), "PGSSLMODE"), "verify-full");
            assert_eq!(through_sh(env.expose(), "PGSSLROOTCERT"), format!("/{text}"));
        }
        let diverted = format!("PGHOSTADDR=192.0.2.1\n{}", credential("x").env().expose());
        assert_eq!(through_sh(&diverted, "PGHOSTADDR"), "");
    }

    #[test]
    fn a_uri_decodes_to_every_value_as_it_was() {
        for text in HOSTILE.into_iter().chain(["two\nlines", "/run/postgresql", "a b"]) {
            let credential = credential(text);
            let uri = credential.uri(Some(text));
            // A host with a colon is an IPv6 address to everybody.
            if text.contains(':') {
                continue;
            }
            let config: tokio_postgres::Config =
                uri.split('?').next().unwrap().parse().unwrap_or_else(|_| panic!("{uri}"));
            assert_eq!(config.get_user(), Some(text), "{uri}");
            assert_eq!(config.get_password(), Some(text.as_bytes()), "{uri}");
            assert_eq!(config.get_dbname(), Some(text), "{uri}");
            let parsed = url::Url::parse(&uri).unwrap();
            let query: Vec<_> = parsed.query_pairs().into_owned().collect();
            assert_eq!(query[0], ("sslmode".to_owned(), "verify-full".to_owned()));
            assert_eq!(query[1], ("sslrootcert".to_owned(), format!("/{text}")), "{uri}");
            assert!(!credential.uri(None).contains(":plain"));
        }
        let mut six = credential("x");
        six.issued.connection.host = "2001:db8::1".to_owned();
        assert!(six.uri(None).contains("@[2001:db8::1]:5432/"), "{}", six.uri(None));
    }

    /// The fields of a line as libpq reads them: `\` takes the next character as itself, `:` ends
    /// a field; a line that begins with `#` is no line.
    fn pgpass_fields(line: &str) -> Vec<String> {
        assert!(!line.starts_with('#'), "a comment: {line}");
        let mut fields = vec![String::new()];
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => fields.last_mut().unwrap().extend(letters.next()),
                ':' => fields.push(String::new()),
                _ => fields.last_mut().unwrap().push(letter),
            }
        }
        fields
    }

    #[test]
    fn a_password_file_holds_every_value_as_it_was_or_is_refused() {
        for text in HOSTILE {
            let credential = credential(text);
            let file = credential.pgpass().unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
            let lines: Vec<&str> = file.expose().lines().collect();
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(lines[0].starts_with("# postgresql://"), "{lines:?}");
            assert!(lines[0].contains("sslmode=verify-full&sslrootcert="), "{lines:?}");
            assert_eq!(pgpass_fields(lines[1]), [text, "5432", text, text, text], "{lines:?}");
            assert!(!lines[1].starts_with("*:") && !lines[1].contains(":*:"), "{lines:?}");
        }
        for text in ["two\nlines", "carriage\r"] {
            let refusal = credential(text).pgpass().err().unwrap();
            assert!(matches!(refusal, CredentialError::Unfit { .. }), "{refusal}");
        }
    }

    #[test]
    fn a_service_file_holds_every_value_as_it_was_or_is_refused() {
        for text in HOSTILE {
            let credential = credential(text);
            let section =
                credential.service().unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
            let mut lines = section.expose().lines();
            assert_eq!(lines.next(), Some("[orders]"));
            let values: Vec<_> = lines.map(|line| line.split_once('=').unwrap()).collect();
            for name in ["host", "dbname", "user", "password"] {
                assert!(values.contains(&(name, text)), "{name}: {values:?}");
            }
            assert!(values.contains(&("sslmode", "verify-full")));
            assert!(values.contains(&("sslrootcert", &format!("/{text}"))));
        }
        for text in ["two\nlines", "trailing ", "trailing\t"] {
            let refusal = credential(text).service().err().unwrap();
            assert!(matches!(refusal, CredentialError::Unfit { .. }), "{refusal}");
        }
    }

    /// psql itself reads the service file and connects to nobody; its complaint names where it
    /// would have gone, by the values it read.
    #[test]
    fn libpq_takes_the_section_as_it_is_printed() {
        let scratch = tempfile::tempdir().unwrap();
        let nobody = scratch.path().join("it's # [a] host=x");
        let mut credential = credential("u");
        credential.issued.connection.host = nobody.to_str().unwrap().to_owned();
        credential.issued.connection.sslmode = "disable".to_owned();
        credential.root = None;
        let file = scratch.path().join("services");
        std::fs::write(&file, credential.service().unwrap().expose()).unwrap();
        let output = Command::new("psql")
            .args(["-X", "-w", "service=orders"])
            .env("PGSERVICEFILE", &file)
            .output()
            .unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains(nobody.to_str().unwrap()), "{complaint}");
        assert!(complaint.contains(".s.PGSQL.5432"), "{complaint}");
    }

    #[test]
    fn the_table_shows_everything_and_cannot_steer_the_terminal() {
        let text = credential("a\u{1b}[2Jb\nc").table("2026-11-20T20:00:00Z".parse().unwrap());
        let shown = "a\\u{1b}[2Jb\\nc";
        for name in ["host", "database", "user", "password"] {
            let line = text.expose().lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.ends_with(&format!(" {shown}")), "{line}");
        }
        assert!(text.expose().contains("in 15m (2026-11-20 20:15:00 UTC)"), "{}", text.expose());
        assert!(!text.expose().contains('\u{1b}'));
    }

    #[test]
    fn a_credential_cannot_be_printed() {
        super::super::secret::tests::assert_unprintable!(Credential);
    }
}
