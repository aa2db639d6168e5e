//! The settings of any engine in a container: at once, after a restart, refused, and given up.

use crate::common::{Fixture, POSTGRESQL_17, containers, cx};
use crate::scripted::{Images, Server, in_force, server, server_at, settings};
use trove_core::{
    datastore::Prepare,
    error::Kind,
    model::{Condition, Health, Problem, Settings, SettingsState},
};

async fn state(server: &Server) -> SettingsState {
    server.observe(&cx()).await.unwrap().settings.unwrap()
}

async fn apply(server: &Server, settings: &Settings) -> trove_core::error::Result<()> {
    server.abilities().configuration.unwrap().apply(&cx(), settings).await
}

async fn restart(server: &Server) -> trove_core::error::Result<()> {
    server.stop(&cx()).await.unwrap();
    server.start(&cx()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_in_force_at_once_or_after_a_restart() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let server = server(&fixture, &image);
    let spec = Prepare::default().settings(settings(&[("a", "1"), ("live", "1")]));
    server.prepare(&cx(), &spec).await.unwrap();
    let host = crate::scripted::host(&fixture, &image);
    assert_eq!(in_force(&host), ["a=1", "live=1"]);
    assert_eq!(state(&server).await, SettingsState::default());

    apply(&server, &settings(&[("b", "2"), ("live", "2"), ("live2", "2")])).await.unwrap();
    assert_eq!(in_force(&host), ["a=1", "live2=2", "live=2"]);
    assert_eq!(state(&server).await.restart_required, ["a", "b"]);
    let server = server_at(&host);
    assert_eq!(state(&server).await.restart_required, ["a", "b"], "another process knows as much");

    let error = apply(&server, &settings(&[("live", "3"), ("live3", "no")])).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, "live3 cannot be no"));
    assert_eq!(in_force(&host), ["a=1", "live2=2", "live=2"]);
    assert_eq!(state(&server).await.restart_required, ["a", "b"]);

    let broken_off = settings(&[("live", "9"), ("live9", "never")]);
    let _ = tokio::time::timeout(std::time::Duration::from_millis(500), apply(&server, &broken_off)).await;
    assert_eq!(in_force(&host), ["a=1", "live=9"]);
    let server = server_at(&host);
    apply(&server, &settings(&[("b", "2"), ("live", "2"), ("live2", "2")])).await.unwrap();
    assert_eq!(in_force(&host), ["a=1", "live2=2", "live=2"]);

    restart(&server).await.unwrap();
    assert_eq!(in_force(&host), ["b=2", "live=2", "live2=2"]);
    assert_eq!(state(&server).await, SettingsState::default());

    server.stop(&cx()).await.unwrap();
    apply(&server, &settings(&[("b", "3")])).await.unwrap();
    server.start(&cx()).await.unwrap();
    assert_eq!(in_force(&host), ["b=3"]);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_with_which_a_server_does_not_start_are_given_up() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (server(&fixture, &image), crate::scripted::host(&fixture, &image));
    server.prepare(&cx(), &Prepare::default().settings(settings(&[("a", "1")]))).await.unwrap();
    let why = "the server does not start: it exited with code 3; it says: wrong: broken";
    for (value, why) in [("on", why), ("late", "the server did not answer in time")] {
        apply(&server, &settings(&[("a", "2"), ("broken", value)])).await.unwrap();
        assert_eq!(state(&server).await.restart_required, ["a", "broken"]);
        restart(&server).await.unwrap();
        assert_eq!(in_force(&host), ["a=1"]);
        let rejected = SettingsState { rejected: Some(why.to_owned()), ..Default::default() };
        assert_eq!(state(&server).await, rejected);
        restart(&server).await.unwrap();
        assert_eq!(state(&server_at(&host)).await, rejected, "it is told until there are others");
        apply(&server, &settings(&[("a", "1")])).await.unwrap();
        assert_eq!(state(&server).await, SettingsState::default());
    }

    // Where it does not start either way it was not for its settings.
    apply(&server, &settings(&[("a", "2")])).await.unwrap();
    let stuck = host.volume.join("data/stuck");
    std::fs::write(&stuck, "").unwrap();
    server.stop(&cx()).await.unwrap();
    let error = server.start(&cx()).await.unwrap_err();
    assert_eq!(error.to_string(), "the server does not start: it exited with code 7");
    std::fs::remove_file(&stuck).unwrap();
    server.start(&cx()).await.unwrap();
    assert_eq!(in_force(&host), ["a=2"]);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_that_does_not_start_says_what_is_wrong_with_its_settings() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let spec = Prepare::default().settings(settings(&[("broken", "on")]));
    let error = server(&fixture, &image).prepare(&cx(), &spec).await.unwrap_err();
    let words = "the server does not start with these settings: wrong: broken";
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Invalid, words));
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_of_settings_is_told_and_replaced() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let host = crate::scripted::host(&fixture, &image);
    server_at(&host).prepare(&cx(), &Prepare::default().settings(settings(&[("a", "1")]))).await.unwrap();
    std::fs::write(host.directory.join("settings.json"), "{").unwrap();
    let server = server_at(&host);
    assert!(state(&server).await.rejected.unwrap().contains("damaged"));
    restart(&server).await.unwrap();
    assert!(in_force(&host).is_empty());
    apply(&server, &settings(&[("live", "1")])).await.unwrap();
    assert_eq!((in_force(&host), state(&server).await), (vec!["live=1".to_owned()], SettingsState::default()));
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_opened_and_is_told_while_it_is_not() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (server(&fixture, &image), crate::scripted::host(&fixture, &image));
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    assert_eq!(server.observe(&cx()).await.unwrap().health, Health::Healthy);
    std::fs::remove_file(host.directory.join("run/open")).unwrap();
    let health = server.observe(&cx()).await.unwrap().health;
    assert!(matches!(health, Health::Impaired(Problem { condition: Condition::ReadOnly, .. })), "{health:?}");
    server.start(&cx()).await.unwrap();
    assert_eq!(server.observe(&cx()).await.unwrap().health, Health::Healthy);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_read_beside_the_server_and_nothing_is_left() {
    let (mut images, fixture) = (Images::new(), Fixture::new(POSTGRESQL_17).await);
    let image = images.scripted("1.5", &[]).await;
    let (server, host) = (server(&fixture, &image), crate::scripted::host(&fixture, &image));
    server.prepare(&cx(), &Prepare::default()).await.unwrap();
    let before = containers(fixture.local.scope()).await;
    let configuration = server.abilities().configuration.unwrap();
    // Given up half-way, it is cleared away all the same.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(400), configuration.catalog(&cx())).await;
    let catalog = configuration.catalog(&cx()).await.unwrap();
    let names: Vec<_> = catalog.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!((catalog.server_version.as_str(), names), ("1.5", vec!["a", "b"]));
    assert_eq!(catalog.digest, configuration.digest(&cx()).await.unwrap());
    assert!(catalog.digest.starts_with("sha256:"));
    assert_eq!(containers(fixture.local.scope()).await, before, "the server is the one from before");
    assert!(!host.directory.join("probe").exists());
    assert_eq!(server.observe(&cx()).await.unwrap().health, Health::Healthy);
    fixture.removed().await;
}
