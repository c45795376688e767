//! Beginning a session: by a ticket, without a question, or by a name and a password.
//!
//! One or the other: after a ticket was refused, no password is asked for before the person says so
//! with `--password` or `--user`. Whoever made the ticket fail shall not get a password for it.

use std::io::Read;
use std::path::PathBuf;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::answers::LoggedIn;
use super::args::Login;
use super::client::{Client, ClientError, Offer};
use super::exit::Exit;
use super::failure::Failure;
use super::server::ServerUrl;
use super::state::{SavedSession, StateDir};
use super::table;
use super::terminal::{self, Shown, note, warn};
use super::ticket::{self, Ticket};
use crate::clock::Clock;
use crate::names::{LoginPassword, SessionToken};

/// A client with a session: the kept one or, where that is missing or over and the person has a
/// ticket that the server takes, a new one.
pub(super) async fn connect(state: &StateDir, clock: &Clock) -> Result<Client, Failure> {
    let session = state.session()?;
    let wanted = wanted()?;
    let session = session.filter(|session| {
        session.expires_at > clock.now() || wanted.as_ref().is_none_or(|it| *it == session.server)
    });
    let kept = session.as_ref().map(|session| client_of(session, wanted.as_ref())).transpose()?;
    let server = wanted.or_else(|| session.as_ref().map(|session| session.server.clone()));
    let Some(server) = server else { return Err(Failure::NotLoggedIn) };
    let ticket = ticket::look().await;
    if ticket != Ticket::Valid || is_alive(session.as_ref(), kept.as_ref(), clock.now()).await {
        return kept.ok_or(if ticket == Ticket::Expired {
            Failure::TicketExpired
        } else {
            Failure::NotLoggedIn
        });
    }
    let ca = std::env::var_os("PGBRIDGE_CA").filter(|path| !path.is_empty()).map(PathBuf::from);
    let ca = absolute(ca)?.or_else(|| session.and_then(|session| session.ca));
    let client = Client::new(&server, ca.as_deref())?;
    let Offer::Tickets { end_point, .. } = client.offer(None).await? else {
        return kept.ok_or(Failure::NotLoggedIn);
    };
    let answer = client.login_by_ticket(None, end_point.as_ref()).await?;
    let session = keep(state, Place { server, ca }, answer, clock)?;
    Ok(client.with_session(&session.token)?)
}

/// A client with the kept session, whether it is over or not.
pub(super) fn kept(state: &StateDir) -> Result<Client, Failure> {
    let session = state.session()?.ok_or(Failure::NotLoggedIn)?;
    client_of(&session, wanted()?.as_ref())
}

/// Whether the session can still be used. A pause may have ended it before its time, so the server
/// is asked. Whatever else keeps it from answering, the command itself will hear.
async fn is_alive(session: Option<&SavedSession>, client: Option<&Client>, now: Timestamp) -> bool {
    let (Some(session), Some(client)) = (session, client) else { return false };
    session.expires_at > now
        && !matches!(client.get("v1/whoami").await, Err(ClientError::LoggedOut { .. }))
}

/// The server that the environment names.
fn wanted() -> Result<Option<ServerUrl>, Failure> {
    let wanted = std::env::var("PGBRIDGE_URL").ok().filter(|url| !url.is_empty());
    wanted.map(|url| url.parse().map_err(Failure::BadServer)).transpose()
}

/// Who names a server in the environment means that one: no other is asked in its place.
fn client_of(session: &SavedSession, wanted: Option<&ServerUrl>) -> Result<Client, Failure> {
    if let Some(wanted) = wanted.filter(|wanted| **wanted != session.server) {
        let (session, wanted) = (session.server.clone(), wanted.clone());
        return Err(Failure::OtherServer { session, wanted });
    }
    Ok(Client::new(&session.server, session.ca.as_deref())?.with_session(&session.token)?)
}

/// Logs in; Ctrl-C ends it. The handler for Ctrl-C is in place before the password is asked for:
/// the default one would end the process with the terminal's echo still off.
pub(super) async fn log_in(login: Login, state: &StateDir, clock: &Clock) -> Result<Exit, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    let kept = match state.session() {
        Ok(kept) => kept,
        Err(unusable) => {
            warn(super::in_one_line(&unusable));
            None
        }
    };
    let known = kept.as_ref();
    let server = login.server.clone().or_else(|| known.map(|session| session.server.clone()));
    let server = server.ok_or(Failure::NoServer)?;
    let same = known.filter(|session| session.server == server);
    let ca = absolute(login.ca.clone())?.or_else(|| same.and_then(|session| session.ca.clone()));
    let client = Client::new(&server, ca.as_deref())?;
    let by_ticket = tokio::select! {
        answer = by_ticket(&client, &login, &server) => answer?,
        _ = interrupt.recv() => return Ok(Exit::INTERRUPTED),
    };
    let answer = if let Some(answer) = by_ticket {
        answer
    } else {
        let asked = ask(login.user, login.password_stdin, &Shown::new(&server))?;
        let Some((user, password)) = asked else { return Ok(Exit::INTERRUPTED) };
        if password.is_blank() {
            return Err(Failure::BlankPassword);
        }
        tokio::select! {
            answer = client.login(login.way.as_ref(), &user, &password) => answer?,
            _ = interrupt.recv() => return Ok(Exit::INTERRUPTED),
        }
    };
    let session = keep(state, Place { server, ca }, answer, clock)?;
    end_replaced(kept, &session).await;
    Ok(Exit::Done)
}

