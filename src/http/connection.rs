//! What belongs to a connection and to no request alone: the certificate that it was begun with, and
//! a negotiation that waits for the client's next token (RFC 4559 section 5).
//!
//! Nothing of it outlives the connection, and there are only so many of those. What somebody has
//! proven is never kept here: each request proves for itself.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use futures::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Layer;

use super::certificate::Served;
use super::slots::{Held, Slots};
use crate::auth::way::{EndPoint, Negotiation};

/// One connection. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Connection(Arc<Inner>);

#[derive(Default)]
struct Inner {
    end_point: Option<EndPoint>,
    negotiation: Mutex<Option<Box<dyn Negotiation>>>,
}

impl Connection {
    fn new(end_point: Option<EndPoint>) -> Self {
        Self(Arc::new(Inner { end_point, negotiation: Mutex::default() }))
    }

    /// Our end of it, as far as tokens can be bound to that.
    pub(super) fn end_point(&self) -> Option<EndPoint> {
        self.0.end_point.clone()
    }

    /// The negotiation that waits for a token, which is the caller's now.
    pub(super) fn take_negotiation(&self) -> Option<Box<dyn Negotiation>> {
        self.0.negotiation.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Lets `negotiation` wait for the next token, and no other.
    pub(super) fn keep_negotiation(&self, negotiation: Box<dyn Negotiation>) {
        *self.0.negotiation.lock().unwrap_or_else(PoisonError::into_inner) = Some(negotiation);
    }
}

/// Lets connections in that are in clear, on this machine.
#[derive(Clone)]
pub(super) struct InClear(pub(super) Slots);

impl<Service: Send + 'static> Accept<TcpStream, Service> for InClear {
    type Stream = Held<TcpStream>;
    type Service = AddExtension<Service, Connection>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: Service) -> Self::Future {
        let held = self.0.accept(stream, service);
        Box::pin(async move {
            let (stream, service) = held.await?;
            Ok((stream, Extension(Connection::default()).layer(service)))
        })
    }
}

/// Lets connections in over TLS. Each knows the certificate that it was begun with, however often
/// that is renewed meanwhile.
#[derive(Clone)]
pub(super) struct OverTls {
    pub(super) slots: Slots,
    pub(super) served: Served,
    /// Longest time for the handshake.
    pub(super) within: Duration,
}

impl<Service: Send + 'static> Accept<TcpStream, Service> for OverTls {
    type Stream = TlsStream<Held<TcpStream>>;
    type Service = AddExtension<Service, Connection>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: Service) -> Self::Future {
        let (held, within) = (self.slots.accept(stream, service), self.within);
        let in_use = self.served.in_use();
        Box::pin(async move {
            let (stream, service) = held.await?;
            let handshake = TlsAcceptor::from(Arc::clone(&in_use.config)).accept(stream);
            let stream = timeout(within, handshake).await??;
            let connection = Connection::new(in_use.end_point.clone());
            Ok((stream, Extension(connection).layer(service)))
        })
    }
}
