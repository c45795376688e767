//! The commands about leases that are out: list, renew, revoke.

use jiff::Timestamp;
use url::form_urlencoded::Serializer;

use super::answers::{self, Holder, Lease};
use super::args::{DeclareGone, Leases, Renew, Revoke};
use super::client::{Client, Revocation};
use super::exit::Exit;
use super::failure::Failure;
use super::login::connect;
use super::person::print;
use super::state::StateDir;
use super::table;
use super::terminal::{self, Shown, note, warn};
use crate::clock::Clock;
use crate::names::LeaseId;

/// Leases that a server lists at most.
const LISTED_MOST: usize = 1000;

/// Lists one's own leases, or everybody's.
pub(super) async fn list(
    state: &StateDir,
    leases: &Leases,
    clock: &Clock,
) -> Result<Exit, Failure> {
    let answer = connect(state, clock).await?.get(&path(leases)).await?;
    let now = clock.now();
    print(leases.output, &answer, |list: &answers::Leases| {
        if list.leases.is_empty() {
            note(match (leases.everyone, leases.all) {
                (true, _) => "there is no such lease",
                (false, true) => "you have no lease",
                (false, false) => {
                    "you have no lease that is live; `--all` lists those that are over"
                }
            });
        }
        if list.leases.len() == LISTED_MOST {
            warn(format!(
                "only the newest {LISTED_MOST} are listed; `--state` lists fewer, and so do `--person`, \
                 `--cluster` and `--role` of `--everyone`"
            ));
        }
        let whose = if leases.everyone { Whose::Everybody } else { Whose::Mine };
        listed(&list.leases, whose, now)
    })
}

/// The path that lists what is asked for.
fn path(leases: &Leases) -> String {
    let mut query = Serializer::new(String::new());
    if !leases.states.is_empty() {
        query.append_pair("state", &leases.states.join(","));
    } else if !leases.all {
        query.append_pair("state", "active,revoking,quarantined");
    }
    let names = [
        ("person", leases.person.clone()),
        ("cluster", leases.cluster.as_ref().map(ToString::to_string)),
        ("role", leases.role.as_ref().map(ToString::to_string)),
    ];
    for (key, value) in names {
        query.extend_pairs(value.map(|value| (key, value)));
    }
    let place = if leases.everyone { "v1/operator/leases" } else { "v1/leases" };
    match query.finish() {
        query if query.is_empty() => place.to_owned(),
        query => format!("{place}?{query}"),
    }
}

/// Whose leases a list shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Mine,
    Everybody,
}

/// A table of leases, and below it what keeps some of them.
fn listed(leases: &[Lease], whose: Whose, now: Timestamp) -> String {
    let mut headings = vec!["LEASE", "STATE", "CLUSTER", "DATABASE", "ROLE", "USER", "ENDS"];
    if whose == Whose::Everybody {
        headings.push("PERSON");
    }
    headings.push("WHY");
    let rows: Vec<Vec<Shown>> = leases.iter().map(|lease| row(lease, whose, now)).collect();
    let held = leases.iter().filter(|lease| !lease.blockers.is_empty());
    let held = held.map(|lease| held_text(lease, now));
    std::iter::once(table::table(&headings, &rows)).chain(held).collect()
}

fn row(lease: &Lease, whose: Whose, now: Timestamp) -> Vec<Shown> {
    let mut row = vec![
        Shown::new(lease.id),
        lease.state.clone(),
        Shown::new(&lease.cluster),
        Shown::new(&lease.database),
        Shown::new(&lease.role),
        lease.role_name.clone(),
        match ending(lease) {
            Ending::Ahead(at) => table::time(at, now),
            Ending::Begun => Shown::new("can still be used"),
            Ending::Closed(at) => Shown::new(format!("access ended {}", table::time(at, now))),
            Ending::Gone(at) => Shown::new(format!("gone {}", table::time(at, now))),
        },
    ];
    if whose == Whose::Everybody {
        row.push(lease.person.clone());
    }
    row.push(lease.end.clone().unwrap_or_default());
    row
}

/// What keeps a lease, and what to do about it.
fn held_text(lease: &Lease, now: Timestamp) -> String {
    let mut pairs = vec![("lease", Shown::new(lease.id))];
    pairs.extend(held(lease));
    pairs.extend(tried_again(lease, now));
    format!("\n{}", table::pairs(&pairs))
}

