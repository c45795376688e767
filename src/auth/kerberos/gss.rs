//! GSSAPI (RFC 2743, RFC 2744), as MIT Kerberos speaks it: the only module with `unsafe`.
//!
//! What the safe bindings do not have: keys from a file that is named by us and not by the
//! environment, what a token was bound to, and what tells one token from another. Everything here
//! gives back plain values; what they mean is decided in [`super::judge`].
//!
//! Calls read files and take locks: they belong on a thread that may wait.
#![expect(unsafe_code, reason = "the library is C, and the safe bindings lack what is needed")]

use std::ffi::{CStr, CString, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use libgssapi_sys as sys;

/// Object identifiers, as DER has their contents: the mechanism of Kerberos (RFC 4121 section 1), ...
const KRB5: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// ... the same as Windows has it also (MS-SPNG section 3.1.5.2), ...
const KRB5_OF_WINDOWS: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
/// ... what negotiates (RFC 4178), ...
const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
/// ... and a name that is a principal (RFC 1964 section 2.1.1).
const PRINCIPAL_NAME: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";

/// The attribute of a name with what Active Directory says of the account.
const LOGON_INFO: &[u8] = b"urn:mspac:logon-info";
/// The number of `GSS_S_UNAVAILABLE`: there is no such attribute.
const UNAVAILABLE: u32 = 16;

/// `gss_cred_usage_t` for who is called (RFC 2744 section 5.2).
const ACCEPT: i32 = 2;
/// Kinds of status that can be asked for in words (RFC 2744 section 5.11).
const GSS_CODE: i32 = 1;
const MECH_CODE: i32 = 2;

/// Flags of a context (RFC 2744 section 5.1), and MIT's own for what was bound.
const DELEGATED: u32 = 1;
const ANONYMOUS: u32 = 64;
const CHANNEL_BOUND: u32 = 0x800;

/// `GSS_S_CONTINUE_NEEDED`: the client must send another token.
const CONTINUE: u32 = 1;

/// Parts of a status in words that are put together at most.
const STATUS_PARTS: usize = 4;

/// What the library said in the place of a yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GssError {
    /// The number of the routine error (RFC 2744 section 3.9.1): bits 16 to 23 of the major status.
    /// Zero when only a bit of the rest is set, as for a token that came twice.
    pub routine: u32,
    /// The mechanism's own number; an error code of the krb5 library.
    pub minor: i32,
    /// Both in words. Parts of it may be what the client sent.
    pub text: String,
}

/// The keys by which tokens are accepted.
pub(super) struct Credential {
    handle: sys::gss_cred_id_t,
    /// The keytab, which the library opens anew for each token; outlives the handle.
    _keytab: OwnedFd,
}

// SAFETY: a credential of MIT's krb5 and SPNEGO mechanisms is guarded by a lock of its own
// (`krb5_gss_cred_id_rec.lock`), and is released once, by whoever owns it last.
unsafe impl Send for Credential {}
// SAFETY: as above; nothing here changes it after it was made.
unsafe impl Sync for Credential {}

