//! What was answered is there after a kill, and when the disk fails, nobody is answered that it works.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{beside, place, refused};
use crate::causes::with_causes;
use crate::lease::Lease;
use crate::store::conformance::{audit, intent, opened, record};
use crate::store::sqlite::SqliteStore;
use crate::store::{Change, LeaseFilter, Store};

/// Runs one of the tests below as a process of its own, on the store at `path`.
fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_child(&mut command, test, path);
    command
}

fn as_child(command: &mut Command, test: &str, path: &Path) {
    let name = format!("store::sqlite::tests::survival::{test}");
    command.args(["--exact", &name, "--nocapture", "--test-threads=1"]);
    command.env(CHILD, path).stdout(Stdio::piped()).stderr(Stdio::inherit());
}

const CHILD: &str = "PGBRIDGE_TEST_STORE";

/// Tells the parent. `println!` would be caught by the test harness.
fn say(what: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "\n> {what}").unwrap();
    stdout.flush().unwrap();
}

/// What the child has said, line by line.
fn said(lines: impl BufRead) -> impl Iterator<Item = String> {
    lines.lines().map_while(Result::ok).filter_map(|line| Some(line.strip_prefix("> ")?.to_owned()))
}

/// The child of the next test.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = SqliteStore::open(Path::new(&path)).unwrap();
    loop {
        let lease = intent("alice");
        opened(&store, &lease).await;
        say(&lease.id.to_string());
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let (_directory, path) = place();
    for round in 0..3 {
        let mut writer = child("child_writes_until_it_is_killed", &path).spawn().unwrap();
        let mut lines = said(BufReader::new(writer.stdout.take().unwrap()));
        let mut answered: Vec<String> = lines.by_ref().take(100).collect();
        refused(&path, &["another pgbridge is serving it"]);
        writer.kill().unwrap();
        writer.wait().unwrap();
        answered.extend(lines);
        assert!(answered.len() >= 100, "round {round}: the child ended early");

        let store = SqliteStore::open(&path).unwrap();
        for id in answered {
            let lease = store.lease(id.parse().unwrap()).await.unwrap();
            assert!(lease.is_some(), "round {round}: lease {id} is lost");
        }
        let leases = store.leases(&LeaseFilter::default()).await.unwrap().len();
        let entries = audit(&store).await;
        assert_eq!(entries.len(), leases, "round {round}");
        assert_eq!(entries.last().unwrap().seq, leases as u64, "round {round}");
    }
}

/// The child of the tests about failing disks: writes until that fails, then tells whether more
/// writing is refused, and how.
#[tokio::test]
async fn child_writes_until_its_disk_fails() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = SqliteStore::open(Path::new(&path)).unwrap();
    let mut answered = 0;
    let error = loop {
        let lease = Lease { reason: Some("x".repeat(10_000)), ..intent("alice") };
        let change = Change::OpenLease(Box::new(lease));
        match store.commit(vec![change], vec![record(answered)]).await {
            Ok(()) => answered += 1,
            Err(error) => break error,
        }
        if answered == 20 {
            say("begun");
        }
    };
    say(&format!("answered {answered}"));
    say(&format!("failed {}", with_causes(&error)));
    say(&format!("then {}", with_causes(&store.probe().await.unwrap_err())));
    say(&format!("broken {}", with_causes(&store.broken().await)));
    say(&format!("reads {}", audit(&store).await.len()));
}

/// A write or fsync that fails is answered with an error, and so is everything after it, until
/// the store is opened anew; then what was answered is there.
async fn check_disk_failure(mut command: Command, path: &Path) {
    let mut writer = command.spawn().unwrap();
    let told: Vec<String> = said(BufReader::new(writer.stdout.take().unwrap())).collect();
    writer.wait().unwrap();
    let find = |word: &str| {
        let found = told.iter().find_map(|line| line.strip_prefix(word));
        found.unwrap_or_else(|| panic!("{word} is not in {told:#?}")).to_owned()
    };
    assert!(find("failed ").contains("disk I/O error"), "{told:#?}");
    assert!(find("then ").contains("restart pgbridge"), "{told:#?}");
    assert!(find("broken ").contains("restart pgbridge"), "{told:#?}");
    let answered: usize = find("answered ").parse().unwrap();
    assert_eq!(find("reads ").parse::<usize>().unwrap(), answered);
    // Its end has not tried once more to bring the log to the disk.
    let log = fs::metadata(beside(path, "-wal")).expect("the log is left as it was");
    assert!(log.len() > 0);
    let store = SqliteStore::open(path).unwrap();
    let kept = audit(&store).await.len();
    // What failed last may or may not have reached the disk; nobody was told that it had.
    assert!(kept == answered || kept == answered + 1, "{kept} of {answered}");
    store.probe().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written_until_a_restart() {
    let (_directory, path) = place();
    let mut command = Command::new("sh");
    // No file may grow beyond 2,000 blocks of 512 bytes; without a handler for the signal, the
    // write fails with EFBIG.
    command.args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$@\"", "sh"]);
    command.arg(std::env::current_exe().unwrap());
    as_child(&mut command, "child_writes_until_its_disk_fails", &path);
    check_disk_failure(command, &path).await;
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_written_until_a_restart() {
    let traces = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !traces.is_ok_and(|status| status.success()) {
        println!("not run: strace is missing, or may not trace here");
        return;
    }
    let (_directory, path) = place();
    let mut command = Command::new("strace");
    command.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    command.args(["-e", "inject=fsync,fdatasync:error=EIO:when=100+"]);
    command.arg(std::env::current_exe().unwrap());
    as_child(&mut command, "child_writes_until_its_disk_fails", &path);
    check_disk_failure(command, &path).await;
}

/// A file system of its own, of one mebibyte.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "pgbridge-test"]);
        let mounted = mount.arg(directory.path()).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_when_it_has_room_again_work_goes_on() {
    let Some(disk) = SmallDisk::mount() else {
        println!("not run: a small file system cannot be mounted here");
        return;
    };
    let path = disk.0.path().join("store.db");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 300_000]).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    let mut answered = 0;
    let error = loop {
        match store.commit(vec![], vec![record(answered)]).await {
            Ok(()) => answered += 1,
            Err(error) => break error,
        }
    };
    assert!(with_causes(&error).contains("disk is full"), "{}", with_causes(&error));
    assert!(with_causes(&error).contains(path.to_str().unwrap()));
    let lease = intent("alice");
    let open = Change::OpenLease(Box::new(lease.clone()));
    assert!(store.commit(vec![open], vec![record(0)]).await.is_err());
    assert_eq!(store.lease(lease.id).await.unwrap(), None);
    assert_eq!(audit(&store).await.len(), usize::try_from(answered).unwrap());

    fs::remove_file(&ballast).unwrap();
    opened(&store, &lease).await;
    drop(store);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.lease(lease.id).await.unwrap(), Some(lease));
    assert_eq!(audit(&store).await.len(), usize::try_from(answered).unwrap() + 1);
    drop(store);
}
