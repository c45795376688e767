//! Kerberos: a ticket in the place of a name and a password, over HTTP (SPNEGO, RFC 4559).
//!
//! What holds:
//! - Only tickets for the one service that is configured, by its good keys, which are read again
//!   whenever somebody comes: a keytab that was renewed, replaced or removed counts at once.
//! - Only the mechanism of Kerberos; what is negotiated otherwise proves nobody.
//! - Who it is, is the whole principal with its realm. Realms and kinds of principals are let in by
//!   list. Nothing is stripped, and the host's rules that turn principals into local users
//!   (`auth_to_local`) are never asked.
//! - Of Active Directory the name counts only where it is that of the account, which its KDC seals
//!   into the ticket.
//! - Tickets that a client sends to be used for it are thrown away, and that is told.
//! - A token is good once over all brokers: what tells it from all others goes out with the proof,
//!   for the store. The library's own list, which is of one host, is not used.
//! - A negotiation has few tokens and little time, and nothing of it is kept anywhere but in the
//!   connection that it came by.
//! - Nobody can be looked up without their ticket: what it proved lasts as long as the login, which
//!   never outlives the ticket.
//! - There is no login by password here: nobody asks a KDC with a password that somebody typed.

mod gss;
mod judge;
mod keytab;
mod pac;
mod refusal;
mod settings;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::auth::identity::Identity;
use crate::auth::way::{
    EndPoint, Negotiation, Once, Proven, Standing, Step, Tickets, Unproven, Way,
};
use crate::names::{LoginPassword, Principal, WayName};

pub use keytab::{Keys, KeytabError};
pub use refusal::KerberosRefusal;
pub use settings::{ChannelBinding, Kdc, KerberosSettings};

use gss::{Accepted, Acceptor, Credential, Leg};
use judge::{Judged, judge};

/// Bytes that a keytab may have: some thousand keys.
pub const KEYTAB_BYTES_MAX: u64 = 1 << 20;

/// Tokens of one negotiation. Kerberos needs one, or two where something else was offered first.
const LEGS_MAX: u8 = 4;

/// How long a negotiation may take from its first token to its last.
const NEGOTIATION: SignedDuration = SignedDuration::from_mins(1);

/// Tokens that are looked at side by side: each holds a thread that may wait for a disk.
const SIDE_BY_SIDE: usize = 16;

/// How long a token waits for its turn to be looked at.
const TURN: Duration = Duration::from_secs(5);

/// How much longer than its ticket a token is remembered. The library takes tickets for a while
/// after their end, by `clockskew` of `krb5.conf`, which is five minutes.
const REMEMBERED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// A way in by tickets. Clones are the same.
#[derive(Clone)]
pub struct KerberosWay(Arc<Inner>);

struct Inner {
    settings: KerberosSettings,
    /// The keys as they were read last.
    loaded: Mutex<Option<Loaded>>,
    slots: Arc<Semaphore>,
}

/// A keytab, and what accepts tickets by it.
struct Loaded {
    /// All bytes of the file.
    file: Zeroizing<Vec<u8>>,
    credential: Arc<Credential>,
}

impl KerberosWay {
    /// A way in of these settings. Nothing is read yet.
    #[must_use]
    pub fn new(settings: KerberosSettings) -> Self {
        let slots = Arc::new(Semaphore::new(SIDE_BY_SIDE));
        Self(Arc::new(Inner { settings, loaded: Mutex::default(), slots }))
    }
}

impl Inner {
    /// What accepts tickets, by the keytab as it is now. Reads it: for a thread that may wait.
    fn credential(&self) -> Result<Arc<Credential>, KerberosRefusal> {
        let file = read_keytab(&self.settings.keytab).map_err(KerberosRefusal::KeytabUnreadable)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = loaded.as_ref().filter(|loaded| loaded.file == file) {
            return Ok(Arc::clone(&same.credential));
        }
        // Whatever comes of it, the keys of before are not those of the file any more.
        *loaded = None;
        let service = &self.settings.service;
        let keys = Keys::read(&file, service).map_err(KerberosRefusal::KeytabUnusable)?;
        let keytab = in_memory(keys.expose()).map_err(KerberosRefusal::KeytabUnreadable)?;
        let credential = Credential::acquire(service.as_str(), keytab);
        let credential = Arc::new(credential.map_err(|error| KerberosRefusal::of_keys(&error))?);
        *loaded = Some(Loaded { file, credential: Arc::clone(&credential) });
        Ok(credential)
    }

