//! What is refused before anything looks at a request: odd paths, other hosts, other sites.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::Url;

use super::problem::{Kind, Problem};

/// Header by which a browser says where a call comes from (Fetch Metadata, section 2).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Where this broker is, and which pages may call it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Host of the public URL, lower case.
    host: String,
    /// Origins that may call: our own, and those that are configured.
    origins: Vec<String>,
}

impl Place {
    /// The place at `public_url`, called from there and from `allowed_origins`.
    pub(super) fn new(public_url: &Url, allowed_origins: &[String]) -> Self {
        let host = public_url.host_str().unwrap_or_default().to_ascii_lowercase();
        let own = public_url.origin().ascii_serialization();
        Self {
            host,
            origins: std::iter::once(own).chain(allowed_origins.iter().cloned()).collect(),
        }
    }
}

/// The layer.
pub(super) async fn guard(
    State(place): State<Arc<Place>>,
    request: Request,
    next: Next,
) -> Response {
    let checked = check_path(request.uri())
        .and_then(|()| check_host(&place, request.uri(), request.headers()))
        .and_then(|()| check_origin(&place, request.method(), request.headers()));
    match checked {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// A path is matched as it stands, so it must stand in its one normal form: segments of
/// unreserved characters (RFC 3986 section 2.3), none of them empty, `.` or `..`. No path of ours
/// needs percent-encoding.
fn check_path(uri: &Uri) -> Result<(), Problem> {
    let path = uri.path();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let normal = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
    let mut segments = path.split('/');
    let begins = segments.next() == Some("");
    if begins && (path == "/" || segments.all(normal)) {
        return Ok(());
    }
    Err(Problem::new(Kind::BadRequest, "the path is not in normal form"))
}

/// The request must be for us (RFC 9112 section 3.2). An address or `localhost` will always do:
/// a page that tricks a browser into calling us under its own name cannot use those.
fn check_host(place: &Place, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(HOST).iter();
    let (header, another) = (hosts.next(), hosts.next());
    let header = header.and_then(|host| host.to_str().ok());
    let in_line = uri.authority().map(axum::http::uri::Authority::as_str);
    let bad = |detail| Err(Problem::new(Kind::BadRequest, detail));
    if another.is_some() {
        return bad("there is more than one header `host`");
    }
    let host = match (in_line, header) {
        (Some(line), Some(header)) if !line.eq_ignore_ascii_case(header) => {
            return bad("the header `host` contradicts the request line");
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return bad("there is no header `host`"),
    };
    if is_ours(place, host) {
        return Ok(());
    }
    let detail =
        "this broker is not known under that name; its name is set by `public_url` in [server]";
    Err(Problem::new(Kind::WrongHost, detail))
}

fn is_ours(place: &Place, host: &str) -> bool {
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host().to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == place.host || name == "localhost" || bare.parse::<IpAddr>().is_ok()
}

/// A page of another site cannot make a browser change anything here, whatever credentials the
/// browser would add by itself.
fn check_origin(place: &Place, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let known = |origin: &[u8]| place.origins.iter().any(|known| known.as_bytes() == origin);
    let mut origins = headers.get_all(ORIGIN).iter().peekable();
    let allowed = if origins.peek().is_some() {
        origins.all(|origin| known(origin.as_bytes()))
    } else {
        let site = headers.get(SEC_FETCH_SITE).map(axum::http::HeaderValue::as_bytes);
        matches!(site, None | Some(b"same-origin" | b"none"))
    };
    if allowed {
        return Ok(());
    }
    let detail = "pages of that origin may not call; list it in `allowed_origins` of [server] if they should";
    Err(Problem::new(Kind::CrossSite, detail))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn place() -> Place {
        let url = Url::parse("https://pgbridge.example.test:8432").unwrap();
        Place::new(&url, &["https://tools.example.test".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name, value);
            all
        })
    }

    #[test]
    fn a_path_is_normal_or_refused() {
        let check = |path: &str| check_path(&path.parse().unwrap()).is_ok();
        for good in ["/", "/v1/leases", "/openapi.json", "/v1/leases/abc234?state=a%2Fb"] {
            assert!(check(good), "{good}");
        }
        for bad in [
            "//",
            "/v1//leases",
            "/v1/leases/",
            "/v1/./leases",
            "/v1/../metrics",
            "/v1/%2e%2e/x",
            "/v1%2fleases",
            "/v1/leases/%61",
            "/v1;a/leases",
            "/v1/leases\\x",
            "/v1/a:b",
            "*",
        ] {
            assert!(!check(bad), "{bad}");
        }
    }

    #[test]
    fn a_request_is_for_us_under_our_name_or_an_address() {
        let check = |uri: &str, pairs: &[(&'static str, &'static str)]| {
            let checked = check_host(&place(), &uri.parse().unwrap(), &headers(pairs));
            checked.map_err(|problem| problem.kind())
        };
        for good in [
            "pgbridge.example.test",
            "PGBRIDGE.example.test:8432",
            "127.0.0.1:1",
            "[::1]:8432",
            "localhost",
        ] {
            assert_eq!(check("/v1", &[("host", good)]), Ok(()), "{good}");
        }
        for bad in
            ["evil.test", "evil.test:8432", "pgbridge.example.test.evil.test", "a@127.0.0.1", ""]
        {
            assert_eq!(check("/v1", &[("host", bad)]), Err(Kind::WrongHost), "{bad}");
        }
        assert_eq!(check("/v1", &[]), Err(Kind::BadRequest));
        let two = [("host", "localhost"), ("host", "evil.test")];
        assert_eq!(check("/v1", &two), Err(Kind::BadRequest));
        assert_eq!(check("http://localhost/v1", &[("host", "evil.test")]), Err(Kind::BadRequest));
        assert_eq!(check("http://evil.test/v1", &[]), Err(Kind::WrongHost));
        assert_eq!(check("https://pgbridge.example.test/v1", &[]), Ok(()));
    }

    #[test]
    fn another_site_changes_nothing_and_a_listed_one_may() {
        let check = |method: &Method, pairs: &[(&'static str, &'static str)]| {
            check_origin(&place(), method, &headers(pairs)).is_ok()
        };
        assert!(check(&Method::POST, &[]));
        assert!(check(&Method::POST, &[("origin", "https://pgbridge.example.test:8432")]));
        let listed = [("origin", "https://tools.example.test"), ("sec-fetch-site", "cross-site")];
        assert!(check(&Method::POST, &listed));
        for origin in [
            "https://evil.test",
            "null",
            "https://tools.example.test.evil.test",
            "http://tools.example.test",
        ] {
            assert!(!check(&Method::POST, &[("origin", origin)]), "{origin}");
            assert!(check(&Method::GET, &[("origin", origin)]), "{origin}");
        }
        assert!(!check(&Method::DELETE, &[("sec-fetch-site", "cross-site")]));
        assert!(!check(&Method::DELETE, &[("sec-fetch-site", "same-site")]));
        assert!(check(&Method::DELETE, &[("sec-fetch-site", "none")]));
    }
}
