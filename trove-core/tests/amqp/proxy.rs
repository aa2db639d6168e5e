//! A TCP proxy that delays, stalls or breaks connections.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Forwards connections to a target until dropped.
pub struct Proxy {
    pub port: u16,
    shared: Arc<ProxyState>,
    _stop: DropGuard,
}

/// How bytes are forwarded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Immediately.
    Forward,
    /// After a delay.
    Delay(Duration),
    /// Not before this setting changes. Connections stay open.
    Stall,
    /// All connections break after this number of bytes in total, and then after varying larger
    /// numbers.
    BreakEvery(usize),
}

struct ProxyState {
    target: Mutex<(String, u16)>,
    traffic: watch::Sender<Traffic>,
    /// The number of accepted connections.
    accepted: watch::Sender<usize>,
    /// How often all connections were broken.
    breaks: watch::Sender<usize>,
    /// The number of bytes until all connections break next.
    remaining_bytes: Mutex<usize>,
}

impl Proxy {
    pub async fn to(host: String, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(ProxyState {
            target: Mutex::new((host, port)),
            traffic: watch::Sender::new(Traffic::Forward),
            accepted: watch::Sender::new(0),
            breaks: watch::Sender::new(0),
            remaining_bytes: Mutex::default(),
        });
        let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
        tokio::spawn(stop.clone().run_until_cancelled_owned(listen(listener, shared.clone(), stop.clone())));
        Self { port, shared, _stop: stop.drop_guard() }
    }

    /// Forwards new connections to this host.
    pub fn set_target(&self, host: String) {
        self.shared.target.lock().unwrap_or_else(PoisonError::into_inner).0 = host;
    }

    pub fn set(&self, traffic: Traffic) {
        if let Traffic::BreakEvery(bytes) = traffic {
            *self.shared.remaining_bytes.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        }
        self.shared.traffic.send_replace(traffic);
    }

    /// Waits for the next connection.
    pub fn connected(&self) -> impl Future<Output = ()> + use<> {
        let mut accepted = self.shared.accepted.subscribe();
        async move {
            // Fails only when the proxy is dropped.
            let _ = accepted.changed().await;
        }
    }

    /// Returns how often all connections were broken.
    pub fn breaks(&self) -> usize {
        *self.shared.breaks.borrow()
    }
}

async fn listen(listener: TcpListener, shared: Arc<ProxyState>, stop: CancellationToken) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.send_modify(|accepted| *accepted += 1);
        tokio::spawn(stop.clone().run_until_cancelled_owned(forward_connection(client, shared.clone())));
    }
}

async fn forward_connection(mut client: TcpStream, shared: Arc<ProxyState>) {
    let mut breaks = shared.breaks.subscribe();
    let target = shared.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    tokio::select! {
        () = forward_bytes(from_client, to_server, &shared) => {}
        () = forward_bytes(from_server, to_client, &shared) => {}
        _ = breaks.changed() => {}
    }
}

async fn forward_bytes(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, shared: &ProxyState) {
    let (mut traffic, mut bytes) = (shared.traffic.subscribe(), [0; 4096]);
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        // Fails only when the proxy is dropped.
        let now = traffic.wait_for(|now| *now != Traffic::Stall).await.map_or(Traffic::Forward, |now| *now);
        if let Traffic::Delay(pause) = now {
            sleep(pause).await;
        }
        let allowed_bytes = shared.allowed_bytes(read);
        if to.write_all(&bytes[..allowed_bytes]).await.is_err() {
            return;
        }
        if allowed_bytes < read {
            return shared.breaks.send_modify(|breaks| *breaks += 1);
        }
    }
}

impl ProxyState {
    /// Returns how many of these bytes may be forwarded before all connections break.
    fn allowed_bytes(&self, bytes: usize) -> usize {
        let Traffic::BreakEvery(every) = *self.traffic.borrow() else { return bytes };
        let mut remaining_bytes = self.remaining_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes <= *remaining_bytes {
            *remaining_bytes -= bytes;
            return bytes;
        }
        let breaks = *self.breaks.borrow();
        std::mem::replace(&mut *remaining_bytes, every + every * (breaks % 7) / 3)
    }
}