impl Credential {
    /// Lets tokens for the principal `service` be accepted, by its keys in `keytab`, the Kerberos
    /// mechanism only. Whether a token came before is for the caller to know: the library is told to
    /// keep no list of its own, which other hosts would not see.
    ///
    /// # Errors
    /// When the keytab cannot be read or holds no key of the service.
    pub(super) fn acquire(service: &str, keytab: OwnedFd) -> Result<Self, GssError> {
        let name = Name::principal(service)?;
        let path = format!("FILE:/proc/self/fd/{}\0", keytab.as_raw_fd());
        let path = CString::from_vec_with_nul(path.into_bytes()).unwrap_or_default();
        let mut elements = [element(c"keytab", &path), element(c"rcache", c"none:")];
        let count = elements.len().try_into().unwrap_or_default();
        let store = sys::gss_key_value_set_desc { count, elements: elements.as_mut_ptr() };
        let mut mechanisms = [oid(KRB5), oid(SPNEGO)];
        let mut wanted = oid_set(&mut mechanisms);
        let (mut minor, mut handle) = (0, ptr::null_mut());
        // SAFETY: the pointers are to values of this frame that are whole, and the counts are their
        // lengths; the library copies what it keeps. The last two results are not asked for.
        let major = unsafe {
            sys::gss_acquire_cred_from(
                &raw mut minor,
                name.0,
                sys::_GSS_C_INDEFINITE,
                &raw mut wanted,
                ACCEPT,
                &raw const store,
                &raw mut handle,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        checked(major, minor)?;
        let credential = Self { handle, _keytab: keytab };
        let mut kerberos = [oid(KRB5)];
        let mut only = oid_set(&mut kerberos);
        // SAFETY: the handle was just made, and the set is a value of this frame that is copied.
        let major = unsafe { sys::gss_set_neg_mechs(&raw mut minor, handle, &raw mut only) };
        checked(major, minor)?;
        Ok(credential)
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is ours alone and is not used after this.
        unsafe { sys::gss_release_cred(&raw mut minor, &raw mut self.handle) };
    }
}

/// One negotiation with one client, before or between its tokens.
pub(super) struct Acceptor {
    credential: Arc<Credential>,
    context: sys::gss_ctx_id_t,
}

// SAFETY: a context may be used by any thread, by one at a time (MIT Kerberos: "GSSAPI objects are
// not bound to a thread"); it is not `Sync`, and every use here takes it whole.
unsafe impl Send for Acceptor {}

/// How far a token has brought a negotiation.
pub(super) enum Leg {
    /// The client must answer `token`.
    Continue { acceptor: Acceptor, token: Vec<u8> },
    /// The client has proven something.
    Complete(Accepted),
}

/// By which mechanism a client has proven something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    Kerberos,
    Other,
}

impl Mechanism {
    fn of(oid: &[u8]) -> Self {
        if [KRB5, KRB5_OF_WINDOWS].contains(&oid) { Self::Kerberos } else { Self::Other }
    }
}

/// What a client has proven, as the library says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The principal as the library displays it, escapes and all.
    pub principal: Vec<u8>,
    /// What was negotiated.
    pub mechanism: Mechanism,
    /// Whether the client wants to stay unknown.
    pub anonymous: bool,
    /// Whether the client sent a ticket of its own to be used for it. It was thrown away.
    pub delegated: bool,
    /// Whether the token named the channel that it was held against.
    pub channel_bound: bool,
    /// When the ticket ends, in seconds since 1970.
    pub ends_at: i64,
    /// What no other token has: a hash of the key that its client chose, and of its number.
    pub fingerprint: [u8; 32],
    /// What the KDC has sealed into the ticket about its account ([MS-PAC] 2.5), if it has.
    pub logon: Option<Vec<u8>>,
    /// What proves to the client whom it has reached.
    pub reply: Vec<u8>,
}

impl Acceptor {
    /// A negotiation that has not begun.
    pub(super) fn new(credential: Arc<Credential>) -> Self {
        Self { credential, context: ptr::null_mut() }
    }

