//! Log-ins and requests that a client holds back until what they rest on is over.

use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{held, issue, read_orders};
use crate::support::{Caller, SOON, TestBed, password_of, wait_for};

#[tokio::test]
async fn a_log_in_held_back_until_its_role_is_gone_is_ended_when_it_shows() {
    for (major, options) in [
        (15, "-c post_auth_delay=4 -c role=orders_read"),
        (15, "-c post_auth_delay=4"),
        (16, "-c post_auth_delay=4"),
    ] {
        let bed = TestBed::start(major);
        bed.postgres.set("log_connections", "on");
        let token = bed.login("alice").await;
        let answer = issue(&bed, Caller::Session(&token), read_orders()).await;
        let (id, role, _) = held(&answer);
        let session = || {
            let mut psql = Command::new("psql");
            psql.args(["-XAtq", "-c", "SELECT 1; SELECT pg_sleep(60)", &answer.text("/uri")]);
            psql.env("PGOPTIONS", options).stdout(Stdio::null()).stderr(Stdio::piped());
            psql.spawn().unwrap()
        };
        let hidden = session();
        let proven = format!("connection authenticated: identity=\"{role}\"");
        wait_for("the log-in", SOON, || bed.postgres.log().contains(&proven).then_some(()));
        let path = format!("/v1/leases/{id}");
        let ended = bed.call(Method::DELETE, &path, Caller::Session(&token), None).await;
        assert_eq!(ended.text("/state"), "revoked", "{ended:?}");
        assert!(bed.lease_roles().is_empty());
        let ended = hidden.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("terminating connection"), "{major}: {said}");
        let left = "SELECT count(*) FROM pg_stat_activity AS a WHERE usesysid IS NOT NULL AND \
                    NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = a.usesysid)";
        assert_eq!(bed.postgres.sql("postgres", left), [["0"]]);
    }
}

/// A request that has shown who it is, and whose body has not come yet.
struct HeldBack(tokio_rustls::client::TlsStream<tokio::net::TcpStream>);

impl HeldBack {
    async fn begin(bed: &TestBed, path: &str, authorization: &str, body: &str) -> Self {
        let address = bed.url().trim_start_matches("https://").to_owned();
        let socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(bed.ca_file()).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = rustls_pki_types::ServerName::from(std::net::Ipv4Addr::LOCALHOST);
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut held = Self(connector.connect(name, socket).await.unwrap());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {authorization}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\
             expect: 100-continue\r\nconnection: close\r\n\r\n",
            body.len()
        );
        held.0.write_all(head.as_bytes()).await.unwrap();
        // The broker asks for the body once it knows who calls.
        let mut go_on = [0; 25];
        held.0.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        held
    }

    async fn finish(mut self, body: &str) -> String {
        self.0.write_all(body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // The end of the stream may come without TLS's own goodbye.
        let _ = self.0.read_to_string(&mut answer).await;
        answer.get(9..12).unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn a_request_held_back_gives_nothing_once_its_login_has_ended() {
    let bed = TestBed::start(16);
    let carol = bed.login("carol").await;
    let body = read_orders().to_string();
    let basic = format!("Basic {}", STANDARD.encode(format!("alice:{}", password_of("alice"))));
    let revoke = async || {
        let body = Some(json!({ "person": "ldap:corp:alice" }));
        let path = "/v1/operator/revoke";
        let ended = bed.call(Method::POST, path, Caller::Session(&carol), body).await;
        assert_eq!(ended.status, 200, "{ended:?}");
    };
    let bearer = format!("Bearer {}", bed.login("alice").await);
    let late = [
        HeldBack::begin(&bed, "/v1/leases", &bearer, &body).await,
        HeldBack::begin(&bed, "/v1/leases", &basic, &body).await,
    ];
    revoke().await;
    for late in late {
        assert_eq!(late.finish(&body).await, "401");
    }
    let token = bed.login("alice").await;
    let late = HeldBack::begin(&bed, "/v1/leases", &format!("Bearer {token}"), &body).await;
    let out = bed.call(Method::POST, "/v1/logout", Caller::Session(&token), None).await;
    assert_eq!(out.status, 204, "{out:?}");
    assert_eq!(late.finish(&body).await, "401");
    assert!(bed.lease_roles().is_empty());

    // A renewal too: after a logout the lease keeps its end.
    let token = bed.login("alice").await;
    let (id, _, _) = held(&issue(&bed, Caller::Session(&token), read_orders()).await);
    let (renew, longer) = (format!("/v1/leases/{id}/renew"), json!({ "ttl": "1h" }).to_string());
    let bearer = format!("Bearer {token}");
    let in_time = HeldBack::begin(&bed, &renew, &bearer, &longer).await;
    assert_eq!(in_time.finish(&longer).await, "200");
    let late = HeldBack::begin(&bed, &renew, &bearer, &longer).await;
    bed.call(Method::POST, "/v1/logout", Caller::Session(&token), None).await;
    assert_eq!(late.finish(&longer).await, "401");
    revoke().await;

    let bearer = format!("Bearer {}", bed.login("alice").await);
    for authorization in [bearer, basic] {
        let in_time = HeldBack::begin(&bed, "/v1/leases", &authorization, &body).await;
        assert_eq!(in_time.finish(&body).await, "201");
    }
    revoke().await;
    assert!(bed.lease_roles().is_empty());
}
