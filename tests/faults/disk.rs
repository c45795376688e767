//! The disk of the store is full, fails, or somebody else holds the store.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::json;

use super::{SOON, assert_refused, bed, held, held_in_the_end, is_in_state, issue, lease, revoke};
use crate::support::scratch::is_root;
use crate::support::{
    Caller, TestBed, am_root, locked_roles, password_of, until, wait_for, waiting,
};

/// What gives a process file systems of its own: root may, and others if the kernel lets them be
/// root in a world of their own. Nothing, and a word about it, when this kernel does not.
fn own_disks() -> Option<&'static [&'static str]> {
    let options: &[&str] =
        if is_root() { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let mount = "mount -t tmpfs tmpfs /mnt";
    let tried = Command::new("unshare").args(options).args(["sh", "-c", mount]).output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("not run: the kernel gives nobody but root a file system of their own");
    }
    may.then_some(options)
}

/// A broker with its store on a file system of its own, of two megabytes, that only the broker sees;
/// and the way there. Nothing where that cannot be.
fn on_a_small_disk(major: u32) -> Option<(TestBed, PathBuf)> {
    let options = own_disks()?;
    let mut bed = bed(major);
    bed.stop();
    let disk = bed.file("disk");
    fs::create_dir(&disk).expect("a directory can be made");
    let config = bed.file("pgbridge.toml");
    let text = fs::read_to_string(&config).expect("it was written");
    let text = text.replace("path = \"pgbridge.db\"", "path = \"disk/pgbridge.db\"");
    fs::write(&config, text).expect("it can be changed");
    // The store begins anew; the key of the marks stays.
    let mount =
        format!("mount -t tmpfs -o size=2m,mode=700 tmpfs {} && exec \"$@\"", disk.display());
    let around = [&["unshare"], options, &["sh", "-c", &mount, "sh"]].concat();
    let around: Vec<String> = around.into_iter().map(str::to_owned).collect();
    bed.start_again_within(&around, &[]);
    let root = PathBuf::from(format!("/proc/{}/root", bed.pid()));
    let seen = root.join(disk.strip_prefix("/").expect("it is absolute"));
    let pid = bed.pid().to_string();
    let user: &[&str] = if is_root() { &[] } else { &["--user", "--preserve-credentials"] };
    let enter = [&["nsenter", "--mount", "--target", pid.as_str()], user].concat();
    bed.see_by(enter.into_iter().map(str::to_owned).collect());
    Some((bed, seen))
}

/// Takes all room on `disk` until it is dropped.
struct Filler(PathBuf);

impl Filler {
    fn fill(disk: &Path) -> Self {
        let path = disk.join("filler");
        let mut file = File::create(&path).expect("there is room for a name");
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Self(path)
    }
}

/// Fills the disk once the broker waits for the lock, and lets go of that.
async fn filled_while_it_waits(bed: &TestBed, lock: tokio_postgres::Client, disk: &Path) -> Filler {
    waiting(bed).await;
    let filler = Filler::fill(disk);
    lock.batch_execute("ROLLBACK").await.expect("it holds the lock");
    filler
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// F-13.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_handed_out_and_access_ends_all_the_same() {
    let Some((bed, disk)) = on_a_small_disk(16) else { return };
    let token = bed.login("alice").await;
    let [_, long, _] = held(&bed, &token, "1h").await;
    let [asked, asked_role, _] = held(&bed, &token, "1h").await;
    let [short, role, password] = held(&bed, &token, "3s").await;

    let filler = Filler::fill(&disk);
    // What is on its way to the disk may still find a page: so it is asked until it is refused.
    let refused = until("a full disk", async || {
        let answer = issue(&bed, &token, "1h").await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    assert_refused(&refused);
    let login = json!({ "username": "alice", "password": password_of("alice") });
    let login = bed.call(Method::POST, "/v1/login", Caller::Nobody, Some(login)).await;
    assert!(login.status >= 500, "{login:?}");
    assert!(login.json().get("token").is_none(), "{login:?}");
    // Ended by its time, and ended by its holder: neither can be written down.
    wait_for("the end of access", SOON, || (!bed.has_access(&role)).then_some(()));
    assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_err());
    let ended = revoke(&bed, &token, &asked).await;
    assert!(ended.status >= 500, "{ended:?}");
    assert!(!bed.has_access(&asked_role));
    assert!(bed.has_access(&long));

    drop(filler);
    // What was asked for is written down once there is room, without being asked for again.
    is_in_state(&bed, &token, &short, "revoked").await;
    is_in_state(&bed, &token, &asked, "revoked").await;
    assert_eq!(lease(&bed, &token, &asked).await.text("/end"), "released");
    let [_, after, _] = held_in_the_end(&bed, &token, "1h").await;
    let live = bed.live_roles(&token).await.expect("the store works");
    assert!(live.contains(&long) && live.contains(&after), "{live:?}");
    // The rest are those that were issued while the disk filled up.
    let live: Vec<&str> = live.iter().map(String::as_str).collect();
    bed.in_order(&token, &live).await;
}

/// F-13: the disk fills up between the intent and the move to active.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_fills_up_while_a_role_is_made_nobody_gets_its_password_and_it_goes() {
    let Some((bed, disk)) = on_a_small_disk(15) else { return };
    let token = bed.login("alice").await;
    let [_, kept, _] = held(&bed, &token, "1h").await;
    let lock = locked_roles(&bed).await;
    let filled = filled_while_it_waits(&bed, lock, &disk);
    let (answer, filler) = tokio::join!(issue(&bed, &token, "1h"), filled);
    assert_refused(&answer);
    assert!(answer.status >= 500, "{answer:?}");
    drop(filler);
    bed.in_order(&token, &[&kept]).await;
    let records = bed.records();
    let requested = records.iter().rfind(|record| record["action"] == "lease.requested");
    let id = requested.and_then(|record| record["lease"].as_str()).expect("an intent").to_owned();
    assert_eq!((bed.told("lease.issued", &id), bed.told("lease.revoked", &id)), (0, 1));
    assert_eq!(lease(&bed, &token, &id).await.text("/end"), "undelivered");
}

