//! How the container datastore applies settings and reads catalogs, on the scripted engine.

use std::{fs, time::Duration};

use crate::common::{Fixture, POSTGRESQL_17, container_ids, cx, observe_until, wait_until_healthy};
use crate::scripted::{Images, Server, attach, attach_at, effective_settings, host, settings};
use tokio::time::timeout;
use trove_core::{
    datastore::Prepare,
    error::{Kind, Result},
    model::{Condition, Health, Problem, Settings, SettingsState},
};

async fn state(server: &Server) -> SettingsState {
    server.observe(&cx()).await.unwrap().settings.unwrap()
}

async fn apply(server: &Server, settings: &Settings) -> Result<()> {
    server.abilities().configuration.unwrap().apply(&cx(), settings).await
}

async fn restart(server: &Server) {
    server.stop(&cx()).await.unwrap();
    server.start(&cx()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_prevent_a_start_are_rolled_back_and_reported() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (attach(&fixture, &image), host(&fixture, &image));
    let error = server.prepare(&cx(), &Prepare::default().settings(settings(&[("broken", "on")]))).await.unwrap_err();
    let message = "the server does not start with these settings: wrong: broken";
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, message));

    server.prepare(&cx(), &Prepare::default().settings(settings(&[("a", "1")]))).await.unwrap();
    let failed = "the server does not start: it exited with code 3; it says: wrong: broken";
    for (value, reason) in [("on", failed), ("late", "the server did not answer in time")] {
        apply(&server, &settings(&[("a", "2"), ("broken", value)])).await.unwrap();
        assert_eq!(state(&server).await.restart_required, ["a", "broken"]);
        restart(&server).await;
        assert_eq!(effective_settings(&host), ["a=1"]);
        let rejected = SettingsState { rejected: Some(reason.to_owned()), ..Default::default() };
        assert_eq!(state(&server).await, rejected);
        restart(&server).await;
        assert_eq!(state(&attach_at(&host)).await, rejected, "reported until other settings are applied");
        apply(&server, &settings(&[("a", "1")])).await.unwrap();
        assert_eq!(state(&server).await, SettingsState::default());
    }

    // Settings are kept if the server does not start without them either.
    apply(&server, &settings(&[("a", "2")])).await.unwrap();
    let stuck = host.volume.join("data/stuck");
    fs::write(&stuck, "").unwrap();
    server.stop(&cx()).await.unwrap();
    let error = server.start(&cx()).await.unwrap_err();
    assert_eq!(error.to_string(), "the server does not start: it exited with code 7");
    fs::remove_file(&stuck).unwrap();
    server.start(&cx()).await.unwrap();
    assert_eq!(effective_settings(&host), ["a=2"]);
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_settings_record_is_reported_and_replaced() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let host = host(&fixture, &image);
    attach_at(&host).prepare(&cx(), &Prepare::default().settings(settings(&[("a", "1")]))).await.unwrap();
    fs::write(host.directory.join("settings.json"), "{").unwrap();
    let server = attach_at(&host);
    assert!(state(&server).await.rejected.unwrap().contains("damaged"));
    restart(&server).await;
    assert!(effective_settings(&host).is_empty());
    apply(&server, &settings(&[("live", "1")])).await.unwrap();
    assert_eq!(effective_settings(&host), ["live=1"]);
    assert_eq!(state(&server).await, SettingsState::default());
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_the_catalog_leaves_only_the_running_server() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (attach(&fixture, &image), host(&fixture, &image));
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let before = container_ids(fixture.local.scope()).await;
    let configuration = server.abilities().configuration.unwrap();
    // The next call removes what an abandoned one left, however far it came.
    let _ = timeout(Duration::from_millis(400), configuration.catalog(&cx())).await;
    let catalog = configuration.catalog(&cx()).await.unwrap();
    let names: Vec<_> = catalog.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!((catalog.server_version.as_str(), names), ("1.5", vec!["a", "b"]));
    assert_eq!(catalog.digest, configuration.digest(&cx()).await.unwrap());
    assert!(catalog.digest.starts_with("sha256:"));
    assert_eq!(container_ids(fixture.local.scope()).await, before, "the container of the server changed");
    assert!(!host.directory.join("probe").exists());
    wait_until_healthy(&*server).await;
    fixture.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_reported_and_opened_by_a_start() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (attach(&fixture, &image), host(&fixture, &image));
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    fs::remove_file(host.directory.join("run/open")).unwrap();
    observe_until(&*server, "read-only", |observed| {
        matches!(observed.health, Health::Impaired(Problem { condition: Condition::ReadOnly, .. }))
    })
    .await;
    server.start(&cx()).await.unwrap();
    wait_until_healthy(&*server).await;
    fixture.remove().await;
}
