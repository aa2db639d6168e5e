//! A call that is given up, by its token or by dropping it, loses nothing.

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

/// How long a call may go on after it was cancelled: what is under way may come to its end.
const CANCEL_LIMIT: Duration = Duration::from_secs(180);
/// How late what a request made may come that was dropped, and how often it is looked for.
const LATE_LIMIT: Duration = Duration::from_secs(60);
const LATE_PAUSE: Duration = Duration::from_millis(50);

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
        Group::empty("cancelling", &[], empty),
        Group::shared("cancelling", &[], shared),
        Group::shared(
            "cancelling",
            &[Need::Configuration],
            cases![
                settings_cancelled_before_they_are_applied_have_no_effect,
                applying_settings_dropped_at_any_await_can_be_repeated,
            ],
        ),
        Group::shared("cancelling", &[Need::Resize], cases![a_resize_dropped_at_any_await_can_be_undone]),
        Group::shared(
            "cancelling",
            &[Need::Upgrade],
            cases![
                an_upgrade_cancelled_before_it_begins_changes_nothing,
                an_upgrade_dropped_at_any_await_can_be_reverted,
            ],
        ),
    ];
    groups.into_iter().map(Group::shared_by_drivers).collect()
}

/// A context that was given up already.
fn given_up(fixture: &ServerFixture) -> Cx {
    let token = CancellationToken::new();
    token.cancel();
    fixture.cx().with_cancel(token)
}

async fn calls_cancelled_before_they_begin_change_nothing(fixture: &ServerFixture) {
    let cx = || given_up(fixture);
    assert_eq!(error_kind(fixture.server.prepare(&cx(), &fixture.spec()).await), Kind::Cancelled, "prepare");
    assert_eq!(error_kind(fixture.server.start(&cx()).await), Kind::Cancelled, "start");
    assert_eq!(error_kind(fixture.server.stop(&cx()).await), Kind::Cancelled, "stop");
    assert_eq!(error_kind(fixture.server.remove(&cx()).await), Kind::Cancelled, "remove");
    fixture.wait_until_healthy().await;
    fixture.assert_app_can_write().await;
}

async fn a_cancelled_stop_returns_promptly(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    is_done_or_given_up(cancelled_when_heard(fixture, async |cx| fixture.server.stop(&cx).await).await);
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
    let mended = async |_| {
        let server = fixture.reattach();
        server.start(&fixture.cx()).await.unwrap();
        assert_eq!(server.observe(&fixture.cx()).await.unwrap().health, Health::Healthy);
        fixture.assert_marker("before").await;
    };
    fixture.drop_at_some_awaits(restart, mended).await;
}

async fn a_prepare_cancelled_before_it_begins_creates_nothing(fixture: &ServerFixture) {
    assert_eq!(error_kind(fixture.server.prepare(&given_up(fixture), &fixture.spec()).await), Kind::Cancelled);
    assert!(!matches!(fixture.observe().await.health, Health::Healthy | Health::Starting));
    fixture.assert_no_leftovers().await;
}

async fn a_cancelled_prepare_returns_promptly_and_can_be_repeated(fixture: &ServerFixture) {
    let spec = fixture.spec();
    is_done_or_given_up(cancelled_when_heard(fixture, async |cx| fixture.server.prepare(&cx, &spec).await).await);
    fixture.prepare().await;
    fixture.assert_app_can_write().await;
}

async fn a_prepare_dropped_at_any_await_can_be_repeated(fixture: &ServerFixture) {
    prepare_drop_at_every_await(fixture, async |place| {
        place.reattach().prepare(&place.successor(), &place.spec()).await.unwrap();
        place.assert_app_can_write().await;
    })
    .await;
}

async fn a_prepare_dropped_at_any_await_can_be_removed(fixture: &ServerFixture) {
    prepare_drop_at_every_await(fixture, async |place| {
        // What a request made that was under way may come after the first removal.
        let begun = Instant::now();
        loop {
            place.reattach().remove(&place.successor()).await.unwrap();
            if place.leftovers().await.is_empty() || begun.elapsed() > LATE_LIMIT {
                break;
            }
            sleep(LATE_PAUSE).await;
        }
        place.assert_no_leftovers().await;
    })
    .await;
}

/// Drops a prepare at its awaits, each time of another place.
async fn prepare_drop_at_every_await(fixture: &ServerFixture, then: impl AsyncFn(&ServerFixture)) {
    let place = RefCell::new(Rc::new(fixture.another().await));
    let prepare = || {
        let place = place.borrow().clone();
        async move { place.server.prepare(&place.cx(), &place.spec()).await.map(drop) }
    };
    let check = async |_| {
        let this = place.borrow().clone();
        then(&this).await;
        fixture.release_other(&this).await;
        let next = Rc::new(fixture.another().await);
        place.replace(next);
    };
    fixture.drop_at_some_awaits(prepare, check).await;
}

