//! How many connections there may be, and how long one may be silent.
//!
//! Whoever opens connections and says nothing, or says it one byte at a time, holds slots. There
//! are so many in all, and for one address only a part of them, so that one address cannot shut
//! out the others. A connection on which nothing moves is closed.

use std::collections::HashMap;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use metrics::{counter, gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Connections at once: below the 1,024 open files that a process usually may have.
const SLOTS: usize = 768;

/// Connections at once from one address (for IPv6 from one /64), other than this machine: a proxy
/// on it speaks for many.
const SLOTS_OF_ONE: usize = 192;

/// Lets connections in while there are slots.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    taken: Arc<Mutex<Taken>>,
    all: usize,
    of_one: usize,
    silence: Duration,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One slot; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Slot {
    taken: Arc<Mutex<Taken>>,
    source: IpAddr,
}

impl Slots {
    /// Slots for connections that are closed after a `silence`.
    pub(super) fn new(silence: Duration) -> Self {
        Self { taken: Arc::default(), all: SLOTS, of_one: SLOTS_OF_ONE, silence }
    }

    fn take(&self, client: IpAddr) -> Option<Slot> {
        let source = source(client);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_this = taken.by_source.get(&source).copied().unwrap_or_default();
        let one_has_too_many = of_this >= self.of_one && !source.is_loopback();
        if taken.all >= self.all || one_has_too_many {
            return None;
        }
        taken.all += 1;
        taken.by_source.insert(source, of_this + 1);
        gauge!("pgbridge_connections").increment(1.0);
        Some(Slot { taken: Arc::clone(&self.taken), source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_this) = taken.by_source.get_mut(&self.source) {
            *of_this = of_this.saturating_sub(1);
            if *of_this == 0 {
                taken.by_source.remove(&self.source);
            }
        }
        gauge!("pgbridge_connections").decrement(1.0);
    }
}

/// The address under which connections are counted: an IPv6 host owns its whole /64.
fn source(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

impl<Service> Accept<TcpStream, Service> for Slots {
    type Stream = Held<TcpStream>;
    type Service = Service;
    type Future = Ready<io::Result<(Self::Stream, Service)>>;

    fn accept(&self, stream: TcpStream, service: Service) -> Self::Future {
        let held = stream.peer_addr().and_then(|peer| {
            let slot = self.take(peer.ip()).ok_or_else(|| {
                counter!("pgbridge_connections_refused_total").increment(1);
                io::Error::from(io::ErrorKind::ConnectionRefused)
            })?;
            stream.set_nodelay(true)?;
            Ok(Held::new(stream, slot, self.silence))
        });
        ready(held.map(|stream| (stream, service)))
    }
}

/// A connection that holds a slot, and ends when nothing has moved on it for a while.
pub(super) struct Held<Stream> {
    stream: Stream,
    silence: Duration,
    silent_until: Pin<Box<Sleep>>,
    _slot: Slot,
}

impl<Stream> Held<Stream> {
    fn new(stream: Stream, slot: Slot, silence: Duration) -> Self {
        Self { stream, silence, silent_until: Box::pin(sleep(silence)), _slot: slot }
    }

    /// Something moved.
    fn moved(&mut self) {
        let until = Instant::now() + self.silence;
        self.silent_until.as_mut().reset(until);
    }

    /// Waits on, unless it has been silent for too long.
    fn wait<Done>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Done>> {
        ready!(self.silent_until.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Held<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                self.moved();
                Poll::Ready(read)
            }
            Poll::Pending => self.wait(context),
        }
    }
}

impl<Stream: AsyncWrite + Unpin> AsyncWrite for Held<Stream> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(written) => {
                self.moved();
                Poll::Ready(written)
            }
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, pieces) {
            Poll::Ready(written) => {
                self.moved();
                Poll::Ready(written)
            }
            Poll::Pending => self.wait(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn slots(all: usize, of_one: usize) -> Slots {
        Slots { all, of_one, ..Slots::new(Duration::from_secs(30)) }
    }

    #[test]
    fn one_address_cannot_take_every_slot_and_a_slot_comes_back() {
        let slots = slots(3, 2);
        let take = |client: &str| slots.take(client.parse().unwrap());
        let (first, second) = (take("10.0.0.1").unwrap(), take("::ffff:10.0.0.1").unwrap());
        assert!(take("10.0.0.1").is_none());
        let other = take("10.0.0.2").unwrap();
        assert!(take("10.0.0.3").is_none());
        drop(first);
        assert!(take("10.0.0.1").is_some());
        drop((second, other));
        assert!(slots.taken.lock().unwrap().by_source.is_empty());
    }

    #[test]
    fn an_ipv6_host_counts_as_one_and_this_machine_as_many() {
        let slots = slots(3, 1);
        let take = |client: &str| slots.take(client.parse().unwrap());
        let _first = take("2001:db8::1").unwrap();
        assert!(take("2001:db8::2").is_none());
        let _here = (take("127.0.0.1").unwrap(), take("127.0.0.1").unwrap());
        assert!(take("::1").is_none());
    }

    async fn read_one(silence: Duration, sent: &[u8]) -> io::Result<u8> {
        let (mut client, server) = duplex(64);
        let slot = slots(1, 1).take("10.0.0.1".parse().unwrap()).unwrap();
        client.write_all(sent).await?;
        Held::new(server, slot, silence).read_u8().await
    }

    #[tokio::test]
    async fn a_connection_on_which_nothing_moves_is_ended() {
        let ended = read_one(Duration::from_millis(1), b"").await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(read_one(Duration::from_millis(1), b"x").await.unwrap(), b'x');
    }
}
