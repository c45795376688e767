//! `[server]`: where people and programs reach the broker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::files;
use super::form::{self, Form};
use super::reader::Table;

/// Where and how the broker listens.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Where clients reach the broker: scheme, host and port.
    pub public_url: Url,
    /// What is spoken there.
    pub transport: Transport,
    /// Origins of web pages that may call the API, as browsers write them; none means CORS is off.
    pub allowed_origins: Vec<String>,
    /// Networks that may read `/metrics`; for all others there is no such path.
    pub metrics_networks: Vec<IpNet>,
    /// Bytes that the body of a request may have.
    pub max_body: usize,
    /// Longest wait for the headers of a request.
    pub header_timeout: Duration,
    /// Longest time for a whole request.
    pub request_timeout: Duration,
    /// Longest wait for open requests when the broker is told to stop.
    pub shutdown_timeout: Duration,
}

/// What the broker speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP in clear, on a loopback address only.
    Plain,
    /// HTTPS. Both files were a pair when they were checked, and may be renewed at any time.
    Tls {
        /// The certificate chain, PEM, the server's own certificate first.
        certificate_file: PathBuf,
        /// Its private key, PEM.
        key_file: PathBuf,
    },
}

pub(super) fn read(table: Table<'_>) -> Option<ServerSettings> {
    let listen = table.defaulted("listen", "\"127.0.0.1:8432\"", &form::socket_address());
    let transport = transport(&table, listen);
    let public_url = public_url(&table, listen, &transport);
    let allowed_origins = table.defaulted_list("allowed_origins", "[]", &origin());
    let metrics_networks =
        table.defaulted_list("metrics_networks", LOOPBACK_NETWORKS, &form::network());
    let max_body = table.defaulted("max_body", "\"64KiB\"", &form::size("1KiB", "16MiB"));
    let timeout = form::duration("1s", "10m");
    let header_timeout = table.defaulted("header_timeout", "\"10s\"", &timeout);
    let request_timeout = table.defaulted("request_timeout", "\"30s\"", &timeout);
    let shutdown_timeout = table.defaulted("shutdown_timeout", "\"20s\"", &timeout);
    table.finish();
    Some(ServerSettings {
        listen: listen?,
        public_url: public_url?,
        transport,
        allowed_origins: allowed_origins?,
        metrics_networks: metrics_networks?,
        max_body: max_body?,
        header_timeout: header_timeout?.duration(),
        request_timeout: request_timeout?.duration(),
        shutdown_timeout: shutdown_timeout?.duration(),
    })
}

const LOOPBACK_NETWORKS: &str = r#"["127.0.0.0/8", "::1/128"]"#;

fn transport(table: &Table<'_>, listen: Option<SocketAddr>) -> Transport {
    let resolved = |path: PathBuf| table.reader().resolve(&path);
    let certificate_file = table.optional("certificate_file", &form::path()).map(resolved);
    let key_file = table.optional("key_file", &form::path()).map(resolved);
    // Also when it stands alone, which is a mistake: a map reads it all the less.
    if let Some(key_file) = &key_file {
        table.reader().note_secret(key_file);
    }
    match (table.has("certificate_file"), table.has("key_file")) {
        (true, false) => table.mistake("certificate_file", "stands alone", "add `key_file`"),
        (false, true) => table.mistake("key_file", "stands alone", "add `certificate_file`"),
        (true, true) => {}
        (false, false) => {
            let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
            if listen.is_some_and(|address| !is_loopback(address)) {
                let what = "is no loopback address, and passwords would cross the network in clear";
                table.mistake("listen", what, NO_TLS);
            }
        }
    }
    let Some((certificate_file, key_file)) = certificate_file.zip(key_file) else {
        return Transport::Plain;
    };
    files::key_pair(table, &certificate_file, &key_file);
    Transport::Tls { certificate_file, key_file }
}

const NO_TLS: &str = "name `certificate_file` and `key_file`, or listen on 127.0.0.1 behind a \
                      proxy that speaks TLS";

/// What clients are told: as it is written, or from the address.
fn public_url(table: &Table<'_>, listen: Option<SocketAddr>, transport: &Transport) -> Option<Url> {
    let form =
        form::parsed("where clients reach the broker, such as \"https://pgbridge.example.test\"");
    let url: Option<Url> = table.optional("public_url", &form);
    if table.has("public_url") {
        return url.filter(|url| is_usable(table, url, transport));
    }
    let listen = listen?;
    if listen.ip().is_unspecified() {
        let hint = "write the URL that clients use";
        table.mistake("listen", "is every address, so `public_url` must say which", hint);
        return None;
    }
    let scheme = if *transport == Transport::Plain { "http" } else { "https" };
    Url::parse(&format!("{scheme}://{listen}")).ok()
}

fn is_usable(table: &Table<'_>, url: &Url, transport: &Transport) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    if host.is_empty() || !is_bare || !is_anonymous {
        let what = "must be a scheme, a host and a port at most";
        table.mistake("public_url", what, "remove what follows the host and port, and any user");
        return false;
    }
    let is_safe = match url.scheme() {
        "https" => true,
        "http" => form::is_this_machine(host),
        _ => false,
    };
    if !is_safe {
        let what = "must begin with https:// unless its host is this machine";
        table.mistake("public_url", what, "clients send passwords there");
    } else if url.scheme() == "http" && *transport != Transport::Plain {
        let what = "begins with http://, but with a certificate the broker answers https:// only";
        table.mistake("public_url", what, "write https://, or remove the certificate");
        return false;
    }
    is_safe
}

/// An origin as browsers write it (RFC 6454 section 6.2): scheme, host, and a port that is not
/// the scheme's own.
fn origin() -> Form<String> {
    form::checked("an origin, such as \"https://tools.example.test\"", |text| {
        let url = Url::parse(text).ok()?;
        let is_web = matches!(url.scheme(), "https" | "http");
        (is_web && url.origin().ascii_serialization() == text).then(|| text.to_owned())
    })
    .hinting("scheme and host in lower case, no path; `*` is not offered")
}
