//! Listening: TLS, limits of connections, stopping in good order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use axum_server::{Handle, Server};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::certificate::{CertificateError, Pair, Served};
use super::connection::{Connection, InClear, OverTls};
use super::router::router;
use super::slots::Slots;
use super::telemetry::{metrics, show_health, show_info};
use crate::broker::Broker;
use crate::config::{ServerSettings, Transport};

/// Headers of one request; hyper answers 431 to more.
const HEADERS_MAX: usize = 64;

/// Bytes of the headers of one request; hyper answers 431 to more, and to twice as many at the
/// latest. A ticket of Active Directory has up to 64 KiB (`MaxTokenSize` and its ceiling), a third
/// more as text, and there are others beside.
const HEADER_BYTES_MAX: u32 = 96 * 1024;

/// Requests that one HTTP/2 connection may have open at once.
const STREAMS_MAX: u32 = 32;

/// How often health is shown in the metrics, and the metrics are tidied.
const SHOW_EVERY: Duration = Duration::from_secs(15);

/// Why the broker cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address would let passwords cross a network in clear.
    #[error(
        "{address} is no loopback address: name `certificate_file` and `key_file` in [server], or listen on 127.0.0.1"
    )]
    InClear {
        /// The address.
        address: SocketAddr,
    },
    /// The certificate cannot be used.
    #[error("the certificate of the listener cannot be used")]
    Certificate(#[from] CertificateError),
    /// The address cannot be listened on.
    #[error(
        "{address} cannot be listened on: end what listens there (`ss -ltnp` names it), or set another `listen` in [server]"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Signals cannot be waited for.
    #[error("the process cannot wait for signals")]
    Signals(#[source] io::Error),
    /// The listener failed.
    #[error("the listener failed")]
    Failed(#[source] io::Error),
}

/// A listener that is open but does not answer yet.
pub struct Listening {
    broker: Broker,
    settings: ServerSettings,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<(Pair, Served)>,
    renew: Arc<Notify>,
}

impl Listening {
    /// Reads the certificate and opens the listener.
    ///
    /// # Errors
    /// When the address would be in clear on a network, the certificate cannot be used, or the
    /// address cannot be listened on.
    pub async fn open(broker: Broker, settings: ServerSettings) -> Result<Self, ServeError> {
        // From now on whatever is counted is shown.
        metrics();
        show_info(&broker.map_revision());
        let address = settings.listen;
        let tls = match &settings.transport {
            Transport::Plain if address.ip().to_canonical().is_loopback() => None,
            Transport::Plain => return Err(ServeError::InClear { address }),
            Transport::Tls { certificate_file, key_file } => {
                let pair = Pair { certificate: certificate_file.clone(), key: key_file.clone() };
                let served = Served::new(pair.load().await?);
                Some((pair, served))
            }
        };
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { broker, settings, listener, address, tls, renew: Arc::default() })
    }

    /// The address it listens on, with the port that the system chose if none was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the certificate anew whenever it is notified, without waiting for its files to change.
    #[must_use]
    pub fn renew_certificate(&self) -> Arc<Notify> {
        Arc::clone(&self.renew)
    }

    /// Answers until `stop` is cancelled; then takes no new connection, finishes what is open,
    /// and returns when that is done or the time for it is over.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServeError> {
        let Self { broker, settings, listener, address, tls, renew } = self;
        let mut beside = JoinSet::new();
        beside.spawn(show_for_ever(broker.clone(), metrics()));
        let slots = Slots::new(settings.request_timeout + settings.header_timeout);
        let service = router(broker, &settings);
        let handle = Handle::new();
        beside.spawn(stop_when_told(stop, handle.clone(), settings.shutdown_timeout));
        let server = Server::from_listener(listener).handle(handle);
        let scheme = if tls.is_some() { "https" } else { "http" };
        info!(%address, scheme, public_url = %settings.public_url, "serving");
        let served = match tls {
            None => answer(server.acceptor(InClear(slots)), service, &settings).await,
            Some((pair, served)) => {
                beside.spawn(pair.renew_for_ever(served.clone(), renew));
                let acceptor = OverTls { slots, served, within: settings.header_timeout };
                answer(server.acceptor(acceptor), service, &settings).await
            }
        };
        info!(%address, "no longer serving");
        served.map_err(ServeError::Failed)
    }
}

/// Waits for SIGTERM or SIGINT, then cancels `stop`; until then each SIGHUP calls `hung_up`. From
/// the moment of this call none of the three ends the process by itself.
///
/// # Errors
/// When signals cannot be waited for.
pub fn until_told_to_stop(
    stop: CancellationToken,
    hung_up: impl Fn() + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, ServeError> {
    let on = |kind| signal(kind).map_err(ServeError::Signals);
    let (mut terminate, mut interrupt, mut hangup): (Signal, Signal, Signal) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?);
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => hung_up(),
            }
        }
        info!("told to stop");
        stop.cancel();
    })
}

/// What a connection is served by: the router, told who the peer is.
type Service = AddExtension<Router, ConnectInfo<SocketAddr>>;

async fn answer<Acceptor>(
    mut server: Server<SocketAddr, Acceptor>,
    router: Router,
    settings: &ServerSettings,
) -> io::Result<()>
where
    Acceptor: Accept<TcpStream, Service, Service = AddExtension<Service, Connection>>
        + Clone
        + Send
        + Sync
        + 'static,
    Acceptor::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    Acceptor::Future: Send,
{
    limit(server.http_builder(), settings);
    server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await
}

/// HTTP within limits. hyper panics on a time limit without a timer, so each protocol gets one.
/// HTTP/2 pings are not sent: their answers would keep a connection that nobody uses.
fn limit(builder: &mut Builder<TokioExecutor>, settings: &ServerSettings) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
}

async fn stop_when_told(stop: CancellationToken, handle: Handle<SocketAddr>, within: Duration) {
    stop.cancelled().await;
    handle.graceful_shutdown(Some(within));
}

async fn show_for_ever(broker: Broker, metrics: &'static PrometheusHandle) {
    loop {
        show_health(&broker.health().await);
        metrics.run_upkeep();
        tokio::time::sleep(SHOW_EVERY).await;
    }
}

#[cfg(test)]
mod tests;
