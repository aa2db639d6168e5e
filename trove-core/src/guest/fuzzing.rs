//! Entry points for fuzzing the parsers of untrusted bytes. Not part of the public API.
//!
//! Each function takes arbitrary bytes, panics if a property is violated, and returns the number of
//! messages that were valid.

#![allow(clippy::unwrap_used, reason = "a violated property must fail the test")]

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

#[cfg(feature = "amqp")]
use super::AgentConfig;
use super::{
    message::{self, Failure, Notice, Request, Response},
    protocol::{AccountsCall, AccountsReply},
    sanitize::{self, sanitize_observed},
    sanitize_reply::{self, sanitize_reply},
};
use crate::{
    error::Error,
    model::{PageRequest, UserName},
    rpc::{Side, run_script},
    secret::SecretString,
};

/// Runs a script of `rpc/fuzz_harness.rs` and parses the requests that the guest accepts.
pub fn from_control(script: &[u8]) -> usize {
    if is_text(script) {
        return usize::from(request(script));
    }
    let mut valid = 0;
    run_script(Side::Guest, script, |payload| valid += usize::from(request(payload)));
    valid
}

/// Runs such a script and parses the replies and notifications that the control plane accepts.
pub fn from_guest(script: &[u8]) -> usize {
    if is_text(script) {
        return usize::from(response(script)) + usize::from(notice(script));
    }
    let mut valid = 0;
    run_script(Side::Control, script, |payload| valid += usize::from(response(payload)) + usize::from(notice(payload)));
    valid
}

/// Parses the configuration file of an agent.
#[cfg(feature = "amqp")]
pub fn configuration(text: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(text) else { return 0 };
    let Ok(config) = AgentConfig::parse(text, |problem| Error::invalid(problem)) else { return 0 };
    assert_eq!(config.host.instance, config.instance);
    let mut host = config.host.clone();
    host.login = None;
    let again = serde_json::from_str(&host.to_json().unwrap()).unwrap();
    assert_eq!(format!("{:?}", crate::datastore::GuestHost::from_json(again).unwrap()), format!("{host:?}"));
    1
}

/// Returns true for a single message, which is parsed without the slower harness.
fn is_text(script: &[u8]) -> bool {
    script.starts_with(b"{")
}

fn request(text: &[u8]) -> bool {
    let Some(request) = round_trip::<Request>(text) else { return false };
    // The agent identifies jobs by this text.
    assert!(!format!("{request:?}").is_empty());
    true
}

fn response(text: &[u8]) -> bool {
    let Some(response) = round_trip::<Result<Response, Failure>>(text) else { return false };
    match response {
        Ok(Response::Accounts(reply)) => accounts_reply(&reply),
        Ok(_) => {}
        Err(failure) => {
            let error = Error::from(failure);
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            for text in [error.to_string(), source] {
                assert!(is_plain(&text, message::MAX_TEXT), "{text:?}");
            }
        }
    }
    true
}

/// Checks a reply to each call that it may belong to.
fn accounts_reply(reply: &AccountsReply) {
    let page = PageRequest::default();
    for call in [
        AccountsCall::Databases(page.clone()),
        AccountsCall::Users(page),
        AccountsCall::User(UserName::new("app")),
        AccountsCall::EnableRoot(SecretString::from("secret")),
        AccountsCall::RootEnabled,
        AccountsCall::DisableRoot,
    ] {
        if let Ok(reply) = sanitize_reply(&call, reply.clone()) {
            // An escaped or encoded character takes up to twelve.
            assert_plain(
                &serde_json::to_value(reply).unwrap(),
                12 * sanitize_reply::MAX_NAME,
                sanitize_reply::MAX_DATABASES,
            );
        }
    }
}

fn notice(text: &[u8]) -> bool {
    let Some(notice) = round_trip::<Notice>(text) else { return false };
    if let Notice::Observed { observed, .. } = notice {
        let observed = sanitize_observed(observed);
        assert_plain(&serde_json::to_value(&observed).unwrap(), sanitize::MAX_TEXT, sanitize::MAX_NAMES);
        let sanitized = message::write(&Notice::Observed { observed, settled: true });
        assert!(message::read_notice(&sanitized).is_ok(), "an agent may send this");
    }
    true
}

/// Parses a message, and checks that it survives a round trip through serialization.
fn round_trip<T: Serialize + DeserializeOwned>(text: &[u8]) -> Option<T> {
    let read: T = message::read(text).ok()?;
    let written = message::write(&read);
    let again: T = message::read(&written).unwrap();
    assert_eq!(*message::write(&again), *written);
    Some(read)
}

