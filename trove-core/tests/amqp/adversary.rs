//! Somebody who has taken over the host of one guest: they have its key and its login at the broker, and may be the broker
//! besides. What they try has no effect on another instance, is refused, counted and logged without what was in it.
//!
//! | what is weak in others | the test |
//! |---|---|
//! | keys from a generator that can be guessed; keys that everybody knows | `keys_are_random_and_of_one_instance_only` |
//! | encryption without authentication | `a_frame_that_was_changed_in_any_bit_is_not_heard` |
//! | plaintext is taken; messages that name no instance are | `plaintext_and_junk_are_dropped` |
//! | a key speaks for any instance; nothing says who sent a heartbeat | `nobody_speaks_for_another_instance` |
//! | what was sent before is taken again | `what_was_heard_is_not_heard_again_not_even_after_restarts` |
//! | a time in the far future mutes a guest for ever | `the_far_future_mutes_nobody` |
//! | all guests share one login; names of queues are known | `a_stolen_login_reaches_its_own_mailboxes_only` |
//! | keys lie in the store as good as open, and stay the same for ever | `a_stolen_identity_is_over_once_it_was_rotated` |
//! | keys are logged | each, at its end |
//! | guests are told secrets of users and of the service; without TLS they can be read | `a_guest_is_told_what_is_its_own_only` |

mod frame;
mod junk;
mod keys;
mod login;
mod replay;
mod scene;
mod speech;
mod wire;

use std::time::Duration;

/// How long may pass until something is seen.
const PATIENCE: Duration = Duration::from_secs(300);
