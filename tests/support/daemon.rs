//! One server process: started with a log, signalled by its pid, ended with the test.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use super::scratch::ServiceUser;
use super::wait_for;

/// How long a server may take to end when it is asked to.
const ENDING: Duration = Duration::from_mins(1);

/// A running server. It ends on drop; and the kernel ends it when this process is killed.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    ending: Signal,
}

/// The signals a test sends to a server, by their names in kill(1).
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Hangup,
    Interrupt,
    Terminate,
    Quit,
    Kill,
    Freeze,
    Thaw,
}

impl Signal {
    /// What the kernel sends to a server, that ends in an orderly way by this signal, when the
    /// process of the test is killed. PostgreSQL would leave shared memory behind if it was killed.
    fn when_orphaned(self) -> Self {
        match self {
            Self::Interrupt => Self::Quit,
            _ => Self::Kill,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hangup => "HUP",
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Freeze => "STOP",
            Self::Thaw => "CONT",
        }
    }
}

impl Daemon {
    /// Starts `program` as `user`, in the directory of `log`, to which all it prints is appended.
    /// `ending` is the signal that makes it end in an orderly way.
    pub fn start(
        program: &Path,
        arguments: &[String],
        user: Option<ServiceUser>,
        log: &Path,
        ending: Signal,
    ) -> Self {
        Self::start_within(program, arguments, user, log, ending, &[])
    }

    /// The same with `environment` beside the test's own.
    pub fn start_within(
        program: &Path,
        arguments: &[String],
        user: Option<ServiceUser>,
        log: &Path,
        ending: Signal,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("setpriv");
        command.envs(environment.iter().copied());
        if let Some(ServiceUser { uid, gid }) = user {
            command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}"));
            command.arg("--clear-groups");
        }
        let orphaned = ending.when_orphaned().name();
        command.arg(format!("--pdeathsig={orphaned}")).arg("--").arg(program);
        let output = File::options().create(true).append(true).open(log);
        let output = output.expect("a log can be opened");
        command
            .args(arguments)
            .current_dir(log.parent().expect("a log is in a directory"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be had twice"))
            .stderr(output);
        let started = spawn(command);
        let child = started.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { child, log: log.to_owned(), ending }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything the server has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        send(signal, self.pid());
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("one's own child can be waited for").is_none()
    }

    /// Ends the server with `signal` and waits until it is gone.
    ///
    /// # Panics
    /// When it is still there a minute later.
    pub fn end(&mut self, signal: Signal) {
        if !self.is_running() {
            return;
        }
        self.signal(signal);
        let what = format!("the end of pid {}", self.pid());
        wait_for(&what, ENDING, || (!self.is_running()).then_some(()));
    }

    /// Ends the server in the way it wants to be ended.
    pub fn stop(&mut self) {
        self.end(self.ending);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        // A frozen one does not hear any other signal. And no panic here: the test may panic already.
        let pid = self.pid();
        let end = format!("kill -{} {pid}; kill -CONT {pid}", self.ending.name());
        let _ = Command::new("sh").args(["-c", &end]).status();
        for _ in 0..500 {
            if !self.is_running() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `signal` to the process `pid` of a server that the test has started.
///
/// # Panics
/// When there is no such process.
pub fn send(signal: Signal, pid: u32) {
    let kill = format!("kill -{} {pid}", signal.name());
    let sent = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
    assert!(sent.success(), "`{kill}` failed");
}

/// A command, and where its started process is to be sent.
type Order = (Command, Sender<io::Result<Child>>);

/// Starts a process from a thread that lives as long as this process: the kernel sends the
/// "parent died" signal when the *thread* ends that started the child (prctl(2),
/// `PR_SET_PDEATHSIG`), and threads of an async runtime come and go.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in received {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, answered) = channel();
    spawner.send((command, answer)).expect("the spawner lives for ever");
    answered.recv().expect("the spawner answers every order")
}