/// Checks that all texts may be stored and displayed.
fn assert_plain(value: &Json, max_chars: usize, max_items: usize) {
    match value {
        Json::String(text) => assert!(is_plain(text, max_chars), "{text:?}"),
        Json::Array(values) => {
            assert!(values.len() <= max_items);
            values.iter().for_each(|value| assert_plain(value, max_chars, max_items));
        }
        Json::Object(fields) => fields.values().for_each(|value| assert_plain(value, max_chars, max_items)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn is_plain(text: &str, max_chars: usize) -> bool {
    text.chars().count() <= max_chars && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::rpc::MAX_PAYLOAD_BYTES;

    type FuzzTarget = (&'static str, fn(&[u8]) -> usize);

    const TARGETS: &[FuzzTarget] = &[
        ("from_control", from_control),
        ("from_guest", from_guest),
        #[cfg(feature = "amqp")]
        ("configuration", configuration),
    ];

    /// Returns the files of a target in a subdirectory of `fuzz/`.
    fn files(directory: &str, target: &str) -> Vec<PathBuf> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(directory).join(target);
        fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn seeds_contain_valid_messages() {
        for (target, run) in TARGETS {
            let seeds = files("seeds", target);
            assert!(seeds.len() > 1, "{target} has no seeds");
            for seed in seeds {
                assert!(run(&fs::read(&seed).unwrap()) > 0, "{} contains no valid message", seed.display());
            }
        }
    }

    #[test]
    fn fuzzing_findings_stay_fixed() {
        for (target, run) in TARGETS {
            // These directories exist only on machines where the target was fuzzed.
            for found in ["corpus", "artifacts"].into_iter().flat_map(|directory| files(directory, target)) {
                run(&fs::read(&found).unwrap());
            }
        }
    }

    #[test]
    fn deeply_nested_json_is_rejected() {
        for open in ["[", "{\"Ok\":", "{\"Job\":{\"job\":{\"Configure\":{\"a\":"] {
            let text = open.repeat(MAX_PAYLOAD_BYTES / open.len());
            assert!(!request(text.as_bytes()) && !response(text.as_bytes()) && !notice(text.as_bytes()));
            #[cfg(feature = "amqp")]
            assert_eq!(configuration(text.as_bytes()), 0);
        }
    }

    /// Generates scripts of complete actions.
    fn script() -> impl Strategy<Value = Vec<u8>> {
        let index = || prop_oneof![3 => 0u8..4, 2 => 0u8..30, 1 => any::<u8>()];
        let prefixed = |bytes: Vec<u8>| [&u16::try_from(bytes.len()).unwrap().to_le_bytes(), bytes.as_slice()].concat();
        let action = prop_oneof![
            4 => prop::sample::select(vec![0u8, 1, 10, 11, 12, 13, 14, 15]).prop_map(|action| vec![action]),
            6 => Just(vec![4]),
            6 => index().prop_map(|index| vec![3, index]),
            4 => (0u8..4, vec(any::<u8>(), 0..9)).prop_map(move |(kind, payload)| [vec![2, kind], prefixed(payload)].concat()),
            1 => index().prop_map(|index| vec![5, index]),
            1 => (index(), any::<u8>(), 1u8..).prop_map(|(index, offset, mask)| vec![6, index, offset, 0, mask]),
            1 => (index(), any::<u8>()).prop_map(|(index, length)| vec![7, index, length, 0]),
            1 => vec(any::<u8>(), 0..200).prop_map(move |bytes| [vec![8], prefixed(bytes)].concat()),
            1 => (index(), vec(any::<u8>(), 0..60)).prop_map(move |(index, tail)| [vec![9, index], prefixed(tail)].concat()),
            1 => any::<u8>().prop_map(|selector| vec![16, selector]),
        ];
        vec(action, 0..60).prop_map(|actions| actions.concat())
    }

    proptest! {
        #[test]
        fn a_guest_accepts_requests_once_and_in_order(script in script()) {
            from_control(&script);
        }

        #[test]
        fn the_control_plane_accepts_messages_of_a_guest_once_and_in_order(script in script()) {
            from_guest(&script);
        }

        #[test]
        fn seeds_with_a_random_tail_violate_no_property(
            seed in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), tail in script(),
        ) {
            for (target, run) in TARGETS {
                let seeds = files("seeds", target);
                let begin = fs::read(&seeds[seed.index(seeds.len())]).unwrap();
                run(&[&begin[..cut.index(begin.len())], &tail].concat());
            }
        }

        #[test]
        fn arbitrary_text_is_parsed_or_rejected(text in vec(any::<u8>(), 0..300)) {
            request(&text);
            response(&text);
            notice(&text);
        }
    }
}
