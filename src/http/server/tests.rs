use std::fs;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, Client, Version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::http::certificate::Reading;
use crate::http::testing::{Stand, settings};

/// A running listener; it stops when told, or with the test.
struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    renew: Arc<Notify>,
    task: JoinHandle<Result<(), ServeError>>,
    _stand: Stand,
}

impl Running {
    async fn start(settings: ServerSettings) -> Self {
        let stand = Stand::new();
        let listening = Listening::open(stand.broker.clone(), settings).await.unwrap();
        let (address, renew) = (listening.address(), listening.renew_certificate());
        let stop = CancellationToken::new();
        let task = tokio::spawn(listening.run(stop.clone()));
        Self { address, stop, renew, task, _stand: stand }
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All that is answered to `sent` until the other side closes.
    async fn raw(&self, sent: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The other side may close before it has read all.
        let _ = stream.write_all(sent).await;
        rest_of(&mut stream).await
    }
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A certificate for `localhost` in two files.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: TempDir::new().unwrap() };
        files.renew();
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new pair, and gives its certificate to trust.
    fn renew(&self) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        fs::write(self.path("key"), key.serialize_pem()).unwrap();
        fs::write(self.path("certificate"), certificate.pem()).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    fn settings(&self) -> ServerSettings {
        let transport = Transport::Tls {
            certificate_file: self.path("certificate"),
            key_file: self.path("key"),
        };
        ServerSettings { transport, ..settings() }
    }
}

/// A client that trusts `certificate` only, and makes a connection for every request.
fn trusting(certificate: &Certificate) -> Client {
    let client = Client::builder().tls_certs_only([certificate.clone()]).no_proxy();
    client.pool_max_idle_per_host(0).build().unwrap()
}

