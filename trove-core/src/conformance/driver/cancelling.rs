//! A call that is given up, by its token or by dropping it, loses nothing.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Trial,
    suite::{Group, Need},
    trial::refused,
};
use crate::{
    conformance::case::cases,
    datastore::Cx,
    error::{Kind, Result},
    model::{Health, Setting, Settings, SettingsState},
};

/// How long a call may go on after it was cancelled: what is under way may come to its end.
const LAST_BREATH: Duration = Duration::from_secs(90);
/// How late what a request made may come that was dropped, and how often it is looked for.
const LATE_LIMIT: Duration = Duration::from_secs(10);
const LATE_PAUSE: Duration = Duration::from_millis(50);

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        what_was_cancelled_before_it_began_changes_nothing,
        a_stop_cancelled_on_the_way_ends_soon,
        a_restart_dropped_anywhere_loses_nothing,
    ];
    let empty = cases![
        a_prepare_cancelled_before_it_began_makes_nothing,
        a_prepare_cancelled_on_the_way_ends_soon_and_is_made_again,
        a_prepare_dropped_anywhere_is_made_again,
        a_prepare_dropped_anywhere_is_removed,
        a_removal_dropped_anywhere_is_made_again,
    ];
    vec![
        Group::empty("cancelling", &[], empty),
        Group::shared("cancelling", &[], shared),
        Group::shared(
            "cancelling",
            &[Need::Configuration],
            cases![
                settings_cancelled_before_they_were_applied_are_not,
                a_change_of_settings_dropped_anywhere_is_made_again,
            ],
        ),
        Group::shared("cancelling", &[Need::Resize], cases![a_change_of_the_size_dropped_anywhere_is_undone]),
        Group::shared(
            "cancelling",
            &[Need::Upgrade],
            cases![an_upgrade_cancelled_before_it_began_changes_nothing, an_upgrade_dropped_anywhere_is_reverted,],
        ),
    ]
}

/// A context that was given up already.
fn given_up(trial: &Trial) -> Cx {
    let token = CancellationToken::new();
    token.cancel();
    trial.cx().with_cancel(token)
}

async fn what_was_cancelled_before_it_began_changes_nothing(trial: &Trial) {
    let cx = || given_up(trial);
    assert_eq!(refused(trial.server.prepare(&cx(), &trial.spec()).await), Kind::Cancelled, "prepare");
    assert_eq!(refused(trial.server.start(&cx()).await), Kind::Cancelled, "start");
    assert_eq!(refused(trial.server.stop(&cx()).await), Kind::Cancelled, "stop");
    assert_eq!(refused(trial.server.remove(&cx()).await), Kind::Cancelled, "remove");
    trial.sees_healthy().await;
    trial.app_serves().await;
}

async fn a_stop_cancelled_on_the_way_ends_soon(trial: &Trial) {
    trial.note("before").await;
    is_done_or_given_up(cancelled_when_heard(trial, async |cx| trial.server.stop(&cx).await).await);
    trial.server.start(&trial.cx()).await.unwrap();
    trial.has_note("before").await;
}

async fn a_restart_dropped_anywhere_loses_nothing(trial: &Trial) {
    trial.note("before").await;
    let restart = || async {
        let server = trial.reattached();
        server.stop(&trial.cx()).await.unwrap();
        server.start(&trial.cx()).await.unwrap();
    };
    let mended = async |_| {
        let server = trial.reattached();
        server.start(&trial.cx()).await.unwrap();
        assert_eq!(server.observe(&trial.cx()).await.unwrap().health, Health::Healthy);
        trial.has_note("before").await;
    };
    trial.dropped_slowly(restart, mended).await;
}

async fn a_prepare_cancelled_before_it_began_makes_nothing(trial: &Trial) {
    assert_eq!(refused(trial.server.prepare(&given_up(trial), &trial.spec()).await), Kind::Cancelled);
    assert!(!matches!(trial.observe().await.health, Health::Healthy | Health::Starting));
    trial.has_no_residue().await;
}

async fn a_prepare_cancelled_on_the_way_ends_soon_and_is_made_again(trial: &Trial) {
    let spec = trial.spec();
    is_done_or_given_up(cancelled_when_heard(trial, async |cx| trial.server.prepare(&cx, &spec).await).await);
    trial.prepare().await;
    trial.app_serves().await;
}

async fn a_prepare_dropped_anywhere_is_made_again(trial: &Trial) {
    prepare_dropped_everywhere(trial, async |place| {
        place.reattached().prepare(&place.successor(), &place.spec()).await.unwrap();
        place.app_serves().await;
    })
    .await;
}

async fn a_prepare_dropped_anywhere_is_removed(trial: &Trial) {
    prepare_dropped_everywhere(trial, async |place| {
        // What a request made that was under way may come after the first removal.
        let begun = Instant::now();
        loop {
            place.reattached().remove(&place.successor()).await.unwrap();
            if place.residue().await.is_empty() || begun.elapsed() > LATE_LIMIT {
                break;
            }
            sleep(LATE_PAUSE).await;
        }
        place.has_no_residue().await;
    })
    .await;
}