/// F-13: the disk fills up after the end was asked for, and before anything of it has happened.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_fills_up_while_a_lease_ends_its_access_ends_and_the_rest_is_written_later()
{
    let Some((bed, disk)) = on_a_small_disk(16) else { return };
    let token = bed.login("alice").await;
    let [id, role, password] = held(&bed, &token, "1h").await;
    let [_, kept, _] = held(&bed, &token, "1h").await;
    let lock = locked_roles(&bed).await;
    let filled = filled_while_it_waits(&bed, lock, &disk);
    let (answer, filler) = tokio::join!(revoke(&bed, &token, &id), filled);
    // That it must end was written in time.
    assert_eq!((answer.status, answer.text("/state")), (202, "revoking".to_owned()), "{answer:?}");
    wait_for("the end of access", SOON, || (!bed.has_access(&role)).then_some(()));
    assert!(bed.postgres.sql_as(&role, &password, "orders", "SELECT 1").is_err());
    assert_eq!(lease(&bed, &token, &id).await.text("/state"), "revoking");
    drop(filler);
    is_in_state(&bed, &token, &id, "revoked").await;
    bed.in_order(&token, &[&kept]).await;
    assert_eq!((bed.told("lease.access_ended", &id), bed.told("lease.revoked", &id)), (1, 1));
}

/// F-13: an operator ends what they must end, and the disk has no room for a word about it.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_what_an_operator_ends_has_no_access_and_is_written_down_later() {
    let Some((bed, disk)) = on_a_small_disk(15) else { return };
    let operator = bed.login("carol").await;
    for selection in [json!({ "cluster": "orders" }), json!({ "person": "ldap:corp:alice" })] {
        let token = bed.login("alice").await;
        let [first, first_role, _] = held(&bed, &token, "1h").await;
        let [_, second_role, _] = held(&bed, &token, "1h").await;
        let filler = Filler::fill(&disk);
        let caller = Caller::Session(&operator);
        let told = Some(selection.clone());
        let ended = bed.call(Method::POST, "/v1/operator/revoke", caller, told).await;
        assert!(ended.status >= 500, "{selection}: {ended:?}");
        for role in [&first_role, &second_role] {
            assert!(!bed.has_access(role), "{selection}");
        }
        // The store says what it knows: nothing has moved there.
        assert_eq!(lease(&bed, &token, &first).await.text("/state"), "active");
        drop(filler);
        // Written once there is room, without being asked for again: leases, and logins.
        wait_for("the end of the roles", SOON, || bed.lease_roles().is_empty().then_some(()));
        until("the last record", async || (bed.told("lease.revoked", &first) == 1).then_some(()))
            .await;
        let ends = bed.records().into_iter().filter(|record| {
            record["action"] == "lease.revoke_requested"
                && record["lease"] == first
                && record["subject"]["principal"]["account"] == "carol"
        });
        assert_eq!(ends.count(), 1, "{selection}");
        let whoami = bed.call(Method::GET, "/v1/whoami", Caller::Session(&token), None).await;
        let is_in = if selection["person"].is_null() { 200 } else { 401 };
        assert_eq!(whoami.status, is_in, "{selection}");
    }
}

