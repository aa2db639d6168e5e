use super::tenant::{accounts, databases};
use crate::{
    conformance::{
        case::cases,
        driver::{Trial, suite::Group},
    },
    model::{NewUser, PageRequest},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        accounts(
            "accounts::pages",
            cases![
                pages_of_any_size_hold_all_users_in_order,
                the_last_page_of_users_says_so,
                a_page_of_users_goes_on_where_the_last_ended_whatever_came_and_went,
            ],
        ),
        databases(
            "accounts::pages",
            cases![
                pages_of_any_size_hold_all_databases_in_order,
                a_page_of_databases_goes_on_where_the_last_ended_whatever_came_and_went,
            ],
        ),
    ]
}

/// Names that a list by words, by case or by numbers would have in another order.
const NAMES: [&str; 6] = ["a", "B", "a_", "b10", "b9", "Ä"];

fn page(limit: u32, after: Option<String>) -> PageRequest {
    PageRequest { limit, after }
}

async fn make_users(trial: &Trial, names: &[String]) {
    let users: Vec<_> = names.iter().map(|name| NewUser::new(name, "x")).collect();
    trial.accounts().create_users(&trial.cx(), &users).await.unwrap();
}

async fn forget(trial: &Trial, names: &[String]) {
    trial.forget(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn pages_of_any_size_hold_all_users_in_order(trial: &Trial) {
    let names = NAMES.map(|name| trial.name(name));
    make_users(trial, &names).await;
    let everything = trial.accounts().users(&trial.cx(), &page(1000, None)).await.unwrap();
    assert_eq!(everything.next, None);
    let mut sorted = everything.items.clone();
    sorted.sort_by(|one, other| one.user.cmp(&other.user));
    assert_eq!(everything.items, sorted, "not in order of name");
    assert!(names.iter().all(|name| sorted.iter().any(|user| user.user.name == *name)));
    for limit in [1, 2, 3, 5] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let part = trial.accounts().users(&trial.cx(), &page(limit, after)).await.unwrap();
            assert!(part.items.len() <= limit as usize, "a page of {limit} holds {}", part.items.len());
            assert!(!part.items.is_empty(), "a page that was announced is empty");
            found.extend(part.items);
            assert!(found.len() <= sorted.len(), "users are listed more than once: {found:?}");
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, sorted, "in pages of {limit}");
    }
    forget(trial, &names).await;
}

async fn the_last_page_of_users_says_so(trial: &Trial) {
    let names = ["last1_", "last2_"].map(|name| trial.name(name));
    make_users(trial, &names).await;
    let count = u32::try_from(trial.users().await.len()).expect("there are few");
    let exact = trial.accounts().users(&trial.cx(), &page(count, None)).await.unwrap();
    assert_eq!((exact.items.len(), exact.next), (count as usize, None), "nothing follows a page that holds all");
    let short = trial.accounts().users(&trial.cx(), &page(count - 1, None)).await.unwrap();
    let rest = trial.accounts().users(&trial.cx(), &page(10, Some(short.next.expect("one follows")))).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    forget(trial, &names).await;
}

async fn a_page_of_users_goes_on_where_the_last_ended_whatever_came_and_went(trial: &Trial) {
    let mut names = ["p1_", "p2_", "p3_", "p5_", "p6_"].map(|name| trial.name(name)).to_vec();
    make_users(trial, &names).await;
    let mine = |found: &str| found.starts_with('p') && found[1..2].parse::<u8>().is_ok();
    let (mut found, mut after, mut seen) = (Vec::new(), None, false);
    loop {
        let part = trial.accounts().users(&trial.cx(), &page(1, after)).await.unwrap();
        found.extend(part.items.into_iter().map(|user| user.user.name).filter(|name| mine(name)));
        if found.len() == 3 && !seen {
            seen = true;
            // The one that the page ended with goes, some come before it, and one after.
            trial.accounts().drop_user(&trial.cx(), &(&names[2]).into()).await.unwrap();
            let new = ["p0_", "p01_", "p4_"].map(|name| trial.name(name));
            make_users(trial, &new).await;
            names.extend(new);
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    let expected = ["p1_", "p2_", "p3_", "p4_", "p5_", "p6_"].map(|name| trial.name(name));
    assert_eq!(found, expected);
    // What would follow is gone when it is asked for.
    let all = trial.users().await.len();
    let limit = u32::try_from(all - 1).expect("there are few");
    let last = trial.accounts().users(&trial.cx(), &page(limit, None)).await.unwrap();
    let rest = trial.users().await.pop().expect("there is one");
    if names.contains(&rest.user.name) {
        trial.accounts().drop_user(&trial.cx(), &rest.user).await.unwrap();
        let past = trial.accounts().users(&trial.cx(), &page(10, last.next)).await.unwrap();
        assert_eq!((past.items, past.next), (Vec::new(), None), "past the end");
    }
    forget(trial, &names).await;
}

async fn pages_of_any_size_hold_all_databases_in_order(trial: &Trial) {
    let names = NAMES.map(|name| trial.name(name));
    trial.make_databases(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let everything = trial.accounts().databases(&trial.cx(), &page(1000, None)).await.unwrap();
    assert_eq!(everything.next, None);
    let mut sorted = everything.items.clone();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(everything.items, sorted, "not in order of name");
    assert!(names.iter().all(|name| sorted.iter().any(|database| database.name == *name)));
    for limit in [1, 2, 5] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let part = trial.accounts().databases(&trial.cx(), &page(limit, after)).await.unwrap();
            assert!(part.items.len() <= limit as usize, "a page of {limit} holds {}", part.items.len());
            assert!(!part.items.is_empty(), "a page that was announced is empty");
            found.extend(part.items);
            assert!(found.len() <= sorted.len(), "databases are listed more than once: {found:?}");
            after = part.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, sorted, "in pages of {limit}");
    }
    forget(trial, &names).await;
}

async fn a_page_of_databases_goes_on_where_the_last_ended_whatever_came_and_went(trial: &Trial) {
    let mut names = ["q1_", "q2_", "q4_"].map(|name| trial.name(name)).to_vec();
    trial.make_databases(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (mut found, mut after, mut seen) = (Vec::new(), None, false);
    loop {
        let part = trial.accounts().databases(&trial.cx(), &page(1, after)).await.unwrap();
        found.extend(part.items.into_iter().map(|database| database.name).filter(|name| name.starts_with('q')));
        if found.len() == 2 && !seen {
            seen = true;
            trial.accounts().drop_database(&trial.cx(), &names[1]).await.unwrap();
            let new = ["q0_", "q01_", "q3_"].map(|name| trial.name(name));
            trial.make_databases(&[&new[0], &new[1], &new[2]]).await;
            names.extend(new);
        }
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["q1_", "q2_", "q3_", "q4_"].map(|name| trial.name(name)));
    forget(trial, &names).await;
}
