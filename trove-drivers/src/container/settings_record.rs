//! What is known of an instance's settings: those it should have, those its server has, and why some were given up.
//! Pure.
//!
//! What is about to be done is written down first, so that a record that is found after this process was killed tells
//! what the server may have:
//!
//! ```text
//! applying   a change to the running server that was begun: it may have any of these values
//! starting   the settings with which a server was started last, before it was known whether it answers
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trove_core::model::{Setting, Settings, SettingsState};

/// The record of one instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SettingsRecord {
    /// The settings that the instance should have.
    wanted: Settings,
    /// Those its server has, or had when it was there last; `None` before it ever answered.
    running: Option<Settings>,
    #[serde(default)]
    applying: Option<Settings>,
    #[serde(default)]
    starting: Option<StartAttempt>,
    /// Why wanted settings were given up.
    #[serde(default)]
    rejected: Option<String>,
}

/// The start of a server with these settings, in place of others for this reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StartAttempt {
    settings: Settings,
    because: Option<String>,
}

impl SettingsRecord {
    /// The record of an instance that is being prepared with these settings.
    pub(crate) fn new(wanted: Settings) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// The record of an instance without settings, which is what there is where nothing was recorded.
    pub(crate) fn empty() -> Self {
        Self { running: Some(Settings::new()), ..Self::default() }
    }

    /// The record in the place of one that cannot be read.
    pub(crate) fn damaged() -> Self {
        let why = "the record of the settings was damaged; the server has its defaults";
        Self { rejected: Some(why.to_owned()), ..Self::empty() }
    }

    pub(crate) fn wanted(&self) -> &Settings {
        &self.wanted
    }

    /// The settings to fall back to where a server does not start with those wanted: what it last had. `None` where
    /// that is the same, or it never had any.
    pub(crate) fn fallback(&self) -> Option<&Settings> {
        self.running.as_ref().filter(|running| **running != self.wanted)
    }

    /// True where the server answered at least once.
    pub(crate) fn came_up(&self) -> bool {
        self.running.is_some()
    }

    /// Notes that a server is about to be started with these settings; `because` tells why not with those wanted.
    /// Whatever a former one was given live is gone with it.
    pub(crate) fn start(&mut self, settings: Settings, because: Option<String>) {
        self.applying = None;
        let other = because.is_some() || self.running.as_ref() != Some(&settings);
        self.starting = other.then_some(StartAttempt { settings, because });
    }

    /// Notes that the server answers.
    pub(crate) fn answered(&mut self) {
        match self.starting.take() {
            Some(StartAttempt { settings, because }) => {
                if because.is_some() {
                    self.rejected = because;
                    self.wanted = settings.clone();
                }
                self.running = Some(settings);
            }
            None if self.running.is_none() => self.running = Some(self.wanted.clone()),
            None => {}
        }
    }

    /// Notes that the server came up with the settings wanted in none of its attempts.
    pub(crate) fn failed(&mut self) {
        self.starting = None;
    }

    /// True where a change to these settings would change nothing.
    pub(crate) fn is(&self, settings: &Settings) -> bool {
        self.wanted == *settings && self.applying.is_none() && self.rejected.is_none()
    }

    /// Makes these the settings wanted, for the next start.
    pub(crate) fn want(&mut self, settings: Settings) {
        (self.wanted, self.rejected, self.applying) = (settings, None, None);
    }

    /// Begins to change the running server to these settings and returns what differs, `None` being a value that is
    /// given up.
    pub(crate) fn begin(&mut self, settings: &Settings) -> Vec<(String, Option<Setting>)> {
        let running = self.running.get_or_insert_default();
        let begun = self.applying.replace(settings.clone());
        // Of what was begun before and broke off it is not known whether the server has it.
        let unsure = begun.iter().flat_map(|begun| differing(running, begun));
        let names: BTreeSet<&String> = unsure.chain(differing(running, settings)).collect();
        names.into_iter().map(|name| (name.clone(), settings.get(name).cloned())).collect()
    }

    /// What undoes those changes.
    pub(crate) fn undo(&self, changes: &[(String, Option<Setting>)]) -> Vec<(String, Option<Setting>)> {
        let running = |name: &String| self.running.as_ref().and_then(|running| running.get(name).cloned());
        changes.iter().map(|(name, _)| (name.clone(), running(name))).collect()
    }

