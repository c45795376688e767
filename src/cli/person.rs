//! The commands that talk to a broker.

use serde::Deserialize;

use super::answers::{Roles, Whoami};
use super::args::{Issue, Output, PersonCommand, Wish};
use super::client::{Answer, Client, ClientError, LeaseWish};
use super::credential::{Credential, CredentialError};
use super::exit::Exit;
use super::failure::Failure;
use super::login::{self, connect};
use super::secret::Secret;
use super::state::StateDir;
use super::terminal::{self, Shown, note, warn};
use super::{answers, leases, psql, roles, table};
use crate::clock::Clock;
use crate::names::{LeaseId, RoleName};

/// Does what a person asked for.
pub(super) async fn run(command: PersonCommand, clock: &Clock) -> Result<Exit, Failure> {
    let state = StateDir::locate(|name| std::env::var_os(name))?;
    match command {
        PersonCommand::Login(wishes) => login::log_in(wishes, &state, clock).await,
        PersonCommand::Logout => log_out(&state).await,
        PersonCommand::Whoami(output) => whoami(&state, output, clock).await,
        PersonCommand::Roles(output) => list_roles(&state, output, clock).await,
        PersonCommand::Issue(issue) => issue_role(&state, issue, clock).await,
        PersonCommand::Psql(psql) => psql::run(&state, psql, clock).await,
        PersonCommand::Leases(leases) => leases::list(&state, &leases, clock).await,
        PersonCommand::Renew(renew) => leases::renew(&state, &renew, clock).await,
        PersonCommand::Revoke(revoke) => leases::revoke(&state, &revoke, clock).await,
        PersonCommand::DeclareGone(declare) => leases::declare_gone(&state, &declare, clock).await,
    }
}

/// Ends the session at the server, and forgets it here in any case.
async fn log_out(state: &StateDir) -> Result<Exit, Failure> {
    let client = match login::kept(state) {
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
    let answer = connect(state, clock).await?.get("v1/whoami").await?;
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

async fn list_roles(state: &StateDir, output: Output, clock: &Clock) -> Result<Exit, Failure> {
    let answer = connect(state, clock).await?.get("v1/roles").await?;
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
    let client = connect(state, clock).await?;
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
