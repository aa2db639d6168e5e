//! Starts that follow an interrupted stop, or find the port in use.

use std::net::TcpListener;

use crate::common::{Fixture, cx, docker_client, eventually};
use trove_core::error::Kind;

pub async fn a_start_after_an_interrupted_stop_starts_a_new_container(fixture: &Fixture) {
    let docker = docker_client().await;
    let container_id = async || docker.inspect_container(&fixture.container(), None).await.unwrap().id;
    let before = container_id().await;
    let (server, stop_record) = (fixture.reattach(), fixture.host.directory.join("leaving.json"));
    let stop = tokio::spawn(async move { server.stop(&cx()).await });
    eventually("the stop is recorded or complete", async || {
        (stop_record.exists() || stop.is_finished()).then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    stop.abort();
    fixture.reattach().start(&cx()).await.unwrap();
    assert_ne!(container_id().await, before);
    fixture.wait_until_healthy().await;
    fixture.app().await;
}

pub async fn a_start_names_a_port_that_is_in_use(fixture: &Fixture) {
    fixture.server.stop(&cx()).await.unwrap();
    let endpoint = fixture.host.endpoint.clone();
    let listener = eventually("the port is released", async || {
        TcpListener::bind((endpoint.host.as_str(), endpoint.port)).map_err(|error| error.to_string())
    })
    .await;
    let error = fixture.server.start(&cx()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy, "{error:?}");
    assert!(error.to_string().contains(&endpoint.port.to_string()), "{error}");
    drop(listener);
    fixture.server.start(&cx()).await.unwrap();
    fixture.app().await;
}
