//! Delivers frames from a guest to the control plane.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trove_core::guest::fuzzing::from_guest(bytes);
});
