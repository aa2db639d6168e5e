//! Frames from the control plane's side, as a guest hears them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trove_core::guest::fuzzing::from_control(bytes);
});
