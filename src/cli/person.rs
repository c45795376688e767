//! The commands that talk to a broker.

use std::io::Read;
use std::path::PathBuf;

use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::answers::{Roles, Whoami};
use super::args::{Issue, Login, Output, PersonCommand, Wish};
use super::client::{Answer, Client, ClientError, LeaseWish};
use super::credential::{Credential, CredentialError};
use super::exit::Exit;
use super::failure::Failure;
use super::secret::Secret;
use super::server::ServerUrl;
use super::state::{SavedSession, StateDir};
use super::terminal::{self, Shown, note, warn};
use super::{answers, leases, psql, roles, table};
use crate::clock::Clock;
use crate::names::{LeaseId, LoginPassword, RoleName, SessionToken};

/// Does what a person asked for.
pub(super) async fn run(command: PersonCommand, clock: &Clock) -> Result<Exit, Failure> {
    let state = StateDir::locate(|name| std::env::var_os(name))?;
    match command {
        PersonCommand::Login(login) => log_in(login, &state, clock).await,
        PersonCommand::Logout => log_out(&state).await,
        PersonCommand::Whoami(output) => whoami(&state, output, clock).await,
        PersonCommand::Roles(output) => list_roles(&state, output).await,
        PersonCommand::Issue(issue) => issue_role(&state, issue, clock).await,
        PersonCommand::Psql(psql) => psql::run(&state, psql, clock).await,
        PersonCommand::Leases(leases) => leases::list(&state, &leases, clock).await,
        PersonCommand::Renew(renew) => leases::renew(&state, &renew, clock).await,
        PersonCommand::Revoke(revoke) => leases::revoke(&state, &revoke, clock).await,
        PersonCommand::DeclareGone(declare) => leases::declare_gone(&state, &declare, clock).await,
    }
}

/// A client with the kept session.
pub(super) fn connect(state: &StateDir) -> Result<Client, Failure> {
    let session = state.session()?.ok_or(Failure::NotLoggedIn)?;
    let wanted = std::env::var("PGBRIDGE_URL").ok().filter(|url| !url.is_empty());
    same_server(&session.server, wanted.as_deref())?;
    Ok(Client::new(&session.server, session.ca.as_deref())?.with_session(&session.token)?)
}

/// Who names a server in the environment means that one: no other is asked in its place.
fn same_server(session: &ServerUrl, wanted: Option<&str>) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    let wanted: ServerUrl = wanted.parse().map_err(Failure::BadServer)?;
    if wanted == *session {
        return Ok(());
    }
    Err(Failure::OtherServer { session: session.clone(), wanted })
}

/// Logs in; Ctrl-C ends it. The handler for Ctrl-C is in place before the password is asked for:
/// the default one would end the process with the terminal's echo still off.
async fn log_in(login: Login, state: &StateDir, clock: &Clock) -> Result<Exit, Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signals)?;
    let kept = match state.session() {
        Ok(kept) => kept,
        Err(unusable) => {
            warn(super::in_one_line(&unusable));
            None
        }
    };
    let known = kept.as_ref();
    let server = login.server.or_else(|| known.map(|session| session.server.clone()));
    let server = server.ok_or(Failure::NoServer)?;
    let same = known.filter(|session| session.server == server);
    let ca = absolute(login.ca)?.or_else(|| same.and_then(|session| session.ca.clone()));
    let client = Client::new(&server, ca.as_deref())?;
    let asked = ask(login.user, login.password_stdin, &Shown::new(&server))?;
    let Some((user, password)) = asked else { return Ok(Exit::INTERRUPTED) };
    if password.is_blank() {
        return Err(Failure::BlankPassword);
    }
    let answer = tokio::select! {
        answer = client.login(login.way.as_ref(), &user, &password) => answer?,
        _ = interrupt.recv() => return Ok(Exit::INTERRUPTED),
    };
    drop(password);
    let session = SavedSession {
        server,
        ca,
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
    end_replaced(kept, &session).await;
    Ok(Exit::Done)
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

/// Ends the session at the server, and forgets it here in any case.
async fn log_out(state: &StateDir) -> Result<Exit, Failure> {
    let client = match connect(state) {
        Ok(client) => client,
        Err(meant_elsewhere @ (Failure::OtherServer { .. } | Failure::BadServer(_))) => {
            return Err(meant_elsewhere);
        }
        // An unusable file is removed as well: nobody should log in by it.
        Err(unusable) => {
            state.forget_session()?;
            return Err(unusable);
        }
    };
    let outcome = client.logout().await;
    state.forget_session()?;
    match outcome {
        Ok(()) | Err(ClientError::LoggedOut { .. }) => {
            note("logged out");
            Ok(Exit::Done)
        }
        Err(failure) => {
            warn(
                "the session is forgotten here, but could not be ended at the server, where it ends by itself",
            );
            Err(failure.into())
        }
    }
}

async fn whoami(state: &StateDir, output: Output, clock: &Clock) -> Result<Exit, Failure> {
    let answer = connect(state)?.get("v1/whoami").await?;
    let now = clock.now();
    print(output, &answer, |me: &Whoami| {
        let groups: Vec<&str> = me.groups.iter().map(Shown::as_str).collect();
        let duties: Vec<&str> = [("auditor", me.duties.auditor), ("operator", me.duties.operator)]
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name))
            .collect();
        let mut pairs = vec![
            ("principal", me.principal.clone()),
            ("person", me.person.clone()),
            ("proven by", Shown::new(format!("{} {}", me.method, me.issuer))),
            ("logged in", table::time(me.authenticated_at, now)),
            ("session ends", table::time(me.expires_at, now)),
            (
                "duties",
                Shown::new(if duties.is_empty() { "none".into() } else { duties.join(", ") }),
            ),
        ];
        let names = if groups.is_empty() { vec!["none"] } else { groups };
        for (index, group) in names.into_iter().enumerate() {
            pairs.push((if index == 0 { "groups" } else { "" }, Shown::new(group)));
        }
        table::pairs(&pairs)
    })
}

