//! Long work says that it goes on, and what it is doing.

use tokio::time::Instant;

use super::{
    Trial,
    suite::{Group, Need},
};
use crate::{
    conformance::case::cases,
    datastore::Cx,
    error::Result,
    model::{Progress, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![a_restart_is_never_silent, a_call_without_a_listener_is_the_same];
    vec![
        Group::empty("progress", &[], cases![a_prepare_tells_its_phases, a_removal_is_never_silent]),
        Group::shared("progress", &[], shared),
        Group::shared("progress", &[Need::Configuration], cases![a_catalog_is_never_read_in_silence]),
        Group::shared("progress", &[Need::Upgrade], cases![an_upgrade_tells_its_phases]),
        Group::shared("progress", &[Need::Resize], cases![a_change_of_the_size_is_never_silent]),
    ]
}

async fn a_prepare_tells_its_phases(trial: &Trial) {
    let told = listened(trial, async |cx| trial.server.prepare(&cx, &trial.spec()).await).await;
    assert!(!told.is_empty(), "a prepare tells at least one phase");
}

async fn a_removal_is_never_silent(trial: &Trial) {
    trial.prepare().await;
    listened(trial, async |cx| trial.server.remove(&cx).await).await;
}

async fn a_restart_is_never_silent(trial: &Trial) {
    listened(trial, async |cx| trial.server.stop(&cx).await).await;
    listened(trial, async |cx| trial.server.start(&cx).await).await;
}

async fn a_call_without_a_listener_is_the_same(trial: &Trial) {
    let nobody = Cx::new(trial.cx().operation(), trial.cx().epoch());
    trial.server.prepare(&nobody, &trial.spec()).await.unwrap();
    trial.server.start(&nobody).await.unwrap();
}

async fn a_catalog_is_never_read_in_silence(trial: &Trial) {
    listened(trial, async |cx| trial.configuration().catalog(&cx).await.map(drop)).await;
    listened(trial, async |cx| trial.configuration().apply(&cx, &Settings::new()).await).await;
}

async fn an_upgrade_tells_its_phases(trial: &Trial) {
    let (from, to) = trial.releases();
    let told = listened(trial, async |cx| trial.upgrade().upgrade(&cx, &to).await).await;
    assert!(!told.is_empty(), "an upgrade tells at least one phase");
    let told = listened(trial, async |cx| trial.upgrade().revert(&cx, &from).await).await;
    assert!(!told.is_empty(), "the way back tells at least one phase");
}

async fn a_change_of_the_size_is_never_silent(trial: &Trial) {
    for flavor in [&trial.larger(), &trial.host.flavor] {
        listened(trial, async |cx| trial.resize().resize(&cx, flavor).await).await;
    }
}

/// Makes a call and returns what it told, which has to be sound, and often enough.
async fn listened(trial: &Trial, call: impl AsyncFnOnce(Cx) -> Result<()>) -> Vec<Progress> {
    let limit = trial.testbed().driver().manifest().max_silence;
    let (before, mut last) = (trial.heard().len(), Instant::now());
    call(trial.cx()).await.unwrap_or_else(|error| panic!("{error:?}"));
    let end = Instant::now();
    let told = trial.heard().split_off(before);
    for at in told.iter().map(|(at, _)| *at).chain([end]) {
        let silence = at.saturating_duration_since(last);
        assert!(silence <= limit, "it was silent for {} s; told: {told:?}", silence.as_secs());
        last = at;
    }
    told.into_iter().map(|(_, progress)| is_sound(progress)).collect()
}

#[track_caller]
fn is_sound(progress: Progress) -> Progress {
    let words = progress.phase.chars().any(char::is_alphabetic) && !progress.phase.chars().any(char::is_control);
    assert!(words, "a phase in no words: {progress:?}");
    assert!(progress.total.is_none_or(|total| progress.done <= total), "more is done than there is: {progress:?}");
    let counted = progress.done > 0 || progress.total.is_some();
    assert!(!counted || !progress.unit.is_empty(), "it is not said what is counted: {progress:?}");
    progress
}
