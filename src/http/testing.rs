//! What the tests of this module stand on: a broker with a real store, a directory that is away,
//! and no cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::request::Builder;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;
use uuid::Uuid;

use super::router::router;
use crate::audit::{Action, Record, Subject};
use crate::auth::ldap::{
    BindMode, DirectoryType, GroupLookup, LdapSettings, LdapWay, Scheme, StartTls,
};
use crate::auth::{Identity, Lockout, LockoutRule, Session, SessionTimes};
use crate::broker::{Broker, Parts};
use crate::clock::Clock;
use crate::config::{ServerSettings, Transport};
use crate::lease::{Lease, Order, Terms};
use crate::mapping::{Case, Dialect, IdentMap, Maps, Members, Policy, Profile, Target};
use crate::names::{LeaseId, RolePrefix, SessionToken};
use crate::store::sqlite::SqliteStore;
use crate::store::{Change, Store};

const MAP: &[u8] = b"corp alice orders_read\ncorp bob orders_read\nduties carol operator\n";

/// A broker behind its router.
pub(super) struct Stand {
    pub(super) settings: ServerSettings,
    pub(super) broker: Broker,
    store: Arc<SqliteStore>,
    _folder: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The word of the problem, after checking that it is a whole one.
    #[track_caller]
    pub(super) fn problem(&self) -> String {
        let (body, id) = (self.json(), &self.headers["x-request-id"]);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(body["status"], self.status.as_u16(), "{self:?}");
        assert_eq!(body["request_id"].as_str().unwrap(), id, "{self:?}");
        assert!(!body["title"].as_str().unwrap().is_empty(), "{self:?}");
        assert!(!body["detail"].as_str().unwrap().is_empty(), "{self:?}");
        let kind = body["type"].as_str().unwrap();
        kind.strip_prefix("urn:pgbridge:problem:").unwrap().to_owned()
    }
}

impl Stand {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("pgbridge.db")).unwrap());
        let rule = LockoutRule {
            failures: 5,
            window: "15m".parse().unwrap(),
            pause: "15m".parse().unwrap(),
        };
        let broker = Broker::new(Parts {
            store: Arc::<SqliteStore>::clone(&store),
            clock: Clock::system(),
            ways: vec![Arc::new(LdapWay::new(directory_that_is_away()).unwrap())],
            policy: policy(),
            map_source: None,
            clusters: Vec::new(),
            terms: terms(),
            session: SessionTimes { idle: "30m".parse().unwrap(), absolute: "8h".parse().unwrap() },
            lockout: Lockout { account: rule, everywhere: rule, source: rule },
            reconcile_every: "1m".parse().unwrap(),
            recheck_every: "5m".parse().unwrap(),
            recheck_grace: "15m".parse().unwrap(),
            max_missing: 5,
            max_clock_skew: "2m".parse().unwrap(),
        });
        Self { settings: settings(), broker, store, _folder: folder }
    }

    pub(super) fn router(&self) -> Router {
        router(self.broker.clone(), &self.settings)
    }

    /// Sends one request from 127.0.0.1.
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        self.send_from("127.0.0.1:40000", request).await
    }

    pub(super) async fn send_from(&self, peer: &str, mut request: Request<Body>) -> Answer {
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = self.router().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// A session of `person`, as a login would have begun it.
    pub(super) async fn session(&self, person: &str) -> String {
        let token = SessionToken::random(&mut rand::rng());
        let (id, identity, now) = (Uuid::new_v4(), identity(person), Clock::system().now());
        let session = Session::begin(id, token.hash(), identity, now);
        let record = Record::new(now, Action::Login, Subject::Nobody);
        let begin = vec![Change::BeginSession(Box::new(session))];
        self.store.commit(begin, vec![record]).await.unwrap();
        token.expose().to_owned()
    }

    /// A lease of `person`, its role not yet made.
    pub(super) async fn lease(&self, person: &str) -> LeaseId {
        let (now, address) = (Clock::system().now(), [127, 0, 0, 1].into());
        let entitled =
            policy().entitle(&identity(person), "orders", "orders_read", address, &Members::none());
        let order = Order {
            database: "orders".parse().unwrap(),
            ttl: "15m".parse().unwrap(),
            reason: None,
            request_key: None,
            client: address,
        };
        let lease = Lease::open(&entitled.unwrap(), order, &terms(), now, &mut rand::rng());
        let id = lease.id;
        let record = Record::new(now, Action::LeaseRequested, Subject::Nobody).about(&lease);
        self.store.commit(vec![Change::OpenLease(Box::new(lease))], vec![record]).await.unwrap();
        id
    }
}

