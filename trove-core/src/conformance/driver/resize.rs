//! Other limits for a server.

use super::{
    Trial,
    suite::{Group, Need},
};
use crate::{
    conformance::case::cases,
    model::{Flavor, Health, Settings, SettingsState},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        the_same_flavor_leaves_the_server_alone,
        a_larger_server_keeps_its_data_and_is_made_smaller_again,
        a_stopped_server_is_given_another_size,
        another_size_keeps_the_settings,
        every_process_knows_the_size,
    ];
    vec![Group::shared("resize", &[Need::Resize], shared)]
}

async fn the_same_flavor_leaves_the_server_alone(trial: &Trial) {
    let mut session = trial.app().await;
    trial.resize().resize(&trial.cx(), &trial.host.flavor).await.unwrap();
    let renamed = Flavor { name: "renamed".to_owned(), ..trial.host.flavor.clone() };
    trial.resize().resize(&trial.cx(), &renamed).await.unwrap();
    session.put("a", "b").await.expect("the session was cut");
    trial.resize().resize(&trial.cx(), &trial.host.flavor).await.unwrap();
}

async fn a_larger_server_keeps_its_data_and_is_made_smaller_again(trial: &Trial) {
    trial.note("before").await;
    for flavor in [&trial.larger(), &trial.host.flavor] {
        trial.resize().resize(&trial.cx(), flavor).await.unwrap();
        assert_eq!(trial.observe().await.health, Health::Healthy, "it ends when the server answers");
        trial.has_note("before").await;
    }
}

async fn a_stopped_server_is_given_another_size(trial: &Trial) {
    trial.note("before").await;
    trial.server.stop(&trial.cx()).await.unwrap();
    trial.resize().resize(&trial.cx(), &trial.larger()).await.unwrap();
    assert_eq!(trial.observe().await.health, Health::Healthy);
    trial.has_note("before").await;
    trial.resize().resize(&trial.cx(), &trial.host.flavor).await.unwrap();
}

async fn another_size_keeps_the_settings(trial: &Trial) {
    let (name, value, _) = trial.live();
    let settings = Settings::from([(name.clone(), value.clone())]);
    trial.configuration().apply(&trial.cx(), &settings).await.unwrap();
    for flavor in [&trial.larger(), &trial.host.flavor] {
        trial.resize().resize(&trial.cx(), flavor).await.unwrap();
        assert_eq!(trial.in_force(&name).await, value.to_string());
        assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
    }
    trial.configuration().apply(&trial.cx(), &Settings::new()).await.unwrap();
}

async fn every_process_knows_the_size(trial: &Trial) {
    trial.resize().resize(&trial.cx(), &trial.larger()).await.unwrap();
    let mut session = trial.app().await;
    let server = trial.reattached();
    let resize = server.abilities().resize.expect("the ability was shown");
    resize.resize(&trial.cx(), &trial.larger()).await.unwrap();
    session.put("a", "b").await.expect("the session was cut: it was not known that the server had that size");
    resize.resize(&trial.cx(), &trial.host.flavor).await.unwrap();
}