    /// Does `work` on a thread that may wait, of which there are only so many.
    async fn beside<Done: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<Done, KerberosRefusal> + Send + 'static,
    ) -> Result<Done, KerberosRefusal> {
        let broken = |what: &str| KerberosRefusal::Library(what.to_owned());
        let slot = timeout(TURN, Arc::clone(&self.slots).acquire_owned()).await;
        let slot = slot.map_err(|_| broken("too many tokens wait to be looked at"))?;
        let slot = slot.map_err(|_| broken("the broker is about to end"))?;
        let done = spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        });
        done.await.unwrap_or_else(|_| Err(broken("the thread that asked it has died")))
    }

    /// What a token is held against, if it is against anything.
    fn channel(&self, end_point: Option<&EndPoint>) -> Result<Option<Vec<u8>>, KerberosRefusal> {
        match (self.settings.channel_binding, end_point) {
            (ChannelBinding::Off, _) | (ChannelBinding::Offered, None) => Ok(None),
            (ChannelBinding::Required, None) => Err(KerberosRefusal::NoChannel),
            (ChannelBinding::Offered | ChannelBinding::Required, Some(end_point)) => {
                Ok(Some(end_point.application_data()))
            }
        }
    }

    fn proven(&self, accepted: Accepted, now: Timestamp) -> Result<Proven, KerberosRefusal> {
        let settings = &self.settings;
        let Judged { principal: name, ends_at } = judge(settings, &accepted, now)?;
        let principal = Principal::Kerberos { way: settings.name.clone(), name };
        let identity = Identity::proven(principal, Vec::new(), now, settings.lifetime);
        let delegated = "the ticket came with one to be used for them, which was thrown away";
        Ok(Proven {
            identity: identity.until(ends_at),
            reply: accepted.reply,
            once: Once { value: accepted.fingerprint, until: ends_at + REMEMBERED_AFTER },
            note: accepted.delegated.then(|| delegated.to_owned()),
        })
    }
}

/// A negotiation with one client.
struct Talk {
    way: Arc<Inner>,
    begun: Timestamp,
    legs: u8,
    /// What has come of it so far; nothing before the first token.
    acceptor: Option<Acceptor>,
}

impl Talk {
    async fn step(
        self,
        token: Vec<u8>,
        end_point: Option<&EndPoint>,
        now: Timestamp,
    ) -> Result<Step, KerberosRefusal> {
        let Self { way, begun, legs, acceptor } = self;
        if token.is_empty() {
            return Err(KerberosRefusal::EmptyToken);
        }
        if legs >= LEGS_MAX {
            return Err(KerberosRefusal::TooManyLegs);
        }
        if now.duration_since(begun).abs() > NEGOTIATION {
            return Err(KerberosRefusal::TooLate);
        }
        let channel = way.channel(end_point)?;
        let asked = Arc::clone(&way);
        let leg = way.beside(move || {
            let acceptor = match acceptor {
                Some(acceptor) => acceptor,
                None => Acceptor::new(asked.credential()?),
            };
            let leg = acceptor.accept(&token, channel.as_deref());
            leg.map_err(|error| KerberosRefusal::of_token(&error))
        });
        match leg.await? {
            Leg::Continue { acceptor, token } => {
                let talk = Self { way, begun, legs: legs + 1, acceptor: Some(acceptor) };
                Ok(Step::Continue { token, negotiation: Box::new(talk) })
            }
            Leg::Complete(accepted) => Ok(Step::Proven(Box::new(way.proven(accepted, now)?))),
        }
    }
}

#[async_trait]
impl Negotiation for Talk {
    fn way(&self) -> &WayName {
        &self.way.settings.name
    }

    async fn step(
        self: Box<Self>,
        token: Vec<u8>,
        end_point: Option<&EndPoint>,
        now: Timestamp,
    ) -> Result<Step, Unproven> {
        Ok((*self).step(token, end_point, now).await?)
    }
}

impl Tickets for KerberosWay {
    fn begin(&self, now: Timestamp) -> Box<dyn Negotiation> {
        Box::new(Talk { way: Arc::clone(&self.0), begun: now, legs: 0, acceptor: None })
    }
}

#[async_trait]
impl Way for KerberosWay {
    fn name(&self) -> &WayName {
        &self.0.settings.name
    }

    async fn login(&self, _: &str, _: &LoginPassword, _: Timestamp) -> Result<Identity, Unproven> {
        Err(KerberosRefusal::Password.into())
    }

    fn tickets(&self) -> Option<&dyn Tickets> {
        Some(self)
    }

    async fn look_again(&self, _: &Principal, _: Timestamp) -> Standing {
        Standing::OnlyAtLogin
    }

    async fn probe(&self) -> Result<(), Unproven> {
        let asked = Arc::clone(&self.0);
        self.0.beside(move || asked.credential()).await?;
        Ok(())
    }
}

/// All bytes of the keytab, which must be a regular file of bounded length.
fn read_keytab(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    use std::os::unix::fs::OpenOptionsExt;
    // A pipe in its place must not hold whoever comes.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let room = usize::try_from(file.metadata()?.len().min(KEYTAB_BYTES_MAX) + 1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.unwrap_or_default()));
    file.take(KEYTAB_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > KEYTAB_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// A file that is in memory only, and cannot be changed any more.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let made = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(c"pgbridge-keytab", made)?);
    file.write_all(bytes)?;
    let sealed = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, sealed)?;
    Ok(file.into())
}
