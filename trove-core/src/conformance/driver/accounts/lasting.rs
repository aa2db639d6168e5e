//! What is still there when the server, or the process that watches it, comes again.

use super::tenant::{PASSWORD, accounts, ended};
use crate::conformance::{
    case::cases,
    driver::{ServerFixture, group::Group},
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts("accounts::lasting", cases![accounts_survive_a_restart, accounts_are_visible_to_every_process])]
}

async fn accounts_survive_a_restart(fixture: &ServerFixture) {
    let (name, gone, root) =
        (fixture.create_tenant("lasts").await, fixture.create_tenant("gone").await, fixture.make_root("r00t").await);
    fixture.accounts().drop_user(&fixture.cx(), &(&gone).into()).await.unwrap();
    let mut session = fixture.log_in(&name, PASSWORD, &name).await;
    session.put("kept", "yes").await.unwrap();
    let before = (fixture.users().await, fixture.databases().await);
    fixture.server.stop(&fixture.cx()).await.unwrap();
    fixture.server.start(&fixture.cx()).await.unwrap();
    ended(&mut session, "the server was stopped").await;
    assert_eq!((fixture.users().await, fixture.databases().await), before);
    let kept = fixture.log_in(&name, PASSWORD, &name).await.get("kept").await.unwrap();
    assert_eq!(kept.as_deref(), Some("yes"));
    assert!(!fixture.can_log_in(&gone, PASSWORD, &gone).await, "a dropped user came back");
    assert!(fixture.has_root().await && fixture.can_log_in(&root, "r00t", "app").await, "root was shut out");
    fixture.end_root().await;
    fixture.drop_all(&[&name, &gone]).await;
}

async fn accounts_are_visible_to_every_process(fixture: &ServerFixture) {
    let name = fixture.create_tenant("seen").await;
    let other = fixture.reattach();
    let other = other.abilities().accounts.expect("the ability was shown");
    let seen = other.user(&fixture.cx(), &(&name).into()).await.unwrap();
    assert_eq!(seen, fixture.accounts().user(&fixture.cx(), &(&name).into()).await.unwrap());
    other.drop_user(&fixture.cx(), &(&name).into()).await.unwrap();
    assert!(!fixture.users().await.contains(&seen), "one process does not see what another did");
    fixture.drop_all(&[&name]).await;
}
