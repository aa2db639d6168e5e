//! Delivers frames from the control plane to a guest.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trove_core::guest::fuzzing::from_control(bytes);
});