    /// Takes the client's next `token`, which must not be empty: the library takes an empty one for
    /// a wish to be told what there is. `channel` is what the token should be bound to, if it is to
    /// anything.
    ///
    /// # Errors
    /// When the token proves nothing. The negotiation is over then.
    pub(super) fn accept(mut self, token: &[u8], channel: Option<&[u8]>) -> Result<Leg, GssError> {
        let mut input = borrowed(token);
        let mut bindings = channel.map(|data| sys::gss_channel_bindings_struct {
            initiator_addrtype: 0,
            initiator_address: borrowed(&[]),
            acceptor_addrtype: 0,
            acceptor_address: borrowed(&[]),
            application_data: borrowed(data),
        });
        let bindings = bindings.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        let (mut name, mut reply) = (Name(ptr::null_mut()), Buffer::empty());
        let (mut minor, mut flags, mut mechanism) = (0, 0, ptr::null_mut());
        let mut delegated = ptr::null_mut();
        // SAFETY: `context` is none or one that an earlier call gave; the inputs are borrowed for
        // the call, and the library only reads them; each output is a value of this frame.
        let major = unsafe {
            sys::gss_accept_sec_context(
                &raw mut minor,
                &raw mut self.context,
                self.credential.handle,
                &raw mut input,
                bindings,
                &raw mut name.0,
                &raw mut mechanism,
                &raw mut reply.0,
                &raw mut flags,
                ptr::null_mut(),
                &raw mut delegated,
            )
        };
        let sent_a_ticket = !delegated.is_null();
        if sent_a_ticket {
            let mut ignored = 0;
            // SAFETY: the call above gave it to us alone, and it is not used after this.
            unsafe { sys::gss_release_cred(&raw mut ignored, &raw mut delegated) };
        }
        match major {
            0 => {}
            CONTINUE => return Ok(Leg::Continue { token: reply.to_vec(), acceptor: self }),
            _ => return Err(error(major, minor)),
        }
        // SAFETY: the library gives a mechanism of its own, which lives as long as the process.
        let mechanism = unsafe { oid_bytes(mechanism) };
        let Once { ends_at, fingerprint } = self.once()?;
        Ok(Leg::Complete(Accepted {
            principal: name.display()?,
            mechanism: Mechanism::of(mechanism),
            anonymous: flags & ANONYMOUS != 0,
            delegated: sent_a_ticket || flags & DELEGATED != 0,
            channel_bound: flags & CHANNEL_BOUND != 0,
            ends_at,
            fingerprint,
            logon: name.sealed(LOGON_INFO)?,
            reply: reply.to_vec(),
        }))
    }

    /// What tells this context from every other, and when it ends. The context is used up.
    fn once(mut self) -> Result<Once, GssError> {
        let (mut minor, mut lucid) = (0, ptr::null_mut());
        // SAFETY: the context is complete and ours; version 1 is the one whose shape stands below.
        let major = unsafe {
            gss_krb5_export_lucid_sec_context(
                &raw mut minor,
                &raw mut self.context,
                1,
                &raw mut lucid,
            )
        };
        checked(major, minor)?;
        // SAFETY: on success it is a context of version 1 that nobody else holds.
        let once = unsafe { lucid.cast::<Lucid>().as_ref() }.and_then(Once::of);
        // SAFETY: it was given by the call above and is not used after this; the library clears the
        // keys in it.
        unsafe { gss_krb5_free_lucid_sec_context(&raw mut minor, lucid) };
        let text = "the context cannot be told from others".to_owned();
        once.ok_or(GssError { routine: 0, minor: 0, text })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the context is none or ours alone, and is not used after this; no token for the
        // client is asked for.
        unsafe {
            sys::gss_delete_sec_context(&raw mut minor, &raw mut self.context, ptr::null_mut())
        };
    }
}

/// When a context ends, and what no other has.
struct Once {
    ends_at: i64,
    fingerprint: [u8; 32],
}

impl Once {
    /// Of the context as `lucid` shows it. A client makes a key of its own for each token it sends,
    /// and a number; where it makes no key, the ticket's stands here, and the number is random.
    fn of(lucid: &Lucid) -> Option<Self> {
        if lucid.version != 1 {
            return None;
        }
        let key = if lucid.protocol == 0 { &lucid.rfc1964.key } else { &lucid.cfx.key };
        let length = usize::try_from(key.length).ok()?;
        if key.data.is_null() || length == 0 {
            return None;
        }
        // SAFETY: the library says that so many bytes of key stand there, and it lives for as long
        // as `lucid` does.
        let bytes = unsafe { std::slice::from_raw_parts(key.data.cast::<u8>(), length) };
        let mut hash = Context::new(&SHA256);
        hash.update(bytes);
        hash.update(&lucid.recv_seq.to_be_bytes());
        let fingerprint = hash.finish().as_ref().try_into().ok()?;
        Some(Self { ends_at: i64::from(lucid.endtime), fingerprint })
    }
}

