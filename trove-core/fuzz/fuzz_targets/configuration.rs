//! Parses the configuration file of an agent.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    trove_core::guest::fuzzing::configuration(bytes);
});
