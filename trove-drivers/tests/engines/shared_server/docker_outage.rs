//! A Docker Engine that stops, hangs and comes back, simulated by a relay in front of its socket.

use std::{
    fs,
    os::unix,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::common::{Fixture, HANG_LIMIT, cx, eventually, wait_until_healthy};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use trove_core::{
    datastore::{Datastore, Driver},
    model::{Condition, Health},
};
use trove_drivers::{Docker, PostgreSql};

pub async fn a_docker_outage_is_reported_until_it_ends(fixture: &Fixture) {
    let socket = fixture.directory.path().join("docker.sock");
    let attach = || PostgreSql::new().docker(Docker::socket(&socket)).attach(fixture.host.clone()).unwrap();
    let server = attach();
    assert_runtime_unavailable(&*server).await;

    let relay = Relay::new(&socket);
    wait_until_healthy(&*server).await;
    let watched = attach();
    let change = tokio::spawn(async move { watched.changed().await });
    eventually(
        "the event stream is open",
        async || {
            if relay.connections() > 0 { Ok(()) } else { Err("closed".to_owned()) }
        },
    )
    .await;
    drop(relay);
    timeout(HANG_LIMIT, change).await.expect("the lost event stream was not reported").unwrap();
    assert_runtime_unavailable(&*server).await;

    // Accepts connections and never answers.
    fs::remove_file(&socket).unwrap();
    let hanging = unix::net::UnixListener::bind(&socket).unwrap();
    timeout(HANG_LIMIT, assert_runtime_unavailable(&*server)).await.expect("the observation hangs");
    drop(hanging);
    fs::remove_file(&socket).unwrap();
    let _relay = Relay::new(&socket);
    wait_until_healthy(&*server).await;
}

async fn assert_runtime_unavailable(server: &dyn Datastore) {
    let health = server.observe(&cx()).await.unwrap().health;
    let expected = Condition::RuntimeUnavailable;
    assert!(matches!(&health, Health::Unknown(problem) if problem.condition == expected), "{health:?}");
}

/// Forwards connections to the real Docker Engine until it is dropped.
struct Relay {
    accepting: JoinHandle<()>,
    forwarders: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Relay {
    fn new(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let forwarders = Arc::new(Mutex::new(Vec::new()));
        let started = Arc::clone(&forwarders);
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let forwarder = tokio::spawn(async move {
                    let mut engine = UnixStream::connect("/var/run/docker.sock").await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
                });
                started.lock().unwrap().push(forwarder);
            }
        });
        Self { accepting, forwarders }
    }

    fn connections(&self) -> usize {
        self.forwarders.lock().unwrap().iter().filter(|forwarder| !forwarder.is_finished()).count()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
        self.forwarders.lock().unwrap().iter().for_each(JoinHandle::abort);
    }
}
