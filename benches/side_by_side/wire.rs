//! The leanest HTTP/1.1 client there is, so that the two cores measure the broker and not it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One kept connection to the broker.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub async fn connect_all(port: u16, clients: usize) -> Vec<Self> {
        let mut wires = Vec::new();
        for _ in 0..clients {
            wires.push(Self::connect(port).await);
        }
        wires
    }

    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the broker listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, buffer: Vec::with_capacity(8192) }
    }

    /// Posts `body` and gives the answer's status and body.
    pub async fn post(&mut self, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        self.send("POST", path, token, body).await
    }

    /// Sends `body` by `method` and gives the answer's status and body.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> (u16, String) {
        let authorization =
            token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{authorization}content-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.expect("the broker reads");
        self.answer().await
    }

    async fn answer(&mut self) -> (u16, String) {
        self.buffer.clear();
        loop {
            if let Some(answer) = complete(&self.buffer) {
                return answer;
            }
            let read = self.stream.read_buf(&mut self.buffer).await.expect("the broker answers");
            assert!(read > 0, "the broker closed: {}", String::from_utf8_lossy(&self.buffer));
        }
    }
}

fn complete(bytes: &[u8]) -> Option<(u16, String)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.expect("the broker says the length of its answers");
    (body.len() >= length).then(|| (status, body.to_owned()))
}
