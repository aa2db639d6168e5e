//! The byte stream of a connection, with TLS or without.
//!
//! The TLS of lapin depends on a parser of PKCS #12 and the crates that it needs, so connections are
//! encrypted here.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use async_rs::{Tokio, traits::Reactor};
use futures_util::{
    Stream as Events,
    io::{AsyncRead, AsyncWrite},
};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::Broker;

/// An open connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to a broker and, with TLS, verifies its certificate.
pub(super) async fn connect(broker: &Broker) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((broker.host.as_str(), broker.port)).await?;
    stream.set_nodelay(true)?;
    #[cfg(feature = "amqp-tls")]
    if let Some(trusted) = &broker.tls {
        use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

        let name = ServerName::try_from(broker.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(trusted.client().clone());
        return Ok(Box::new(connector.connect(name, stream).await?.compat()));
    }
    Ok(Box::new(stream.compat()))
}

/// The reactor of Tokio with streams of this module, for lapin.
#[derive(Clone, Debug)]
pub(super) struct StreamReactor(pub(super) Tokio);

impl Reactor for StreamReactor {
    type TcpStream = Box<dyn Stream>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Events<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connected = self.0.tcp_connect_addr(address);
        async move { connected.await.map(|stream| Box::new(stream) as Self::TcpStream) }
    }
}
