use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::http::testing::{Answer, Stand, empty, json, request, with_token};

/// Every path and method of the document, `{id}` filled in, with what is documented of it.
fn documented_operations() -> Vec<(Method, String, Value)> {
    let document: Value = serde_json::from_str(&openapi::document().unwrap()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            operations.push((method, path.replace("{id}", RANDOM_ID), operation.clone()));
        }
    }
    operations
}

const RANDOM_ID: &str = "abcdefghijklmnop";

fn is_open(operation: &Value) -> bool {
    let anybody = |own: &Value| own.as_object().is_some_and(serde_json::Map::is_empty);
    operation["security"].as_array().is_some_and(|own| own.iter().any(anybody))
}

#[track_caller]
fn check_headers(answer: &Answer) {
    let expected = [
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    for (name, value) in expected {
        assert_eq!(answer.headers.get(name).unwrap(), value, "{answer:?}");
    }
    assert_eq!(answer.headers["x-request-id"].len(), 32, "{answer:?}");
    assert!(!answer.headers.contains_key("strict-transport-security"), "{answer:?}");
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
}

#[tokio::test]
async fn every_documented_operation_is_there_and_documents_what_it_answers() {
    let stand = Stand::new();
    let operations = documented_operations();
    assert!(operations.len() >= 15, "{operations:?}");
    for (method, path, operation) in operations {
        let answer = stand.send(empty(request(method.clone(), &path))).await;
        let status = answer.status.as_u16();
        let missing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        assert!(!missing.contains(&answer.status), "{method} {path}: {answer:?}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key(&status.to_string()), "{method} {path}: {status}");
        assert_ne!(operation["summary"].as_str(), None, "{method} {path}");
        assert_ne!(operation["operationId"].as_str(), None, "{method} {path}");
        for (status, response) in responses {
            if status.starts_with(['4', '5']) && path != "/readyz" {
                let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{method} {path} {status}");
            }
        }
        check_headers(&answer);
    }
}

#[test]
fn every_path_of_the_router_comes_from_the_documented_list() {
    let source = include_str!("../router.rs");
    let undocumented = [".route(", ".nest(", ".merge(", ".route_service("];
    assert!(!undocumented.iter().any(|call| source.contains(call)));
    let listed = source.matches(".routes(routes!(").count();
    let paths: BTreeSet<_> = documented_operations().into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths.len(), listed);
}

#[test]
fn the_document_is_openapi_3_1_and_every_reference_leads_somewhere() {
    let document: Value = serde_json::from_str(&openapi::document().unwrap()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["session"]["scheme"], "bearer");
    assert_eq!(schemes["password"]["scheme"], "basic");
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect_references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

/// The example of a schema, made of the examples of its fields.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').unwrap();
        return example(document, document.pointer(pointer).unwrap());
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return example(document, choices.last().unwrap());
    }
    let fields = schema["properties"].as_object();
    let fields = fields.unwrap_or_else(|| panic!("no fields in {schema}"));
    fields.iter().map(|(name, field)| (name.clone(), field["example"].clone())).collect()
}

#[tokio::test]
async fn the_examples_of_bodies_are_read_as_bodies() {
    let stand = Stand::new();
    let token = stand.session("carol").await;
    let document: Value = serde_json::from_str(&openapi::document().unwrap()).unwrap();
    let mut seen = 0;
    for (method, path, operation) in documented_operations() {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        if schema.is_null() {
            continue;
        }
        let body = example(&document, schema).to_string();
        let answer = stand.send(json(with_token(method.clone(), &path, &token), &body)).await;
        let unread = ["body-unfit", "malformed-json", "media-type", "ttl-unfit", "key-unfit"];
        let word = if answer.status.is_success() { String::new() } else { answer.problem() };
        assert!(!unread.contains(&word.as_str()), "{method} {path} {body}: {answer:?}");
        seen += 1;
    }
    assert_eq!(seen, 5);
}

