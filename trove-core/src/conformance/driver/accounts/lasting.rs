//! What is still there when the server, or the process that watches it, comes again.

use super::tenant::{PASSWORD, accounts, ended};
use crate::conformance::{
    case::cases,
    driver::{Trial, suite::Group},
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts("accounts::lasting", cases![accounts_outlive_a_restart, accounts_are_the_servers_and_no_processes])]
}

async fn accounts_outlive_a_restart(trial: &Trial) {
    let (name, gone, root) =
        (trial.make_tenant("lasts").await, trial.make_tenant("gone").await, trial.make_root("r00t").await);
    trial.accounts().drop_user(&trial.cx(), &(&gone).into()).await.unwrap();
    let mut session = trial.enter(&name, PASSWORD, &name).await;
    session.put("kept", "yes").await.unwrap();
    let before = (trial.users().await, trial.databases().await);
    trial.server.stop(&trial.cx()).await.unwrap();
    trial.server.start(&trial.cx()).await.unwrap();
    ended(&mut session, "the server was stopped").await;
    assert_eq!((trial.users().await, trial.databases().await), before);
    let kept = trial.enter(&name, PASSWORD, &name).await.get("kept").await.unwrap();
    assert_eq!(kept.as_deref(), Some("yes"));
    assert!(!trial.lets_in(&gone, PASSWORD, &gone).await, "a dropped user came back");
    assert!(trial.has_root().await && trial.lets_in(&root, "r00t", "app").await, "root was shut out");
    trial.end_root().await;
    trial.forget(&[&name, &gone]).await;
}

async fn accounts_are_the_servers_and_no_processes(trial: &Trial) {
    let name = trial.make_tenant("seen").await;
    let other = trial.reattached();
    let other = other.abilities().accounts.expect("the ability was shown");
    let seen = other.user(&trial.cx(), &(&name).into()).await.unwrap();
    assert_eq!(seen, trial.accounts().user(&trial.cx(), &(&name).into()).await.unwrap());
    other.drop_user(&trial.cx(), &(&name).into()).await.unwrap();
    assert!(!trial.users().await.contains(&seen), "one process does not see what another did");
    trial.forget(&[&name]).await;
}