/// Lets calls of the disk fail in a process that runs already; not any more once it is dropped.
struct FailingDisk(Child);

impl FailingDisk {
    fn of(pid: u32, when: u32) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e"]);
        strace.arg(format!("inject=fdatasync,fsync:error=EIO:when={when}+"));
        let child = strace.arg("-p").arg(pid.to_string()).stderr(Stdio::null()).spawn();
        let child = child.expect("strace is installed");
        wait_for("strace to hold every thread", SOON, || {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
            let held = |entry: std::io::Result<fs::DirEntry>| {
                let status = entry.map(|entry| fs::read_to_string(entry.path().join("status")));
                let status = status.and_then(|status| status).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            };
            threads.into_iter().all(held).then_some(())
        });
        Self(child)
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // It lets go of what it holds when it is asked to end.
        let end = format!("kill -TERM {}", self.0.id());
        let _ = Command::new("sh").args(["-c", &end]).status();
        let _ = self.0.wait();
    }
}

/// F-14.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_to_sync_stops_the_broker_and_the_next_start_mends() {
    if !am_root() {
        return;
    }
    let mut bed = bed(16);
    let token = bed.login("alice").await;
    // The intent, the issue, and what comes after.
    for when in 1..=3 {
        let [id, role, _] = held(&bed, &token, "1h").await;
        let failing = FailingDisk::of(bed.pid(), when);
        let wish = Some(super::wish("1h"));
        let issued = bed.try_call(Method::POST, "/v1/leases", Caller::Session(&token), wish).await;
        let path = format!("/v1/leases/{id}");
        let ended = bed.try_call(Method::DELETE, &path, Caller::Session(&token), None).await;
        if when == 1 {
            let refused = issued.as_ref().map_or(true, |answer| answer.status >= 500);
            assert!(refused, "{issued:?}");
        }
        bed.wait_for_its_end();
        assert!(bed.log().contains("the store's disk failed"), "{}", bed.log());
        drop(failing);
        bed.start_again();
        // Whoever got a password has a lease; whoever was told of an end has none.
        let mut roles = Vec::new();
        if let Ok(answer) = issued
            && answer.status == 201
        {
            roles.push(answer.text("/lease/role_name"));
        }
        let is_over = lease(&bed, &token, &id).await.text("/state") != "active";
        if let Ok(answer) = ended
            && answer.status == 200
        {
            assert!(is_over, "{when}");
        }
        if !is_over {
            roles.push(role);
        }
        // An answer may be lost whose lease was issued: then it lives until its time is over.
        let live = bed.roles_at_rest(&token).await;
        assert!(roles.iter().all(|role| live.contains(role)), "{when}: {roles:?} {live:?}");
        let live: Vec<&str> = live.iter().map(String::as_str).collect();
        bed.in_order(&token, &live).await;
        let leases =
            bed.call(Method::GET, "/v1/leases?state=active", Caller::Session(&token), None);
        for lease in leases.await.json()["leases"].as_array().expect("a list") {
            let id = lease["id"].as_str().expect("an id");
            assert_eq!(revoke(&bed, &token, id).await.status, 200);
            assert_eq!(bed.told("lease.issued", id), 1);
            assert_eq!(bed.told("lease.revoked", id), 1);
        }
        bed.in_order(&token, &[]).await;
    }
}

/// F-15.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_another_process_holds_gives_an_error_and_nothing_half_done() {
    let bed = bed(15);
    let token = bed.login("alice").await;
    let [id, role, _] = held(&bed, &token, "1h").await;
    let [_, short, _] = held(&bed, &token, "4s").await;
    let other = rusqlite::Connection::open(bed.file("pgbridge.db")).expect("the file is there");
    other.execute_batch("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE").expect("nobody writes");
    let (issued, ended) = tokio::join!(issue(&bed, &token, "1h"), revoke(&bed, &token, &id));
    for answer in [&issued, &ended] {
        assert!(answer.status >= 500, "{answer:?}");
        assert_refused(answer);
    }
    // Reading goes on, and access ends when its time is over.
    assert_eq!(lease(&bed, &token, &id).await.status, 200);
    wait_for("the end of access", SOON, || (!bed.has_access(&short)).then_some(()));
    other.execute_batch("ROLLBACK").expect("it holds the store");
    drop(other);
    let again = revoke(&bed, &token, &id).await;
    assert_eq!(again.status, 200, "{again:?}");
    let [_, after, _] = held_in_the_end(&bed, &token, "1h").await;
    assert!(!bed.lease_roles().contains(&role));
    bed.in_order(&token, &[&after]).await;
    assert_eq!(bed.told("lease.revoked", &id), 1);
}