async fn a_removal_dropped_at_any_await_can_be_repeated(fixture: &ServerFixture) {
    fixture.prepare().await;
    let remove = || async {
        let server = fixture.reattach();
        server.remove(&fixture.cx()).await.map(drop)
    };
    let again = async |_| {
        fixture.reattach().remove(&fixture.cx()).await.unwrap();
        fixture.assert_no_leftovers().await;
        fixture.reattach().prepare(&fixture.cx(), &fixture.spec()).await.unwrap();
    };
    fixture.drop_at_some_awaits(remove, again).await;
}

async fn settings_cancelled_before_they_are_applied_have_no_effect(fixture: &ServerFixture) {
    let (name, value, _) = fixture.dynamic_parameter();
    let before = fixture.app_session().await.parameter(&name).await.unwrap();
    let some = Settings::from([(name.clone(), value)]);
    assert_eq!(error_kind(fixture.configuration().apply(&given_up(fixture), &some).await), Kind::Cancelled);
    assert_eq!(fixture.app_session().await.parameter(&name).await.unwrap(), before);
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
}

async fn applying_settings_dropped_at_any_await_can_be_repeated(fixture: &ServerFixture) {
    let (name, one, other) = fixture.dynamic_parameter();
    let settings = |value: &Setting| Settings::from([(name.clone(), value.clone())]);
    let apply = || async {
        let server = fixture.reattach();
        fixture.configuration_of(&*server).apply(&fixture.cx(), &settings(&one)).await
    };
    let again = async |_| {
        let server = fixture.reattach();
        for value in [&one, &other] {
            fixture.configuration_of(&*server).apply(&fixture.cx(), &settings(value)).await.unwrap();
            assert_eq!(fixture.app_session().await.parameter(&name).await.unwrap(), value.to_string());
        }
        assert_eq!(fixture.settings_state(&*server).await, SettingsState::default());
    };
    fixture.drop_at_every_await(apply, again).await;
    let server = fixture.reattach();
    fixture.configuration_of(&*server).apply(&fixture.cx(), &Settings::new()).await.unwrap();
}

async fn a_resize_dropped_at_any_await_can_be_undone(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    let larger = fixture.larger_flavor();
    let resize = || async {
        let server = fixture.reattach();
        server.abilities().resize.expect("the ability was shown").resize(&fixture.cx(), &larger).await
    };
    let undone = async |_| {
        let server = fixture.reattach();
        let back =
            server.abilities().resize.expect("the ability was shown").resize(&fixture.cx(), &fixture.host.flavor).await;
        back.unwrap();
        fixture.assert_marker("before").await;
    };
    fixture.drop_at_some_awaits(resize, undone).await;
}

async fn an_upgrade_cancelled_before_it_begins_changes_nothing(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    let mut session = fixture.app_session().await;
    assert_eq!(error_kind(fixture.upgrade().upgrade(&given_up(fixture), &to).await), Kind::Cancelled, "upgrade");
    assert_eq!(error_kind(fixture.upgrade().revert(&given_up(fixture), &from).await), Kind::Cancelled, "revert");
    session.put("a", "b").await.expect("the session was cut");
}

async fn an_upgrade_dropped_at_any_await_can_be_reverted(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    fixture.write_marker("before").await;
    let upgrade = || async {
        let server = fixture.reattach();
        server.abilities().upgrade.expect("the ability was shown").upgrade(&fixture.cx(), &to).await
    };
    let reverted = async |_| {
        let server = fixture.reattach();
        server.abilities().upgrade.expect("the ability was shown").revert(&fixture.cx(), &from).await.unwrap();
        fixture.assert_marker("before").await;
    };
    fixture.drop_at_some_awaits(upgrade, reverted).await;
}

/// Makes a call that is cancelled as soon as it tells of anything, and that has to end soon then.
async fn cancelled_when_heard(fixture: &ServerFixture, call: impl AsyncFnOnce(Cx) -> Result<()>) -> Result<()> {
    let token = CancellationToken::new();
    let told = token.clone();
    let cx = fixture.cx().with_cancel(token).with_progress(Arc::new(move |_| told.cancel()));
    timeout(CANCEL_LIMIT, call(cx)).await.unwrap_or_else(|_| panic!("it went on although it was cancelled"))
}

#[track_caller]
fn is_done_or_given_up(call: Result<()>) {
    // What was all but done when it was cancelled may as well be done.
    if let Err(error) = call {
        assert_eq!(error.kind(), Kind::Cancelled, "{error:?}");
    }
}