async fn list_roles(state: &StateDir, output: Output) -> Result<Exit, Failure> {
    let answer = connect(state)?.get("v1/roles").await?;
    print(output, &answer, |list: &Roles| {
        let rows: Vec<Vec<Shown>> = list.roles.iter().map(role_row).collect();
        for cluster in &list.undecided {
            warn(format!(
                "cluster {cluster} cannot be asked now who is a member of what, so more may be on \
                 offer there; try again soon"
            ));
        }
        if rows.is_empty() && list.undecided.is_empty() {
            warn("no role is on offer to you; the map of the administrators decides");
        }
        let headings = ["CLUSTER", "ROLE", "DATABASES", "TIME", "AT MOST", "REASON", "BY"];
        table::table(&headings, &rows)
    })
}

fn role_row(offer: &answers::Offer) -> Vec<Shown> {
    let databases: Vec<String> = offer.databases.iter().map(ToString::to_string).collect();
    vec![
        Shown::new(&offer.cluster),
        Shown::new(&offer.role),
        Shown::new(databases.join(", ")),
        Shown::new(table::length(offer.ttl_seconds)),
        Shown::new(table::length(offer.max_ttl_seconds)),
        Shown::new(if offer.reason_required { "required" } else { "optional" }),
        Shown::new(format!("{}:{}", offer.rule.file, offer.rule.line)),
    ]
}

async fn issue_role(state: &StateDir, issue: Issue, clock: &Clock) -> Result<Exit, Failure> {
    let client = connect(state)?;
    let role = role_of(&client, &issue.wish).await?;
    let answer = client.issue(&wish(&issue.wish, &role)).await?;
    let credential = accept(&client, &answer, state).await?;
    let lease = credential.issued.lease.id;
    let text = match credential.print(&answer, issue.format, clock.now()) {
        Ok(text) => text,
        Err(unfit) => return Err(take_back(&client, lease, unfit).await),
    };
    if let Err(unwritten) = terminal::hand_out(text.expose()) {
        return Err(take_back(&client, lease, CredentialError::Unwritten(unwritten)).await);
    }
    Ok(Exit::Done)
}

/// The role that is meant: the named one, or the only one on offer there.
pub(super) async fn role_of(client: &Client, wish: &Wish) -> Result<RoleName, Failure> {
    if let Some(role) = &wish.role {
        return Ok(role.clone());
    }
    let list: Roles = client.get("v1/roles").await?.read()?;
    Ok(roles::only_role(&list.roles, &wish.target)?.clone())
}

/// The wish as the API takes it.
pub(super) fn wish<'a>(wish: &'a Wish, role: &'a RoleName) -> LeaseWish<'a> {
    LeaseWish {
        cluster: &wish.target.cluster,
        role: Some(role),
        database: wish.target.database.as_ref(),
        ttl: wish.ttl,
        reason: wish.reason.as_deref(),
    }
}

/// Reads the answer to an issuing call. A lease that cannot be used is given back: nobody has its
/// password.
pub(super) async fn accept(
    client: &Client,
    answer: &Answer,
    state: &StateDir,
) -> Result<Credential, Failure> {
    #[derive(Deserialize)]
    struct Handle {
        id: LeaseId,
    }
    #[derive(Deserialize)]
    struct AtLeast {
        lease: Handle,
    }

    match Credential::accept(answer, state) {
        Ok(credential) => Ok(credential),
        Err(unusable) => match answer.read::<AtLeast>() {
            Ok(known) => Err(take_back(client, known.lease.id, unusable).await),
            Err(_) => Err(Failure::Credential(unusable)),
        },
    }
}

async fn take_back(client: &Client, lease: LeaseId, source: CredentialError) -> Failure {
    if let Err(failure) = client.revoke(lease).await {
        warn(format!("lease {lease} could not be revoked: {}", super::in_one_line(&failure)));
    }
    Failure::NotHandedOut { lease, source: Box::new(source) }
}

/// Writes an answer as JSON or as `text` shows it.
pub(super) fn print<T: serde::de::DeserializeOwned>(
    output: Output,
    answer: &Answer,
    text: impl FnOnce(&T) -> String,
) -> Result<Exit, Failure> {
    let text = if output.json { answer.json()? } else { Secret::new(text(&answer.read()?)) };
    terminal::answer(text.expose()).map_err(Failure::Output)?;
    Ok(Exit::Done)
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