    /// Notes that the changes were made, but for those of these names, which the server takes when it is started.
    pub(crate) fn changed(&mut self, changes: Vec<(String, Option<Setting>)>, later: &[String]) {
        let Some(settings) = self.applying.take() else { return };
        let running = self.running.get_or_insert_default();
        for (name, value) in changes.into_iter().filter(|(name, _)| !later.contains(name)) {
            match value {
                Some(value) => running.insert(name, value),
                None => running.remove(&name),
            };
        }
        self.want(settings);
    }

    /// Notes that the changes were undone.
    pub(crate) fn undone(&mut self) {
        self.applying = None;
    }

    /// How the settings stand with a server that runs, or with none.
    pub(crate) fn state(&self, runs: bool) -> SettingsState {
        let running = self.running.as_ref().filter(|_| runs);
        let required = running.map(|running| differing(running, &self.wanted).cloned().collect());
        SettingsState { restart_required: required.unwrap_or_default(), rejected: self.rejected.clone() }
    }
}

/// The names that have another value, or one at all, in only one of the two, in order.
fn differing<'a>(one: &'a Settings, other: &'a Settings) -> impl Iterator<Item = &'a String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, i64)]) -> Settings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Setting::from(*value))).collect()
    }

    fn running(pairs: &[(&str, i64)]) -> SettingsRecord {
        SettingsRecord { wanted: settings(pairs), running: Some(settings(pairs)), ..SettingsRecord::default() }
    }

    fn change(name: &str, value: Option<i64>) -> (String, Option<Setting>) {
        (name.to_owned(), value.map(Setting::from))
    }

    #[test]
    fn a_change_is_in_force_at_once_or_after_a_restart() {
        let mut record = running(&[("a", 1), ("b", 1), ("same", 1)]);
        let changes = record.begin(&settings(&[("b", 2), ("c", 3), ("same", 1)]));
        assert_eq!(changes, [change("a", None), change("b", Some(2)), change("c", Some(3))]);
        assert_eq!(record.undo(&changes), [change("a", Some(1)), change("b", Some(1)), change("c", None)]);
        record.changed(changes, &["b".to_owned()]);
        assert_eq!(record.state(true).restart_required, ["b"]);
        assert!(record.state(false).restart_required.is_empty());
        assert!(record.is(&settings(&[("b", 2), ("c", 3), ("same", 1)])));
        // A restart that was announced is taken back with the value.
        let changes = record.begin(&settings(&[("b", 1), ("c", 3), ("same", 1)]));
        assert_eq!(changes, []);
        record.changed(changes, &[]);
        assert_eq!(record.state(true), SettingsState::default());
    }

    #[test]
    fn a_change_that_broke_off_is_made_or_undone_by_the_next_one() {
        let mut record = running(&[("a", 1)]);
        record.begin(&settings(&[("b", 2)]));
        let mut again = record.clone();
        assert_eq!(again.begin(&settings(&[("b", 2)])), [change("a", None), change("b", Some(2))]);
        assert!(!record.is(&settings(&[("a", 1)])), "the server may have the other settings");
        assert_eq!(record.begin(&settings(&[("a", 1)])), [change("a", Some(1)), change("b", None)]);
    }

    #[test]
    fn a_server_that_does_not_start_goes_back_to_what_it_had() {
        let mut record = running(&[("a", 1)]);
        record.want(settings(&[("a", 2)]));
        record.start(settings(&[("a", 2)]), None);
        assert_eq!(record.fallback(), Some(&settings(&[("a", 1)])));
        record.start(settings(&[("a", 1)]), Some("it ended".to_owned()));
        record.answered();
        assert_eq!(record.wanted(), &settings(&[("a", 1)]));
        assert_eq!(record.state(true).rejected.as_deref(), Some("it ended"));
        assert_eq!((record.fallback(), record.is(&settings(&[("a", 1)]))), (None, false));
        record.want(settings(&[("a", 1)]));
        assert_eq!(record.state(true), SettingsState::default());
    }

    #[test]
    fn a_server_that_came_up_unseen_has_what_it_was_started_with() {
        let mut record = running(&[("a", 1)]);
        record.want(settings(&[("a", 2)]));
        record.start(settings(&[("a", 2)]), None);
        record.answered();
        assert_eq!((record.state(true).restart_required.len(), record.fallback()), (0, None));
        let mut fresh = SettingsRecord::new(settings(&[("a", 1)]));
        assert_eq!((fresh.came_up(), fresh.fallback()), (false, None));
        fresh.answered();
        assert_eq!(fresh, running(&[("a", 1)]));
    }
}
