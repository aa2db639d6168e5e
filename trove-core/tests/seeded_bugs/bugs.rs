//! The seeded bugs, each with the case that has to find it.

/// Declares bugs. The case is given by the end of its name.
macro_rules! bugs {
    ($($group:ident { $($bug:ident => $case:literal,)* })*) => {
        /// A defect of the driver.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug {
            /// No defect.
            None,
            $($($bug,)*)*
        }

        $(pub(crate) const $group: &[(Bug, &str)] = &[$((Bug::$bug, $case)),*];)*
    };
}

bugs! {
    USERS {
        IgnoresDropUser => "users::dropping_a_user_ends_its_sessions",
        KeepsSessionsOfDroppedUser => "users::dropping_a_user_ends_its_sessions",
        FailsToDropAbsentUser => "users::dropping_an_absent_user_is_ok",
        DropsUsersByPrefix => "users::dropping_a_user_leaves_others_alone",
        OverwritesExistingUser => "users::creating_an_existing_user_is_a_conflict",
        CreatesUsersNonAtomically => "users::creating_users_is_atomic",
        SwallowsCreateUsersErrors => "users::creating_an_existing_user_is_a_conflict",
        ReportsNotFoundAsInternal => "users::an_absent_user_is_not_found",
        LosesPrivilegesOnRename => "users::a_renamed_user_keeps_its_password_and_privileges",
        OverwritesUserOnRename => "users::renaming_to_a_taken_name_is_a_conflict",
        ListsSystemUsers => "users::system_users_are_hidden_and_protected",
        SetsPasswordOnlyOnce => "passwords::a_new_password_replaces_the_old",
        AcceptsOldPassword => "passwords::a_new_password_replaces_the_old",
        EndsSessionsOnPasswordChange => "passwords::a_new_password_ends_no_session",
        TruncatesPasswords => "passwords::the_longest_password_is_significant_to_its_last_character",
        TrimsPasswords => "passwords::passwords_may_contain_spaces",
        RehashesPasswordsThatLookHashed => "passwords::passwords_may_look_like_hashes",
        LeaksPasswordInError => "passwords::passwords_are_not_readable_anywhere",
        LeaksPasswordInProgress => "passwords::passwords_are_not_readable_anywhere",
        LogsPassword => "passwords::passwords_are_not_readable_anywhere",
    }
    IDENTIFIERS {
        TruncatesNames => "identifiers::the_longest_names_are_distinct_in_their_last_character",
        LowercasesNames => "identifiers::names_are_case_sensitive",
        EscapesQuotesTwice => "identifiers::names_may_contain_quotes",
        StripsCommentsFromNames => "identifiers::names_may_contain_comments",
        StripsBackslashes => "identifiers::names_may_contain_backslashes",
        CollapsesSpaces => "identifiers::names_may_contain_spaces",
        StripsInvisibleCharacters => "identifiers::names_may_contain_invisible_characters",
        DecodesPercentEscapes => "identifiers::names_may_contain_uri_syntax",
        TreatsNamesAsPatterns => "identifiers::privileges_do_not_treat_names_as_patterns",
        SkipsEntryBetweenPages => "pagination::pages_of_any_size_list_all_users_in_order",
        NeverEndsPagination => "pagination::the_last_page_of_users_has_no_successor",
        PaginatesByOffset => "pagination::pages_of_users_continue_despite_concurrent_changes",
        SortsCaseInsensitively => "pagination::pages_of_any_size_list_all_databases_in_order",
    }
    PRIVILEGES {
        FailsToCreateExistingDatabase => "databases::creating_an_existing_database_keeps_its_contents",
        EmptiesExistingDatabaseOnCreate => "databases::creating_an_existing_database_keeps_its_contents",
        KeepsPrivilegesOnDroppedDatabase => "databases::a_recreated_database_is_empty_and_without_privileges",
        DropsDatabasesByPrefix => "databases::dropping_a_database_leaves_others_alone",
        IgnoresCharacterSets => "databases::an_existing_database_with_another_character_set_is_a_conflict",
        PretendsToDropSystemDatabase => "databases::system_databases_are_hidden_and_protected",
        GrantsAllDatabases => "privileges::a_user_can_use_granted_databases_only",
        GrantsPartially => "privileges::granting_an_absent_database_is_not_found",
        IgnoresRevoke => "privileges::revoking_ends_the_sessions_in_that_database_only",
        KeepsSessionsOnRevoke => "privileges::revoking_ends_the_sessions_in_that_database_only",
        RevokesAllPrivileges => "privileges::revoking_ends_the_sessions_in_that_database_only",
        LeavesRootEnabled => "root::root_can_log_in_only_while_enabled",
        KeepsRootSessions => "root::disabling_root_ends_its_sessions",
        KeepsFirstRootPassword => "root::enabling_root_again_replaces_its_password",
        ListsRootUser => "root::root_is_not_listed_as_a_user",
        CachesRootStateInProcess => "root::the_state_of_root_is_visible_to_every_process",
    }
    RETRIES {
        IgnoresEpoch => "fencing::a_stale_epoch_cannot_change_users",
        ForgetsEpochOnReattach => "fencing::a_stale_epoch_cannot_change_users",
        FencesReads => "fencing::a_stale_epoch_may_read",
        IgnoresOperationKeys => "idempotency_keys::a_key_reused_for_another_user_is_a_conflict",
        IgnoresSteps => "idempotency_keys::a_key_is_distinct_for_each_step",
        CannotRecoverCancelledCall => "cancellation::create_users_can_be_repeated_after_cancellation",
        LeaksLockOnCancellation => "cancellation::set_password_can_be_repeated_after_cancellation",
        HidesUserBeforeDrop => "cancellation::drop_user_can_be_repeated_after_cancellation",
        ChecksExistenceBeforeCreate => "concurrency::one_of_two_concurrent_creations_of_a_user_is_a_conflict",
        LosesAccountsOnStop => "persistence::accounts_survive_a_restart",
    }
    LIFECYCLE {
        WipesDataOnSecondPrepare => "lifecycle::a_second_prepare_is_idempotent",
        RestartsRunningServer => "lifecycle::starting_a_running_server_does_not_restart_it",
        LosesDataOnStop => "lifecycle::a_stopped_server_starts_with_its_data",
        RecreatesMissingData => "lifecycle::starting_a_server_without_data_does_not_recreate_it",
        LeavesServerOnRemove => "lifecycle::removing_leaves_nothing",
        FailsToRemoveTwice => "lifecycle::removing_an_absent_server_is_ok",
        IgnoresStop => "observe::every_process_observes_a_stop",
        ReportsStoppedAsHealthy => "observe::every_process_observes_a_stop",
        ReportsKilledAsHealthy => "observe::a_killed_server_is_observed_and_can_be_started",
        ReportsSuspendedAsHealthy => "observe::a_suspended_server_is_observed_until_it_resumes",
        ReportsFullVolumeAsHealthy => "observe::a_full_volume_is_observed_until_it_is_freed",
        CachesHealth => "observe::every_process_observes_a_stop",
        ReportsKilledAsStopped => "observe::a_killed_server_is_observed_and_can_be_started",
        HangsOnSuspendedServer => "observe::a_suspended_server_is_observed_until_it_resumes",
        BlocksObserveDuringPrepare => "observe::observing_does_not_wait_for_a_prepare",
        RestartsServerOnObserve => "observe::a_killed_server_is_observed_and_can_be_started",
        ReportsProgressTooLate => "progress::preparing_reports_progress_in_time",
        ReportsNoProgress => "progress::preparing_reports_progress_in_time",
        ReportsProgressBeyondTotal => "progress::preparing_reports_progress_in_time",
        IgnoresCancellation => "cancellation::a_prepare_cancelled_before_it_begins_creates_nothing",
        OffersUnsupportedVersion => "contract::every_offered_version_is_supported",
        LosesAbilityOnReattach => "contract::abilities_do_not_change_between_attaches",
    }
    ABILITIES {
        OverstatesAbilities => "contract::the_manifest_declares_exactly_the_abilities_of_the_datastore",
        UnderstatesAbilities => "contract::the_manifest_declares_exactly_the_abilities_of_the_datastore",
    }
    CONFIGURATION {
        IgnoresSetting => "configuration::dynamic_parameters_take_effect_immediately",
        RestartsServerOnApply => "configuration::dynamic_parameters_take_effect_immediately",
        AppliesRejectedSettingsPartially => "configuration::a_rejected_value_leaves_all_settings_unchanged",
        KeepsRemovedSettings => "configuration::a_removed_setting_returns_to_its_default",
        LosesSettingsOnStart => "configuration::settings_survive_a_stop_and_a_kill",
        NeverReportsPendingRestart => "configuration::a_pending_restart_is_reported_until_the_restart",
        RollsBackSettingsSilently => "configuration::fatal_settings_are_rolled_back_and_reported",
        ReturnsUnstableCatalog => "configuration::reading_the_catalog_leaves_the_server_alone",
        DeclaresUnknownUnits => "configuration::parameter_constraints_are_consistent",
        UpgradesOnCheck => "upgrade::a_check_changes_nothing",
        AcceptsAnyImage => "upgrade::a_missing_image_is_rejected_before_any_change",
        IgnoresRevert => "upgrade::a_reverted_upgrade_restores_the_previous_state",
        LosesUsersOnUpgrade => "upgrade::an_upgrade_keeps_data_users_and_settings",
        FailsToCommitTwice => "idempotency::an_upgrade_and_its_commit_can_be_repeated_after_a_lost_reply",
        LosesDataOnResize => "resize::growing_and_shrinking_a_server_keeps_its_data",
        RestartsOnUnchangedSize => "resize::resizing_to_the_same_flavor_does_not_restart_the_server",
        LosesSettingsOnResize => "resize::resizing_keeps_the_settings",
    }
}
