//! Checks that leave a server running, so that all checks of an engine version share one server.

mod accounts;
mod docker_outage;
mod memory;
mod mysql_accounts;
mod mysql_root;
mod postgresql_accounts;
mod postgresql_catalog;
mod postgresql_collations;
mod postgresql_root;
mod restarts;

use crate::common::{Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18};

/// Runs checks on one server, which has only database `app` and user `app` before each.
macro_rules! run_checks {
    ($engine:expr, [$($check:path),* $(,)?]) => {
        let fixture = Fixture::prepared($engine).await;
        $(
            println!("check {}", stringify!($check));
            fixture.reset_accounts().await;
            $check(&fixture).await;
        )*
        fixture.remove().await;
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_17() {
    run_checks!(
        POSTGRESQL_17,
        [
            memory::postgresql_sessions_fit_into_the_memory,
            accounts::objects_outlive_the_user_who_created_them,
            accounts::renamed_users_keep_their_privileges,
            accounts::an_abandoned_rename_completes_before_the_next_one,
            postgresql_accounts::objects_belong_to_all_users_of_a_database,
            postgresql_accounts::failed_statements_do_not_log_passwords,
            postgresql_accounts::database_settings_do_not_affect_the_administrator,
            postgresql_accounts::database_settings_do_not_prevent_dropping_users,
            postgresql_accounts::large_objects_in_a_database_of_the_server_are_dropped_with_their_owner,
            postgresql_accounts::a_half_dropped_database_counts_as_absent,
            postgresql_accounts::owner_roles_cannot_be_dropped_or_renamed,
            postgresql_accounts::sessions_survive_a_rename,
            postgresql_root::root_administers_only_what_belongs_to_the_tenant,
            postgresql_collations::databases_have_the_requested_character_set_and_collation,
            postgresql_catalog::the_catalog_has_the_defaults_of_an_unconfigured_server,
            docker_outage::a_docker_outage_is_reported_until_it_ends,
            restarts::a_start_after_an_interrupted_stop_starts_a_new_container,
            restarts::a_start_names_a_port_that_is_in_use,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn postgresql_15() {
    run_checks!(
        POSTGRESQL_15,
        [
            postgresql_root::root_administers_only_what_belongs_to_the_tenant,
            postgresql_collations::databases_have_the_requested_character_set_and_collation,
            postgresql_catalog::the_catalog_has_the_defaults_of_an_unconfigured_server,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn postgresql_18() {
    run_checks!(
        POSTGRESQL_18,
        [
            postgresql_root::root_administers_only_what_belongs_to_the_tenant,
            postgresql_collations::databases_have_the_requested_character_set_and_collation,
        ]
    );
}

/// Runs the checks of MySQL and MariaDB, and further ones.
macro_rules! run_mysql_family_checks {
    ($engine:expr, [$($check:path),*]) => {
        run_checks!(
            $engine,
            [
                memory::mysql_sessions_fit_into_the_memory,
                accounts::objects_outlive_the_user_who_created_them,
                accounts::renamed_users_keep_their_privileges,
                accounts::an_abandoned_rename_completes_before_the_next_one,
                mysql_accounts::system_accounts_cannot_log_in,
                mysql_accounts::hosts_are_normalized,
                mysql_accounts::databases_have_the_requested_character_set_and_collation,
                mysql_accounts::stored_programs_outlive_their_definer,
                mysql_root::root_administers_only_what_belongs_to_the_tenant,
                mysql_root::events_of_root_stop_when_it_is_disabled,
                $($check),*
            ]
        );
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_9_7() {
    run_mysql_family_checks!(
        MYSQL_9_7,
        [
            mysql_root::root_of_mysql_cannot_grant_more_than_it_has,
            mysql_root::nothing_of_mysql_acts_for_root_once_it_is_disabled
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_11_8() {
    run_mysql_family_checks!(MARIADB_11_8, []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full tier"]
async fn mariadb_10_11() {
    run_mysql_family_checks!(MARIADB_10_11, []);
}