/// `gss_krb5_lucid_context_v1_t` of MIT's `gssapi_krb5.h`, whose bindings nobody keeps.
#[repr(C)]
struct Lucid {
    version: u32,
    initiate: u32,
    endtime: u32,
    send_seq: u64,
    recv_seq: u64,
    protocol: u32,
    rfc1964: LucidRfc1964,
    cfx: LucidCfx,
}

#[repr(C)]
struct LucidKey {
    kind: u32,
    length: u32,
    data: *mut c_void,
}

#[repr(C)]
struct LucidRfc1964 {
    sign: u32,
    seal: u32,
    key: LucidKey,
}

#[repr(C)]
struct LucidCfx {
    has_acceptor_key: u32,
    key: LucidKey,
    acceptor_key: LucidKey,
}

unsafe extern "C" {
    fn gss_krb5_export_lucid_sec_context(
        minor_status: *mut u32,
        context_handle: *mut sys::gss_ctx_id_t,
        version: u32,
        kctx: *mut *mut c_void,
    ) -> u32;
    fn gss_krb5_free_lucid_sec_context(minor_status: *mut u32, kctx: *mut c_void) -> u32;
}

/// A name of the library's, or none.
struct Name(sys::gss_name_t);

impl Name {
    fn principal(text: &str) -> Result<Self, GssError> {
        let (mut input, mut kind) = (borrowed(text.as_bytes()), oid(PRINCIPAL_NAME));
        let (mut minor, mut name) = (0, Self(ptr::null_mut()));
        // SAFETY: both inputs are borrowed for the call and copied by it; the output is ours.
        let major = unsafe {
            sys::gss_import_name(&raw mut minor, &raw mut input, &raw mut kind, &raw mut name.0)
        };
        checked(major, minor)?;
        Ok(name)
    }

    /// The value of an attribute (RFC 6680 section 7.4), when the name has it.
    ///
    /// # Errors
    /// When it has it, and the KDC has not sealed it for this service; or has several values.
    fn sealed(&self, attribute: &[u8]) -> Result<Option<Vec<u8>>, GssError> {
        let mut attribute = borrowed(attribute);
        let (mut value, mut shown) = (Buffer::empty(), Buffer::empty());
        let (mut minor, mut authenticated, mut complete, mut more) = (0, 0, 0, -1);
        // SAFETY: a name that the library gave; the attribute is borrowed for the call, and only
        // read; each output is a value of this frame.
        let major = unsafe {
            sys::gss_get_name_attribute(
                &raw mut minor,
                self.0,
                &raw mut attribute,
                &raw mut authenticated,
                &raw mut complete,
                &raw mut value.0,
                &raw mut shown.0,
                &raw mut more,
            )
        };
        match checked(major, minor) {
            Ok(()) => {}
            Err(error) if error.routine == UNAVAILABLE => return Ok(None),
            Err(error) => return Err(error),
        }
        if authenticated == 0 || more != 0 {
            let text = "what the ticket says of its account is not sealed by the KDC".to_owned();
            return Err(GssError { routine: 0, minor: 0, text });
        }
        Ok(Some(value.to_vec()))
    }

    fn display(&self) -> Result<Vec<u8>, GssError> {
        let (mut minor, mut text) = (0, Buffer::empty());
        // SAFETY: a name that the library gave; what kind of name it is is not asked for.
        let major = unsafe {
            sys::gss_display_name(&raw mut minor, self.0, &raw mut text.0, ptr::null_mut())
        };
        checked(major, minor)?;
        Ok(text.to_vec())
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the name is none or ours alone, and is not used after this.
        unsafe { sys::gss_release_name(&raw mut minor, &raw mut self.0) };
    }
}

