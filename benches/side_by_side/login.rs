//! Logging in through the API beside a bare bind on a connection of its own.

use std::sync::Arc;

use ldap3::{LdapConnAsync, LdapConnSettings};

use super::measure::{Tally, rounded, side};
use super::stand::Stand;
use super::support::password_of;
use super::wire::Wire;

const CLIENTS: [usize; 3] = [1, 8, 16];
const ROUNDS: u32 = 8;

pub async fn run(stand: &Stand) {
    for clients in CLIENTS {
        let (mut ours, mut bare) = (Tally::default(), Tally::default());
        for _ in 0..ROUNDS {
            let wires = Wire::connect_all(stand.port, clients).await;
            login(wires, &mut ours).await;
            bind(stand, clients, &mut bare).await;
        }
        let (ours_per_s, bind_per_s) = (ours.per_second(), bare.per_second());
        println!(
            "{}",
            serde_json::json!({
                "bench": "ldap_login", "clients": clients,
                "ours_per_s": rounded(ours_per_s), "bind_per_s": rounded(bind_per_s),
                "ratio": rounded(ours_per_s / bind_per_s),
                "p50_ms": rounded(ours.percentile_ms(0.5)),
                "p99_ms": rounded(ours.percentile_ms(0.99)),
            })
        );
    }
}

async fn login(wires: Vec<Wire>, tally: &mut Tally) {
    let body: Arc<str> =
        format!(r#"{{"username": "alice", "password": "{}"}}"#, password_of("alice")).into();
    let turn = move |mut wire: Wire| {
        let body = Arc::clone(&body);
        async move {
            let (status, answer) = wire.post("/v1/login", None, &body).await;
            assert_eq!(status, 200, "{answer}");
            wire
        }
    };
    tally.add(wires, side(), turn).await;
}

async fn bind(stand: &Stand, clients: usize, tally: &mut Tally) {
    let url: Arc<str> = stand.directory.ldap_url().into();
    let turn = move |url: Arc<str>| async move {
        // ldap3 leaves Nagle's algorithm on; a bare bind deserves better than that.
        let address = url.strip_prefix("ldap://").expect("an address").to_owned();
        let stream = std::net::TcpStream::connect(address).expect("the directory listens");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_nonblocking(true).expect("a TCP socket");
        let settings = LdapConnSettings::new().set_std_stream(ldap3::StdStream::Tcp(stream));
        let (connection, mut ldap) =
            LdapConnAsync::with_settings(settings, &url).await.expect("a connection");
        ldap3::drive!(connection);
        let dn = "uid=alice,ou=people,dc=example,dc=test";
        let bound = ldap.simple_bind(dn, &password_of("alice")).await.expect("an answer");
        bound.success().expect("the right password");
        ldap.unbind().await.expect("an end");
        url
    };
    tally.add(vec![url; clients], side(), turn).await;
}
