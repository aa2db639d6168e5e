//! The engine's session with a server that violates the protocol or fails.

#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::Mutex,
};
use trove_core::{
    datastore::{GuestHost, UserStore},
    error::Kind,
    id::InstanceId,
};
use trove_drivers::container::{Engine, Readiness};
use trove_valkey::ValkeyEngine;

/// The end of the engine's login, and the replies.
const LOGIN: (&str, &str) = ("LIB-VER", "+OK\r\n+OK\r\n+OK\r\n");

fn engine(directory: &Path) -> (ValkeyEngine, UnixListener) {
    let run = directory.join("run");
    std::fs::create_dir(&run).unwrap();
    let listener = UnixListener::bind(run.join("valkey.sock")).unwrap();
    let mut host = GuestHost::new(InstanceId::new_v4(), "/nowhere", directory);
    host.server.uid = rustix::process::geteuid().as_raw();
    (ValkeyEngine::new(&host), listener)
}

/// Reads up to the end of a request, sends a reply and returns the request.
async fn reply_to(session: &mut UnixStream, (end, reply): (&str, &str)) -> String {
    let mut request = String::new();
    while !request.ends_with(end) && !request.contains(&format!("{end}\r\n")) {
        let mut part = vec![0; 4096];
        let length = session.read(&mut part).await.unwrap();
        assert!(length > 0, "the engine closed the session after {request:?}");
        request += std::str::from_utf8(&part[..length]).unwrap();
    }
    session.write_all(reply.as_bytes()).await.unwrap();
    request
}

#[tokio::test]
async fn endless_replies_are_rejected_after_a_bounded_length() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, listener) = engine(directory.path());
    let sent = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        let (mut session, _) = listener.accept().await.unwrap();
        reply_to(&mut session, LOGIN).await;
        reply_to(&mut session, ("INFO", "$9999999999\r\n")).await;
        let mut sent = counted.lock().await;
        while session.write_all(&[b'x'; 1 << 16]).await.is_ok() {
            *sent += 1_usize << 16;
        }
    });
    assert!(matches!(engine.probe().await, Readiness::Unreachable(_)));
    assert!(*sent.lock().await < 20 << 20);
}

#[tokio::test]
async fn a_change_that_cannot_be_saved_is_reverted() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, listener) = engine(directory.path());
    let server = tokio::spawn(async move {
        let (mut session, _) = listener.accept().await.unwrap();
        reply_to(&mut session, LOGIN).await;
        let queued = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n-ERR the disk is full\r\n";
        reply_to(&mut session, ("EXEC", queued)).await + &reply_to(&mut session, ("LOAD", "+OK\r\n")).await
    });
    let error = engine.update(&[("ann", "#00".to_owned())], None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let requests = server.await.unwrap();
    let order = ["MULTI", "SETUSER", "SAVE", "EXEC", "LOAD"].map(|word| requests.find(word).unwrap());
    assert!(order.is_sorted(), "{requests:?}");
}

#[tokio::test]
async fn a_lost_session_is_reopened() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, listener) = engine(directory.path());
    tokio::spawn(async move {
        for version in ["8.1.1", "8.1.2"] {
            let (mut session, _) = listener.accept().await.unwrap();
            reply_to(&mut session, LOGIN).await;
            let info = format!("valkey_version:{version}\r\nloading:0\r\naof_last_write_status:ok\r\n");
            reply_to(&mut session, ("persistence", &format!("${}\r\n{info}\r\n", info.len()))).await;
        }
    });
    for expected in ["8.1.1", "8.1.2"] {
        let readiness = engine.probe().await;
        assert!(matches!(&readiness, Readiness::Ready { version } if version == expected), "{readiness:?}");
    }
}
