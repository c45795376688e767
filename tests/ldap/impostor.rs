//! A server that says what it was told to, whatever it is asked: the broken or hostile directory
//! that nobody can run. It remembers every byte it hears.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Listens until the test's process ends.
pub struct Impostor {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone, Copy)]
enum Manner {
    /// Stays silent after its last answer.
    Stays,
    /// Closes the connection after its last answer.
    HangsUp,
}

impl Impostor {
    /// On each connection it answers each thing it hears with the next of `answers`, and then
    /// never again. A `port` of 0 is any free one.
    pub fn listen(address: &str, port: u16, answers: Vec<Vec<u8>>) -> Self {
        Self::start(address, port, answers, Manner::Stays)
    }

    /// The same, but it closes the connection after its last answer.
    pub fn hanging_up(address: &str, port: u16, answers: Vec<Vec<u8>>) -> Self {
        Self::start(address, port, answers, Manner::HangsUp)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every byte that came over any of its connections.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }

    fn start(address: &str, port: u16, answers: Vec<Vec<u8>>, manner: Manner) -> Self {
        let listener = TcpListener::bind((address, port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::default();
        let notes = Arc::clone(&heard);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (answers, notes) = (answers.clone(), Arc::clone(&notes));
                thread::spawn(move || converse(&connection, &answers, manner, &notes));
            }
        });
        Self { port, heard }
    }
}

fn converse(mut peer: &TcpStream, answers: &[Vec<u8>], manner: Manner, notes: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    let mut answers = answers.iter();
    while let Ok(length @ 1..) = peer.read(&mut buffer) {
        notes.lock().unwrap().extend_from_slice(&buffer[..length]);
        let Some(answer) = answers.next() else { continue };
        let sent = peer.write_all(answer);
        if sent.is_err() || (answers.len() == 0 && matches!(manner, Manner::HangsUp)) {
            let _ = peer.shutdown(Shutdown::Write);
        }
    }
}

/// One BER element.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    let mut element = vec![tag, 0x84];
    element.extend(length.to_be_bytes());
    element.extend_from_slice(content);
    element
}

/// An `LDAPMessage`.
pub fn message(id: u8, operation: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(2, &[id]), operation.to_vec()].concat())
}

/// An `LDAPResult` under the tag of its operation.
pub fn result_of(tag: u8, code: u8) -> Vec<u8> {
    tlv(tag, &[tlv(0x0a, &[code]), tlv(4, b""), tlv(4, b"")].concat())
}

/// An `ExtendedResponse`.
pub fn extended_response(code: u8) -> Vec<u8> {
    result_of(0x78, code)
}

/// Sequences inside each other, `levels` deep.
pub fn nested(levels: u32) -> Vec<u8> {
    let header = |left: u32| {
        let [a, b, c, d] = (6 * left).to_be_bytes();
        [0x30, 0x84, a, b, c, d]
    };
    (0..levels).rev().flat_map(header).collect()
}
