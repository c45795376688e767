//! The connection to a server: TCP, TLS, and a check of every answer before the library sees it.
//!
//! `ldap3` 0.12.1 keeps an answer of any length in memory and parses it by a recursion of any
//! depth, so a server (or, before StartTLS, anybody between) could exhaust the memory or overflow
//! the stack, which ends the whole process. It has no hook for that. So TCP, StartTLS and TLS are
//! done here, and the library gets one end of a socket pair, through which only whole, well-formed
//! messages of bounded length come. It also sets no `TCP_NODELAY`, which costs 40 ms a login.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::ber;
use super::checked::{Security, Server};
use super::refusal::OutageReason;

/// Longest message: an entry in 10,000 groups fits.
const MESSAGE_MAX: usize = 2 << 20;
/// Most bytes that a connection may answer in its life.
const ANSWERS_MAX: usize = 8 << 20;
/// Longest wait for a peer to take the end of a connection.
const FAREWELL: Duration = Duration::from_secs(1);

/// A byte stream to a server.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, safe to send a password on.
pub(super) struct Wire(Box<dyn Stream>);

impl Wire {
    /// Connects, and sets up TLS if the settings ask for it. The caller bounds the time.
    pub(super) async fn open(server: &Server, security: &Security) -> Result<Self, OutageReason> {
        let mut tcp = connect(server, security).await.map_err(OutageReason::Unreachable)?;
        let connector = match security {
            Security::Loopback => return Ok(Self(Box::new(tcp))),
            Security::Ldaps(connector) => connector,
            Security::StartTls(connector) => {
                start_tls(&mut tcp).await?;
                connector
            }
        };
        let tls = connector.connect(server.tls_name.clone(), tcp).await;
        Ok(Self(Box::new(tls.map_err(OutageReason::Tls)?)))
    }

    /// The library's end of the connection. Answers pass the check for at most `life`; why they
    /// ended too early is then in the [`Fault`].
    pub(super) fn checked(
        self,
        life: Duration,
    ) -> io::Result<(std::os::unix::net::UnixStream, Fault)> {
        let (ours, theirs) = UnixStream::pair()?;
        let fault = Fault::default();
        let noted = fault.clone();
        tokio::spawn(async move {
            // Whoever waits has a shorter timer; this one only ends what nobody waits for.
            let _ = timeout(life, pump(self.0, ours, noted)).await;
        });
        Ok((theirs.into_std()?, fault))
    }
}

/// Why a server's answers were cut off, once they are.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<OnceLock<&'static str>>);

impl Fault {
    /// What the answers did wrong; if nothing, the connection just ended.
    pub(super) fn reason(&self) -> OutageReason {
        self.0.get().map_or(OutageReason::Closed, |fault| OutageReason::BadAnswer(fault))
    }
}

async fn connect(server: &Server, security: &Security) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no usable address");
    for address in lookup_host((server.host.as_str(), server.port)).await? {
        if matches!(security, Security::Loopback) && !address.ip().is_loopback() {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Asks for TLS on a fresh connection (RFC 4511 section 4.14). Nothing is read beyond the answer,
/// so bytes that somebody sent after it in clear reach only the TLS handshake, which fails.
async fn start_tls(tcp: &mut TcpStream) -> Result<(), OutageReason> {
    // LDAPMessage { 1, ExtendedRequest { "1.3.6.1.4.1.1466.20037" } }
    const REQUEST: &[u8; 31] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
    tcp.write_all(REQUEST).await.map_err(|_| OutageReason::Closed)?;
    let answer = read_message(tcp).await.map_err(OutageReason::BadAnswer)?;
    let answer = answer.ok_or(OutageReason::Closed)?;
    match extended_result(&answer) {
        Some(0) => Ok(()),
        Some(code) => Err(OutageReason::StartTlsRefused(code)),
        None => Err(OutageReason::BadAnswer("answered StartTLS with something else")),
    }
}

/// The result code of an extended response to message 1.
fn extended_result(message: &[u8]) -> Option<usize> {
    const EXTENDED_RESPONSE: u8 = 0x78;
    const ENUMERATED: u8 = 0x0a;

    let message_id = ber::first(ber::first(message)?.content)?;
    let response = ber::first(message_id.rest)?;
    let code = ber::first(response.content)?;
    let is_ours = message_id.tag == 0x02 && message_id.content == [1];
    let fits = response.tag == EXTENDED_RESPONSE && code.tag == ENUMERATED;
    (is_ours && fits && code.content.len() == 1).then(|| ber::big_endian(code.content))
}

async fn pump(server: Box<dyn Stream>, library: UnixStream, fault: Fault) {
    let (from_server, mut to_server) = tokio::io::split(server);
    let (mut from_library, mut to_library) = library.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_library, &mut to_server) => {}
        outcome = pass_answers(BufReader::new(from_server), &mut to_library) => {
            if let Err(reason) = outcome {
                let _ = fault.0.set(reason);
            }
        }
    }
    drop((from_library, to_library));
    let _ = timeout(FAREWELL, to_server.shutdown()).await;
}

