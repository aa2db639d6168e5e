//! Long calls report their progress at least as often as the manifest declares.

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
    groups.into_iter().map(Group::common).collect()
}

async fn preparing_reports_progress_in_time(fixture: &ServerFixture) {
    let reported = reported_progress(fixture, async |cx| fixture.server.prepare(&cx, &fixture.spec()).await).await;
    assert!(!reported.is_empty(), "prepare reported no phase");
}

async fn removing_reports_progress_in_time(fixture: &ServerFixture) {
    fixture.prepare().await;
    reported_progress(fixture, async |cx| fixture.server.remove(&cx).await).await;
}

async fn restarting_reports_progress_in_time(fixture: &ServerFixture) {
    reported_progress(fixture, async |cx| fixture.server.stop(&cx).await).await;
    reported_progress(fixture, async |cx| fixture.server.start(&cx).await).await;
}

async fn calls_work_without_a_progress_sink(fixture: &ServerFixture) {
    let cx = Cx::new(fixture.cx().operation(), fixture.cx().epoch());
    fixture.server.prepare(&cx, &fixture.spec()).await.unwrap();
    fixture.server.start(&cx).await.unwrap();
}

async fn reading_the_catalog_reports_progress_in_time(fixture: &ServerFixture) {
    reported_progress(fixture, async |cx| fixture.configuration().catalog(&cx).await.map(drop)).await;
    reported_progress(fixture, async |cx| fixture.configuration().apply(&cx, &Settings::new()).await).await;
}

async fn upgrading_reports_progress_in_time(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    let reported = reported_progress(fixture, async |cx| fixture.upgrade().upgrade(&cx, &to).await).await;
    assert!(!reported.is_empty(), "upgrade reported no phase");
    let reported = reported_progress(fixture, async |cx| fixture.upgrade().revert(&cx, &from).await).await;
    assert!(!reported.is_empty(), "revert reported no phase");
}

async fn resizing_reports_progress_in_time(fixture: &ServerFixture) {
    for flavor in [&fixture.larger_flavor(), &fixture.host.flavor] {
        reported_progress(fixture, async |cx| fixture.resize().resize(&cx, flavor).await).await;
    }
}

/// Makes a call and returns the progress that it reported. Asserts that every report is well-formed
/// and none was late.
async fn reported_progress(fixture: &ServerFixture, call: impl AsyncFnOnce(Cx) -> Result<()>) -> Vec<Progress> {
    let limit = fixture.testbed().driver().manifest().max_silence;
    let (before, mut last) = (fixture.progress().len(), Instant::now());
    call(fixture.cx()).await.unwrap();
    let end = Instant::now();
    let reported = fixture.progress().split_off(before);
    for at in reported.iter().map(|(at, _)| *at).chain([end]) {
        let silence = at.saturating_duration_since(last);
        assert!(silence <= limit, "no progress was reported for {} s; reported: {reported:?}", silence.as_secs());
        last = at;
    }
    reported.into_iter().map(|(_, progress)| checked(progress)).collect()
}

#[track_caller]
fn checked(progress: Progress) -> Progress {
    let readable = progress.phase.chars().any(char::is_alphabetic) && !progress.phase.chars().any(char::is_control);
    assert!(readable, "the phase is not readable: {progress:?}");
    assert!(progress.total.is_none_or(|total| progress.done <= total), "more is done than the total: {progress:?}");
    let has_count = progress.done > 0 || progress.total.is_some();
    assert!(!has_count || !progress.unit.is_empty(), "the count has no unit: {progress:?}");
    progress
}
