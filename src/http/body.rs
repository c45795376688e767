//! Bodies and queries, read strictly: exactly the fields that are known, each once.
//!
//! A refusal never repeats what was sent: it may be a password in the wrong place.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use futures::StreamExt;
use serde::de::value::Error as NothingThere;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};
use serde_json::error::Category;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::problem::{Kind, Problem};

/// How much of a body is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Bytes at most.
    pub(super) size: usize,
    /// Time until the last byte must be there.
    pub(super) within: Duration,
}

/// A JSON object as body.
pub(super) struct Json<T>(pub(super) T);

/// A JSON object as body, or no body at all.
pub(super) struct MaybeJson<T>(pub(super) T);

/// The query of the URL.
pub(super) struct Query<T>(pub(super) T);

impl<State, T> FromRequest<State> for Json<T>
where
    State: Send + Sync,
    BodyLimits: FromRef<State>,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        need_json(request.headers())?;
        let limits = BodyLimits::from_ref(state);
        let body = read(request, limits).await?;
        parse(&body).map(Self)
    }
}

impl<State, T> FromRequest<State> for MaybeJson<T>
where
    State: Send + Sync,
    BodyLimits: FromRef<State>,
    T: DeserializeOwned + Default,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        let limits = BodyLimits::from_ref(state);
        let is_json = need_json(request.headers());
        let has_type = request.headers().contains_key(CONTENT_TYPE);
        let body = read(request, limits).await?;
        if body.is_empty() && !has_type {
            return Ok(Self(T::default()));
        }
        is_json?;
        parse(&body).map(Self)
    }
}

impl<State, T> FromRequestParts<State> for Query<T>
where
    State: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let detail = "a parameter is unknown, given twice, or does not fit; see /openapi.json";
        query.map(|query| Self(query.0)).map_err(|_| Problem::new(Kind::QueryUnfit, detail))
    }
}

/// One content type, `application/json`, with no charset but UTF-8 (RFC 8259 section 8.1). A
/// page of another site cannot send that without being asked first, so this is also a guard.
fn need_json(headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let only = types.next().filter(|_| types.next().is_none());
    let text = only.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let is_utf8 = |parameter: &str| {
        let parameter = parameter.to_ascii_lowercase();
        matches!(parameter.as_str(), "charset=utf-8" | "charset=\"utf-8\"")
    };
    if is_json && parts.all(is_utf8) {
        return Ok(());
    }
    Err(no_json())
}

/// What is no JSON, or is not said to be.
pub(super) fn no_json() -> Problem {
    Problem::new(Kind::MediaType, "send the header `content-type: application/json`")
}

async fn read(request: Request, limits: BodyLimits) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let BodyLimits { size, within } = limits;
    let told = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if told.and_then(|length| length.parse::<u64>().ok()).is_some_and(|told| told > size as u64) {
        return Err(too_large(size));
    }
    let body = timeout(within, collect(request.into_body(), size)).await;
    body.unwrap_or_else(|_| {
        let detail = format!("the body was not there after {} s", within.as_secs());
        Err(Problem::new(Kind::BodyTooSlow, detail))
    })
}

async fn collect(body: Body, size: usize) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let mut collected = Zeroizing::new(Vec::new());
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let broken = |_| Problem::new(Kind::BadRequest, "the body broke off");
        let piece = piece.map_err(broken)?;
        if piece.len() > size.saturating_sub(collected.len()) {
            return Err(too_large(size));
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected)
}

fn too_large(size: usize) -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("a body may have {size} bytes"))
}

/// Reads one JSON object. A known field is a text, a number or nothing, so that depth is refused
/// by the types before any of it is built; a field given twice is refused by them too.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let is_object = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    // An array of the right length would pass for an object without names.
    if !is_object && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        return Err(Problem::new(Kind::BodyUnfit, "the body must be a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        match error.classify() {
            Category::Data => {
                let fault = fault(&error.to_string(), &fields_of::<T>());
                Problem::new(Kind::BodyUnfit, format!("{fault} ({place}); see /openapi.json"))
            }
            Category::Syntax | Category::Eof | Category::Io => {
                Problem::new(Kind::MalformedJson, format!("it cannot be read after {place}"))
            }
        }
    })
}

