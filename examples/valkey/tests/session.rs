//! What the engine makes of a server that does not behave.

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

/// What the engine says when it logs in, and what it is told.
const LOGIN: (&str, &str) = ("LIB-VER", "+OK\r\n+OK\r\n+OK\r\n");

fn engine(directory: &Path) -> (ValkeyEngine, UnixListener) {
    let run = directory.join("run");
    std::fs::create_dir(&run).unwrap();
    let listener = UnixListener::bind(run.join("valkey.sock")).unwrap();
    let mut host = GuestHost::new(InstanceId::new_v4(), "/nowhere", directory);
    host.server.uid = rustix::process::geteuid().as_raw();
    (ValkeyEngine::new(&host), listener)
}

/// Hears what ends with this, and answers.
async fn answer(session: &mut UnixStream, (end, text): (&str, &str)) -> String {
    let mut heard = String::new();
    while !heard.ends_with(end) && !heard.contains(&format!("{end}\r\n")) {
        let mut part = vec![0; 4096];
        let length = session.read(&mut part).await.unwrap();
        assert!(length > 0, "hung up after {heard:?}");
        heard += std::str::from_utf8(&part[..length]).unwrap();
    }
    session.write_all(text.as_bytes()).await.unwrap();
    heard
}

#[tokio::test]
async fn a_server_that_talks_without_end_is_not_heard_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, listener) = engine(directory.path());
    let said = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&said);
    tokio::spawn(async move {
        let (mut session, _) = listener.accept().await.unwrap();
        answer(&mut session, LOGIN).await;
        answer(&mut session, ("INFO", "$9999999999\r\n")).await;
        let mut said = counted.lock().await;
        while session.write_all(&[b'x'; 1 << 16]).await.is_ok() {
            *said += 1_usize << 16;
        }
    });
    assert!(matches!(engine.probe().await, Readiness::Unreachable(_)));
    assert!(*said.lock().await < 20 << 20);
}

#[tokio::test]
async fn what_is_refused_at_the_end_of_a_change_is_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, listener) = engine(directory.path());
    let server = tokio::spawn(async move {
        let (mut session, _) = listener.accept().await.unwrap();
        answer(&mut session, LOGIN).await;
        let queued = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n-ERR the disk is full\r\n";
        answer(&mut session, ("EXEC", queued)).await + &answer(&mut session, ("LOAD", "+OK\r\n")).await
    });
    let error = engine.update(&[("ann", "#00".to_owned())], None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let heard = server.await.unwrap();
    let order = ["MULTI", "SETUSER", "SAVE", "EXEC", "LOAD"].map(|word| heard.find(word).unwrap());
    assert!(order.is_sorted(), "{heard:?}");
}

#[tokio::test]
async fn a_session_that_broke_off_is_made_up_for() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, listener) = engine(directory.path());
    tokio::spawn(async move {
        for version in ["8.1.1", "8.1.2"] {
            let (mut session, _) = listener.accept().await.unwrap();
            answer(&mut session, LOGIN).await;
            let info = format!("valkey_version:{version}\r\nloading:0\r\naof_last_write_status:ok\r\n");
            answer(&mut session, ("persistence", &format!("${}\r\n{info}\r\n", info.len()))).await;
        }
    });
    for expected in ["8.1.1", "8.1.2"] {
        let answer = engine.probe().await;
        assert!(matches!(&answer, Readiness::Ready { version } if version == expected), "{answer:?}");
    }
}