/// Drops a prepare at its awaits, each time of another place.
async fn prepare_dropped_everywhere(trial: &Trial, then: impl AsyncFn(&Trial)) {
    let place = RefCell::new(Rc::new(trial.elsewhere().await));
    let prepare = || {
        let place = place.borrow().clone();
        async move { place.server.prepare(&place.cx(), &place.spec()).await.map(drop) }
    };
    let check = async |_| {
        let this = place.borrow().clone();
        then(&this).await;
        trial.leave(&this).await;
        let next = Rc::new(trial.elsewhere().await);
        place.replace(next);
    };
    trial.dropped_slowly(prepare, check).await;
}

async fn a_removal_dropped_anywhere_is_made_again(trial: &Trial) {
    trial.prepare().await;
    let remove = || async {
        let server = trial.reattached();
        server.remove(&trial.cx()).await.map(drop)
    };
    let again = async |_| {
        trial.reattached().remove(&trial.cx()).await.unwrap();
        trial.has_no_residue().await;
        trial.reattached().prepare(&trial.cx(), &trial.spec()).await.unwrap();
    };
    trial.dropped_slowly(remove, again).await;
}

async fn settings_cancelled_before_they_were_applied_are_not(trial: &Trial) {
    let (name, value, _) = trial.live();
    let before = trial.app().await.parameter(&name).await.unwrap();
    let some = Settings::from([(name.clone(), value)]);
    assert_eq!(refused(trial.configuration().apply(&given_up(trial), &some).await), Kind::Cancelled);
    assert_eq!(trial.app().await.parameter(&name).await.unwrap(), before);
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
}

async fn a_change_of_settings_dropped_anywhere_is_made_again(trial: &Trial) {
    let (name, one, other) = trial.live();
    let settings = |value: &Setting| Settings::from([(name.clone(), value.clone())]);
    let apply = || async {
        let server = trial.reattached();
        trial.configuration_of(&*server).apply(&trial.cx(), &settings(&one)).await
    };
    let again = async |_| {
        let server = trial.reattached();
        for value in [&one, &other] {
            trial.configuration_of(&*server).apply(&trial.cx(), &settings(value)).await.unwrap();
            assert_eq!(trial.app().await.parameter(&name).await.unwrap(), value.to_string());
        }
        assert_eq!(trial.settings(&*server).await, SettingsState::default());
    };
    trial.dropped_everywhere(apply, again).await;
    let server = trial.reattached();
    trial.configuration_of(&*server).apply(&trial.cx(), &Settings::new()).await.unwrap();
}

async fn a_change_of_the_size_dropped_anywhere_is_undone(trial: &Trial) {
    trial.note("before").await;
    let larger = trial.larger();
    let resize = || async {
        let server = trial.reattached();
        server.abilities().resize.expect("the ability was shown").resize(&trial.cx(), &larger).await
    };
    let undone = async |_| {
        let server = trial.reattached();
        let back =
            server.abilities().resize.expect("the ability was shown").resize(&trial.cx(), &trial.host.flavor).await;
        back.unwrap();
        trial.has_note("before").await;
    };
    trial.dropped_slowly(resize, undone).await;
}

async fn an_upgrade_cancelled_before_it_began_changes_nothing(trial: &Trial) {
    let (from, to) = trial.releases();
    let mut session = trial.app().await;
    assert_eq!(refused(trial.upgrade().upgrade(&given_up(trial), &to).await), Kind::Cancelled, "upgrade");
    assert_eq!(refused(trial.upgrade().revert(&given_up(trial), &from).await), Kind::Cancelled, "revert");
    session.put("a", "b").await.expect("the session was cut");
}

async fn an_upgrade_dropped_anywhere_is_reverted(trial: &Trial) {
    let (from, to) = trial.releases();
    trial.note("before").await;
    let upgrade = || async {
        let server = trial.reattached();
        server.abilities().upgrade.expect("the ability was shown").upgrade(&trial.cx(), &to).await
    };
    let reverted = async |_| {
        let server = trial.reattached();
        server.abilities().upgrade.expect("the ability was shown").revert(&trial.cx(), &from).await.unwrap();
        trial.has_note("before").await;
    };
    trial.dropped_slowly(upgrade, reverted).await;
}

/// Makes a call that is cancelled as soon as it tells of anything, and that has to end soon then.
async fn cancelled_when_heard(trial: &Trial, call: impl AsyncFnOnce(Cx) -> Result<()>) -> Result<()> {
    let token = CancellationToken::new();
    let told = token.clone();
    let cx = trial.cx().with_cancel(token).with_progress(Arc::new(move |_| told.cancel()));
    timeout(LAST_BREATH, call(cx)).await.unwrap_or_else(|_| panic!("it went on although it was cancelled"))
}

#[track_caller]
fn is_done_or_given_up(call: Result<()>) {
    // What was all but done when it was cancelled may as well be done.
    if let Err(error) = call {
        assert_eq!(error.kind(), Kind::Cancelled, "{error:?}");
    }
}