async fn pass_answers(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), &'static str> {
    let mut left = ANSWERS_MAX;
    while let Some(message) = read_message(&mut from).await? {
        left = left.checked_sub(message.len()).ok_or("answers without end")?;
        if to.write_all(&message).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next whole `LDAPMessage`; none when the server has closed or lost the connection.
async fn read_message(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Vec<u8>>, &'static str> {
    let mut message = vec![0_u8; 2];
    if from.read_exact(&mut message).await.is_err() {
        return Ok(None);
    }
    let Some((&[0x30, short], _)) = message.split_first_chunk::<2>() else {
        return Err("sent something that is no LDAP message");
    };
    let length = match short {
        0..=0x7f => usize::from(short),
        0x81..=0x84 => {
            let mut octets = vec![0_u8; usize::from(short & 0x7f)];
            if from.read_exact(&mut octets).await.is_err() {
                return Ok(None);
            }
            message.extend_from_slice(&octets);
            ber::big_endian(&octets)
        }
        _ => return Err("sent an LDAP message without a length"),
    };
    if length > MESSAGE_MAX {
        return Err("sent an answer longer than 2 MiB");
    }
    let whole = message.len() + length;
    let read = from.take(length as u64).read_to_end(&mut message).await;
    if read.is_err() || message.len() < whole {
        return Ok(None);
    }
    if ber::is_well_formed(&message) {
        Ok(Some(message))
    } else {
        Err("sent an LDAP message of broken structure")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        read_message(&mut &*bytes).await
    }

    #[tokio::test]
    async fn a_message_passes_whole_and_nothing_after_it_is_read() {
        let mut bytes: &[u8] = &[0x30, 3, 2, 1, 7, 0x30, 0];
        assert_eq!(read_message(&mut bytes).await.unwrap().unwrap(), [0x30, 3, 2, 1, 7]);
        assert_eq!(bytes, [0x30, 0]);
        assert_eq!(read(&[0x30, 3, 2, 1]).await, Ok(None));
        assert_eq!(read(&[]).await, Ok(None));
    }

    #[tokio::test]
    async fn what_is_no_bounded_well_formed_message_is_refused() {
        let too_long = [0x30, 0x84, 0x7f, 0xff, 0xff, 0xff];
        for bad in
            [&b"HTTP/1.1 400"[..], &too_long, &[0x30, 0x80, 0, 0], &[0x30, 2, 0x30, 9], &[4, 1, 0]]
        {
            assert!(read(bad).await.is_err(), "{bad:?}");
        }
        let limit = u32::try_from(MESSAGE_MAX).unwrap();
        for (length, passes) in [(limit - 6, true), (limit + 1, false)] {
            let mut message = vec![0x30, 0x84];
            message.extend((length).to_be_bytes());
            message.extend([0x04, 0x84]);
            message.extend((length - 6).to_be_bytes());
            message.resize(6 + length as usize, b'x');
            assert_eq!(read(&message).await.is_ok_and(|read| read.is_some()), passes, "{length}");
        }
    }

    #[tokio::test]
    async fn answers_end_when_they_are_too_many() {
        let message = {
            let length = 1_u32 << 20;
            let mut message = vec![0x30, 0x84];
            message.extend((length + 6).to_be_bytes());
            message.extend([0x04, 0x84]);
            message.extend(length.to_be_bytes());
            message.resize(12 + length as usize, b'x');
            message
        };
        let few = message.repeat(7);
        assert_eq!(pass_answers(&*few, &mut tokio::io::sink()).await, Ok(()));
        let many = message.repeat(8);
        let outcome = pass_answers(&*many, &mut tokio::io::sink()).await;
        assert_eq!(outcome, Err("answers without end"));
    }

    #[test]
    fn only_an_extended_response_to_our_message_answers_starttls() {
        let response =
            |id: u8, tag: u8, code: u8| [0x30, 12, 2, 1, id, tag, 7, 0x0a, 1, code, 4, 0, 4, 0];
        assert_eq!(extended_result(&response(1, 0x78, 0)), Some(0));
        assert_eq!(extended_result(&response(1, 0x78, 53)), Some(53));
        assert_eq!(extended_result(&response(2, 0x78, 0)), None);
        assert_eq!(extended_result(&response(1, 0x61, 0)), None);
    }
}
