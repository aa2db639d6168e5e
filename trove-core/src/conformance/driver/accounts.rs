//! Databases, users and rights.

use super::{
    Trial,
    suite::{Group, Need, Place},
    trial::refused,
};
use crate::{
    conformance::case::cases,
    error::Kind,
    model::{NewDatabase, NewUser},
};

pub(super) fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "accounts",
            place: Place::Shared,
            needs: &[Need::Accounts],
            cases: cases![a_user_that_exists_is_a_conflict],
        },
        Group {
            name: "databases",
            place: Place::Shared,
            needs: &[Need::Databases],
            cases: cases![creating_a_database_again_changes_nothing],
        },
    ]
}

async fn a_user_that_exists_is_a_conflict(trial: &Trial) {
    let users = [NewUser::new(trial.name("twice"), "x")];
    trial.accounts().create_users(&trial.cx(), &users).await.unwrap();
    assert_eq!(refused(trial.accounts().create_users(&trial.cx(), &users).await), Kind::Conflict);
}

async fn creating_a_database_again_changes_nothing(trial: &Trial) {
    let databases = [NewDatabase::new(trial.name("again"))];
    for _ in 0..2 {
        trial.accounts().create_databases(&trial.cx(), &databases).await.unwrap();
    }
}
