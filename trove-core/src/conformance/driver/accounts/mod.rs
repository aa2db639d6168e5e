//! Databases, users, rights and the tenant's root.
//!
//! Cases that need no databases run on engines without any, too: there all users share all that the server holds.

mod at_once;
mod databases;
mod dropped;
mod hosts;
mod keys;
mod lasting;
mod names;
mod pages;
mod passwords;
mod rights;
mod root;
mod tenant;
mod users;

use super::group::Group;

pub(super) fn groups() -> Vec<Group> {
    let all = [
        users::groups(),
        passwords::groups(),
        databases::groups(),
        rights::groups(),
        root::groups(),
        names::groups(),
        pages::groups(),
        hosts::groups(),
        keys::groups(),
        at_once::groups(),
        dropped::groups(),
        lasting::groups(),
    ];
    all.into_iter().flatten().collect()
}
