//! Long work says that it goes on, and what it is doing.

use tokio::time::Instant;

use super::{
    ServerFixture,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    datastore::Cx,
    error::Result,
    model::{Progress, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![restarting_reports_progress_in_time, calls_work_without_a_progress_sink];
    let groups = vec![
        Group::empty("progress", &[], cases![preparing_reports_progress_in_time, removing_reports_progress_in_time]),
        Group::shared("progress", &[], shared),
        Group::shared("progress", &[Need::Configuration], cases![reading_the_catalog_reports_progress_in_time]),
        Group::shared("progress", &[Need::Upgrade], cases![upgrading_reports_progress_in_time]),
        Group::shared("progress", &[Need::Resize], cases![resizing_reports_progress_in_time]),
    ];
    groups.into_iter().map(Group::shared_by_drivers).collect()
}

async fn preparing_reports_progress_in_time(fixture: &ServerFixture) {
    let told = listened(fixture, async |cx| fixture.server.prepare(&cx, &fixture.spec()).await).await;
    assert!(!told.is_empty(), "a prepare tells at least one phase");
}

async fn removing_reports_progress_in_time(fixture: &ServerFixture) {
    fixture.prepare().await;
    listened(fixture, async |cx| fixture.server.remove(&cx).await).await;
}

async fn restarting_reports_progress_in_time(fixture: &ServerFixture) {
    listened(fixture, async |cx| fixture.server.stop(&cx).await).await;
    listened(fixture, async |cx| fixture.server.start(&cx).await).await;
}

async fn calls_work_without_a_progress_sink(fixture: &ServerFixture) {
    let nobody = Cx::new(fixture.cx().operation(), fixture.cx().epoch());
    fixture.server.prepare(&nobody, &fixture.spec()).await.unwrap();
    fixture.server.start(&nobody).await.unwrap();
}

async fn reading_the_catalog_reports_progress_in_time(fixture: &ServerFixture) {
    listened(fixture, async |cx| fixture.configuration().catalog(&cx).await.map(drop)).await;
    listened(fixture, async |cx| fixture.configuration().apply(&cx, &Settings::new()).await).await;
}

async fn upgrading_reports_progress_in_time(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    let told = listened(fixture, async |cx| fixture.upgrade().upgrade(&cx, &to).await).await;
    assert!(!told.is_empty(), "an upgrade tells at least one phase");
    let told = listened(fixture, async |cx| fixture.upgrade().revert(&cx, &from).await).await;
    assert!(!told.is_empty(), "the way back tells at least one phase");
}

async fn resizing_reports_progress_in_time(fixture: &ServerFixture) {
    for flavor in [&fixture.larger_flavor(), &fixture.host.flavor] {
        listened(fixture, async |cx| fixture.resize().resize(&cx, flavor).await).await;
    }
}

/// Makes a call and returns what it told, which has to be sound, and often enough.
async fn listened(fixture: &ServerFixture, call: impl AsyncFnOnce(Cx) -> Result<()>) -> Vec<Progress> {
    let limit = fixture.testbed().driver().manifest().max_silence;
    let (before, mut last) = (fixture.progress().len(), Instant::now());
    call(fixture.cx()).await.unwrap_or_else(|error| panic!("{error:?}"));
    let end = Instant::now();
    let told = fixture.progress().split_off(before);
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