fn tried_again(lease: &Lease, now: Timestamp) -> Option<(&'static str, Shown)> {
    lease.retry_at.map(|at| ("tried again", table::time(at, now)))
}

fn held(lease: &Lease) -> impl Iterator<Item = (&'static str, Shown)> {
    lease.blockers.iter().flat_map(|blocker| {
        let remedy = blocker.remedy.clone().map(|remedy| ("what to do", remedy));
        let place = blocker.database.clone().map(|database| ("in database", database));
        let object = blocker.object.clone().map(|object| ("object", object));
        let holder = blocker.held_by.as_ref().map(|holder| ("locked by", holder_text(holder)));
        let pairs = [Some(("held by", blocker.detail.clone())), place, object, holder, remedy];
        pairs.into_iter().flatten()
    })
}

/// Whoever holds a lock, as an operator looks for them.
fn holder_text(holder: &Holder) -> Shown {
    Shown::new(match (&holder.role, holder.pid) {
        (Some(role), Some(pid)) => format!("{role}, process {pid}"),
        (Some(role), None) => format!("{role}, in a prepared transaction"),
        (None, Some(pid)) => format!("process {pid}"),
        (None, None) => "a prepared transaction".to_owned(),
    })
}

/// How far a lease has come to its end.
enum Ending {
    /// It ends then, unless renewed.
    Ahead(Timestamp),
    /// It is being ended, and until the cluster has answered it can still be used.
    Begun,
    /// Since then nobody can log in with it, but something of it is left on the cluster.
    Closed(Timestamp),
    /// Since then it is gone.
    Gone(Timestamp),
}

fn ending(lease: &Lease) -> Ending {
    match (lease.gone_at, lease.access_ended_at, &lease.end) {
        (Some(at), _, _) => Ending::Gone(at),
        (None, Some(at), _) => Ending::Closed(at),
        (None, None, Some(_)) => Ending::Begun,
        (None, None, None) => Ending::Ahead(lease.expires_at),
    }
}

/// Moves the end of a lease.
pub(super) async fn renew(state: &StateDir, renew: &Renew, clock: &Clock) -> Result<Exit, Failure> {
    let answer = connect(state, clock).await?.renew(renew.lease, renew.ttl).await?;
    let now = clock.now();
    print(renew.output, &answer, |lease: &Lease| lease_text(lease, now))
}

/// Ends one lease, or those that an operator means.
pub(super) async fn revoke(
    state: &StateDir,
    revoke: &Revoke,
    clock: &Clock,
) -> Result<Exit, Failure> {
    let client = connect(state, clock).await?;
    match revoke.lease {
        Some(lease) => revoke_one(&client, revoke, lease, clock).await,
        None => revoke_selected(&client, revoke, clock).await,
    }
}

async fn revoke_one(
    client: &Client,
    revoke: &Revoke,
    lease: LeaseId,
    clock: &Clock,
) -> Result<Exit, Failure> {
    let answer = client.revoke(lease).await?;
    let now = clock.now();
    print(revoke.output, &answer, |lease: &Lease| {
        let mut text = lease_text(lease, now);
        match ending(lease) {
            Ending::Gone(_) => {}
            Ending::Closed(_) => text.push_str(TRIED_AGAIN),
            Ending::Begun | Ending::Ahead(_) => text.push_str(STILL_OPEN),
        }
        text
    })?;
    Ok(exit_of(&[answer.read()?]))
}

/// Looks first at what would end, and asks when that is more than one lease.
async fn revoke_selected(client: &Client, revoke: &Revoke, clock: &Clock) -> Result<Exit, Failure> {
    let selection = &revoke.selection;
    let mut which = Revocation {
        person: selection.person.as_deref(),
        cluster: selection.cluster.as_ref(),
        role: selection.role.as_ref(),
        role_name: selection.role_name.as_deref(),
        missing_from: selection.missing_from.as_ref(),
        dry_run: true,
    };
    let text = |list: &answers::Leases| {
        if list.leases.is_empty() {
            warn("no lease ends: none that is named like this is live");
        }
        listed(&list.leases, Whose::Everybody, clock.now())
    };
    if !revoke.yes {
        let rehearsed = client.revoke_selected(&which).await?;
        if revoke.dry_run {
            return print(revoke.output, &rehearsed, text);
        }
        let list: answers::Leases = rehearsed.read()?;
        if list.leases.len() > 1 && !is_confirmed(&list.leases)? {
            warn("nothing was ended");
            return Ok(Exit::Failed);
        }
    }
    which.dry_run = false;
    let answer = client.revoke_selected(&which).await?;
    print(revoke.output, &answer, text)?;
    let list: answers::Leases = answer.read()?;
    let exit = exit_of(&list.leases);
    if exit != Exit::Done {
        warn(
            "some can still be used: a cluster does not answer, and it is tried again until they are gone",
        );
    }
    Ok(exit)
}

