//! An attacker on the host of one guest, who has its key and broker login and may also control the
//! broker. Attacks have no effect on other instances, are rejected and counted, and are logged without
//! their content.
//!
//! | weakness of other systems | test |
//! |---|---|
//! | keys from a predictable generator; shared keys | `keys_are_random_and_unique_per_instance` |
//! | encryption without authentication | `a_frame_with_any_flipped_bit_is_dropped` |
//! | plaintext or messages without an instance are accepted | `plaintext_and_malformed_frames_are_dropped` |
//! | any key is valid for any instance; the sender of a heartbeat is unknown | `a_stolen_key_cannot_impersonate_another_instance` |
//! | replayed messages are accepted | `replayed_frames_are_rejected_even_after_restarts` |
//! | a timestamp in the far future silences a guest | `exhausted_sequence_numbers_do_not_silence_a_guest` |
//! | all guests share one login; queue names are predictable | `a_stolen_login_accesses_only_its_own_queues` |
//! | keys are stored unprotected and never rotated | `a_stolen_identity_is_rejected_after_rotation` |
//! | keys are logged | every test, at its end |
//! | guests receive secrets of others, readable without TLS | `a_guest_receives_only_its_own_secrets` |

mod broker_login;
mod fixture;
mod frame;
mod impersonation;
mod keys;
mod malformed_frames;
mod replay;
mod tap;

use std::time::Duration;

/// Bounds how long a broken test hangs.
const TIMEOUT: Duration = Duration::from_secs(300);