/// A request that is for us.
pub(super) fn request(method: Method, path: &str) -> Builder {
    Request::builder().method(method).uri(path).header("host", "127.0.0.1:8432")
}

/// The same with a session.
pub(super) fn with_token(method: Method, path: &str, token: &str) -> Builder {
    request(method, path).header("authorization", format!("Bearer {token}"))
}

/// A JSON body.
pub(super) fn json(builder: Builder, body: &str) -> Request<Body> {
    let builder = builder.header("content-type", "application/json");
    builder.body(Body::from(body.to_owned())).unwrap()
}

/// No body.
pub(super) fn empty(builder: Builder) -> Request<Body> {
    builder.body(Body::empty()).unwrap()
}

pub(super) fn settings() -> ServerSettings {
    let seconds = Duration::from_secs;
    ServerSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: "http://127.0.0.1:8432".parse().unwrap(),
        transport: Transport::Plain,
        allowed_origins: Vec::new(),
        metrics_networks: vec!["127.0.0.0/8".parse().unwrap()],
        max_body: 4096,
        header_timeout: seconds(10),
        request_timeout: seconds(30),
        shutdown_timeout: seconds(20),
    }
}

fn identity(person: &str) -> Identity {
    let now = Clock::system().now();
    let end = now + Duration::from_hours(8);
    let principal = format!(r#"{{"method":"ldap","directory":"corp","account":"{person}"}}"#);
    let stored = format!(
        r#"{{"principal":{principal},"groups":[],"authenticated_at":"{now}","expires_at":"{end}"}}"#
    );
    Identity::from_session_json(&stored).unwrap()
}

fn terms() -> Terms {
    Terms {
        role_prefix: RolePrefix::default(),
        create_within: "30s".parse().unwrap(),
        outlive_login: false,
    }
}

fn policy() -> Policy {
    let (role, database) = ("orders_read".parse().unwrap(), "orders".parse().unwrap());
    let profile = Profile::plain(role, database, "15m".parse().unwrap(), "8h".parse().unwrap());
    let target = Target { cluster: "orders".parse().unwrap(), profiles: vec![Arc::new(profile)] };
    let maps = |name: &str| Maps {
        map: Some(name.parse().unwrap()),
        group_map: None,
        case: Case::Sensitive,
    };
    Policy {
        map: IdentMap::parse(Dialect::default(), "pg_ident.conf", MAP).unwrap(),
        ways: [("corp".parse().unwrap(), maps("corp"))].into(),
        access: maps("duties"),
        targets: vec![target],
    }
}

/// Nothing listens on the discard port of this machine.
fn directory_that_is_away() -> LdapSettings {
    LdapSettings {
        name: "corp".parse().unwrap(),
        directory_type: DirectoryType::Ldap,
        servers: vec!["127.0.0.1".to_owned()],
        port: Some(9),
        scheme: Scheme::Ldap,
        tls: StartTls::No,
        ca: None,
        bind: BindMode::Simple {
            prefix: "uid=".to_owned(),
            suffix: ",dc=example".to_owned(),
            base_dn: None,
        },
        account_attribute: "uid".to_owned(),
        groups: GroupLookup { member_of: None, search: None, tokens: None },
        timeout: "5s".parse().unwrap(),
        deadline: "5s".parse().unwrap(),
        lifetime: "8h".parse().unwrap(),
    }
}
