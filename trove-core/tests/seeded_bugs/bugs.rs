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
}
