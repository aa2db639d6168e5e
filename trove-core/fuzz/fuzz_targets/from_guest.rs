//! Frames from a guest's side, as the control plane hears them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trove_core::guest::fuzzing::from_guest(bytes);
});