fn is_confirmed(leases: &[Lease]) -> Result<bool, Failure> {
    let people: std::collections::BTreeSet<&Shown> =
        leases.iter().map(|lease| &lease.person).collect();
    let people = match (people.len(), people.first()) {
        (1, Some(person)) => person.to_string(),
        (count, _) => format!("{count} people"),
    };
    let question = format!("End {} leases of {people}? [y/N] ", leases.len());
    let answer = terminal::ask(&question);
    let answer = answer.map_err(|_| Failure::NeedsYes { leases: leases.len() })?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// Says that nothing is left of a lease.
pub(super) async fn declare_gone(
    state: &StateDir,
    declare: &DeclareGone,
    clock: &Clock,
) -> Result<Exit, Failure> {
    let answer = connect(state, clock).await?.declare_gone(declare.lease, &declare.reason).await?;
    let now = clock.now();
    print(declare.output, &answer, |lease: &Lease| lease_text(lease, now))
}

/// Failed as long as somebody could still log in.
fn exit_of(leases: &[Lease]) -> Exit {
    let is_open = |lease: &Lease| matches!(ending(lease), Ending::Begun | Ending::Ahead(_));
    if leases.iter().any(is_open) { Exit::Failed } else { Exit::Done }
}

const STILL_OPEN: &str =
    "it can still be used: the cluster does not answer, and it is tried again until it is gone\n";
const TRIED_AGAIN: &str = "nobody can log in with it any more; what is left of it is tried again\n";

fn lease_text(lease: &Lease, now: Timestamp) -> String {
    let ends = match ending(lease) {
        Ending::Gone(at) => ("gone", table::time(at, now)),
        Ending::Closed(at) => ("access ended", table::time(at, now)),
        Ending::Begun => ("ends", Shown::new("as soon as the cluster answers")),
        Ending::Ahead(at) => ("ends", table::time(at, now)),
    };
    let mut pairs = vec![("lease", Shown::new(lease.id)), ("state", lease.state.clone()), ends];
    pairs.extend(lease.end.clone().map(|why| ("why", why)));
    pairs.extend(held(lease));
    pairs.extend(tried_again(lease, now));
    table::pairs(&pairs)
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::super::args::{Cli, Command, PersonCommand, command};
    use super::*;
    use crate::lease::EndReason;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let matches = command().try_get_matches_from(line.split(' ')).unwrap();
        let Command::Person(PersonCommand::Leases(leases)) =
            Cli::from_arg_matches(&matches).unwrap().command
        else {
            panic!("not leases")
        };
        assert_eq!(path(&leases), expected);
    }

    #[test]
    fn what_is_asked_for_becomes_one_path_whatever_it_holds() {
        check("pgbridge leases", "v1/leases?state=active%2Crevoking%2Cquarantined");
        check("pgbridge leases --all", "v1/leases");
        check("pgbridge leases --state active,revoked", "v1/leases?state=active%2Crevoked");
        check("pgbridge leases --everyone --all", "v1/operator/leases");
        check(
            "pgbridge leases --everyone --all --person ldap:a&b=c#d/../e --role r+s --cluster c",
            "v1/operator/leases?person=ldap%3Aa%26b%3Dc%23d%2F..%2Fe&cluster=c&role=r%2Bs",
        );
    }

    #[test]
    fn what_keeps_a_lease_is_shown_with_its_place_its_object_and_who_holds_it() {
        let lease = serde_json::json!({
            "id": "abcdefghijklmnop", "state": "quarantined", "cluster": "orders",
            "database": "orders", "role": "orders_read", "role_name": "pgb_alice_abcdefghijklmnop",
            "person": "ldap:corp:alice", "requested_at": "2026-11-20T19:00:00Z",
            "expires_at": "2026-11-20T19:30:00Z", "ceiling": "2026-11-20T20:00:00Z",
            "access_ended_at": "2026-11-20T19:30:01Z", "end": "expired",
            "attempts": 7, "retry_at": "2026-11-20T20:02:00Z",
            "blockers": [
                {
                    "kind": "lock", "database": "archive", "object": "table sales.mine",
                    "held_by": { "pid": 4711, "role": "nightly" },
                    "detail": "a lock was not given in time", "remedy": "wait, or end process 4711",
                },
                { "kind": "lock", "held_by": { "role": "dba\u{1b}[31m" }, "detail": "a lock" },
                { "kind": "cluster", "detail": "it does not answer" },
            ],
        });
        let lease: Lease = serde_json::from_value(lease).unwrap();
        let now = "2026-11-20T20:00:00Z".parse().unwrap();
        insta::assert_snapshot!(listed(&[lease], Whose::Everybody, now), @r"
        LEASE             STATE        CLUSTER  DATABASE  ROLE         USER                        ENDS                                               PERSON           WHY
        abcdefghijklmnop  quarantined  orders   orders    orders_read  pgb_alice_abcdefghijklmnop  access ended 29m59s ago (2026-11-20 19:30:01 UTC)  ldap:corp:alice  expired

        lease        abcdefghijklmnop
        held by      a lock was not given in time
        in database  archive
        object       table sales.mine
        locked by    nightly, process 4711
        what to do   wait, or end process 4711
        held by      a lock
        locked by    dba\u{1b}[31m, in a prepared transaction
        held by      it does not answer
        tried again  in 2m (2026-11-20 20:02:00 UTC)
        ");
    }

    /// One lease of alice's that ends at eight, with what else is known of it.
    fn of_alice(more: serde_json::Value) -> Lease {
        let mut lease = serde_json::json!({
            "id": "abcdefghijklmnop", "state": "revoking", "cluster": "c", "database": "d",
            "role": "r", "role_name": "pgb_alice_abcdefghijklmnop",
            "requested_at": "2026-11-20T19:00:00Z", "expires_at": "2026-11-20T20:00:00Z",
            "ceiling": "2026-11-20T21:00:00Z",
        });
        let serde_json::Value::Object(more) = more else { panic!("no object: {more}") };
        lease.as_object_mut().unwrap().extend(more);
        serde_json::from_value(lease).unwrap()
    }

    #[test]
    fn how_a_lease_ended_and_why_stands_beside_it() {
        let (closed, gone) = ("2026-11-20T19:20:00Z", "2026-11-20T19:29:00Z");
        let leases = [
            of_alice(serde_json::json!({ "state": "active" })),
            of_alice(serde_json::json!({ "end": "operator" })),
            of_alice(serde_json::json!({ "end": "withdrawn", "access_ended_at": closed })),
            of_alice(serde_json::json!({
                "state": "revoked", "end": "released", "access_ended_at": closed, "gone_at": gone,
            })),
        ];
        let now = "2026-11-20T19:30:00Z".parse().unwrap();
        let ends = |lease: &Lease| {
            row(lease, Whose::Mine, now)[6..].iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ends(&leases[0]), ["in 30m (2026-11-20 20:00:00 UTC)", ""]);
        assert_eq!(ends(&leases[1]), ["can still be used", "operator"]);
        let ended = "access ended 10m ago (2026-11-20 19:20:00 UTC)";
        assert_eq!(ends(&leases[2]), [ended, "withdrawn"]);
        assert_eq!(ends(&leases[3]), ["gone 1m ago (2026-11-20 19:29:00 UTC)", "released"]);
        assert_eq!(exit_of(&leases[..2]), Exit::Failed);
        assert_eq!(exit_of(&leases[2..]), Exit::Done);
        let text = lease_text(&leases[1], now);
        assert!(
            text.contains("as soon as the cluster answers") && text.contains("operator"),
            "{text}"
        );
    }

    #[test]
    fn the_help_explains_every_word_for_why_a_lease_ended() {
        let mut command = command();
        let leases = command.find_subcommand_mut("leases").unwrap();
        let help = leases.render_long_help().to_string();
        for why in EndReason::ALL {
            assert!(help.contains(&format!("\n  {:<12} ", why.as_str())), "{why:?}: {help}");
        }
    }
}
