//! Databases, users, privileges and the root user.
//!
//! Cases that need no databases also run on engines without databases, where all users share all
//! data.

mod cancellation;
mod concurrency;
mod databases;
mod fencing;
mod fixture;
mod hosts;
mod idempotency_keys;
mod identifiers;
mod pagination;
mod passwords;
mod persistence;
mod privileges;
mod root;
mod users;

use super::group::Group;

pub(super) fn groups() -> Vec<Group> {
    let groups = [
        users::groups(),
        passwords::groups(),
        databases::groups(),
        privileges::groups(),
        root::groups(),
        identifiers::groups(),
        pagination::groups(),
        hosts::groups(),
        fencing::groups(),
        idempotency_keys::groups(),
        concurrency::groups(),
        cancellation::groups(),
        persistence::groups(),
    ];
    groups.into_iter().flatten().collect()
}
