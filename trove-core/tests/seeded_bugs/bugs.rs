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
        ForgetsToDropAUser => "users::a_dropped_user_is_gone_with_its_sessions",
        DropsAUserButNotItsSessions => "users::a_dropped_user_is_gone_with_its_sessions",
        CannotDropAnAbsentUser => "users::dropping_an_absent_user_is_ok",
        DropsUsersByPrefix => "users::dropping_a_user_leaves_the_others_alone",
        OverwritesAUserThatExists => "users::a_user_that_exists_is_a_conflict",
        CreatesUsersOneByOne => "users::users_are_created_all_or_none",
        SwallowsErrorsOfCreateUsers => "users::a_user_that_exists_is_a_conflict",
        SaysInternalForNotFound => "users::an_absent_user_is_not_found",
        RenamingLosesRights => "users::a_renamed_user_keeps_all_but_its_name",
        RenamesOverAnother => "users::renaming_to_a_taken_name_is_a_conflict",
        TellsOfTheEnginesOwnUsers => "users::the_engines_own_users_are_nobodys",
        SetsAPasswordOnlyOnce => "passwords::a_new_password_replaces_the_old",
        LetsTheOldPasswordIn => "passwords::a_new_password_replaces_the_old",
        EndsSessionsWithAPassword => "passwords::a_new_password_ends_no_session",
        CutsLongPasswords => "passwords::the_longest_password_counts_to_its_last_letter",
        TrimsPasswords => "passwords::passwords_with_spaces_let_in",
        HashesWhatLooksLikeAHashAgain => "passwords::passwords_that_look_like_hashes_let_in",
        TellsAPasswordInAnError => "passwords::passwords_can_be_read_nowhere",
        TellsAPasswordInProgress => "passwords::passwords_can_be_read_nowhere",
        LogsAPassword => "passwords::passwords_can_be_read_nowhere",
    }
    NAMES {
        CutsNames => "names::the_longest_names_are_told_apart_by_their_last_letter",
        LowersNames => "names::case_tells_names_apart",
        DoublesQuotes => "names::quotes_are_part_of_a_name",
        EndsNamesAtComments => "names::comments_are_part_of_a_name",
        TakesBackslashesForEscapes => "names::backslashes_are_part_of_a_name",
        JoinsSpaces => "names::spaces_are_part_of_a_name",
        DropsInvisibleLetters => "names::invisible_letters_are_part_of_a_name",
        ReadsPercentEscapes => "names::uris_are_part_of_a_name",
        TakesNamesForPatterns => "names::a_right_on_a_name_is_no_right_on_a_pattern",
        SkipsAnEntryBetweenPages => "pages::pages_of_any_size_hold_all_users_in_order",
        NeverEndsItsPages => "pages::the_last_page_of_users_says_so",
        CountsEntriesForPages => "pages::a_page_of_users_goes_on_where_the_last_ended_whatever_came_and_went",
        ListsWithoutRegardToCase => "pages::pages_of_any_size_hold_all_databases_in_order",
    }
    RIGHTS {
        CannotCreateADatabaseAgain => "databases::a_database_created_again_keeps_all_it_has",
        EmptiesADatabaseCreatedAgain => "databases::a_database_created_again_keeps_all_it_has",
        KeepsRightsOnADroppedDatabase => "databases::a_database_created_again_is_empty_and_nobodys",
        DropsDatabasesByPrefix => "databases::dropping_a_database_leaves_the_others_alone",
        IgnoresCharacterSets => "databases::a_database_with_another_character_set_is_a_conflict",
        PretendsToDropTheEnginesOwn => "databases::the_engines_own_databases_are_nobodys",
        GrantsAllDatabases => "rights::a_user_uses_what_it_was_granted_and_nothing_else",
        GrantsWhatItCan => "rights::an_absent_database_is_not_granted",
        ForgetsToRevoke => "rights::a_revoked_right_ends_the_sessions_there_only",
        RevokesButNotTheSessions => "rights::a_revoked_right_ends_the_sessions_there_only",
        RevokesEverything => "rights::a_revoked_right_ends_the_sessions_there_only",
        LeavesRootEnabled => "root::root_logs_in_only_while_it_is_enabled",
        LeavesRootsSessions => "root::a_disabled_root_has_no_session_left",
        KeepsRootsFirstPassword => "root::root_enabled_again_has_the_new_password_only",
        ListsRoot => "root::root_is_no_user_of_the_tenants",
        RemembersRootItself => "root::roots_state_is_what_every_process_sees",
    }
    CALLS {
        IgnoresTheEpoch => "keys::a_former_owner_changes_no_user",
        ForgetsTheEpochAtReattach => "keys::a_former_owner_changes_no_user",
        FencesThoseWhoLook => "keys::a_former_owner_may_look",
        IgnoresKeys => "keys::a_key_is_used_for_one_user_only",
        ForgetsAboutSteps => "keys::a_step_of_its_own_makes_a_key_another",
        LosesACancelledCall => "dropped::creating_users_is_made_up_for",
        HoldsALockForEver => "dropped::setting_a_password_is_made_up_for",
        ShutsOutBeforeItDrops => "dropped::dropping_a_user_is_made_up_for",
        LooksBeforeItCreates => "at_once::one_of_two_who_create_the_same_user_at_once_is_told",
        ForgetsAccountsAtAStop => "lasting::accounts_outlive_a_restart",
    }
    LIFE {
        WipesAtASecondPrepare => "lifecycle::a_second_prepare_ends_where_one_does",
        RestartsWhatRuns => "lifecycle::a_server_that_runs_is_not_started_again",
        LosesDataAtAStop => "lifecycle::a_stopped_server_comes_back_with_its_data",
        BeginsLostDataAnew => "lifecycle::a_start_never_begins_lost_data_anew",
        LeavesTheServer => "lifecycle::nothing_is_left_after_remove",
        CannotRemoveTwice => "lifecycle::removing_what_is_absent_is_ok",
        OnlySaysThatItStopped => "observe::a_stop_is_told_as_one_by_every_process",
        SaysHealthyWhenStopped => "observe::a_stop_is_told_as_one_by_every_process",
        SaysHealthyWhenKilled => "observe::a_kill_is_told_and_mended_by_a_start",
        SaysHealthyWhenSuspended => "observe::a_suspended_server_is_told_and_goes_on_by_itself",
        SaysHealthyWhenFull => "observe::a_full_volume_is_told_until_there_is_room",
        SaysWhatItSawOnce => "observe::a_stop_is_told_as_one_by_every_process",
        TakesAKillForAStop => "observe::a_kill_is_told_and_mended_by_a_start",
        HangsWithASuspendedServer => "observe::a_suspended_server_is_told_and_goes_on_by_itself",
        LooksOnlyOnceItIsPrepared => "observe::looking_never_waits_for_a_prepare",
        MendsWhatItLooksAt => "observe::a_kill_is_told_and_mended_by_a_start",
        IsSilentForTooLong => "progress::a_prepare_tells_its_phases",
        TellsNothing => "progress::a_prepare_tells_its_phases",
        TellsMoreThanThereIs => "progress::a_prepare_tells_its_phases",
        GoesOnWhenItIsCancelled => "cancelling::a_prepare_cancelled_before_it_began_makes_nothing",
        OffersWhatItCannotRun => "contract::every_version_on_offer_can_be_run",
        LosesAnAbility => "contract::the_abilities_are_the_same_each_time",
    }
    ABILITIES {
        OverstatesItsAbilities => "contract::the_manifest_declares_exactly_the_abilities_of_the_datastore",
        UnderstatesItsAbilities => "contract::the_manifest_declares_exactly_the_abilities_of_the_datastore",
    }
    CHANGES {
        IgnoresASetting => "configuration::a_live_change_is_in_force_at_once",
        RestartsToApply => "configuration::a_live_change_is_in_force_at_once",
        AppliesHalfOfWhatIsRefused => "configuration::a_value_that_is_refused_leaves_all_as_it_was",
        KeepsWhatWasTakenAway => "configuration::what_is_taken_away_goes_back_to_its_default",
        ForgetsSettingsAtAStart => "configuration::settings_survive_a_stop_and_a_kill",
        NeverAsksForARestart => "configuration::a_change_that_waits_for_a_restart_is_told_until_then",
        GivesUpSettingsInSilence => "configuration::settings_with_which_a_server_does_not_start_are_given_up",
        TellsAnotherParameterCatalogEachTime => "configuration::a_catalog_is_read_without_touching_the_server",
        MeasuresInNonsense => "configuration::what_a_parameter_takes_makes_sense",
        ChecksByUpgrading => "upgrade::a_check_changes_nothing",
        TakesAnyImage => "upgrade::an_image_that_does_not_exist_is_found_out_before_anything_is_changed",
        GoesBackToNothing => "upgrade::a_reverted_upgrade_leaves_what_was_before",
        UpgradesWithoutUsers => "upgrade::an_upgrade_keeps_data_users_and_settings",
        CannotConcludeTwice => "repeating::an_upgrade_and_its_end_are_made_again",
        ResizesWithoutData => "resize::a_larger_server_keeps_its_data_and_is_made_smaller_again",
        ResizesForNothing => "resize::the_same_flavor_leaves_the_server_alone",
        ResizesWithoutSettings => "resize::another_size_keeps_the_settings",
    }
}
