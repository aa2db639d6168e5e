//! The bugs, and which case is to find each.

/// Bugs, and the case of each: the end of its name.
macro_rules! bugs {
    ($($group:ident { $($bug:ident => $case:literal,)* })*) => {
        /// What is wrong with a driver.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug {
            /// Nothing.
            None,
            $($($bug,)*)*
        }

        $(pub(crate) const $group: &[(Bug, &str)] = &[$((Bug::$bug, $case)),*];)*
    };
}

bugs! {
    USERS {
        ForgetsToDropAUser => "users::dropping_a_user_ends_its_sessions",
        DropsAUserButNotItsSessions => "users::dropping_a_user_ends_its_sessions",
        CannotDropAnAbsentUser => "users::dropping_an_absent_user_is_ok",
        DropsUsersByPrefix => "users::dropping_a_user_leaves_others_alone",
        OverwritesAUserThatExists => "users::creating_an_existing_user_is_a_conflict",
        CreatesUsersOneByOne => "users::creating_users_is_atomic",
        SwallowsErrorsOfCreateUsers => "users::creating_an_existing_user_is_a_conflict",
        SaysInternalForNotFound => "users::an_absent_user_is_not_found",
        RenamingLosesRights => "users::a_renamed_user_keeps_its_password_and_privileges",
        RenamesOverAnother => "users::renaming_to_a_taken_name_is_a_conflict",
        TellsOfTheEnginesOwnUsers => "users::system_users_are_hidden_and_protected",
        SetsAPasswordOnlyOnce => "passwords::a_new_password_replaces_the_old",
        LetsTheOldPasswordIn => "passwords::a_new_password_replaces_the_old",
        EndsSessionsWithAPassword => "passwords::a_new_password_ends_no_session",
        CutsLongPasswords => "passwords::the_longest_password_is_significant_to_its_last_character",
        TrimsPasswords => "passwords::passwords_may_contain_spaces",
        HashesWhatLooksLikeAHashAgain => "passwords::passwords_may_look_like_hashes",
        TellsAPasswordInAnError => "passwords::passwords_are_not_readable_anywhere",
        TellsAPasswordInProgress => "passwords::passwords_are_not_readable_anywhere",
        LogsAPassword => "passwords::passwords_are_not_readable_anywhere",
    }
    NAMES {
        CutsNames => "identifiers::the_longest_names_are_distinct_in_their_last_character",
        LowersNames => "identifiers::names_are_case_sensitive",
        DoublesQuotes => "identifiers::names_may_contain_quotes",
        EndsNamesAtComments => "identifiers::names_may_contain_comments",
        TakesBackslashesForEscapes => "identifiers::names_may_contain_backslashes",
        JoinsSpaces => "identifiers::names_may_contain_spaces",
        DropsInvisibleLetters => "identifiers::names_may_contain_invisible_characters",
        ReadsPercentEscapes => "identifiers::names_may_contain_uri_syntax",
        TakesNamesForPatterns => "identifiers::privileges_do_not_treat_names_as_patterns",
        SkipsAnEntryBetweenPages => "pagination::pages_of_any_size_list_all_users_in_order",
        NeverEndsItsPages => "pagination::the_last_page_of_users_has_no_successor",
        CountsEntriesForPages => "pagination::pages_of_users_continue_despite_concurrent_changes",
        ListsWithoutRegardToCase => "pagination::pages_of_any_size_list_all_databases_in_order",
    }
    RIGHTS {
        CannotCreateADatabaseAgain => "databases::creating_an_existing_database_keeps_its_contents",
        EmptiesADatabaseCreatedAgain => "databases::creating_an_existing_database_keeps_its_contents",
        KeepsRightsOnADroppedDatabase => "databases::a_recreated_database_is_empty_and_without_privileges",
        DropsDatabasesByPrefix => "databases::dropping_a_database_leaves_others_alone",
        IgnoresCharacterSets => "databases::an_existing_database_with_another_character_set_is_a_conflict",
        PretendsToDropTheEnginesOwn => "databases::system_databases_are_hidden_and_protected",
        GrantsAllDatabases => "privileges::a_user_can_use_granted_databases_only",
        GrantsWhatItCan => "privileges::granting_an_absent_database_is_not_found",
        ForgetsToRevoke => "privileges::revoking_ends_the_sessions_in_that_database_only",
        RevokesButNotTheSessions => "privileges::revoking_ends_the_sessions_in_that_database_only",
        RevokesEverything => "privileges::revoking_ends_the_sessions_in_that_database_only",
        LeavesRootEnabled => "root::root_can_log_in_only_while_enabled",
        LeavesRootsSessions => "root::disabling_root_ends_its_sessions",
        KeepsRootsFirstPassword => "root::enabling_root_again_replaces_its_password",
        ListsRoot => "root::root_is_not_listed_as_a_user",
        RemembersRootItself => "root::the_state_of_root_is_visible_to_every_process",
    }
    CALLS {
        IgnoresTheEpoch => "fencing::a_stale_epoch_cannot_change_users",
        ForgetsTheEpochAtReattach => "fencing::a_stale_epoch_cannot_change_users",
        FencesThoseWhoLook => "fencing::a_stale_epoch_may_read",
        IgnoresKeys => "idempotency_keys::a_key_reused_for_another_user_is_a_conflict",
        ForgetsAboutSteps => "idempotency_keys::a_key_is_distinct_for_each_step",
        LosesACancelledCall => "cancellation::create_users_can_be_repeated_after_cancellation",
        HoldsALockForEver => "cancellation::set_password_can_be_repeated_after_cancellation",
        ShutsOutBeforeItDrops => "cancellation::drop_user_can_be_repeated_after_cancellation",
        LooksBeforeItCreates => "concurrency::one_of_two_concurrent_creations_of_a_user_is_a_conflict",
        ForgetsAccountsAtAStop => "persistence::accounts_survive_a_restart",
    }
    LIFE {
        WipesAtASecondPrepare => "lifecycle::a_second_prepare_is_idempotent",
        RestartsWhatRuns => "lifecycle::starting_a_running_server_does_not_restart_it",
        LosesDataAtAStop => "lifecycle::a_stopped_server_starts_with_its_data",
        BeginsLostDataAnew => "lifecycle::starting_a_server_without_data_does_not_recreate_it",
        LeavesTheServer => "lifecycle::removing_leaves_nothing",
        CannotRemoveTwice => "lifecycle::removing_an_absent_server_is_ok",
        OnlySaysThatItStopped => "observe::every_process_observes_a_stop",
        SaysHealthyWhenStopped => "observe::every_process_observes_a_stop",
        SaysHealthyWhenKilled => "observe::a_killed_server_is_observed_and_can_be_started",
        SaysHealthyWhenSuspended => "observe::a_suspended_server_is_observed_until_it_resumes",
        SaysHealthyWhenFull => "observe::a_full_volume_is_observed_until_it_is_freed",
        SaysWhatItSawOnce => "observe::every_process_observes_a_stop",
        TakesAKillForAStop => "observe::a_killed_server_is_observed_and_can_be_started",
        HangsWithASuspendedServer => "observe::a_suspended_server_is_observed_until_it_resumes",
        LooksOnlyOnceItIsPrepared => "observe::observing_does_not_wait_for_a_prepare",
        MendsWhatItLooksAt => "observe::a_killed_server_is_observed_and_can_be_started",
        IsSilentForTooLong => "progress::preparing_reports_progress_in_time",
        TellsNothing => "progress::preparing_reports_progress_in_time",
        TellsMoreThanThereIs => "progress::preparing_reports_progress_in_time",
        GoesOnWhenItIsCancelled => "cancelling::a_prepare_cancelled_before_it_begins_creates_nothing",
        OffersWhatItCannotRun => "contract::every_offered_version_is_supported",
        LosesAnAbility => "contract::abilities_do_not_change_between_attaches",
    }
    ABILITIES {
        OverstatesItsAbilities => "contract::the_manifest_declares_exactly_the_abilities_of_the_datastore",
        UnderstatesItsAbilities => "contract::the_manifest_declares_exactly_the_abilities_of_the_datastore",
    }
    CHANGES {
        IgnoresASetting => "configuration::dynamic_parameters_take_effect_immediately",
        RestartsToApply => "configuration::dynamic_parameters_take_effect_immediately",
        AppliesHalfOfWhatIsRefused => "configuration::a_rejected_value_leaves_all_settings_unchanged",
        KeepsWhatWasTakenAway => "configuration::a_removed_setting_returns_to_its_default",
        ForgetsSettingsAtAStart => "configuration::settings_survive_a_stop_and_a_kill",
        NeverAsksForARestart => "configuration::a_pending_restart_is_reported_until_the_restart",
        GivesUpSettingsInSilence => "configuration::fatal_settings_are_rolled_back_and_reported",
        ReturnsAnotherCatalogEachTime => "configuration::reading_the_catalog_leaves_the_server_alone",
        MeasuresInNonsense => "configuration::parameter_constraints_are_consistent",
        ChecksByUpgrading => "upgrade::a_check_changes_nothing",
        TakesAnyImage => "upgrade::a_missing_image_is_rejected_before_any_change",
        GoesBackToNothing => "upgrade::a_reverted_upgrade_restores_the_previous_state",
        UpgradesWithoutUsers => "upgrade::an_upgrade_keeps_data_users_and_settings",
        CannotConcludeTwice => "repeating::an_upgrade_and_its_commit_can_be_repeated_after_a_lost_reply",
        ResizesWithoutData => "resize::growing_and_shrinking_a_server_keeps_its_data",
        ResizesForNothing => "resize::resizing_to_the_same_flavor_does_not_restart_the_server",
        ResizesWithoutSettings => "resize::resizing_keeps_the_settings",
    }
}
