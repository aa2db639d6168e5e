//! Servers change their memory and processor limits without losing data or settings.

use super::{
    ServerFixture,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    model::{Flavor, Health, Settings, SettingsState},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        resizing_to_the_same_flavor_does_not_restart_the_server,
        resizing_a_stopped_server_starts_it,
        resizing_keeps_the_settings,
        a_resize_is_visible_to_every_process,
    ];
    vec![
        Group::shared("resize", &[Need::Resize], cases![growing_and_shrinking_a_server_keeps_its_data]),
        Group::shared("resize", &[Need::Resize], shared).common(),
    ]
}

async fn resizing_to_the_same_flavor_does_not_restart_the_server(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    fixture.resize().resize(&fixture.cx(), &fixture.host.flavor).await.unwrap();
    let renamed = Flavor { name: "renamed".to_owned(), ..fixture.host.flavor.clone() };
    fixture.resize().resize(&fixture.cx(), &renamed).await.unwrap();
    session.put("a", "b").await.expect("the session was terminated");
    fixture.resize().resize(&fixture.cx(), &fixture.host.flavor).await.unwrap();
}

async fn growing_and_shrinking_a_server_keeps_its_data(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    for flavor in [&fixture.larger_flavor(), &fixture.host.flavor] {
        fixture.resize().resize(&fixture.cx(), flavor).await.unwrap();
        assert_eq!(fixture.observe().await.health, Health::Healthy, "resize returned before the server was healthy");
        fixture.assert_marker("before").await;
    }
}

async fn resizing_a_stopped_server_starts_it(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    fixture.resize().resize(&fixture.cx(), &fixture.larger_flavor()).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_marker("before").await;
    fixture.resize().resize(&fixture.cx(), &fixture.host.flavor).await.unwrap();
}

async fn resizing_keeps_the_settings(fixture: &ServerFixture) {
    let (name, value, _) = fixture.dynamic_parameter();
    let settings = Settings::from([(name.clone(), value.clone())]);
    fixture.configuration().apply(&fixture.cx(), &settings).await.unwrap();
    for flavor in [&fixture.larger_flavor(), &fixture.host.flavor] {
        fixture.resize().resize(&fixture.cx(), flavor).await.unwrap();
        assert_eq!(fixture.effective_value(&name).await, value.to_string());
        assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
    }
    fixture.configuration().apply(&fixture.cx(), &Settings::new()).await.unwrap();
}

async fn a_resize_is_visible_to_every_process(fixture: &ServerFixture) {
    fixture.resize().resize(&fixture.cx(), &fixture.larger_flavor()).await.unwrap();
    let mut session = fixture.app_session().await;
    let server = fixture.reattach();
    let resize = server.abilities().resize.expect("the ability is present");
    resize.resize(&fixture.cx(), &fixture.larger_flavor()).await.unwrap();
    session.put("a", "b").await.expect("resizing to the current size terminated the session");
    resize.resize(&fixture.cx(), &fixture.host.flavor).await.unwrap();
}
