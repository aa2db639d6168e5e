//! Users who are told apart by where they come from. Nobody comes from the addresses of documentation.

use super::tenant::{PASSWORD, accounts, secret};
use crate::{
    conformance::{
        case::{cases, skip},
        driver::{Trial, suite::Group, trial::refused},
    },
    error::Kind,
    model::{NewUser, PageRequest, UserName},
};

pub(super) fn groups() -> Vec<Group> {
    vec![accounts(
        "accounts::hosts",
        cases![
            users_of_one_name_and_two_hosts_are_two,
            a_user_of_another_host_is_not_let_in,
            a_user_is_moved_to_another_host,
            pages_tell_users_of_one_name_apart,
        ],
    )]
}

impl Trial {
    fn has_hosts(&self) {
        if !self.rules().is_some_and(|rules| rules.hosts) {
            skip("the engine does not tell users apart by their hosts");
        }
    }

    async fn forget_user(&self, user: &UserName) {
        self.accounts().drop_user(&self.cx(), user).await.unwrap();
    }
}

async fn users_of_one_name_and_two_hosts_are_two(trial: &Trial) {
    trial.has_hosts();
    let name = trial.make_tenant("both").await;
    let (here, there) = (UserName::new(&name), UserName::new(&name).at("192.0.2.7"));
    trial.accounts().create_users(&trial.cx(), &[NewUser::new(&there, "other")]).await.unwrap();
    let again = trial.accounts().create_users(&trial.cx(), &[NewUser::new(&there, "other")]).await;
    assert_eq!(refused(again), Kind::Conflict);
    trial.accounts().set_password(&trial.cx(), &there, &secret("changed")).await.unwrap();
    assert!(trial.lets_in(&name, PASSWORD, &name).await, "the other's password was changed");
    assert_eq!(trial.accounts().user(&trial.cx(), &there).await.unwrap().databases, [""; 0]);
    trial.forget_user(&there).await;
    assert_eq!(refused(trial.accounts().user(&trial.cx(), &there).await), Kind::NotFound);
    assert_eq!(trial.accounts().user(&trial.cx(), &here).await.unwrap().user, here);
    assert!(trial.lets_in(&name, PASSWORD, &name).await, "the other was dropped");
    trial.forget(&[&name]).await;
}

async fn a_user_of_another_host_is_not_let_in(trial: &Trial) {
    trial.has_hosts();
    for host in ["192.0.2.7", "192.0.2.%", "2001:db8::1"] {
        let user = UserName::new(trial.name("far")).at(host);
        trial.accounts().create_users(&trial.cx(), &[trial.new_user_at(&user, "app")]).await.unwrap();
        assert!(!trial.lets_in(&user.name, PASSWORD, "app").await, "from anywhere but {host}");
        assert_eq!(trial.accounts().user(&trial.cx(), &user).await.unwrap().user, user);
        trial.forget_user(&user).await;
    }
}

async fn a_user_is_moved_to_another_host(trial: &Trial) {
    trial.has_hosts();
    let name = trial.make_tenant("moves").await;
    let (here, there) = (UserName::new(&name), UserName::new(&name).at("192.0.2.7"));
    let rights = trial.rights(&name).await;
    trial.accounts().rename_user(&trial.cx(), &here, &there).await.unwrap();
    assert!(!trial.lets_in(&name, PASSWORD, &name).await, "it comes from where it came from before");
    assert_eq!(refused(trial.accounts().user(&trial.cx(), &here).await), Kind::NotFound);
    assert_eq!(trial.accounts().user(&trial.cx(), &there).await.unwrap().databases, rights);
    trial.accounts().rename_user(&trial.cx(), &there, &here).await.unwrap();
    assert!(trial.lets_in(&name, PASSWORD, &name).await, "it is not let in again");
    trial.forget(&[&name]).await;
}

async fn pages_tell_users_of_one_name_apart(trial: &Trial) {
    trial.has_hosts();
    let of = |name: &str, host: &str| UserName::new(trial.name(name)).at(host);
    // A name may hold what parts it from a host.
    let mine =
        [of("many", "192.0.2.1"), of("many", "192.0.2.2"), of("many", "192.0.2.%"), of("many@192.0.2.1", "192.0.2.3")];
    let users: Vec<_> = mine.iter().map(|user| NewUser::new(user, "x")).collect();
    trial.accounts().create_users(&trial.cx(), &users).await.unwrap();
    let (mut found, mut page) = (Vec::new(), PageRequest { limit: 1, after: None });
    loop {
        let part = trial.accounts().users(&trial.cx(), &page).await.unwrap();
        found.extend(part.items.into_iter().map(|user| user.user).filter(|user| mine.contains(user)));
        assert!(found.len() <= mine.len(), "users are listed more than once: {found:?}");
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    let mut sorted = mine.to_vec();
    sorted.sort();
    assert_eq!(found, sorted);
    for user in &mine {
        trial.forget_user(user).await;
    }
}

impl Trial {
    fn new_user_at(&self, user: &UserName, database: &str) -> NewUser {
        let new = NewUser::new(user, PASSWORD);
        if self.has_databases() { new.granted(database) } else { new }
    }
}
