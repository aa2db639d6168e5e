use super::fixture::{accounts_group, databases_group};
use crate::{
    conformance::{
        case::cases,
        driver::{ServerFixture, group::Group},
    },
    model::{NewUser, PageRequest},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts_group(
            "accounts::pagination",
            cases![
                pages_of_any_size_list_all_users_in_order,
                the_last_page_of_users_has_no_successor,
                pages_of_users_continue_despite_concurrent_changes,
            ],
        ),
        databases_group(
            "accounts::pagination",
            cases![
                pages_of_any_size_list_all_databases_in_order,
                pages_of_databases_continue_despite_concurrent_changes,
            ],
        ),
    ]
}

/// Names whose order differs between byte-wise, case-insensitive, linguistic and numeric sorting.
const NAMES: [&str; 6] = ["a", "B", "a_", "b10", "b9", "Ä"];

fn page(limit: u32, after: Option<String>) -> PageRequest {
    PageRequest { limit, after }
}

async fn create_users(fixture: &ServerFixture, names: &[String]) {
    let users: Vec<_> = names.iter().map(|name| NewUser::new(name, "x")).collect();
    fixture.accounts().create_users(&fixture.cx(), &users).await.unwrap();
}

async fn drop_all(fixture: &ServerFixture, names: &[String]) {
    fixture.drop_all(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn pages_of_any_size_list_all_users_in_order(fixture: &ServerFixture) {
    let names = NAMES.map(|name| fixture.unique_name(name));
    create_users(fixture, &names).await;
    let everything = fixture.accounts().users(&fixture.cx(), &page(1000, None)).await.unwrap();
    assert_eq!(everything.next, None);
    let mut sorted = everything.items.clone();
    sorted.sort_by(|one, other| one.user.cmp(&other.user));
    assert_eq!(everything.items, sorted, "not sorted by name");
    assert!(names.iter().all(|name| sorted.iter().any(|user| user.user.name == *name)));
    for limit in [1, 2, 3, 5] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let part = fixture.accounts().users(&fixture.cx(), &page(limit, after)).await.unwrap();
            assert!(part.items.len() <= limit as usize, "a page of {limit} has {} entries", part.items.len());
            assert!(!part.items.is_empty(), "a page is empty");
            found.extend(part.items);
            assert!(found.len() <= sorted.len(), "a user is listed twice: {found:?}");
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, sorted, "in pages of {limit}");
    }
    drop_all(fixture, &names).await;
}

async fn the_last_page_of_users_has_no_successor(fixture: &ServerFixture) {
    let names = ["last1_", "last2_"].map(|name| fixture.unique_name(name));
    create_users(fixture, &names).await;
    let count = u32::try_from(fixture.users().await.len()).expect("there are few users");
    let exact = fixture.accounts().users(&fixture.cx(), &page(count, None)).await.unwrap();
    assert_eq!((exact.items.len(), exact.next), (count as usize, None), "a page with all users has a successor");
    let short = fixture.accounts().users(&fixture.cx(), &page(count - 1, None)).await.unwrap();
    let rest = fixture
        .accounts()
        .users(&fixture.cx(), &page(10, Some(short.next.expect("another page follows"))))
        .await
        .unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    drop_all(fixture, &names).await;
}

async fn pages_of_users_continue_despite_concurrent_changes(fixture: &ServerFixture) {
    let mut names = ["p1_", "p2_", "p3_", "p5_", "p6_"].map(|name| fixture.unique_name(name)).to_vec();
    create_users(fixture, &names).await;
    let of_case = |found: &str| found.starts_with('p') && found[1..2].parse::<u8>().is_ok();
    let (mut found, mut after, mut changed) = (Vec::new(), None, false);
    loop {
        let part = fixture.accounts().users(&fixture.cx(), &page(1, after)).await.unwrap();
        found.extend(part.items.into_iter().map(|user| user.user.name).filter(|name| of_case(name)));
        if found.len() == 3 && !changed {
            changed = true;
            // Drop the last user of the page, and create users before and after it.
            fixture.accounts().drop_user(&fixture.cx(), &(&names[2]).into()).await.unwrap();
            let new = ["p0_", "p01_", "p4_"].map(|name| fixture.unique_name(name));
            create_users(fixture, &new).await;
            names.extend(new);
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    let expected = ["p1_", "p2_", "p3_", "p4_", "p5_", "p6_"].map(|name| fixture.unique_name(name));
    assert_eq!(found, expected);
    // The only user of the next page is dropped before the page is read.
    let all = fixture.users().await.len();
    let limit = u32::try_from(all - 1).expect("there are few users");
    let last = fixture.accounts().users(&fixture.cx(), &page(limit, None)).await.unwrap();
    let rest = fixture.users().await.pop().expect("there are users");
    if names.contains(&rest.user.name) {
        fixture.accounts().drop_user(&fixture.cx(), &rest.user).await.unwrap();
        let empty = fixture.accounts().users(&fixture.cx(), &page(10, last.next)).await.unwrap();
        assert_eq!((empty.items, empty.next), (Vec::new(), None), "the page past the end is not empty");
    }
    drop_all(fixture, &names).await;
}

async fn pages_of_any_size_list_all_databases_in_order(fixture: &ServerFixture) {
    let names = NAMES.map(|name| fixture.unique_name(name));
    fixture.create_databases_if_supported(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let everything = fixture.accounts().databases(&fixture.cx(), &page(1000, None)).await.unwrap();
    assert_eq!(everything.next, None);
    let mut sorted = everything.items.clone();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(everything.items, sorted, "not sorted by name");
    assert!(names.iter().all(|name| sorted.iter().any(|database| database.name == *name)));
    for limit in [1, 2, 5] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let part = fixture.accounts().databases(&fixture.cx(), &page(limit, after)).await.unwrap();
            assert!(part.items.len() <= limit as usize, "a page of {limit} has {} entries", part.items.len());
            assert!(!part.items.is_empty(), "a page is empty");
            found.extend(part.items);
            assert!(found.len() <= sorted.len(), "a database is listed twice: {found:?}");
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, sorted, "in pages of {limit}");
    }
    drop_all(fixture, &names).await;
}

async fn pages_of_databases_continue_despite_concurrent_changes(fixture: &ServerFixture) {
    let mut names = ["q1_", "q2_", "q4_"].map(|name| fixture.unique_name(name)).to_vec();
    fixture.create_databases_if_supported(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (mut found, mut after, mut changed) = (Vec::new(), None, false);
    loop {
        let part = fixture.accounts().databases(&fixture.cx(), &page(1, after)).await.unwrap();
        found.extend(part.items.into_iter().map(|database| database.name).filter(|name| name.starts_with('q')));
        if found.len() == 2 && !changed {
            changed = true;
            fixture.accounts().drop_database(&fixture.cx(), &names[1]).await.unwrap();
            let new = ["q0_", "q01_", "q3_"].map(|name| fixture.unique_name(name));
            fixture.create_databases_if_supported(&[&new[0], &new[1], &new[2]]).await;
            names.extend(new);
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["q1_", "q2_", "q3_", "q4_"].map(|name| fixture.unique_name(name)));
    drop_all(fixture, &names).await;
}