/// Bytes that the library made, or none.
struct Buffer(sys::gss_buffer_desc);

impl Buffer {
    fn empty() -> Self {
        Self(borrowed(&[]))
    }

    fn to_vec(&self) -> Vec<u8> {
        if self.0.value.is_null() || self.0.length == 0 {
            return Vec::new();
        }
        // SAFETY: the library says that so many bytes stand there, and they are ours.
        let bytes = unsafe { std::slice::from_raw_parts(self.0.value.cast::<u8>(), self.0.length) };
        bytes.to_vec()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut minor = 0;
        if !self.0.value.is_null() {
            // SAFETY: the library made the bytes, and they are not used after this.
            unsafe { sys::gss_release_buffer(&raw mut minor, &raw mut self.0) };
        }
    }
}

/// A buffer of bytes that are not the library's and that it only reads. Empty is none at all.
fn borrowed(bytes: &[u8]) -> sys::gss_buffer_desc {
    let value = if bytes.is_empty() { ptr::null_mut() } else { bytes.as_ptr().cast_mut().cast() };
    sys::gss_buffer_desc { length: bytes.len(), value }
}

fn oid(bytes: &'static [u8]) -> sys::gss_OID_desc {
    let length = bytes.len().try_into().unwrap_or_default();
    sys::gss_OID_desc { length, elements: bytes.as_ptr().cast_mut().cast() }
}

fn oid_set(oids: &mut [sys::gss_OID_desc]) -> sys::gss_OID_set_desc {
    let count = oids.len();
    sys::gss_OID_set_desc { count, elements: oids.as_mut_ptr() }
}

/// The bytes of an object identifier, none for none.
///
/// # Safety
/// `oid` must be null, or one that lives as long as the process.
unsafe fn oid_bytes(oid: sys::gss_OID) -> &'static [u8] {
    // SAFETY: as the caller promises.
    let Some(oid) = (unsafe { oid.as_ref() }) else { return &[] };
    let length = usize::try_from(oid.length).unwrap_or_default();
    if oid.elements.is_null() {
        return &[];
    }
    // SAFETY: an identifier has so many bytes as it says.
    unsafe { std::slice::from_raw_parts(oid.elements.cast::<u8>(), length) }
}

fn element(key: &CStr, value: &CStr) -> sys::gss_key_value_element_desc {
    sys::gss_key_value_element_desc { key: key.as_ptr(), value: value.as_ptr() }
}

fn checked(major: u32, minor: u32) -> Result<(), GssError> {
    if major == 0 { Ok(()) } else { Err(error(major, minor)) }
}

fn error(major: u32, minor: u32) -> GssError {
    let words: Vec<String> =
        [status(minor, MECH_CODE), status(major, GSS_CODE)].into_iter().flatten().collect();
    GssError { routine: (major >> 16) & 0xff, minor: minor.cast_signed(), text: words.join("; ") }
}

/// A status in words.
fn status(value: u32, kind: i32) -> Vec<String> {
    let mut words = Vec::new();
    let (mut minor, mut more, mut mechanism) = (0, 0, oid(KRB5));
    for _ in 0..STATUS_PARTS {
        let mut text = Buffer::empty();
        // SAFETY: the inputs are values of this frame, and so are the outputs.
        let major = unsafe {
            sys::gss_display_status(
                &raw mut minor,
                value,
                kind,
                &raw mut mechanism,
                &raw mut more,
                &raw mut text.0,
            )
        };
        if major != 0 {
            break;
        }
        words.push(String::from_utf8_lossy(&text.to_vec()).into_owned());
        if more == 0 {
            break;
        }
    }
    words
}
