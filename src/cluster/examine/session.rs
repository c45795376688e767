//! Whether a connection stays on one session of the server, or a pooler gives it another one with
//! each transaction. The broker cannot work through the latter: what it has prepared and set on
//! a session is not there at the next statement.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::SimpleQueryMessage;

use super::Expected;
use super::facts::Looked;
use crate::cluster::connect::Connections;
use crate::cluster::error::{Failure, FailureKind};

/// What stands between the broker and the server.
pub(super) enum Session {
    /// Nothing that matters: the connection has a session of the server for itself.
    Own(ClientWrapper),
    /// A pooler that shares sessions, or that does not hand on what a session begins with. The text
    /// says how that showed.
    Shared(String),
}

/// How long an answer may take while another session has an open transaction. The server answers
/// at once; a pooler with one session only lets us wait.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sessions that are held while the first is asked again.
const HOLDERS: usize = 2;

/// Settings that the broker's connections begin with, and that no server has by default.
const BEGUN_WITH: &str = "SELECT replace(current_setting('search_path'), ' ', '') = 'pg_catalog,pg_temp' \
     AND current_setting('enable_seqscan') = 'off'";

const PID: &str = "SELECT pg_backend_pid()";

/// A connection, once it is known to have a session of its own.
///
/// A second connection takes a session and holds it by an open transaction. If sessions are shared,
/// that is the one on which the first was answered, and now the first is answered on another, or
/// not at all.
///
/// # Errors
/// When no connection can be made, or the server does not answer.
pub(super) async fn begin(connections: &Connections, expected: &Expected) -> Looked<Session> {
    let database = expected.maintenance.as_str();
    let first = connections.open(database).await?;
    if value(connections, &first, BEGUN_WITH).await? != "t" {
        let how = "settings that the connection began with are not in force";
        return Ok(Session::Shared(how.to_owned()));
    }
    let own = value(connections, &first, PID).await?;
    let mut held = Vec::new();
    for _ in 0..HOLDERS {
        // There may be no more connections to have, which tells nothing.
        let Ok(holder) = connections.open(database).await else { break };
        let begun = connections.bounded(PATIENCE, holder.batch_execute("BEGIN"));
        if begun.await.is_err() {
            break;
        }
        let other = value(connections, &holder, PID).await;
        held.push(holder);
        if other.is_ok_and(|other| other == own) {
            let how = format!("two connections were answered by one server process ({own})");
            return Ok(Session::Shared(how));
        }
        match value(connections, &first, PID).await {
            Ok(now) if now == own => {}
            Ok(now) => {
                let how =
                    format!("one connection was answered by server processes {own} and {now}");
                return Ok(Session::Shared(how));
            }
            Err(Failure { kind: FailureKind::TimedOut, .. }) => {
                let how = "a connection waits while another has an open transaction";
                return Ok(Session::Shared(how.to_owned()));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(Session::Own(first))
}

/// The one value of a statement, which is not prepared: that would not work through a pooler.
async fn value(connections: &Connections, client: &ClientWrapper, sql: &str) -> Looked<String> {
    let answer = connections.bounded(PATIENCE, client.simple_query(sql)).await?;
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    rows.last().map(str::to_owned).ok_or_else(|| Failure::broken("an empty answer"))
}