/// What does not fit, in our own words and with our own names: serde's text begins with words of
/// its own, and repeats what was sent only after them.
fn fault(said: &str, fields: &[&str]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    let of_ours =
        |words: &str| quoted.iter().find(|field| said.starts_with(&format!("{words} {field}")));
    let all = quoted.join(", ");
    if let Some(field) = of_ours("missing field") {
        return format!("the field {field} is missing; the fields are {all}");
    }
    if let Some(field) = of_ours("duplicate field") {
        return format!("the field {field} is given twice");
    }
    if said.starts_with("unknown field ") {
        return format!("a field is unknown; the fields are {all}");
    }
    format!("a field is of the wrong type; the fields are {all}")
}

/// The names of a body's fields, asked of the body itself: nothing is read.
fn fields_of<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut fields = Vec::new();
    // It cannot succeed; all that counts is what it was asked for.
    let _ = T::deserialize(Ask(&mut fields));
    fields
}

/// Notes which fields a type asks for, and gives none.
struct Ask<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = NothingThere;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NothingThere> {
        Err(NothingThere::custom("nothing is read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NothingThere> {
        self.0.extend_from_slice(fields);
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        cluster: String,
        role: Option<String>,
    }

    #[track_caller]
    fn refuses(body: &str, kind: Kind) {
        let problem = parse::<Wanted>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.kind(), kind, "{body:.60}");
        assert!(!format!("{problem:?}").contains("canary"), "{problem:?}");
    }

    #[test]
    fn exactly_the_known_fields_are_read_and_each_once() {
        let read = parse::<Wanted>(br#" {"cluster": "orders", "role": null} "#).unwrap();
        assert_eq!(read, Wanted { cluster: "orders".into(), role: None });
        refuses(r#"{"cluster": "canary"} x"#, Kind::MalformedJson);
        refuses(r#"{"cluster": "canary"#, Kind::MalformedJson);
        refuses(r#"{"cluster": canary}"#, Kind::MalformedJson);
        refuses("", Kind::MalformedJson);
        refuses(r#"{"cluster": "a", "canary": 1}"#, Kind::BodyUnfit);
        refuses(r#"{"cluster": "a", "cluster": "canary"}"#, Kind::BodyUnfit);
        refuses(r#"{"role": "canary"}"#, Kind::BodyUnfit);
        refuses(r#"{"cluster": ["canary"]}"#, Kind::BodyUnfit);
        refuses(r#"["canary", "b"]"#, Kind::BodyUnfit);
        refuses("\"canary\"", Kind::BodyUnfit);
        refuses("null", Kind::BodyUnfit);
    }

    #[track_caller]
    fn says(body: &str, fault: &str) {
        let problem = parse::<Wanted>(body.as_bytes()).unwrap_err();
        let said = problem.detail();
        assert!(said.starts_with(&format!("{fault} (line 1, column ")), "{body}: {said}");
        assert!(!said.contains("canary"), "{said}");
    }

    #[test]
    fn what_does_not_fit_is_said_with_our_own_names() {
        let all = "the fields are `cluster`, `role`";
        says(r#"{"role": "canary"}"#, &format!("the field `cluster` is missing; {all}"));
        says(r#"{"cluster": "a", "canary": 1}"#, &format!("a field is unknown; {all}"));
        says(
            r#"{"cluster": "a", "missing field `cluster": 1}"#,
            &format!("a field is unknown; {all}"),
        );
        says(r#"{"cluster": "a", "cluster": "canary"}"#, "the field `cluster` is given twice");
        says(r#"{"cluster": ["canary"]}"#, &format!("a field is of the wrong type; {all}"));
        assert!(parse::<Wanted>(br#"{"cluster": "a", "role": "b"}"#).is_ok());
    }

    #[test]
    fn deep_nesting_is_refused_whatever_it_is_in() {
        let deep = |open: &str| open.repeat(30_000);
        refuses(&deep("["), Kind::BodyUnfit);
        refuses(&format!("{{\"canary\": {}", deep("[")), Kind::BodyUnfit);
        refuses(&format!("{{\"cluster\": {}", deep("{\"a\":")), Kind::BodyUnfit);
    }

    #[test]
    fn a_body_is_json_in_utf8_and_says_so_once() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            need_json(&headers).is_ok()
        };
        assert!(with(&["application/json"]));
        assert!(with(&["Application/JSON; charset=UTF-8"]));
        for bad in ["text/plain", "application/json; charset=latin1", "application/jsonx", ""] {
            assert!(!with(&[bad]), "{bad}");
        }
        assert!(!with(&[]));
        assert!(!with(&["application/json", "application/json"]));
    }
}
