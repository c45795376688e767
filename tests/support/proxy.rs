//! A TCP proxy on loopback before a server, which does to connections what networks do: cuts them
//! in the middle of a message, holds back what was sent, lets nobody through.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    Server,
    Client,
}

/// What becomes of a connection that is made while it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// It gets through.
    Open,
    /// It is reset at once.
    Shut,
}

/// The connection that carries the last of so many bytes, counted over all connections since this
/// was told, ends there; those that come after get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutAfter {
    pub bytes: u64,
    pub towards: Towards,
}

/// A piece of what went through.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub connection: u64,
    pub towards: Towards,
    /// How many bytes had gone that way, over all connections, before it.
    pub at: u64,
    pub bytes: Vec<u8>,
}

/// The proxy; it ends on drop, and all its connections with it.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    state: Mutex<State>,
    rules: watch::Sender<Rules>,
}

/// What connections wait for or obey while they stand.
#[derive(Clone, Copy)]
struct Rules {
    door: Door,
    /// Nothing goes on this way on connections up to this number, but they stay.
    held: [u64; 2],
    /// Connections of an older epoch end.
    epoch: u64,
}

#[derive(Default)]
struct State {
    connections: u64,
    counted: [u64; 2],
    /// Bytes that were sent this way, and are held back.
    held_back: [u64; 2],
    cut: Option<CutAfter>,
    /// Whether the cut that was told last has happened.
    has_cut: bool,
    record: Option<Vec<Chunk>>,
}

impl Towards {
    fn index(self) -> usize {
        match self {
            Self::Server => 0,
            Self::Client => 1,
        }
    }
}

impl Proxy {
    /// A proxy before `127.0.0.1:PORT`, on a port of its own.
    pub fn before(port: u16) -> Self {
        let rules = Rules { door: Door::Open, held: [0; 2], epoch: 0 };
        let shared = Arc::new(Shared {
            target: (Ipv4Addr::LOCALHOST, port).into(),
            state: Mutex::default(),
            rules: watch::Sender::new(rules),
        });
        let (told, listens) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let listener = listener.expect("there is a free port");
                let own = listener.local_addr().expect("it has an address").port();
                told.send(own).expect("the proxy is waited for");
                tokio::select! {
                    () = for_thread.serve(listener) => {}
                    _ = ended => {}
                }
            });
        });
        let port = listens.recv().expect("the proxy listens");
        Self { port, shared, end: Some(end), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on bytes are counted from 0 and one connection is cut.
    pub fn cut(&self, cut: CutAfter) {
        let mut state = self.shared.state();
        (state.counted, state.cut, state.has_cut) = ([0; 2], Some(cut), false);
    }

    /// From now on bytes are counted from 0 and all that goes through is kept.
    pub fn record(&self) {
        let mut state = self.shared.state();
        (state.counted, state.record) = ([0; 2], Some(Vec::new()));
    }

    /// Everything that went through since [`Self::record`], which ends.
    pub fn recorded(&self) -> Vec<Chunk> {
        self.shared.state().record.take().expect("it was told to record")
    }

    /// No more cuts; whether the last one has happened.
    pub fn uncut(&self) -> bool {
        let mut state = self.shared.state();
        state.cut = None;
        state.has_cut
    }

    /// Nothing goes `towards` there any more, until [`Self::heal`]. Connections stay.
    pub fn hold(&self, towards: Towards) {
        self.shared.rules.send_modify(|rules| rules.held[towards.index()] = u64::MAX);
    }

    /// The same for the connections that there are now; others get through.
    pub fn hold_present(&self, towards: Towards) {
        let present = self.shared.state().connections;
        self.shared.rules.send_modify(|rules| rules.held[towards.index()] = present);
    }

    /// How many bytes that were sent `towards` there are held back.
    pub fn held_back(&self, towards: Towards) -> u64 {
        self.shared.state().held_back[towards.index()]
    }

    /// All connections end, and new ones get no answer but a reset, until [`Self::heal`].
    pub fn part(&self) {
        self.shared.rules.send_modify(|rules| {
            rules.door = Door::Shut;
            rules.epoch += 1;
        });
    }

    /// What was held goes on, and new connections get through.
    pub fn heal(&self) {
        self.shared.rules.send_modify(|rules| {
            (rules.door, rules.held) = (Door::Open, [0; 2]);
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let shared = Arc::clone(&self);
            tokio::spawn(async move {
                if shared.rules.borrow().door == Door::Shut {
                    let _ = client.set_zero_linger();
                    return;
                }
                if let Ok(server) = TcpStream::connect(shared.target).await {
                    shared.join(client, server).await;
                }
            });
        }
    }

    /// Carries bytes both ways until one side ends or it is cut; then both end.
    async fn join(&self, client: TcpStream, server: TcpStream) {
        let (_, _) = (client.set_nodelay(true), server.set_nodelay(true));
        let connection = {
            let mut state = self.state();
            state.connections += 1;
            state.connections
        };
        let mut rules = self.rules.subscribe();
        let epoch = rules.borrow().epoch;
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        tokio::select! {
            () = self.carry(connection, Towards::Server, from_client, to_server) => {}
            () = self.carry(connection, Towards::Client, from_server, to_client) => {}
            _ = rules.wait_for(|rules| rules.epoch != epoch) => {}
        }
    }

    async fn carry(
        &self,
        connection: u64,
        towards: Towards,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) {
        let mut rules = self.rules.subscribe();
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            self.state().held_back[towards.index()] += count as u64;
            let free = rules.wait_for(|rules| connection > rules.held[towards.index()]).await;
            drop(free.expect("the proxy has its rules"));
            self.state().held_back[towards.index()] -= count as u64;
            let bytes = &buffer[..count];
            let (go_on, is_cut) = self.count(connection, towards, bytes);
            if to.write_all(&bytes[..go_on]).await.is_err() || is_cut {
                return;
            }
        }
    }

    /// How many of `bytes` go on, and whether the connection is cut after them.
    fn count(&self, connection: u64, towards: Towards, bytes: &[u8]) -> (usize, bool) {
        let mut state = self.state();
        let at = state.counted[towards.index()];
        let end = at + bytes.len() as u64;
        state.counted[towards.index()] = end;
        if let Some(record) = &mut state.record {
            record.push(Chunk { connection, towards, at, bytes: bytes.to_vec() });
        }
        match state.cut {
            Some(cut) if cut.towards == towards && !state.has_cut && cut.bytes < end => {
                state.has_cut = true;
                (usize::try_from(cut.bytes - at).expect("it is less than a buffer"), true)
            }
            _ => (bytes.len(), false),
        }
    }
}
