//! As much of PostgreSQL's protocol as it takes to be asked for a password, and to leave then
//! (manual, "Message Formats"). The driver cannot do this: it always goes on.

/// Longest message that is read while nobody is logged in.
pub(super) const MESSAGE_MAX: usize = 16 * 1024;

/// Asks for TLS.
pub(super) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What the server asks of who wants to log in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Demand {
    /// Nothing: `trust`, or another method that is satisfied already.
    Nothing,
    /// The password in clear: `password`, `ldap`, `pam`, `radius` or `bsd`.
    Password,
    /// An MD5 of it: `md5`.
    Md5,
    /// `scram-sha-256`, or `md5` where the server makes SCRAM of it.
    Scram,
    /// A ticket: `gss` or `sspi`.
    Ticket,
    /// Something that this version does not know.
    Unknown(i32),
    /// It refuses: `SQLSTATE` and message.
    Refused(String, String),
}

/// The first message of a connection: who wants to log in, and where.
pub(super) fn startup(user: &str, database: &str) -> Vec<u8> {
    const PROTOCOL_3_0: u32 = 196_608;
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    let application = ("application_name", "pgbridge doctor");
    for (name, value) in [("user", user), ("database", database), application] {
        for text in [name, value] {
            // The name types let no NUL through.
            body.extend(text.bytes().filter(|byte| *byte != 0));
            body.push(0);
        }
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body].concat()
}

/// How many bytes follow the five that every message of the server begins with.
pub(super) fn rest_of([_, length @ ..]: [u8; 5]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?.checked_sub(4)?;
    (length <= MESSAGE_MAX).then_some(length)
}

/// What the server's first message says; nothing when it is none that may come here.
pub(super) fn demand(kind: u8, body: &[u8]) -> Option<Demand> {
    match kind {
        b'R' => Some(authentication(i32::from_be_bytes(*body.first_chunk()?))),
        b'E' => Some(refusal(body)),
        _ => None,
    }
}

fn authentication(code: i32) -> Demand {
    match code {
        0 => Demand::Nothing,
        3 => Demand::Password,
        5 => Demand::Md5,
        7 | 9 => Demand::Ticket,
        10 => Demand::Scram,
        code => Demand::Unknown(code),
    }
}

/// Fields of an error: a letter, a text, a NUL; a NUL ends them.
fn refusal(body: &[u8]) -> Demand {
    let fields = body.split(|byte| *byte == 0).filter_map(|field| field.split_first());
    let field = |letter: u8| {
        let found = fields.clone().find(|(first, _)| **first == letter);
        found.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    Demand::Refused(field(b'C'), field(b'M'))
}

/// A TLS greeting of a client that knows TLS 1.1 and nothing newer (RFC 4346, 7.4.1.2).
pub(super) fn old_tls_hello() -> Vec<u8> {
    const TLS_1_1: [u8; 2] = [3, 2];
    // ECDHE and plain RSA with AES in CBC mode, and the signal that renegotiation is secure.
    const SUITES: [u8; 18] = [
        0xc0, 0x09, 0xc0, 0x0a, 0xc0, 0x13, 0xc0, 0x14, 0x00, 0x2f, 0x00, 0x35, 0x00, 0x33, 0x00,
        0x39, 0x00, 0xff,
    ];
    // supported_groups: P-256, P-384, x25519. ec_point_formats: uncompressed.
    const EXTENSIONS: [u8; 18] = [0, 10, 0, 8, 0, 6, 0, 23, 0, 24, 0, 29, 0, 11, 0, 2, 1, 0];
    let mut hello = TLS_1_1.to_vec();
    // The handshake is not finished, so its random number need not be random.
    hello.extend([0x70; 32]);
    hello.push(0);
    hello.extend(prefixed(&SUITES));
    hello.extend([1, 0]);
    hello.extend(prefixed(&EXTENSIONS));
    let handshake = [&[1, 0][..], &prefixed(&hello)].concat();
    [&[22, 3, 1][..], &prefixed(&handshake)].concat()
}

/// `bytes` with their length, in two bytes, before them.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

/// Whether a server that was greeted so goes on; nothing when its answer is neither.
pub(super) fn goes_on_with_old_tls([kind, _, _, _, _]: [u8; 5]) -> Option<bool> {
    const ALERT: u8 = 21;
    const HANDSHAKE: u8 = 22;
    match kind {
        ALERT => Some(false),
        HANDSHAKE => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_names_user_and_database() {
        let message = startup("pgb_x", "orders");
        let text =
            b"\0\x03\0\0user\0pgb_x\0database\0orders\0application_name\0pgbridge doctor\0\0";
        let length = u32::try_from(text.len() + 4).unwrap();
        assert_eq!(message, [&length.to_be_bytes()[..], text].concat());
    }

    #[test]
    fn every_demand_of_a_server_is_told_apart() {
        for (code, wanted) in [
            (0, Demand::Nothing),
            (3, Demand::Password),
            (5, Demand::Md5),
            (7, Demand::Ticket),
            (9, Demand::Ticket),
            (10, Demand::Scram),
            (99, Demand::Unknown(99)),
        ] {
            let body = [&i32::to_be_bytes(code)[..], b"SCRAM-SHA-256\0\0"].concat();
            assert_eq!(demand(b'R', &body), Some(wanted), "{code}");
        }
        let error = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry\0Fauth.c\0\0";
        let refused = Demand::Refused("28000".into(), "no pg_hba.conf entry".into());
        assert_eq!(demand(b'E', error), Some(refused));
        assert_eq!(demand(b'E', b"\0"), Some(Demand::Refused(String::new(), String::new())));
        assert_eq!(demand(b'R', b"\0\0"), None);
        assert_eq!(demand(b'Z', b"I"), None);
    }

    #[test]
    fn a_message_that_is_longer_than_any_can_be_is_not_read() {
        assert_eq!(rest_of([b'R', 0, 0, 0, 8]), Some(4));
        assert_eq!(rest_of([b'R', 0, 0, 0, 3]), None);
        assert_eq!(rest_of([b'H', b'T', b'T', b'P', b'/']), None);
    }

    #[test]
    fn the_old_greeting_is_well_formed() {
        let hello = old_tls_hello();
        let length = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
        assert_eq!(hello[..3], [22, 3, 1]);
        assert_eq!(length(3), hello.len() - 5);
        assert_eq!((hello[5], hello[6]), (1, 0));
        assert_eq!(length(7), hello.len() - 9);
        assert_eq!(goes_on_with_old_tls([21, 3, 1, 0, 2]), Some(false));
        assert_eq!(goes_on_with_old_tls([22, 3, 2, 0, 80]), Some(true));
        assert_eq!(goes_on_with_old_tls([b'H', b'T', b'T', b'P', b'/']), None);
    }
}
