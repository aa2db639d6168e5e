//! Accounts after a restart of the server, and as another process sees it.

use super::fixture::{PASSWORD, accounts_group, assert_session_ended};
use crate::conformance::{
    case::cases,
    driver::{ServerFixture, group::Group},
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts_group(
        "accounts::persistence",
        cases![accounts_survive_a_restart, accounts_are_visible_to_every_process],
    )]
}

async fn accounts_survive_a_restart(fixture: &ServerFixture) {
    let (name, dropped) = (fixture.create_tenant("kept").await, fixture.create_tenant("dropped").await);
    let root = fixture.enable_root_user("r00t").await;
    fixture.accounts().drop_user(&fixture.cx(), &(&dropped).into()).await.unwrap();
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    session.put("kept", "yes").await.unwrap();
    let before = (fixture.users().await, fixture.databases().await);
    fixture.server.stop(&fixture.cx()).await.unwrap();
    fixture.server.start(&fixture.cx()).await.unwrap();
    assert_session_ended(&mut session, "the server was stopped").await;
    assert_eq!((fixture.users().await, fixture.databases().await), before);
    let kept = fixture.log_in(&name, PASSWORD, &name).await.get("kept").await.unwrap();
    assert_eq!(kept.as_deref(), Some("yes"));
    assert!(!fixture.can_log_in(&dropped, PASSWORD, &dropped).await, "a dropped user can log in after the restart");
    assert!(
        fixture.root_user_enabled().await && fixture.can_log_in(&root, "r00t", "app").await,
        "root cannot log in after the restart"
    );
    fixture.disable_root_user().await;
    fixture.drop_all(&[&name, &dropped]).await;
}

async fn accounts_are_visible_to_every_process(fixture: &ServerFixture) {
    let name = fixture.create_tenant("shared").await;
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability is present");
    let user = other.user(&fixture.cx(), &(&name).into()).await.unwrap();
    assert_eq!(user, fixture.accounts().user(&fixture.cx(), &(&name).into()).await.unwrap());
    other.drop_user(&fixture.cx(), &(&name).into()).await.unwrap();
    assert!(!fixture.users().await.contains(&user), "a user that another process dropped is listed");
    fixture.drop_all(&[&name]).await;
}
