//! Connection URIs for libpq (manual, 34.1.1.2 "Connection URIs").

use std::fmt::Write;
use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::cluster::ClientConnection;

/// `postgresql://user:password@host:port/database?sslmode=…`, each part percent-encoded.
pub(super) fn connection_uri(
    connection: &ClientConnection,
    database: &str,
    user: &str,
    password: &str,
) -> Zeroizing<String> {
    // Long enough that it never moves, which would leave a copy of the password behind.
    let mut uri = Zeroizing::new(String::with_capacity(4096));
    uri.push_str("postgresql://");
    encode(&mut uri, user, b"");
    uri.push(':');
    encode(&mut uri, password, b"");
    uri.push('@');
    host(&mut uri, &connection.host);
    // Writing to a text does not fail.
    let _ = write!(uri, ":{}/", connection.port);
    encode(&mut uri, database, b"");
    let _ = write!(uri, "?sslmode={}", connection.sslmode);
    if let Some(path) = &connection.sslrootcert {
        uri.push_str("&sslrootcert=");
        encode(&mut uri, path, b"/");
    }
    uri
}

/// An IPv6 address stands in brackets (RFC 3986 section 3.2.2), its zone after `%25` (RFC 6874);
/// the directory of a socket is percent-encoded, as libpq asks.
fn host(uri: &mut String, host: &str) {
    let (address, zone) = host.split_once('%').unwrap_or((host, ""));
    if !matches!(address.parse(), Ok(IpAddr::V6(_))) {
        return encode(uri, host, b"");
    }
    uri.push('[');
    uri.push_str(address);
    if !zone.is_empty() {
        uri.push_str("%25");
        encode(uri, zone, b"");
    }
    uri.push(']');
}

/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3) and `also`.
fn encode(uri: &mut String, text: &str, also: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClientSslMode;

    fn at(host: &str) -> ClientConnection {
        ClientConnection {
            host: host.to_owned(),
            port: 5432,
            sslmode: ClientSslMode::VerifyFull,
            sslrootcert: Some("/etc/ssl/orders ca.crt".to_owned()),
            root_certificate: None,
        }
    }

    #[track_caller]
    fn check(host: &str, written: &str) {
        let uri = connection_uri(&at(host), "orders", "pgb_alice_x", "p-_w");
        let expected = format!(
            "postgresql://pgb_alice_x:p-_w@{written}:5432/orders?sslmode=verify-full&sslrootcert=/etc/ssl/orders%20ca.crt"
        );
        assert_eq!(uri.as_str(), expected);
    }

    #[test]
    fn a_host_is_written_as_libpq_reads_it() {
        check("db.example.test", "db.example.test");
        check("127.0.0.1", "127.0.0.1");
        check("2001:db8::1", "[2001:db8::1]");
        check("fe80::1%eth0", "[fe80::1%25eth0]");
        check("/var/run/postgresql", "%2Fvar%2Frun%2Fpostgresql");
    }

    #[test]
    fn no_name_can_leave_its_place() {
        let uri = connection_uri(&at("h"), "d/?#b&sslmode=disable", "we\"ird'@x:/\n", "p:w@evil/é");
        let parsed = url::Url::parse(&uri).unwrap();
        assert_eq!(parsed.host_str(), Some("h"));
        assert_eq!(parsed.username(), "we%22ird%27%40x%3A%2F%0A");
        assert_eq!(parsed.password(), Some("p%3Aw%40evil%2F%C3%A9"));
        assert_eq!(parsed.path(), "/d%2F%3F%23b%26sslmode%3Ddisable");
        let modes: Vec<_> = parsed.query_pairs().filter(|(name, _)| name == "sslmode").collect();
        assert_eq!(modes, [("sslmode".into(), "verify-full".into())]);
    }
}