#[tokio::test]
async fn a_network_is_served_over_tls_or_not_at_all() {
    let stand = Stand::new();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let settings = ServerSettings { listen: address.parse().unwrap(), ..settings() };
        let refused = Listening::open(stand.broker.clone(), settings).await.err().unwrap();
        assert!(matches!(refused, ServeError::InClear { .. }), "{refused}");
    }
    Running::start(settings()).await.stopped().await;
    let files = Files::new();
    let open = ServerSettings { listen: "0.0.0.0:0".parse().unwrap(), ..files.settings() };
    Running::start(open).await.stopped().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_while_running_and_a_bad_one_is_not() {
    let files = Files::new();
    let first = files.renew();
    let running = Running::start(files.settings()).await;
    let url = format!("https://localhost:{}/healthz", running.address.port());
    let answer = trusting(&first).get(&url).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");

    // Half of a new pair is no pair.
    fs::write(files.path("key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    running.renew.notify_one();
    tokio::task::yield_now().await;
    assert!(trusting(&first).get(&url).send().await.is_ok());

    let second = files.renew();
    running.renew.notify_one();
    let mut renewed = false;
    for _ in 0..500 {
        renewed = trusting(&second).get(&url).send().await.is_ok();
        if renewed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(renewed);
    assert!(trusting(&first).get(&url).send().await.is_err());
    running.stopped().await;
}

#[tokio::test]
async fn a_certificate_that_is_the_same_is_not_called_renewed() {
    let files = Files::new();
    let pair = Pair { certificate: files.path("certificate"), key: files.path("key") };
    let served = Served::new(pair.load().await.unwrap());
    let mut used = pair.look().await;
    let mut again = async || pair.read_again(&served, pair.look().await, &mut used).await;
    assert_eq!(again().await, Reading::Unchanged);

    fs::write(files.path("key"), "x").unwrap();
    assert_eq!(again().await, Reading::Unusable);
    files.renew();
    // The clock of files is coarse, and a key is as long as another.
    let key = fs::File::options().write(true).open(files.path("key")).unwrap();
    key.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    assert_eq!(again().await, Reading::Renewed);
    assert_eq!(again().await, Reading::Unchanged);
}

#[tokio::test]
async fn files_that_are_no_pair_are_named() {
    let stand = Stand::new();
    let open = |files: &Files| Listening::open(stand.broker.clone(), files.settings());
    let text = |error: ServeError| crate::causes::with_causes(&error);

    let files = Files::new();
    fs::write(files.path("certificate"), "no certificate").unwrap();
    let error = text(open(&files).await.err().unwrap());
    assert!(error.contains("certificate holds no certificate in PEM"), "{error}");

    let files = Files::new();
    fs::write(files.path("key"), "canary").unwrap();
    let error = text(open(&files).await.err().unwrap());
    assert!(error.contains("key holds no private key in PEM"), "{error}");
    assert!(!error.contains("canary"), "{error}");

    let files = Files::new();
    fs::write(files.path("key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = text(open(&files).await.err().unwrap());
    assert!(error.contains("are no usable pair"), "{error}");

    let files = Files::new();
    fs::remove_file(files.path("key")).unwrap();
    let error = text(open(&files).await.err().unwrap());
    assert!(error.contains("key cannot be read"), "{error}");
}

#[tokio::test]
async fn whoever_stops_it_lets_open_requests_end() {
    let running = Running::start(settings()).await;
    let body = r#"{"username":"alice","password":""}"#;
    let head = format!(
        "POST /v1/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut stream = running.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer "go on" says that a handler is reading the body.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"));
    let idle = running.connect().await;
    running.stop.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let address = running.address;
    running.stopped().await;
    assert!(TcpStream::connect(address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn a_request_that_two_readers_could_read_differently_is_refused() {
    let running = Running::start(settings()).await;
    let post = "POST /v1/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let rest = "\r\n2\r\n{}\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let cases = [
        format!("{post}content-length: +2\r\n\r\n{{}}"),
        format!("{post}content-length: 0x2\r\n\r\n{{}}"),
        format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
        format!("{post}transfer-encoding: chunked, identity\r\n{rest}"),
        format!("{post}transfer-encoding: xchunked\r\n{rest}"),
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.test\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\n folded: x\r\n\r\n".to_owned(),
        "GET /healthz HTTP/1.1\r\nhost : localhost\r\n\r\n".to_owned(),
        "GET /healthz\u{0} HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
        "GET http://evil.test/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(),
        format!("{post}{chunked}\r\nzz\r\n{{}}\r\n0\r\n\r\n"),
    ];
    for case in cases {
        let mut stream = running.connect().await;
        stream.write_all(case.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest_of(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{case:?}: {answer:?}");
        assert!(!answer.contains("HTTP/1.1 200"), "{case:?}: {answer:?}");
    }
    // Both lengths at once: the chunks count and the connection ends (RFC 9112 section 6.1).
    let both = format!("{post}content-length: 2\r\n{chunked}{rest}");
    let answer = running.raw(both.as_bytes()).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    let good = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(running.raw(good.as_bytes()).await.starts_with("HTTP/1.1 200"));
    running.stopped().await;
}

#[tokio::test]
async fn headers_are_bounded_in_number_and_size() {
    let running = Running::start(settings()).await;
    let with = |headers: &str| {
        format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
    };
    let some = with(&"x: y\r\n".repeat(20));
    assert!(running.raw(some.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let many = with(&"x: y\r\n".repeat(HEADERS_MAX));
    assert!(running.raw(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let ticket = with(&format!("x: {}\r\n", "y".repeat(90 * 1024)));
    assert!(running.raw(ticket.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let long = with(&format!("x: {}\r\n", "y".repeat(3 * HEADER_BYTES_MAX as usize)));
    assert!(running.raw(long.as_bytes()).await.starts_with("HTTP/1.1 431"));
    running.stopped().await;
}

#[tokio::test]
async fn whoever_is_slow_is_not_waited_for() {
    let quick = Duration::from_millis(50);
    let impatient =
        || ServerSettings { header_timeout: quick, request_timeout: quick, ..settings() };
    let running = Running::start(impatient()).await;
    // Nothing, half a header, nothing after an answer: each is closed without another word.
    for sent in ["", "GET /healthz HTTP/1.1\r\nhost: local"] {
        let answer = running.raw(sent.as_bytes()).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{sent}: {answer}");
    }
    let kept = running.raw(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(kept.matches("HTTP/1.1").count(), 1, "{kept}");
    let half = "POST /v1/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let answer = running.raw(half.as_bytes()).await;
    let late = answer.starts_with("HTTP/1.1 408") || answer.starts_with("HTTP/1.1 503");
    assert!(late, "{answer}");
    running.stopped().await;

    let files = Files::new();
    let tls = ServerSettings { transport: files.settings().transport, ..impatient() };
    let running = Running::start(tls).await;
    for sent in ["", "\u{16}\u{3}\u{1}"] {
        assert_eq!(running.raw(sent.as_bytes()).await, "");
    }
    running.stopped().await;
}

#[tokio::test]
async fn many_silent_clients_do_not_keep_others_out() {
    let running = Running::start(settings()).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        let mut stream = running.connect().await;
        stream.write_all(b"POST /v1/login HTT").await.unwrap();
        silent.push(stream);
    }
    let good = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(running.raw(good.as_bytes()).await.starts_with("HTTP/1.1 200"));
    drop(silent);
    running.stopped().await;
}

/// What curl shows of one call over HTTP/2: its exit status, the version, the HTTP status and the body.
async fn curl(running: &Running, files: &Files, path: &str, more: &[&str]) -> String {
    let url = format!("https://localhost:{}{path}", running.address.port());
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--http2", "--noproxy", "*", "--max-time", "30"]);
    curl.args(["--write-out", " HTTP/%{http_version} %{http_code}", "--cacert"]);
    let said = curl.arg(files.path("certificate")).args(more).arg(url).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{} {}{}", said.status, text(&said.stdout), text(&said.stderr))
}

/// Without reading the body first, curl 7.88 says "(92) Stream error in the HTTP/2 framing layer".
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_a_client_whose_body_nobody_has_read() {
    let files = Files::new();
    let running = Running::start(files.settings()).await;
    let large = files.path("large");
    fs::write(&large, "x".repeat(200_000)).unwrap();
    let large = format!("@{}", large.display());
    let json = "content-type: application/json";
    let cases: [(&str, &[&str], u16, &str); 8] = [
        ("/v1/login", &["-d", "username=alice"], 415, "media-type"),
        ("/v1/logout", &["-d", "{}"], 401, "not-logged-in"),
        ("/v1/leases", &["-H", json, "-d", "{}"], 401, "not-logged-in"),
        ("/v1/leases", &["-u", "alice:", "-H", json, "-d", "{}"], 401, "login-refused"),
        ("/v1/leases", &["-X", "PUT", "-H", json, "-d", "{}"], 405, "method-not-allowed"),
        ("/v1/nothing", &["-d", "{}"], 404, "not-found"),
        ("/v1/login", &["-H", json, "--data-binary", &large], 413, "body-too-large"),
        ("/v1/login", &["-H", "host: evil.test", "-H", json, "-d", "{}"], 421, "wrong-host"),
    ];
    for (path, more, status, word) in cases {
        // A race decides who loses, so one good answer would prove little.
        for _ in 0..5 {
            let said = curl(&running, &files, path, more).await;
            assert!(said.starts_with("exit status: 0 "), "{path} {more:?}: {said}");
            assert!(said.contains(&format!("urn:pgbridge:problem:{word}\"")), "{more:?}: {said}");
            assert!(said.ends_with(&format!(" HTTP/2 {status}")), "{path} {more:?}: {said}");
        }
    }
    running.stopped().await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let running = Running::start(settings()).await;
    let head = "POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\n";
    // Longer than anybody reads by its own word, or kept back until told to go on: answered at once.
    for more in ["content-length: 99999999\r\n", "content-length: 2\r\nexpect: 100-continue\r\n"] {
        let mut stream = running.connect().await;
        stream.write_all(format!("{head}{more}\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"HTTP/1.1 404");
    }
    // Endless without saying so: answered after as much as anybody reads.
    let mut stream = running.connect().await;
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    stream.write_all(format!("{head}{chunked}").as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let (mut from, mut to) = stream.into_split();
    let sending =
        tokio::spawn(async move { while to.write_all(chunk.as_bytes()).await.is_ok() {} });
    let mut answer = [0; 12];
    from.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 404");
    sending.abort();
    drop(from);

    let quick = Duration::from_millis(50);
    running.stopped().await;
    let running = Running::start(ServerSettings { header_timeout: quick, ..settings() }).await;
    let half = format!("{head}content-length: 9\r\n\r\n{{");
    let answer = running.raw(half.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    running.stopped().await;
}
