//! Users that are distinguished by the host they connect from. No client has an address of the
//! ranges for documentation.

use super::fixture::{PASSWORD, secret};
use crate::{
    conformance::{
        case::cases,
        driver::{
            ServerFixture,
            fixture::error_kind,
            group::{Group, Need},
        },
    },
    error::Kind,
    model::{NewUser, PageRequest, UserName},
};

pub(super) fn groups() -> Vec<Group> {
    vec![Group::shared(
        "accounts::hosts",
        &[Need::Hosts],
        cases![
            users_with_different_hosts_are_distinct,
            a_user_of_another_host_cannot_log_in,
            a_user_can_be_moved_to_another_host,
            pages_distinguish_users_of_one_name,
        ],
    )]
}

impl ServerFixture {
    async fn drop_user_with_host(&self, user: &UserName) {
        self.accounts().drop_user(&self.cx(), user).await.unwrap();
    }
}

async fn users_with_different_hosts_are_distinct(fixture: &ServerFixture) {
    let name = fixture.create_tenant("both").await;
    let (here, there) = (UserName::new(&name), UserName::new(&name).at("192.0.2.7"));
    fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(&there, "other")]).await.unwrap();
    let again = fixture.accounts().create_users(&fixture.cx(), &[NewUser::new(&there, "other")]).await;
    assert_eq!(error_kind(again), Kind::Conflict);
    fixture.accounts().set_password(&fixture.cx(), &there, &secret("changed")).await.unwrap();
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await, "the password of another user was changed");
    assert_eq!(fixture.accounts().user(&fixture.cx(), &there).await.unwrap().databases, [""; 0]);
    fixture.drop_user_with_host(&there).await;
    assert_eq!(error_kind(fixture.accounts().user(&fixture.cx(), &there).await), Kind::NotFound);
    assert_eq!(fixture.accounts().user(&fixture.cx(), &here).await.unwrap().user, here);
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await, "another user was dropped");
    fixture.drop_all(&[&name]).await;
}

async fn a_user_of_another_host_cannot_log_in(fixture: &ServerFixture) {
    for host in ["192.0.2.7", "192.0.2.%", "2001:db8::1"] {
        let user = UserName::new(fixture.unique_name("remote")).at(host);
        fixture.accounts().create_users(&fixture.cx(), &[fixture.new_user_at(&user, "app")]).await.unwrap();
        assert!(!fixture.can_log_in(&user.name, PASSWORD, "app").await, "logged in from another host than {host}");
        assert_eq!(fixture.accounts().user(&fixture.cx(), &user).await.unwrap().user, user);
        fixture.drop_user_with_host(&user).await;
    }
}

async fn a_user_can_be_moved_to_another_host(fixture: &ServerFixture) {
    let name = fixture.create_tenant("moves").await;
    let (here, there) = (UserName::new(&name), UserName::new(&name).at("192.0.2.7"));
    let databases = fixture.granted_databases(&name).await;
    fixture.accounts().rename_user(&fixture.cx(), &here, &there).await.unwrap();
    assert!(!fixture.can_log_in(&name, PASSWORD, &name).await, "the user can still log in from its former host");
    assert_eq!(error_kind(fixture.accounts().user(&fixture.cx(), &here).await), Kind::NotFound);
    assert_eq!(fixture.accounts().user(&fixture.cx(), &there).await.unwrap().databases, databases);
    fixture.accounts().rename_user(&fixture.cx(), &there, &here).await.unwrap();
    assert!(fixture.can_log_in(&name, PASSWORD, &name).await, "the user cannot log in from its restored host");
    fixture.drop_all(&[&name]).await;
}

async fn pages_distinguish_users_of_one_name(fixture: &ServerFixture) {
    let user = |name: &str, host: &str| UserName::new(fixture.unique_name(name)).at(host);
    // A name may contain the character that separates it from the host.
    let created = [
        user("many", "192.0.2.1"),
        user("many", "192.0.2.2"),
        user("many", "192.0.2.%"),
        user("many@192.0.2.1", "192.0.2.3"),
    ];
    let users: Vec<_> = created.iter().map(|user| NewUser::new(user, "x")).collect();
    fixture.accounts().create_users(&fixture.cx(), &users).await.unwrap();
    let (mut found, mut page) = (Vec::new(), PageRequest { limit: 1, after: None });
    loop {
        let part = fixture.accounts().users(&fixture.cx(), &page).await.unwrap();
        found.extend(part.items.into_iter().map(|user| user.user).filter(|user| created.contains(user)));
        assert!(found.len() <= created.len(), "a user is listed twice: {found:?}");
        page.after = part.next;
        if page.after.is_none() {
            break;
        }
    }
    let mut sorted = created.to_vec();
    sorted.sort();
    assert_eq!(found, sorted);
    for user in &created {
        fixture.drop_user_with_host(user).await;
    }
}

impl ServerFixture {
    fn new_user_at(&self, user: &UserName, database: &str) -> NewUser {
        let new = NewUser::new(user, PASSWORD);
        if self.has_databases() { new.granted(database) } else { new }
    }
}
