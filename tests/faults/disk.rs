//! The disk of the store is full, fails, or somebody else holds the store.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use reqwest::Method;
use serde_json::json;

use super::{SOON, assert_refused, bed, held, held_in_the_end, is_in_state, issue, revoke};
use crate::support::{Caller, TestBed, am_root, password_of, until, wait_for};

/// Moves the store of `bed` to a file system of its own, of two megabytes, that only the broker
/// sees; gives the way there.
fn on_a_small_disk(bed: &mut TestBed) -> PathBuf {
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
    let around = ["unshare", "--mount", "sh", "-c", &mount, "sh"].map(str::to_owned);
    bed.start_again_within(&around, &[]);
    let root = PathBuf::from(format!("/proc/{}/root", bed.pid()));
    root.join(disk.strip_prefix("/").expect("it is absolute"))
}

/// Takes all room on `disk` until it is dropped.
struct Filler(PathBuf);

impl Filler {
    fn fill(disk: &std::path::Path) -> Self {
        let path = disk.join("filler");
        let mut file = File::create(&path).expect("there is room for a name");
        for size in [65_536, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// F-13.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_handed_out_and_access_ends_all_the_same() {
    if !am_root() {
        return;
    }
    let mut bed = bed(16);
    let disk = on_a_small_disk(&mut bed);
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
    is_in_state(&bed, &token, &short, "revoked").await;
    assert_eq!(revoke(&bed, &token, &asked).await.status, 200);
    let [_, after, _] = held_in_the_end(&bed, &token, "1h").await;
    let live = bed.live_roles(&token).await.expect("the store works");
    assert!(live.contains(&long) && live.contains(&after), "{live:?}");
    // The rest are those that were issued while the disk filled up.
    let live: Vec<&str> = live.iter().map(String::as_str).collect();
    bed.in_order(&token, &live).await;
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
        let is_over = super::lease(&bed, &token, &id).await.text("/state") != "active";
        if let Ok(answer) = ended
            && answer.status == 200
        {
            assert!(is_over, "{when}");
        }
        if !is_over {
            roles.push(role);
        }
        // An answer may be lost whose lease was issued: then it lives until its time is over.
        let live = until("nothing to be on its way", async || {
            let path = "/v1/leases?state=intent,revoking,quarantined";
            let way = bed.call(Method::GET, path, Caller::Session(&token), None).await;
            let none = way.json()["leases"].as_array().is_some_and(Vec::is_empty);
            if none { bed.live_roles(&token).await } else { None }
        })
        .await;
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
    let [_, short, _] = held(&bed, &token, "2s").await;
    let other = rusqlite::Connection::open(bed.file("pgbridge.db")).expect("the file is there");
    other.execute_batch("PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE").expect("nobody writes");
    let (issued, ended) = tokio::join!(issue(&bed, &token, "1h"), revoke(&bed, &token, &id));
    for answer in [&issued, &ended] {
        assert!(answer.status >= 500, "{answer:?}");
        assert_refused(answer);
    }
    // Reading goes on, and access ends when its time is over.
    assert_eq!(super::lease(&bed, &token, &id).await.status, 200);
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