#[tokio::test]
async fn whoever_shows_nothing_gets_nothing() {
    let stand = Stand::new();
    let mut refused = 0;
    for (method, path, operation) in documented_operations() {
        let open = is_open(&operation);
        let name = format!("{method} {path}");
        assert_eq!(open, !path.starts_with("/v1/") || path == "/v1/login", "{name}");
        if open {
            continue;
        }
        for credential in [None, Some("Bearer pgbs_x"), Some("Bearer x"), Some("Negotiate YII=")] {
            let mut builder = request(method.clone(), &path);
            if let Some(credential) = credential {
                builder = builder.header("authorization", credential);
            }
            let answer = stand.send(json(builder, r#"{"cluster":"orders"}"#)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name} {credential:?}");
            assert_eq!(answer.problem(), "not-logged-in", "{name}");
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.contains("Bearer realm=\"pgbridge\""), "{name} {challenge}");
            assert_eq!(challenge.contains("Basic"), name == "POST /v1/leases", "{name}");
        }
        refused += 1;
    }
    assert!(refused >= 9, "{refused}");
}

#[tokio::test]
async fn a_password_is_taken_where_leases_are_issued_and_nowhere_else() {
    let stand = Stand::new();
    for (method, path, operation) in documented_operations() {
        if is_open(&operation) {
            continue;
        }
        let builder = request(method.clone(), &path).header("authorization", "Basic YWxpY2U6eA==");
        let answer = stand.send(json(builder, r#"{"cluster":"orders"}"#)).await;
        let issues = method == Method::POST && path == "/v1/leases";
        let expected = if issues { "directory-away" } else { "not-logged-in" };
        assert_eq!(answer.problem(), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn two_credentials_end_the_request() {
    let stand = Stand::new();
    let token = stand.session("alice").await;
    let builder = with_token(Method::GET, "/v1/whoami", &token);
    let answer = stand.send(empty(builder.header("authorization", "Basic YWxpY2U6eA=="))).await;
    assert_eq!(answer.problem(), "bad-request");
}

#[tokio::test]
async fn a_session_says_who_it_is_and_ends() {
    let stand = Stand::new();
    let token = stand.session("carol").await;
    let whoami = || with_token(Method::GET, "/v1/whoami", &token);
    let answer = stand.send(empty(whoami())).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["principal"], "ldap:carol");
    assert_eq!(body["person"], "ldap:corp:carol");
    assert_eq!(body["duties"], serde_json::json!({ "auditor": false, "operator": true }));
    check_headers(&answer);
    let answer = stand.send(empty(with_token(Method::POST, "/v1/logout", &token))).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{answer:?}");
    assert_eq!(answer.text, "");
    assert_eq!(stand.send(empty(whoami())).await.problem(), "not-logged-in");
}

#[tokio::test]
async fn roles_on_offer_say_their_terms_and_their_line() {
    let stand = Stand::new();
    let token = stand.session("bob").await;
    let answer = stand.send(empty(with_token(Method::GET, "/v1/roles", &token))).await;
    let role = &answer.json()["roles"][0];
    assert_eq!(role["cluster"], "orders");
    assert_eq!(role["role"], "orders_read");
    assert_eq!(role["ttl_seconds"], 900);
    assert_eq!(role["reason_required"], false);
    assert_eq!(role["rule"], serde_json::json!({ "file": "pg_ident.conf", "line": 2 }));
    let nobody = stand.session("mallory").await;
    let answer = stand.send(empty(with_token(Method::GET, "/v1/roles", &nobody))).await;
    assert_eq!(answer.json(), serde_json::json!({ "roles": [], "undecided": [] }));
}

/// Another person's lease, a lease that never was and a text that is no id: one answer.
#[tokio::test]
async fn the_id_of_anothers_lease_is_worth_nothing() {
    let stand = Stand::new();
    let (alice, bob) = (stand.session("alice").await, stand.session("bob").await);
    let lease = stand.lease("alice").await.to_string();
    let routes: Vec<_> = documented_operations()
        .into_iter()
        .filter(|(_, path, _)| path.contains(RANDOM_ID) && !path.starts_with("/v1/operator/"))
        .collect();
    assert_eq!(routes.len(), 3);
    for (method, path, _) in routes {
        let mut answers = BTreeSet::new();
        for id in [&lease, RANDOM_ID, "x", &lease.to_uppercase(), &format!("{lease}a")] {
            let path = path.replace(RANDOM_ID, id);
            let answer = stand.send(empty(with_token(method.clone(), &path, &bob))).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {answer:?}");
            let mut body = answer.json();
            body["request_id"] = Value::Null;
            answers.insert(body.to_string());
        }
        assert_eq!(answers.len(), 1, "{method} {path}: {answers:?}");
    }
    // Whoever is no operator learns as little from what operators do with a lease.
    let mut answers = BTreeSet::new();
    for id in [&lease, RANDOM_ID] {
        let path = format!("/v1/operator/leases/{id}/declare-gone");
        let declare = json(with_token(Method::POST, &path, &bob), r#"{"reason":"x"}"#);
        let answer = stand.send(declare).await;
        assert_eq!(answer.problem(), "duty-needed", "{path}");
        let mut body = answer.json();
        body["request_id"] = Value::Null;
        answers.insert(body.to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    let show = with_token(Method::GET, &format!("/v1/leases/{lease}"), &alice);
    let answer = stand.send(empty(show)).await;
    assert_eq!(answer.json()["id"], lease, "{answer:?}");
    assert_eq!(answer.json()["person"], "ldap:corp:alice");
    let list = |token: &str| empty(with_token(Method::GET, "/v1/leases?state=intent", token));
    assert_eq!(stand.send(list(&alice)).await.json()["leases"][0]["id"], lease);
    assert_eq!(stand.send(list(&bob)).await.json(), serde_json::json!({ "leases": [] }));
}

#[tokio::test]
async fn everybodys_leases_need_a_duty() {
    let stand = Stand::new();
    let (alice, carol) = (stand.session("alice").await, stand.session("carol").await);
    let lease = stand.lease("bob").await.to_string();
    let list = |token: &str, query: &str| {
        empty(with_token(Method::GET, &format!("/v1/operator/leases{query}"), token))
    };
    assert_eq!(stand.send(list(&alice, "")).await.problem(), "duty-needed");
    let answer = stand.send(list(&carol, "?person=ldap:corp:bob&state=intent")).await;
    assert_eq!(answer.json()["leases"][0]["id"], lease, "{answer:?}");
    for query in ["?person=ldap:corp:alice", "?cluster=other", "?state=active"] {
        let answer = stand.send(list(&carol, query)).await;
        assert_eq!(answer.json(), serde_json::json!({ "leases": [] }), "{query}");
    }
    for query in ["?cluster=No%20Name", "?state=gone", "?persons=x", "?state=active&state=active"] {
        assert_eq!(stand.send(list(&carol, query)).await.problem(), "query-unfit", "{query}");
    }
    let revoke = |token: &str| {
        let builder = with_token(Method::POST, "/v1/operator/revoke", token);
        json(builder, r#"{"person":"ldap:corp:nobody"}"#)
    };
    assert_eq!(stand.send(revoke(&alice)).await.problem(), "duty-needed");
    assert_eq!(stand.send(revoke(&carol)).await.json(), serde_json::json!({ "leases": [] }));
}

/// An empty list for a name that can be nobody's would read as "this person has no leases".
#[tokio::test]
async fn a_person_is_named_in_full_or_the_call_is_refused() {
    let stand = Stand::new();
    let (alice, carol) = (stand.session("alice").await, stand.session("carol").await);
    let lease = stand.lease("bob").await.to_string();
    let list = |token: &str, person: &str| {
        let path = format!("/v1/operator/leases?person={person}");
        empty(with_token(Method::GET, &path, token))
    };
    let revoke = |token: &str, person: &str| {
        let builder = with_token(Method::POST, "/v1/operator/revoke", token);
        json(builder, &serde_json::json!({ "person": person }).to_string())
    };
    let detail = "`person` must be `method:issuer:name` or `method:name`, such as `ldap:corp:alice`; \
                  `person` in the list of leases shows it";
    for person in ["bob", "", "ldap", "ldap:", "corp:bob", ":bob", "LDAP:bob"] {
        for request in [list(&carol, person), revoke(&carol, person)] {
            let answer = stand.send(request).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{person}: {answer:?}");
            assert_eq!(answer.problem(), "person-unfit", "{person}");
            assert_eq!(answer.json()["detail"], detail);
        }
        assert_eq!(stand.send(list(&alice, person)).await.problem(), "duty-needed");
        assert_eq!(stand.send(revoke(&alice, person)).await.problem(), "duty-needed");
    }
    for person in ["ldap:corp:bob", "ldap:bob"] {
        let answer = stand.send(list(&carol, person)).await;
        assert_eq!(answer.json()["leases"][0]["id"], lease, "{person}: {answer:?}");
    }
    let answer = stand.send(revoke(&carol, "ldap:nobody")).await;
    assert_eq!(answer.json(), serde_json::json!({ "leases": [] }));
}

#[tokio::test]
async fn a_wish_is_refused_with_the_kind_of_its_fault() {
    let stand = Stand::new();
    let token = stand.session("alice").await;
    let issue = |body: &str| json(with_token(Method::POST, "/v1/leases", &token), body);
    let cases = [
        (r#"{"cluster":"orders","role":"orders_write"}"#, "not-on-offer"),
        (r#"{"cluster":"nowhere"}"#, "not-on-offer"),
        (r#"{"cluster":"orders","ttl":"9h"}"#, "ttl-too-long"),
        (r#"{"cluster":"orders","ttl":"9"}"#, "ttl-unfit"),
        (r#"{"cluster":"orders","database":"other"}"#, "database-not-lent"),
        (r#"{"cluster":"orders","reason":"a\u0007b"}"#, "reason-unfit"),
        (r#"{"cluster":"orders","idempotency_key":"a b"}"#, "key-unfit"),
        (r#"{"cluster":"orders","owner":true}"#, "body-unfit"),
        (r#"{"cluster":"orders""#, "malformed-json"),
        (r#"{"cluster":"orders"}"#, "not-ready"),
    ];
    for (body, word) in cases {
        let answer = stand.send(issue(body)).await;
        assert_eq!(answer.problem(), word, "{body}");
        check_headers(&answer);
    }
    let answer = stand.send(issue(r#"{"cluster":"orders"}"#)).await;
    assert_eq!(answer.headers["retry-after"], "2");
}

#[tokio::test]
async fn a_login_is_refused_alike_with_the_ways_in_and_says_when_the_directory_is_away() {
    let stand = Stand::new();
    let login = |body: &str| json(request(Method::POST, "/v1/login"), body);
    let away = stand.send(login(r#"{"username":"alice","password":"canary"}"#)).await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(away.problem(), "directory-away");
    assert_eq!(away.headers["retry-after"], "5");
    let mut bodies = BTreeSet::new();
    for body in [
        r#"{"username":"alice","password":""}"#,
        r#"{"username":"","password":"x"}"#,
        r#"{"way":"nowhere","username":"alice","password":"x"}"#,
    ] {
        let answer = stand.send(login(body)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{body} {answer:?}");
        assert_eq!(answer.problem(), "login-refused");
        assert!(answer.headers.contains_key("www-authenticate"));
        let mut body = answer.json();
        assert!(body["detail"].as_str().unwrap().contains("ways in: corp;"), "{answer:?}");
        body["request_id"] = Value::Null;
        bodies.insert(body.to_string());
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[tokio::test]
async fn a_refused_body_is_never_repeated() {
    let stand = Stand::new();
    let bodies = [
        r#"{"username":"alice","password":"canary""#,
        r#"{"username":"alice","password":canary}"#,
        r#"{"username":"alice","canary":"canary","password":"canary"}"#,
        r#"{"username":"alice","password":"canary","password":"canary"}"#,
        r#"{"username":["canary"],"password":"canary"}"#,
        r#"["canary","canary","canary"]"#,
        "username=alice&password=canary",
        "\"canary\"",
    ];
    for body in bodies {
        let answer = stand.send(json(request(Method::POST, "/v1/login"), body)).await;
        assert!(matches!(answer.status.as_u16(), 400 | 422), "{body}: {answer:?}");
        assert!(!answer.text.contains("canary"), "{answer:?}");
        answer.problem();
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_each_in_its_way() {
    let stand = Stand::new();
    let post = || request(Method::POST, "/v1/login");
    let as_text = post().header("content-type", "text/plain").body(Body::from("{}")).unwrap();
    let answer = stand.send(as_text).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (415, "media-type"));

    let large = format!(r#"{{"username":"{}"}}"#, "x".repeat(5000));
    let told = json(post().header("content-length", large.len()), &large);
    for request in [told, json(post(), &large)] {
        let answer = stand.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (413, "body-too-large"));
    }

    let answer = stand.send(empty(request(Method::PUT, "/v1/leases"))).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (405, "method-not-allowed"));
    let allow = answer.headers["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    check_headers(&answer);

    for path in ["/", "/v1", "/v1/unknown", "/admin"] {
        let answer = stand.send(empty(request(Method::GET, path))).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (404, "not-found"));
        check_headers(&answer);
    }
    for path in ["/v1/../metrics", "//metrics", "/v1/leases/", "/v1/leases/%61", "/v1/%2e%2e/x"] {
        let answer = stand.send(empty(request(Method::GET, path))).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "bad-request"));
        check_headers(&answer);
    }
    let options = stand.send(empty(request(Method::OPTIONS, "/v1/leases"))).await;
    assert_eq!(options.problem(), "method-not-allowed");
}

#[tokio::test]
async fn what_a_client_says_about_itself_is_not_believed() {
    let stand = Stand::new();
    let ask = || {
        let builder = request(Method::GET, "/metrics");
        let builder = builder.header("x-forwarded-for", "127.0.0.1");
        let builder = builder.header("forwarded", "for=127.0.0.1");
        empty(builder.header("x-request-id", "mine"))
    };
    stand.send(empty(request(Method::GET, "/healthz"))).await;
    let here = stand.send(ask()).await;
    assert_eq!(here.status, StatusCode::OK);
    assert!(here.text.contains("# TYPE http_requests_total counter"), "{}", here.text);
    assert_ne!(here.headers["x-request-id"], "mine");
    let mapped = stand.send_from("[::ffff:127.0.0.1]:1", ask()).await;
    assert_eq!(mapped.status, StatusCode::OK);
    let elsewhere = stand.send_from("10.0.0.1:1", ask()).await;
    assert_eq!(elsewhere.problem(), "not-found");
    let unknown = stand.send(empty(request(Method::GET, "/nothing"))).await;
    assert_eq!(elsewhere.json()["detail"], unknown.json()["detail"]);
}

#[tokio::test]
async fn readiness_names_no_party_and_liveness_asks_none() {
    let stand = Stand::new();
    let answer = stand.send(empty(request(Method::GET, "/healthz"))).await;
    assert_eq!(answer.json(), serde_json::json!({ "status": "alive" }));
    let answer = stand.send(empty(request(Method::GET, "/readyz"))).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let expected = serde_json::json!({
        "status": "not ready", "store": "up", "ways": "down", "clusters": "down",
        "map": "current",
    });
    assert_eq!(answer.json(), expected);
    check_headers(&answer);
}

#[tokio::test]
async fn only_listed_origins_are_answered_and_never_with_credentials() {
    let mut stand = Stand::new();
    let preflight = |origin: &'static str| {
        let builder = request(Method::OPTIONS, "/v1/leases").header("origin", origin);
        let builder = builder.header("access-control-request-method", "POST");
        empty(builder.header("access-control-request-headers", "authorization"))
    };
    let answer = stand.send(preflight("https://tools.example.test")).await;
    check_headers(&answer);
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);

    stand.settings.allowed_origins = vec!["https://tools.example.test".to_owned()];
    let answer = stand.send(preflight("https://tools.example.test")).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://tools.example.test");
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    for origin in ["https://evil.test", "null", "https://tools.example.test.evil.test"] {
        let answer = stand.send(preflight(origin)).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
        let login = request(Method::POST, "/v1/login").header("origin", origin);
        let answer = stand.send(json(login, r#"{"username":"a","password":""}"#)).await;
        assert_eq!(answer.problem(), "cross-site", "{origin}");
    }
    let login = request(Method::POST, "/v1/login").header("origin", "https://tools.example.test");
    let answer = stand.send(json(login, r#"{"username":"a","password":""}"#)).await;
    assert_eq!(answer.problem(), "login-refused");
    assert_eq!(answer.headers["access-control-allow-origin"], "https://tools.example.test");
}

/// The outermost layer around a handler of the test's own.
async fn finished(tls: bool, within: Duration, handler: axum::routing::MethodRouter) -> Answer {
    let router = Router::new()
        .route("/", handler)
        .layer(from_fn_with_state(within, in_time))
        .layer(from_fn_with_state(Finish { tls }, finish));
    let mut request = Request::new(Body::empty());
    let peer: std::net::SocketAddr = ([127, 0, 0, 1], 1).into();
    request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
    let response = router.oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Answer { status, headers, text: String::from_utf8(body.to_vec()).unwrap() }
}

async fn panics() -> StatusCode {
    panic!("canary");
}

#[tokio::test]
async fn a_panic_costs_one_request_and_says_nothing() {
    let answer = finished(false, Duration::from_secs(5), get(panics)).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (500, "internal"));
    assert!(!answer.text.contains("canary"));
    check_headers(&answer);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up() {
    let never = get(std::future::pending::<StatusCode>);
    let answer = finished(false, Duration::from_millis(1), never).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "timed-out"));
    check_headers(&answer);
}

#[tokio::test]
async fn strict_transport_is_asked_for_over_tls_only() {
    let ok = || get(|| async { StatusCode::OK });
    let tls = finished(true, Duration::from_secs(5), ok()).await;
    assert_eq!(tls.headers["strict-transport-security"], "max-age=31536000");
    check_headers(&finished(false, Duration::from_secs(5), ok()).await);
}

#[tokio::test]
async fn whoever_hangs_up_stops_no_work() {
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = tokio::sync::oneshot::channel::<()>();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let work = crate::http::finish::to_the_end(async move {
        begun.send(()).unwrap();
        may_go_on.await.unwrap();
        done.send(()).unwrap();
    });
    let waiting = tokio::spawn(work);
    has_begun.await.unwrap();
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    go_on.send(()).unwrap();
    is_done.await.unwrap();
}
