//! What a new lease role is, and what is never made.

use std::time::Duration;

use pgbridge::cluster::{ClusterError, CreateError, CreateRefusal};
use pgbridge::names::identifier;

use super::{Held, MAJORS, Site, WITHIN, hour, lease, open, profile, settings};
use crate::support::{Postgres, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_role_logs_in_with_the_rights_of_its_group_and_no_other() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;

        let rows = site.use_it(&held, "orders", "SELECT count(*) FROM sales.customer").unwrap();
        assert_eq!(rows, [["3"]]);
        let write = site.use_it(&held, "orders", "DELETE FROM sales.purchase").unwrap_err();
        assert!(write.contains("permission denied"), "{write}");
        let elsewhere = site.use_it(&held, "reports", "SELECT 1").unwrap_err();
        assert!(elsewhere.contains("permission denied for database"), "{elsewhere}");
        let wrong = site.postgres.sql_as(held.name(), "wrong", "orders", "SELECT 1").unwrap_err();
        assert!(wrong.contains("password authentication failed"), "{wrong}");

        let become_group = site.use_it(&held, "orders", "SET ROLE orders_read");
        // Before 16 a membership cannot be had without the right to SET ROLE.
        assert_eq!(become_group.is_err(), major >= 16, "{become_group:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_shows_a_marked_role_with_an_end_a_limit_and_no_attribute() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let oid = held.created.role_oid;
        let attributes = site.see(&format!(
            "SELECT concat_ws(',', rolcanlogin, rolinherit, rolsuper, rolcreatedb, rolcreaterole,
                 rolreplication, rolbypassrls, rolconnlimit, rolpassword ~ '^SCRAM-SHA-256.4096:')
             FROM pg_authid WHERE oid = {oid} AND rolname = '{}'",
            held.name()
        ));
        assert_eq!(attributes, "t,t,f,f,f,f,f,10,t");

        let until = site.see(&format!(
            "SELECT rolvaliduntil = '{}' AND rolvaliduntil BETWEEN now() + interval '59 minutes'
                 AND now() + interval '1 hour' FROM pg_roles WHERE oid = {oid}",
            held.created.valid_until
        ));
        assert_eq!(until, "t");
        let comment = site.see(&format!("SELECT shobj_description({oid}, 'pg_authid')"));
        let id = held.lease.id;
        assert!(
            comment.starts_with(&format!("pgbridge v1 broker=b1 lease={id} mac=")),
            "{comment}"
        );
        assert_eq!(site.cluster.find(&held.lease).await.unwrap(), Some(oid));

        let options = if major >= 16 { ", inherit_option, set_option" } else { "" };
        let groups = site.see(&format!(
            "SELECT concat_ws(',', roleid::regrole, admin_option {options})
             FROM pg_auth_members WHERE member = {oid}"
        ));
        assert_eq!(groups, if major >= 16 { "orders_read,f,t,f" } else { "orders_read,f" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_profile_hold_in_its_sessions() {
    for major in MAJORS {
        let site = Site::start(major);
        let mut profile = profile("orders_read");
        profile.connection_limit = 3.try_into().unwrap();
        profile.settings = [("statement_timeout", "5min"), ("search_path", "\"$user\", sales")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let held = site.issue(lease("orders_read"), &profile, WITHIN).await.unwrap();
        let shown = site.use_it(&held, "orders", "SELECT count(*) FROM customer").unwrap();
        assert_eq!(shown, [["3"]]);
        let shown = site.use_it(&held, "orders", "SHOW statement_timeout").unwrap();
        assert_eq!(shown, [["5min"]]);

        profile.settings = vec![("log_statement".into(), "none".into())];
        let error = site.issue(lease("orders_read"), &profile, WITHIN).await.err().unwrap();
        let CreateError::Failed { source: ClusterError::Rejected { source, .. }, .. } = error
        else {
            panic!("{error:?}")
        };
        assert!(source.text.contains("permission denied to set parameter"), "{source}");
    }
}

#[track_caller]
fn refusal(answer: Result<Held, CreateError>) -> CreateRefusal {
    match answer.err() {
        Some(CreateError::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_becomes_too_powerful_is_soon_lent_no_more_and_at_once_when_it_is_mended() {
    let site = Site::start(16);
    site.group("ordinary");
    site.hold("ordinary").await;
    site.dba("ALTER ROLE ordinary BYPASSRLS");
    let refused = async {
        loop {
            match site.try_hold("ordinary").await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break refusal(Err(error)),
            }
        }
    };
    let refused = tokio::time::timeout(SOON, refused).await.unwrap();
    assert!(matches!(refused, CreateRefusal::TooPowerful(_)), "{refused:?}");
    site.dba("ALTER ROLE ordinary NOBYPASSRLS");
    site.hold("ordinary").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_rules_the_cluster_or_the_broker_is_never_lent() {
    for major in MAJORS {
        let site = Site::start(major);
        let mut made = Vec::new();
        for (at, (attributes, reaches, because)) in [
            ("SUPERUSER", "", "is a superuser"),
            ("CREATEROLE", "", "CREATEROLE"),
            ("REPLICATION", "", "REPLICATION"),
            ("BYPASSRLS", "", "BYPASSRLS"),
            ("", "pg_execute_server_program", "pg_execute_server_program"),
            ("", "pg_write_server_files", "pg_write_server_files"),
            ("", "pg_read_server_files", "pg_read_server_files"),
            ("", "postgres", "postgres is a superuser"),
            ("", "pgbridge", "pgbridge is the broker's own login, pgbridge_admin is"),
            ("", "pgbridge_admin", "pgbridge_admin is the brokers' group"),
            ("", "pgbridge_attic", "pgbridge_attic is the attic"),
        ]
        .into_iter()
        .enumerate()
        {
            let group = format!("too_powerful_{at}");
            site.dba(&format!("CREATE ROLE {group} NOLOGIN {attributes}"));
            // By way of another role, so that the whole way is looked at.
            if !reaches.is_empty() {
                site.dba(&format!(
                    "CREATE ROLE {group}_way; GRANT {reaches} TO {group}_way;
                     GRANT {group}_way TO {group}"
                ));
            }
            if reaches != "pgbridge" && reaches != "pgbridge_admin" {
                site.let_broker_hand_on(&group);
            }
            made.push((group, because));
        }
        for (group, because) in made {
            match refusal(site.try_hold(&group).await) {
                CreateRefusal::TooPowerful(text) => assert!(text.contains(because), "{text}"),
                other => panic!("{group}: {other:?}"),
            }
        }
        assert_eq!(site.cluster.lease_roles().await.unwrap(), []);

        let other = site.hold("orders_read").await;
        let through = refusal(site.try_hold(other.name()).await);
        assert!(through.to_string().contains("is a lease role"), "{through}");
        site.group("ordinary");
        site.hold("ordinary").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_does_not_exist_is_refused_and_one_with_a_hostile_name_is_lent() {
    for major in MAJORS {
        let site = Site::start(major);
        assert_eq!(refusal(site.try_hold("nobody").await), CreateRefusal::NoSuchRole);
        for group in
            ["\"; DROP ROLE orders_read; --", "two\nlines", "it's", "CURRENT_USER", "back\\"]
        {
            site.group(&identifier(group));
            let held = site.hold(group).await;
            let groups = site.postgres.sql(
                "postgres",
                &format!(
                    "SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                     WHERE m.member = {}",
                    held.created.role_oid
                ),
            );
            assert_eq!(groups, [[group]]);
        }
        assert_eq!(site.see("SELECT count(*) FROM pg_roles WHERE rolname = 'orders_read'"), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_itself_refuses_a_role_that_comes_too_late() {
    for major in MAJORS {
        let site = Site::start(major);
        site.hold("orders_read").await;
        // Another session holds the name, so the second message waits past its deadline.
        let late = lease("orders_read");
        let name = late.role_name.clone();
        let holder = site.hold_open(&format!("CREATE ROLE {}", name.quoted()));
        let within = Duration::from_secs(3);
        let profile = profile("orders_read");
        let (answer, ()) = tokio::join!(site.issue(late, &profile, within), async {
            site.broker_is_waiting().await;
            site.dba("SELECT pg_sleep(3)");
            drop(holder);
        });
        assert_eq!(refusal(answer), CreateRefusal::TooLate);
        let made = site.see(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'"));
        assert_eq!(made, "0");

        let none = site.issue(lease("orders_read"), &profile, Duration::ZERO).await;
        assert_eq!(refusal(none), CreateRefusal::TooLate);
        site.hold("orders_read").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_moved_and_never_for_a_role_whose_access_has_ended() {
    for major in MAJORS {
        let site = Site::start(major);
        let held = site.hold("orders_read").await;
        let until = site.cluster.extend(&held.lease, "2h".parse().unwrap()).await.unwrap();
        let left = format!(
            "SELECT rolvaliduntil = '{until}' AND rolvaliduntil > now() + interval '119 minutes'
             FROM pg_roles WHERE oid = {}",
            held.created.role_oid
        );
        assert_eq!(site.see(&left), "t");
        site.use_it(&held, "orders", "SELECT 1").unwrap();

        site.cluster.end_access(&held.target()).await.unwrap();
        let ended = site.cluster.extend(&held.lease, hour()).await.unwrap_err();
        assert!(matches!(ended, ClusterError::AccessEnded { .. }), "{ended:?}");
        let until =
            format!("SELECT rolvaliduntil FROM pg_roles WHERE oid = {}", held.created.role_oid);
        assert_eq!(site.see(&until), "-infinity");
        let missing = site.cluster.extend(&lease("orders_read"), hour()).await.unwrap_err();
        assert!(matches!(missing, ClusterError::RoleMissing { .. }), "{missing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_reaches_the_server_and_no_error_repeats_a_verifier() {
    for major in MAJORS {
        let site = Site::start(major);
        site.postgres.set("log_statement", "all");
        site.postgres.set("log_min_error_statement", "debug1");
        let held = site.hold("orders_read").await;
        let seen = [
            site.postgres.log(),
            site.see("SELECT string_agg(query, ' ') FROM pg_stat_statements"),
            site.see("SELECT string_agg(query, ' ') FROM pg_stat_activity"),
        ];
        assert!(seen[0].contains("CREATE ROLE"), "the log shows nothing");
        assert!(seen.iter().all(|text| !text.contains(held.password.expose())));

        let again = held.lease.clone();
        let error = site.issue(again, &profile("orders_read"), WITHIN).await.err().unwrap();
        let shown = format!("{error:?} {error}");
        assert!(shown.contains("already exists"), "{shown}");
        assert!(!shown.contains("SCRAM") && !shown.contains("CREATE ROLE"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_made_without_brokers_group_and_by_a_login_with_its_own_settings() {
    for major in MAJORS {
        let postgres = Postgres::start(major);
        for setting in [
            "statement_timeout = 1",
            "default_transaction_read_only = on",
            "search_path = sales",
            "\"DateStyle\" = 'SQL, DMY'",
            "\"TimeZone\" = 'Asia/Tokyo'",
        ] {
            postgres.sql("postgres", &format!("ALTER ROLE pgbridge SET {setting}"));
        }
        let mut settings = settings(&postgres);
        settings.admin_role = None;
        let cluster = open(settings, "b1", '7');
        let site = Site { major, postgres, cluster };
        let held = site.hold("orders_read").await;
        site.use_it(&held, "orders", "SELECT 1").unwrap();
        let until = site.cluster.extend(&held.lease, hour()).await.unwrap();
        let as_told = format!(
            "SELECT rolvaliduntil = '{until}' FROM pg_roles WHERE oid = {}",
            held.created.role_oid
        );
        assert_eq!(site.see(&as_told), "t");
    }
}

/// Until 14 a role can make others its members: so a holder cannot stop what others are lent.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_role_that_gives_itself_to_groups_stops_nobody_and_is_taken_back() {
    for major in [13, 14] {
        let site = Site::start(major);
        site.dba("CREATE ROLE eve LOGIN PASSWORD 'eve'");
        site.postgres.sql("orders", "GRANT CONNECT ON DATABASE orders TO eve");
        let held = site.hold("orders_read").await;
        let (role, oid) = (held.name(), held.created.role_oid);
        let give = format!(
            "GRANT {role} TO orders_write, reports_read; GRANT {role} TO eve WITH ADMIN OPTION"
        );
        let members = format!("SELECT count(*) FROM pg_auth_members WHERE roleid = {oid}");
        site.use_it(&held, "orders", &give).unwrap();
        site.hold("orders_write").await;
        assert_eq!(site.see(&members), "0");
        // Nor through somebody else whom it made its member.
        site.use_it(&held, "orders", &give).unwrap();
        let on = format!("REVOKE {role} FROM reports_read; GRANT {role} TO reports_read");
        site.postgres.sql_as("eve", "eve", "orders", &on).unwrap();
        site.hold("reports_read").await;
        assert_eq!(site.see(&members), "0");
        // The lease goes on, and what a DBA gives away is looked at as ever.
        site.use_it(&held, "orders", "SELECT count(*) FROM sales.customer").unwrap();
        site.group("ordinary");
        site.dba(&format!("GRANT {role} TO ordinary"));
        let through = refusal(site.try_hold("ordinary").await);
        assert!(through.to_string().contains("is a lease role"), "{through}");
    }
}
