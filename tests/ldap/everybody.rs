//! Everybody whom a directory shows, or an error.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use pgbridge::auth::ldap::{Everybody, LdapSettings, LdapWay, SearchBounds, SearchError};
use pgbridge::names::Group;

use super::{
    GROUPS, ODD_GROUP, PEOPLE, READERS, WEIRD_NAME, WRITERS, by_prefix, clear, group_search,
    impatient, in_time, ldaps, port_of, starttls,
};
use crate::support::Directory;

const BOUNDS: SearchBounds = SearchBounds { people: 1000, time: Duration::from_secs(30) };

async fn everybody(settings: LdapSettings, bounds: SearchBounds) -> Result<Everybody, SearchError> {
    let now: Timestamp = "2026-11-20T20:00:00Z".parse().unwrap();
    in_time(LdapWay::new(settings).unwrap().everybody(now, bounds)).await
}

fn groups_of<'a>(all: &'a Everybody, account: &str) -> Vec<&'a str> {
    let found = all.people.iter().find(|(name, _)| name == account);
    let (_, groups) = found.unwrap_or_else(|| panic!("no {account} in {all:?}"));
    groups.iter().map(Group::as_str).collect()
}

#[tokio::test]
async fn everybody_who_could_log_in_is_shown_with_their_groups_and_nobody_else() {
    let directory = Directory::start();
    let by_filter = || LdapSettings { groups: group_search("(member=$dn)"), ..clear(&directory) };
    for settings in [clear(&directory), starttls(&directory), ldaps(&directory), by_filter()] {
        let all = everybody(settings, BOUNDS).await.unwrap();
        let mut names: Vec<&str> = all.people.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["alice", "bob", "carol", "erin", "frank", "jürgen", WEIRD_NAME]);
        assert_eq!(groups_of(&all, "alice"), [READERS]);
        assert_eq!(groups_of(&all, "bob"), [READERS, WRITERS]);
        assert_eq!(groups_of(&all, WEIRD_NAME), [ODD_GROUP]);
        let left_out: Vec<_> = all.left_out.into_iter().collect();
        assert_eq!(left_out, [("locked", 1), ("several_entries", 2)]);
    }
    // Nobody bound as them for it.
    assert!(!directory.log().contains("BIND dn=\"uid="), "{}", directory.log());
}

#[tokio::test]
async fn more_people_than_fit_on_a_page_are_all_shown_and_more_than_the_bound_are_an_error() {
    let directory =
        Directory::start_with("sizelimit size.soft=500 size.hard=500 size.prtotal=unlimited");
    add_people(&directory, 1100);
    let wide = SearchBounds { people: 1110, ..BOUNDS };
    let all = everybody(clear(&directory), wide).await.unwrap();
    assert_eq!(all.people.len(), 1107);
    assert!(all.people.iter().any(|(name, _)| name == "u1099"));
    // The locked one and the twins are entries too: there are 1,110.
    let narrow = SearchBounds { people: 1109, ..BOUNDS };
    let refused = everybody(clear(&directory), narrow).await.unwrap_err();
    assert!(matches!(refused, SearchError::TooMany(1109)), "{refused}");
}

fn add_people(directory: &Directory, count: usize) {
    let mut many = String::new();
    for number in 0..count {
        let _ = write!(
            many,
            "dn: uid=u{number},{PEOPLE}\nchangetype: add\nobjectClass: inetOrgPerson\n\
             uid: u{number}\ncn: u\nsn: u\n\n"
        );
    }
    directory.change(&many);
}

/// As OpenLDAP is installed it shows 500 entries; the README says which lines lift that for the
/// service account alone.
#[tokio::test]
async fn openldap_shows_all_to_the_service_account_once_its_limits_are_lifted() {
    let asked = |limits: &'static str| async move {
        let directory = Directory::start_with_database(limits);
        add_people(&directory, 600);
        everybody(clear(&directory), BOUNDS).await.map(|all| all.people.len())
    };
    let refused = asked("").await.unwrap_err();
    assert!(matches!(refused, SearchError::Limited { .. }), "{refused}");
    for limits in [
        "limits dn.exact=\"cn=pgbridge,ou=services,dc=example,dc=test\" size.prtotal=unlimited",
        "limits dn.exact=\"cn=pgbridge,ou=services,dc=example,dc=test\" size=unlimited",
    ] {
        assert_eq!(asked(limits).await.ok(), Some(607), "{limits}");
    }
}

#[tokio::test]
async fn a_directory_that_does_not_show_all_is_an_error_and_no_shorter_list() {
    let word = |refused: SearchError| match refused {
        SearchError::OnlyBinds => "only_binds".to_owned(),
        SearchError::TooMany(_) => "too_many".to_owned(),
        SearchError::Limited { .. } => "limited".to_owned(),
        SearchError::Directory(refusal) => refusal.kind().to_owned(),
    };
    let limited = Directory::start_with("sizelimit size.soft=5 size.hard=5 size.prtotal=5");
    let refused = everybody(clear(&limited), BOUNDS).await.unwrap_err();
    assert_eq!(word(refused), "limited");

    let mut directory = Directory::start();
    assert!(everybody(impatient(port_of(&directory.ldap_url())), BOUNDS).await.is_ok());
    let only_binds = LdapSettings { bind: by_prefix(), ..clear(&directory) };
    assert_eq!(word(everybody(only_binds, BOUNDS).await.unwrap_err()), "only_binds");
    let mut groups_nowhere = group_search("(member=$dn)");
    if let Some(search) = &mut groups_nowhere.search {
        search.base_dn = GROUPS.replace("ou=groups", "ou=nowhere");
    }
    let groups_nowhere = LdapSettings { groups: groups_nowhere, ..clear(&directory) };
    let refused = everybody(groups_nowhere, BOUNDS).await.unwrap_err();
    assert_eq!(word(refused), "unreadable_groups");
    directory.hang();
    let hung = || impatient(port_of(&directory.ldap_url()));
    // It may go on for a moment after it was told to stop.
    let refused = loop {
        if let Err(refused) = everybody(hung(), BOUNDS).await {
            break refused;
        }
    };
    assert_eq!(word(refused), "directory_timeout");
    directory.resume();
    directory.stop();
    let refused = everybody(clear(&directory), BOUNDS).await.unwrap_err();
    assert_eq!(word(refused), "directory_unreachable");
}
