//! What reads bytes that somebody else may have written, as fuzzing calls it. Not a part of the interface.
//!
//! Each takes any bytes, panics where something is not as it should be, and returns how much of it made sense.

#![allow(clippy::unwrap_used, reason = "what does not hold is to be seen")]

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

#[cfg(feature = "amqp")]
use super::Configuration;
use super::{
    message::{self, Answer, Failure, Notice, Request},
    remote,
};
use crate::{
    error::Error,
    rpc::{Side, play},
};

/// What a guest hears by a script of `rpc/play.rs`, and what it makes of it.
pub fn from_control(script: &[u8]) -> usize {
    if is_text(script) {
        return usize::from(request(script));
    }
    let mut sensible = 0;
    play(Side::Guest, script, |text| sensible += usize::from(request(text)));
    sensible
}

/// What the control plane hears of a guest by such a script, and what it makes of it.
pub fn from_guest(script: &[u8]) -> usize {
    if is_text(script) {
        return usize::from(answer(script)) + usize::from(notice(script));
    }
    let mut sensible = 0;
    play(Side::Control, script, |text| sensible += usize::from(answer(text)) + usize::from(notice(text)));
    sensible
}

/// What an agent is told by its configuration file.
#[cfg(feature = "amqp")]
pub fn configuration(text: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(text) else { return 0 };
    let Ok(read) = Configuration::parse(text, |what| Error::invalid(what)) else { return 0 };
    assert_eq!(read.host.instance, read.instance);
    let mut host = read.host.clone();
    host.login = None;
    let again = serde_json::from_str(&host.to_json().unwrap()).unwrap();
    assert_eq!(format!("{:?}", crate::datastore::GuestHost::from_json(again).unwrap()), format!("{host:?}"));
    1
}

/// A text by itself is tried without a wire, which takes far longer.
fn is_text(script: &[u8]) -> bool {
    script.starts_with(b"{")
}

fn request(text: &[u8]) -> bool {
    let Some(request) = same_again::<Request>(text) else { return false };
    // Of this a job is known.
    assert!(!format!("{request:?}").is_empty());
    true
}

fn answer(text: &[u8]) -> bool {
    let Some(answer) = same_again::<Result<Answer, Failure>>(text) else { return false };
    if let Err(failure) = answer {
        let error = Error::from(failure);
        for told in [error.to_string(), std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()]
        {
            assert!(is_plain(&told, message::MAX_TEXT), "{told:?}");
        }
    }
    true
}

fn notice(text: &[u8]) -> bool {
    let Some(notice) = same_again::<Notice>(text) else { return false };
    if let Notice::Seen { observed, .. } = notice {
        assert_plain(&serde_json::to_value(remote::plain(observed)).unwrap());
    }
    true
}

/// What is read is written so that it is read as the same.
fn same_again<T: Serialize + DeserializeOwned>(text: &[u8]) -> Option<T> {
    let read: T = message::read(text).ok()?;
    let written = message::write(&read);
    let again: T = message::read(&written).unwrap();
    assert_eq!(*message::write(&again), *written);
    Some(read)
}

/// All texts in it may be stored and shown.
fn assert_plain(value: &Json) {
    match value {
        Json::String(text) => assert!(is_plain(text, remote::MAX_TEXT), "{text:?}"),
        Json::Array(values) => {
            assert!(values.len() <= remote::MAX_NAMES);
            values.iter().for_each(assert_plain);
        }
        Json::Object(fields) => fields.values().for_each(assert_plain),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn is_plain(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::rpc::MAX_TEXT_BYTES;

    type Target = (&'static str, fn(&[u8]) -> usize);

    const TARGETS: &[Target] = &[
        ("from_control", from_control),
        ("from_guest", from_guest),
        #[cfg(feature = "amqp")]
        ("configuration", configuration),
    ];

    /// The files of a target, in this directory beside its source.
    fn files(directory: &str, target: &str) -> Vec<PathBuf> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(directory).join(target);
        fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_fuzzing_begins_with_makes_sense() {
        for (target, run) in TARGETS {
            let seeds = files("seeds", target);
            assert!(seeds.len() > 1, "{target} has no seeds");
            for seed in seeds {
                assert!(run(&fs::read(&seed).unwrap()) > 0, "{} makes no sense", seed.display());
            }
        }
    }

    #[test]
    fn what_fuzzing_has_found_holds() {
        for (target, run) in TARGETS {
            // There is some only where it was fuzzed.
            for found in ["corpus", "artifacts"].into_iter().flat_map(|directory| files(directory, target)) {
                run(&fs::read(&found).unwrap());
            }
        }
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        for open in ["[", "{\"Ok\":", "{\"Job\":{\"work\":{\"Configure\":{\"a\":"] {
            let text = open.repeat(MAX_TEXT_BYTES / open.len());
            assert!(!request(text.as_bytes()) && !answer(text.as_bytes()) && !notice(text.as_bytes()));
            #[cfg(feature = "amqp")]
            assert_eq!(configuration(text.as_bytes()), 0);
        }
    }

    /// A script of acts that have what they take.
    fn script() -> impl Strategy<Value = Vec<u8>> {
        let which = || prop_oneof![3 => 0u8..4, 2 => 0u8..30, 1 => any::<u8>()];
        let long = |bytes: Vec<u8>| [&u16::try_from(bytes.len()).unwrap().to_le_bytes(), bytes.as_slice()].concat();
        let act = prop_oneof![
            4 => prop::sample::select(vec![0u8, 1, 10, 11, 12, 13, 14, 15]).prop_map(|act| vec![act]),
            6 => Just(vec![4]),
            6 => which().prop_map(|which| vec![3, which]),
            4 => (0u8..4, vec(any::<u8>(), 0..9)).prop_map(move |(kind, text)| [vec![2, kind], long(text)].concat()),
            1 => which().prop_map(|which| vec![5, which]),
            1 => (which(), any::<u8>(), 1u8..).prop_map(|(which, place, by)| vec![6, which, place, 0, by]),
            1 => (which(), any::<u8>()).prop_map(|(which, length)| vec![7, which, length, 0]),
            1 => vec(any::<u8>(), 0..200).prop_map(move |bytes| [vec![8], long(bytes)].concat()),
            1 => (which(), vec(any::<u8>(), 0..60)).prop_map(move |(which, tail)| [vec![9, which], long(tail)].concat()),
            1 => any::<u8>().prop_map(|what| vec![16, what]),
        ];
        vec(act, 0..60).prop_map(|acts| acts.concat())
    }

    proptest! {
        #[test]
        fn a_guest_hears_what_it_is_told_once_and_in_order(script in script()) {
            from_control(&script);
        }

        #[test]
        fn the_control_plane_hears_what_a_guest_tells_once_and_in_order(script in script()) {
            from_guest(&script);
        }

        #[test]
        fn a_script_that_begins_with_sense_ends_with_it(
            seed in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(), tail in script(),
        ) {
            for (target, run) in TARGETS {
                let seeds = files("seeds", target);
                let begin = fs::read(&seeds[seed.index(seeds.len())]).unwrap();
                run(&[&begin[..cut.index(begin.len())], &tail].concat());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in vec(any::<u8>(), 0..300)) {
            request(&text);
            answer(&text);
            notice(&text);
        }
    }
}
