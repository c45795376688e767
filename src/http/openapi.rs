//! The OpenAPI document: made from the handlers, with what is the same for all of them added.

use std::collections::BTreeMap;

use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
    SecurityRequirement,
};
use utoipa::{Modify, OpenApi as _};

use super::problem::{PROBLEM_JSON, ProblemBody};
use super::router::documented;

/// What does not come from a handler.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "pgbridge",
        description = "Short-lived database roles for people and programs. Errors are problem \
            details (RFC 9457); their `type` is `urn:pgbridge:problem:` and a stable word. Every \
            answer carries its request's id in the header `x-request-id`. Bodies hold known \
            fields only, each once.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "session", description = "Log in and out"),
        (name = "leases", description = "Roles on offer, and one's own leases"),
        (name = "operator", description = "Everybody's leases, for auditors and operators"),
        (name = "map", description = "What the map says, for auditors"),
        (name = "status", description = "For machines that watch"),
    ),
    components(schemas(ProblemBody<'_>)),
    security(("session" = [])),
    modifiers(&Schemes),
)]
struct Base;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let session = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("pgbs_…")
            .description(Some("The token that `/v1/login` gave"));
        let password = HttpBuilder::new()
            .scheme(HttpAuthScheme::Basic)
            .description(Some("Name and password of the directory, in UTF-8"));
        let ticket = HttpBuilder::new()
            .scheme(HttpAuthScheme::Negotiate)
            .description(Some("A ticket of Kerberos (SPNEGO, RFC 4559), where it is configured"));
        components.add_security_scheme("ticket", SecurityScheme::Http(ticket.build()));
        components.add_security_scheme("session", SecurityScheme::Http(session.build()));
        components.add_security_scheme("password", SecurityScheme::Http(password.build()));
    }
}

/// The document without any path.
pub(super) fn base() -> OpenApi {
    Base::openapi()
}

/// The API as an OpenAPI 3.1 document, the same that `/openapi.json` answers.
///
/// # Errors
/// When it cannot be written as JSON, which no document of these types is known to cause.
pub fn document() -> Result<String, serde_json::Error> {
    documented().0.to_pretty_json()
}

/// Adds to every operation the answers that do not depend on what it does, and to every answer
/// its headers and, if it is a refusal, its problem.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for (method, operation) in operations(item) {
            let changes = method != "get";
            if matches!(operation.operation_id.as_deref(), Some("renew" | "login"))
                && let Some(RefOr::T(body)) = &mut operation.request_body
            {
                body.required = Some(Required::False);
            }
            for (status, description) in general(operation, changes) {
                let responses = &mut operation.responses.responses;
                let response = responses.entry(status.to_owned()).or_insert_with(|| {
                    ResponseBuilder::new().description(String::new()).build().into()
                });
                add_words(response, description);
            }
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                dress(status, response);
            }
        }
    }
}

/// The operations of a path by their method, in lower case.
fn operations(item: &mut PathItem) -> Vec<(&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    let all = [
        ("get", get),
        ("put", put),
        ("post", post),
        ("delete", delete),
        ("options", options),
        ("head", head),
        ("patch", patch),
        ("trace", trace),
    ];
    all.into_iter().filter_map(|(name, one)| one.as_mut().map(|one| (name, one))).collect()
}

/// The answers that come from the layers and extractors around a handler.
fn general(operation: &Operation, changes: bool) -> BTreeMap<&'static str, &'static str> {
    let mut answers = BTreeMap::from([
        ("400", "`bad-request`"),
        ("421", "`wrong-host`"),
        ("500", "`internal`"),
        ("503", "`timed-out`"),
    ]);
    // No requirement of its own means that of the document: a session.
    let anybody = SecurityRequirement::default();
    let is_open = operation.security.as_ref().is_some_and(|own| own.contains(&anybody));
    if !is_open {
        answers.insert("401", "`not-logged-in`");
        answers.insert("503", "`store-away`, `timed-out`");
    }
    if operation.operation_id.as_deref() == Some("login") {
        answers.insert("503", "`directory-away`, `store-away`, `timed-out`");
    }
    if operation.operation_id.as_deref() == Some("issue") {
        answers.insert("401", "`not-logged-in`, `login-refused`");
        answers.insert("503", "`not-ready`, `directory-away`, `store-away`, `timed-out`");
    }
    if changes {
        answers.insert("403", "`cross-site`");
    }
    if operation.request_body.is_some() {
        answers.insert("400", "`bad-request`, `malformed-json`");
        answers.insert("408", "`body-too-slow`");
        answers.insert("413", "`body-too-large`");
        answers.insert("415", "`media-type`");
        answers.insert("422", "`body-unfit`");
    }
    answers
}

fn add_words(response: &mut RefOr<Response>, words: &str) {
    let RefOr::T(response) = response else { return };
    let known = |word: &&str| !response.description.contains(*word);
    let fresh: Vec<&str> = words.split(", ").filter(known).collect();
    if response.description.is_empty() {
        words.clone_into(&mut response.description);
    } else if !fresh.is_empty() {
        response.description = format!("{}; {}", response.description, fresh.join(", "));
    }
}

/// Gives an answer its headers, and a refusal without a body its problem.
fn dress(status: &str, response: &mut Response) {
    let header = |text: &str| {
        let mut header = Header::default();
        header.description = Some(text.to_owned());
        header
    };
    let id = header("The request's id, also in the broker's logs and audit");
    response.headers.insert("x-request-id".to_owned(), id.into());
    let refusal = status.starts_with('4') || status.starts_with('5');
    if !refusal {
        return;
    }
    if status == "401" {
        let challenge = header("The ways to authenticate that the path takes");
        response.headers.insert("www-authenticate".to_owned(), challenge.into());
    }
    if matches!(status, "429" | "503") {
        let seconds = header("Seconds after which trying again makes sense");
        response.headers.insert("retry-after".to_owned(), seconds.into());
    }
    let problem = || {
        let schema = Ref::from_schema_name("Problem");
        RefOr::T(ContentBuilder::new().schema(Some(schema)).build())
    };
    response.content.entry(PROBLEM_JSON.to_owned()).or_insert_with(problem);
}