/// Logs in by ticket, unless the person has none, the server takes none, or a password is meant.
async fn by_ticket(
    client: &Client,
    login: &Login,
    server: &ServerUrl,
) -> Result<Option<LoggedIn>, Failure> {
    if login.password || login.user.is_some() {
        return Ok(None);
    }
    let Offer::Tickets { passwords_too, end_point } = client.offer(login.way.as_ref()).await?
    else {
        return Ok(None);
    };
    match ticket::look().await {
        Ticket::Valid => {
            let answer = client.login_by_ticket(login.way.as_ref(), end_point.as_ref()).await?;
            return Ok(Some(answer));
        }
        Ticket::Expired => warn("your Kerberos ticket has expired: `kinit` gets another"),
        Ticket::Missing => {}
    }
    if passwords_too { Ok(None) } else { Err(Failure::TicketNeeded { server: server.clone() }) }
}

/// Where a session is: the server, and the file with the root certificates for it.
struct Place {
    server: ServerUrl,
    ca: Option<PathBuf>,
}

/// Keeps a session that has begun, and tells the person.
fn keep(
    state: &StateDir,
    place: Place,
    answer: LoggedIn,
    clock: &Clock,
) -> Result<SavedSession, Failure> {
    let session = SavedSession {
        server: place.server,
        ca: place.ca,
        principal: answer.principal,
        expires_at: answer.expires_at,
        token: SessionToken::unverified(answer.token.expose()),
    };
    state.keep_session(&session)?;
    let ends = table::time(session.expires_at, clock.now());
    let pause = answer.idle_timeout_seconds.map(table::length);
    let pause = pause.map_or_else(String::new, |pause| format!(", or after {pause} without use"));
    let who = Shown::new(&session.principal);
    note(format!("logged in as {who}; the session ends {ends} at the latest{pause}"));
    Ok(session)
}

/// The session before this one at the same server is of no more use: it ends. When that fails it
/// ends by itself.
async fn end_replaced(before: Option<SavedSession>, now: &SavedSession) {
    let Some(before) = before.filter(|before| before.server == now.server) else { return };
    let client = Client::new(&before.server, before.ca.as_deref());
    if let Ok(client) = client.and_then(|client| client.with_session(&before.token)) {
        drop(client.logout().await);
    }
}

fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    path.map(|path| {
        path.canonicalize()
            .map_err(|source| Failure::NoFile { path: path.display().to_string(), source })
    })
    .transpose()
}

/// Name and password, from the command line, the terminal or standard input; nothing when the
/// person gave up by Ctrl-C.
fn ask(
    user: Option<String>,
    from_stdin: bool,
    server: &Shown,
) -> Result<Option<(String, LoginPassword)>, Failure> {
    let user = match user {
        Some(user) => user,
        None => match typed(prompt_name(server))? {
            Some(user) => user,
            None => return Ok(None),
        },
    };
    let password = if from_stdin {
        Some(password_from(std::io::stdin().lock()).map_err(Failure::PasswordUnread)?)
    } else {
        let prompt = format!("Password of {} at {server}: ", Shown::new(&user));
        typed(rpassword::prompt_password(prompt))?.map(LoginPassword::new)
    };
    Ok(password.map(|password| (user, password)))
}

fn typed(outcome: std::io::Result<String>) -> Result<Option<String>, Failure> {
    match outcome {
        Ok(text) => Ok(Some(text)),
        Err(stopped) if stopped.kind() == std::io::ErrorKind::Interrupted => Ok(None),
        Err(source) => Err(Failure::NoTerminal(source)),
    }
}

/// Asks for the name as `rpassword` asks for a password, but shown while it is typed.
fn prompt_name(server: &Shown) -> std::io::Result<String> {
    terminal::ask(&format!("User at {server}: "))
}

/// Bytes a password may have; the server's own limit is far below.
const PASSWORD_MAX: u64 = 64 * 1024;

/// All of the text is the password, but for one newline at its end.
fn password_from(source: impl Read) -> std::io::Result<LoginPassword> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    source.take(PASSWORD_MAX).read_to_string(&mut text)?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    Ok(LoginPassword::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_from_standard_input_loses_one_newline_and_nothing_else() {
        for (typed, password) in [
            ("secret\n", "secret"),
            ("secret", "secret"),
            (" s p \n", " s p "),
            ("two\n\n", "two\n"),
            ("carriage\r\n", "carriage\r"),
            ("", ""),
        ] {
            assert_eq!(password_from(typed.as_bytes()).unwrap().expose(), password, "{typed:?}");
        }
        assert!(password_from(b"\xff\n".as_slice()).is_err());
    }
}
