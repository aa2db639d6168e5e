//! A call that is cancelled, by its token or by dropping its future, loses nothing.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    ServerFixture,
    fixture::error_kind,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    datastore::Cx,
    error::{Kind, Result},
    model::{Health, Setting, Settings, SettingsState},
};

/// The time within which a cancelled call must return. A step in progress may complete.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(180);
/// The time within which the effects of a dropped request must appear.
const LATE_EFFECT_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause between attempts to remove such effects.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        calls_cancelled_before_they_begin_change_nothing,
        a_cancelled_stop_returns_promptly,
        a_restart_dropped_at_any_await_loses_nothing,
    ];
    let empty = cases![
        a_prepare_cancelled_before_it_begins_creates_nothing,
        a_cancelled_prepare_returns_promptly_and_can_be_repeated,
        a_prepare_dropped_at_any_await_can_be_repeated,
        a_prepare_dropped_at_any_await_can_be_removed,
        a_removal_dropped_at_any_await_can_be_repeated,
    ];
    let groups = vec![
        Group::empty("cancellation", &[], empty),
        Group::shared("cancellation", &[], shared),
        Group::shared(
            "cancellation",
            &[Need::Configuration],
            cases![
                settings_cancelled_before_they_are_applied_have_no_effect,
                applying_settings_dropped_at_any_await_can_be_repeated,
            ],
        ),
        Group::shared("cancellation", &[Need::Resize], cases![a_resize_dropped_at_any_await_can_be_undone]),
        Group::shared(
            "cancellation",
            &[Need::Upgrade],
            cases![
                an_upgrade_cancelled_before_it_begins_changes_nothing,
                an_upgrade_dropped_at_any_await_can_be_reverted,
            ],
        ),
    ];
    groups.into_iter().map(Group::common).collect()
}

/// Returns a context that is already cancelled.
fn cancelled_cx(fixture: &ServerFixture) -> Cx {
    let token = CancellationToken::new();
    token.cancel();
    fixture.cx().with_cancel(token)
}

async fn calls_cancelled_before_they_begin_change_nothing(fixture: &ServerFixture) {
    let cx = || cancelled_cx(fixture);
    assert_eq!(error_kind(fixture.server.prepare(&cx(), &fixture.spec()).await), Kind::Cancelled, "prepare");
    assert_eq!(error_kind(fixture.server.start(&cx()).await), Kind::Cancelled, "start");
    assert_eq!(error_kind(fixture.server.stop(&cx()).await), Kind::Cancelled, "stop");
    assert_eq!(error_kind(fixture.server.remove(&cx()).await), Kind::Cancelled, "remove");
    fixture.wait_until_healthy().await;
    fixture.assert_app_can_write().await;
}

async fn a_cancelled_stop_returns_promptly(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    assert_ok_or_cancelled(cancel_at_first_progress(fixture, async |cx| fixture.server.stop(&cx).await).await);
    fixture.server.start(&fixture.cx()).await.unwrap();
    fixture.assert_marker("before").await;
}

async fn a_restart_dropped_at_any_await_loses_nothing(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    let restart = || async {
        let server = fixture.reattach();
        server.stop(&fixture.cx()).await.unwrap();
        server.start(&fixture.cx()).await.unwrap();
    };
    let check = async |_| {
        let server = fixture.reattach();
        server.start(&fixture.cx()).await.unwrap();
        assert_eq!(server.observe(&fixture.cx()).await.unwrap().health, Health::Healthy);
        fixture.assert_marker("before").await;
    };
    fixture.drop_at_some_awaits(restart, check).await;
}

async fn a_prepare_cancelled_before_it_begins_creates_nothing(fixture: &ServerFixture) {
    assert_eq!(error_kind(fixture.server.prepare(&cancelled_cx(fixture), &fixture.spec()).await), Kind::Cancelled);
    assert!(!matches!(fixture.observe().await.health, Health::Healthy | Health::Starting));
    fixture.assert_no_leftovers().await;
}

async fn a_cancelled_prepare_returns_promptly_and_can_be_repeated(fixture: &ServerFixture) {
    let spec = fixture.spec();
    assert_ok_or_cancelled(
        cancel_at_first_progress(fixture, async |cx| fixture.server.prepare(&cx, &spec).await).await,
    );
    fixture.prepare().await;
    fixture.assert_app_can_write().await;
}

async fn a_prepare_dropped_at_any_await_can_be_repeated(fixture: &ServerFixture) {
    drop_prepare_at_awaits(fixture, async |fixture| {
        fixture.reattach().prepare(&fixture.successor(), &fixture.spec()).await.unwrap();
        fixture.assert_app_can_write().await;
    })
    .await;
}

async fn a_prepare_dropped_at_any_await_can_be_removed(fixture: &ServerFixture) {
    drop_prepare_at_awaits(fixture, async |fixture| {
        // A request in progress when the call was dropped may take effect after the first removal.
        let started = Instant::now();
        loop {
            fixture.reattach().remove(&fixture.successor()).await.unwrap();
            if fixture.leftovers().await.is_empty() || started.elapsed() > LATE_EFFECT_TIMEOUT {
                break;
            }
            sleep(RETRY_INTERVAL).await;
        }
        fixture.assert_no_leftovers().await;
    })
    .await;
}

