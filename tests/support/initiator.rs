//! A client of GSSAPI, in a process of its own: the library reads tickets and settings from the
//! environment. That process is this test binary, running [`initiator`] alone.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libgssapi::context::{ClientCtx, CtxFlags};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_MECH_SPNEGO, GSS_NT_KRB5_PRINCIPAL};

/// What begins a line that is meant for the test.
const TOKEN: &str = "token: ";
const COMPLETE: &str = "complete";
const FAILED: &str = "failed: ";

/// Environment of the process.
const SERVICE: &str = "INITIATOR_SERVICE";
const WITHOUT_SPNEGO: &str = "INITIATOR_WITHOUT_SPNEGO";
const DELEGATES: &str = "INITIATOR_DELEGATES";
const CHANNEL: &str = "INITIATOR_CHANNEL";

/// What a client does.
#[derive(Clone, Default)]
pub struct Wishes {
    /// Speaks the mechanism of Kerberos itself, without SPNEGO around it.
    pub without_spnego: bool,
    /// Sends its own ticket along, to be used for it.
    pub delegates: bool,
    /// Binds its token to this.
    pub channel: Option<Vec<u8>>,
    /// Seconds by which its clock is ahead; below zero it is behind.
    pub ahead: i32,
}

/// A client that has a ticket, and makes tokens of it.
pub struct Initiator {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a client makes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// It knows whom it has reached.
    Complete,
    /// It has more to say.
    Token(Vec<u8>),
    /// It does not believe the answer.
    Failed(String),
}

impl Initiator {
    /// A client for `service`, with the ticket that is in the environment `ticket`.
    pub fn new(ticket: &[(&'static str, String)], service: &str, wishes: &Wishes) -> Self {
        let own = env::current_exe().expect("a test has a program");
        let mut words = vec![own.display().to_string()];
        if wishes.ahead != 0 {
            let clock = ["faketime", "-f"].map(str::to_owned);
            words.splice(0..0, clock.into_iter().chain([format!("{:+}s", wishes.ahead)]));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["--exact", "support::initiator::initiator"]);
        command.args(["--ignored", "--nocapture", "--test-threads=1"]);
        command.envs(ticket.iter().map(|(name, value)| (name, value))).env(SERVICE, service);
        let flags = [(WITHOUT_SPNEGO, wishes.without_spnego), (DELEGATES, wishes.delegates)];
        command.envs(flags.iter().filter(|(_, is_so)| *is_so).map(|(name, _)| (name, "yes")));
        command.envs(wishes.channel.iter().map(|channel| (CHANNEL, STANDARD.encode(channel))));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the test's own program can be run");
        let input = child.stdin.take().expect("it has an input");
        let output = BufReader::new(child.stdout.take().expect("it has an output"));
        Self { child, input, output }
    }

    /// The first token.
    #[track_caller]
    pub fn token(&mut self) -> Vec<u8> {
        match self.hear() {
            Heard::Token(token) => token,
            other => panic!("no token: {other:?}"),
        }
    }

    /// Gives the client an answer.
    pub fn answer(&mut self, reply: &[u8]) -> Heard {
        writeln!(self.input, "{}", STANDARD.encode(reply)).expect("it reads");
        self.hear()
    }

    fn hear(&mut self) -> Heard {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.output.read_line(&mut line).expect("it writes text");
            assert!(read > 0, "the client has ended");
            let line = line.trim_end();
            if let Some(token) = line.strip_prefix(TOKEN) {
                return Heard::Token(STANDARD.decode(token).expect("it writes base64"));
            } else if let Some(why) = line.strip_prefix(FAILED) {
                return Heard::Failed(why.to_owned());
            } else if line == COMPLETE {
                return Heard::Complete;
            }
        }
    }
}

impl Drop for Initiator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client itself: writes tokens, reads answers, a line each.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn initiator() {
    let told: HashMap<String, String> = env::vars().collect();
    let Some(service) = told.get(SERVICE) else { return };
    let target = Name::new(service.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL)).unwrap();
    let mut flags = CtxFlags::GSS_C_MUTUAL_FLAG;
    flags.set(CtxFlags::GSS_C_DELEG_FLAG, told.contains_key(DELEGATES));
    let mechanism = if told.contains_key(WITHOUT_SPNEGO) { GSS_MECH_KRB5 } else { GSS_MECH_SPNEGO };
    let mut client = ClientCtx::new(None, target, flags, Some(mechanism));
    let channel = told.get(CHANNEL).map(|channel| STANDARD.decode(channel).unwrap());
    let mut answers = stdin().lines();
    let mut answer: Option<Vec<u8>> = None;
    // What the test harness wrote stands on the line above.
    println!();
    loop {
        match client.step(answer.as_deref(), channel.as_deref()) {
            Ok(Some(token)) => println!("{TOKEN}{}", STANDARD.encode(&*token)),
            Ok(None) => return println!("{COMPLETE}"),
            Err(error) => return println!("{FAILED}{error}"),
        }
        let Some(Ok(line)) = answers.next() else { return };
        answer = Some(STANDARD.decode(line.trim_end()).unwrap());
    }
}
