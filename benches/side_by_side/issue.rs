//! Issuing through the API beside `CREATE ROLE … IN ROLE` over as many connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::{Client, Config};

use super::measure::{Tally, rounded, side};
use super::stand::{PROFILES, Stand};
use super::support::{BROKER_LOGIN, BROKER_PASSWORD};
use super::wire::Wire;

const CLIENTS: [usize; 3] = [1, 8, 16];
/// The two sides take turns, often, so that neither has the better part of the run.
const ROUNDS: u32 = 8;

pub async fn run(stand: &Stand) {
    let only: Option<usize> =
        std::env::var("BENCH_CLIENTS").ok().and_then(|text| text.parse().ok());
    for (iterations, role) in PROFILES {
        for clients in
            CLIENTS.into_iter().filter(|clients| only.is_none_or(|only| only == *clients))
        {
            let (mut ours, mut sql) = (Tally::default(), Tally::default());
            let mut sessions = Vec::new();
            for _ in 0..clients {
                sessions.push(connect(stand).await);
            }
            for _ in 0..ROUNDS {
                // Made anew: the broker closes a connection on which nothing comes for a while.
                let wires = Wire::connect_all(stand.port, clients).await;
                issue(stand, role, wires, &mut ours).await;
                sessions = create(role, iterations, sessions, &mut sql).await;
            }
            let (ours_per_s, sql_per_s) = (ours.per_second(), sql.per_second());
            println!(
                "{}",
                serde_json::json!({
                    "bench": "issue", "clients": clients, "scram_iterations": iterations,
                    "ours_per_s": rounded(ours_per_s), "sql_per_s": rounded(sql_per_s),
                    "ratio": rounded(ours_per_s / sql_per_s),
                    "p50_ms": rounded(ours.percentile_ms(0.5)),
                    "p99_ms": rounded(ours.percentile_ms(0.99)),
                })
            );
        }
    }
}

async fn issue(stand: &Stand, role: &str, wires: Vec<Wire>, tally: &mut Tally) {
    let body: Arc<str> = format!(r#"{{"cluster": "orders", "role": "{role}"}}"#).into();
    let token: Arc<str> = stand.token.as_str().into();
    let turn = move |mut wire: Wire| {
        let (body, token) = (Arc::clone(&body), Arc::clone(&token));
        async move {
            let (status, answer) = wire.post("/v1/leases", Some(&token), &body).await;
            assert_eq!(status, 201, "{answer}");
            wire
        }
    };
    tally.add(wires, side(), turn).await;
}

async fn create(
    role: &'static str,
    iterations: u32,
    sessions: Vec<Client>,
    tally: &mut Tally,
) -> Vec<Client> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let verifier: Arc<str> = verifier(iterations).into();
    let turn = move |client: Client| {
        let verifier = Arc::clone(&verifier);
        async move {
            let name = NEXT.fetch_add(1, Ordering::Relaxed);
            let statement = format!(
                "CREATE ROLE bare_{name:016} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION \
                 NOBYPASSRLS INHERIT CONNECTION LIMIT 10 PASSWORD '{verifier}' \
                 VALID UNTIL '2099-01-01 00:00:00+00' IN ROLE {role}"
            );
            client.simple_query(&statement).await.expect("the server makes a role");
            client
        }
    };
    tally.add(sessions, side(), turn).await
}

/// A verifier made beforehand, so that the bare side does nothing but its statement.
pub fn verifier(iterations: u32) -> String {
    use pgbridge::names::{Password, ScramIterations};
    let mut rng = rand::rng();
    let iterations = ScramIterations::try_from(iterations).expect("in bounds");
    Password::random(&mut rng).verifier(iterations, &mut rng).expose().to_owned()
}

pub async fn connect(stand: &Stand) -> Client {
    let mut config = Config::new();
    config.host("127.0.0.1").port(stand.postgres.port()).dbname("postgres");
    config.user(BROKER_LOGIN).password(BROKER_PASSWORD);
    let connector = tokio_postgres_rustls::MakeRustlsConnect::new(tls(stand));
    let (client, connection) = config.connect(connector).await.expect("the server is there");
    tokio::spawn(connection);
    client
}

pub fn tls(stand: &Stand) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(stand.postgres.ca_file()).expect("the authority's certificate");
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