/// Drops a prepare at its awaits, on a new host for each run.
async fn drop_prepare_at_awaits(fixture: &ServerFixture, check: impl AsyncFn(&ServerFixture)) {
    let current = RefCell::new(Rc::new(fixture.allocate_another().await));
    let prepare = || {
        let current = current.borrow().clone();
        async move { current.server.prepare(&current.cx(), &current.spec()).await }
    };
    let check_and_replace = async |_| {
        let checked = current.borrow().clone();
        check(&checked).await;
        fixture.release_other(&checked).await;
        let next = Rc::new(fixture.allocate_another().await);
        current.replace(next);
    };
    fixture.drop_at_some_awaits(prepare, check_and_replace).await;
}

async fn a_removal_dropped_at_any_await_can_be_repeated(fixture: &ServerFixture) {
    fixture.prepare().await;
    let remove = || async {
        let server = fixture.reattach();
        server.remove(&fixture.cx()).await
    };
    let check = async |_| {
        fixture.reattach().remove(&fixture.cx()).await.unwrap();
        fixture.assert_no_leftovers().await;
        fixture.reattach().prepare(&fixture.cx(), &fixture.spec()).await.unwrap();
    };
    fixture.drop_at_some_awaits(remove, check).await;
}

async fn settings_cancelled_before_they_are_applied_have_no_effect(fixture: &ServerFixture) {
    let (name, value, _) = fixture.dynamic_parameter();
    let before = fixture.app_session().await.parameter(&name).await.unwrap();
    let settings = Settings::from([(name.clone(), value)]);
    assert_eq!(error_kind(fixture.configuration().apply(&cancelled_cx(fixture), &settings).await), Kind::Cancelled);
    assert_eq!(fixture.app_session().await.parameter(&name).await.unwrap(), before);
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
}

async fn applying_settings_dropped_at_any_await_can_be_repeated(fixture: &ServerFixture) {
    let (name, first, second) = fixture.dynamic_parameter();
    let settings = |value: &Setting| Settings::from([(name.clone(), value.clone())]);
    let apply = || async {
        let server = fixture.reattach();
        fixture.configuration_of(&*server).apply(&fixture.cx(), &settings(&first)).await
    };
    let check = async |_| {
        let server = fixture.reattach();
        for value in [&first, &second] {
            fixture.configuration_of(&*server).apply(&fixture.cx(), &settings(value)).await.unwrap();
            assert_eq!(fixture.app_session().await.parameter(&name).await.unwrap(), value.to_string());
        }
        assert_eq!(fixture.settings_state(&*server).await, SettingsState::default());
    };
    fixture.drop_at_every_await(apply, check).await;
    let server = fixture.reattach();
    fixture.configuration_of(&*server).apply(&fixture.cx(), &Settings::new()).await.unwrap();
}

async fn a_resize_dropped_at_any_await_can_be_undone(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    let larger = fixture.larger_flavor();
    let resize = || async {
        let server = fixture.reattach();
        server.abilities().resize.expect("the ability is present").resize(&fixture.cx(), &larger).await
    };
    let check = async |_| {
        let server = fixture.reattach();
        let resize = server.abilities().resize.expect("the ability is present");
        resize.resize(&fixture.cx(), &fixture.host.flavor).await.unwrap();
        fixture.assert_marker("before").await;
    };
    fixture.drop_at_some_awaits(resize, check).await;
}

async fn an_upgrade_cancelled_before_it_begins_changes_nothing(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    let mut session = fixture.app_session().await;
    assert_eq!(error_kind(fixture.upgrade().upgrade(&cancelled_cx(fixture), &to).await), Kind::Cancelled, "upgrade");
    assert_eq!(error_kind(fixture.upgrade().revert(&cancelled_cx(fixture), &from).await), Kind::Cancelled, "revert");
    session.put("a", "b").await.expect("the session was terminated");
}

async fn an_upgrade_dropped_at_any_await_can_be_reverted(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    fixture.write_marker("before").await;
    let upgrade = || async {
        let server = fixture.reattach();
        server.abilities().upgrade.expect("the ability is present").upgrade(&fixture.cx(), &to).await
    };
    let check = async |_| {
        let server = fixture.reattach();
        server.abilities().upgrade.expect("the ability is present").revert(&fixture.cx(), &from).await.unwrap();
        fixture.assert_marker("before").await;
    };
    fixture.drop_at_some_awaits(upgrade, check).await;
}

/// Makes a call and cancels it at its first progress report. The call must then return promptly.
async fn cancel_at_first_progress(fixture: &ServerFixture, call: impl AsyncFnOnce(Cx) -> Result<()>) -> Result<()> {
    let token = CancellationToken::new();
    let reported = token.clone();
    let cx = fixture.cx().with_cancel(token).with_progress(Arc::new(move |_| reported.cancel()));
    timeout(CANCEL_TIMEOUT, call(cx)).await.unwrap_or_else(|_| panic!("the call did not return after its cancellation"))
}

#[track_caller]
fn assert_ok_or_cancelled(result: Result<()>) {
    // A call that was almost complete may succeed.
    if let Err(error) = result {
        assert_eq!(error.kind(), Kind::Cancelled, "{error:?}");
    }
}
