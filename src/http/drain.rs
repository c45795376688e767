//! What a handler did not read of a body is read and thrown away before the answer goes out.
//!
//! A server may answer before it has read the body, but then HTTP/2 ends the stream with
//! `RST_STREAM` and `NO_ERROR` (RFC 9113 section 8.1), which many a client takes for a failure and
//! loses the answer: curl before 8.0 does, with its exit status 92. Over HTTP/1.1 the connection
//! would be closed under a client that is still sending.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Error;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::body::BodyLimits;

/// Bytes that are thrown away beyond those that a body may have. Whoever sends more learns of its
/// refusal as its client can.
const BEYOND: usize = 1024 * 1024;

/// The layer, around everything that may answer. The rest of a body is waited for until `within`
/// after the request began, so that a slow body is not waited for twice.
pub(super) async fn drain(
    State(limits): State<BodyLimits>,
    request: Request,
    next: Next,
) -> Response {
    let BodyLimits { size, within } = limits;
    let most = size.saturating_add(BEYOND);
    if request.body().is_end_stream() || is_not_sent(&request, most) {
        return next.run(request).await;
    }
    let patience = sleep(within);
    let (parts, body) = request.into_parts();
    let (back, mut given_back) = oneshot::channel();
    let lent = Lent { body: Some(body.into_data_stream()), back: Some(back) };
    let response = next.run(Request::from_parts(parts, Body::from_stream(lent))).await;
    if let Ok(rest) = given_back.try_recv() {
        tokio::select! {
            // What has arrived is read, however late it is.
            biased;
            () = throw_away(rest, most) => (),
            () = patience => (),
        }
    }
    response
}

/// Whether waiting for the body is of no use: its sender waits to be told to go on, or it says
/// itself that it is longer than anybody would read.
fn is_not_sent(request: &Request, most: usize) -> bool {
    let headers = request.headers();
    let told = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let told = told.and_then(|length| length.parse::<u64>().ok());
    headers.contains_key(EXPECT) || told.is_some_and(|told| told > most as u64)
}

async fn throw_away(mut rest: BodyDataStream, most: usize) {
    let mut left = most;
    while let Some(Ok(piece)) = rest.next().await {
        match left.checked_sub(piece.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// A body that comes back when its reader is done with it, unless it was read to its end.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = body.poll_next_unpin(task);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody takes it back when the request itself is over.
            let _ = back.send(body);
        }
    }
}
