//! The way to a broker, which a test makes slow, silent or breaks.

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

/// Carries connections to an address, while it lives.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What becomes of bytes on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They pass.
    Fair,
    /// They pass after so long.
    Slow(Duration),
    /// They are kept until the weather changes. The connections stay.
    Silent,
    /// Every connection breaks, wherever it is, when so many have passed on all of them, and a bit later each time.
    Breaking(usize),
}

struct Shared {
    target: Mutex<(String, u16)>,
    weather: watch::Sender<Weather>,
    /// How many connections there were.
    accepted: watch::Sender<usize>,
    /// How often all connections were broken.
    breaks: watch::Sender<usize>,
    /// How many bytes pass until then.
    left: Mutex<usize>,
}

impl Proxy {
    pub async fn to(host: String, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new((host, port)),
            weather: watch::Sender::new(Weather::Fair),
            accepted: watch::Sender::new(0),
            breaks: watch::Sender::new(0),
            left: Mutex::default(),
        });
        let (port, stop) = (listener.local_addr().unwrap().port(), CancellationToken::new());
        tokio::spawn(stop.clone().run_until_cancelled_owned(listen(listener, shared.clone(), stop.clone())));
        Self { port, shared, _stop: stop.drop_guard() }
    }

    /// Carries connections to this host from now on.
    pub fn lead_to(&self, host: String) {
        self.shared.target.lock().unwrap_or_else(PoisonError::into_inner).0 = host;
    }

    pub fn set(&self, weather: Weather) {
        if let Weather::Breaking(bytes) = weather {
            *self.shared.left.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        }
        self.shared.weather.send_replace(weather);
    }

    /// Ends when somebody connects, from now on.
    pub fn connected(&self) -> impl Future<Output = ()> + use<> {
        let mut accepted = self.shared.accepted.subscribe();
        async move {
            // It ends only with the proxy.
            let _ = accepted.changed().await;
        }
    }

    /// How often all connections were broken.
    pub fn breaks(&self) -> usize {
        *self.shared.breaks.borrow()
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    while let Ok((near, _)) = listener.accept().await {
        shared.accepted.send_modify(|accepted| *accepted += 1);
        tokio::spawn(stop.clone().run_until_cancelled_owned(carry(near, shared.clone())));
    }
}

async fn carry(mut near: TcpStream, shared: Arc<Shared>) {
    let mut breaks = shared.breaks.subscribe();
    let target = shared.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    let ((from_near, to_near), (from_far, to_far)) = (near.split(), far.split());
    tokio::select! {
        () = pass(from_near, to_far, &shared) => {}
        () = pass(from_far, to_near, &shared) => {}
        _ = breaks.changed() => {}
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, shared: &Shared) {
    let (mut weather, mut bytes) = (shared.weather.subscribe(), [0; 4096]);
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        // It ends only with the proxy.
        let now = weather.wait_for(|now| *now != Weather::Silent).await.map_or(Weather::Fair, |now| *now);
        if let Weather::Slow(pause) = now {
            sleep(pause).await;
        }
        let passing = shared.passing(read);
        if to.write_all(&bytes[..passing]).await.is_err() {
            return;
        }
        if passing < read {
            return shared.breaks.send_modify(|breaks| *breaks += 1);
        }
    }
}

impl Shared {
    /// How many of so many bytes pass before everything breaks.
    fn passing(&self, bytes: usize) -> usize {
        let Weather::Breaking(every) = *self.weather.borrow() else { return bytes };
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes <= *left {
            *left -= bytes;
            return bytes;
        }
        let breaks = *self.breaks.borrow();
        std::mem::replace(&mut *left, every + every * (breaks % 7) / 3)
    }
}
