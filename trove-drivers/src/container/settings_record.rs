//! The record of an instance's settings: the wanted ones, those of its server, and why some were
//! rejected. Pure.
//!
//! Changes are recorded ahead, so that a record found after a crash tells what the server may have:
//!
//! ```text
//! applying   a change of the running server in progress: it may have any of these values
//! starting   the settings of the last start, until the server answers
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trove_core::model::{Setting, Settings, SettingsState};

/// The record of one instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SettingsRecord {
    /// The settings that the instance should have.
    wanted: Settings,
    /// The settings that its server has or had last; `None` until it answered once.
    running: Option<Settings>,
    #[serde(default)]
    applying: Option<Settings>,
    #[serde(default)]
    starting: Option<StartAttempt>,
    /// Why wanted settings were rejected.
    #[serde(default)]
    rejected: Option<String>,
}

/// The start of a server with these settings, and the reason if they are not the wanted ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct StartAttempt {
    settings: Settings,
    because: Option<String>,
}

impl SettingsRecord {
    /// Returns the record of an instance that is being prepared with these settings.
    pub(crate) fn new(wanted: Settings) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Returns the record of an instance without settings, also used if nothing was recorded.
    pub(crate) fn empty() -> Self {
        Self { running: Some(Settings::new()), ..Self::default() }
    }

    /// Returns the replacement of a record that cannot be read.
    pub(crate) fn damaged() -> Self {
        let why = "the settings record was damaged; the server uses its defaults";
        Self { rejected: Some(why.to_owned()), ..Self::empty() }
    }

    pub(crate) fn wanted(&self) -> &Settings {
        &self.wanted
    }

    /// Returns the settings to fall back to if a server does not start with the wanted ones. `None`
    /// if they are the same or the server never answered.
    pub(crate) fn fallback(&self) -> Option<&Settings> {
        self.running.as_ref().filter(|running| **running != self.wanted)
    }

    /// Returns true if the server has answered at least once.
    pub(crate) fn has_answered(&self) -> bool {
        self.running.is_some()
    }

    /// Records that a server is about to be started with these settings. `because` is the reason if
    /// they are not the wanted ones. What a running server had applied is lost with it.
    pub(crate) fn start(&mut self, settings: Settings, because: Option<String>) {
        self.applying = None;
        let other = because.is_some() || self.running.as_ref() != Some(&settings);
        self.starting = other.then_some(StartAttempt { settings, because });
    }

    /// Records that the server answers.
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

    /// Records that no start with the wanted settings succeeded.
    pub(crate) fn failed(&mut self) {
        self.starting = None;
    }

    /// Returns true if applying these settings would change nothing.
    pub(crate) fn is(&self, settings: &Settings) -> bool {
        self.wanted == *settings && self.applying.is_none() && self.rejected.is_none()
    }

    /// Sets the wanted settings, for the next start.
    pub(crate) fn want(&mut self, settings: Settings) {
        (self.wanted, self.rejected, self.applying) = (settings, None, None);
    }

    /// Begins a change of the running server to these settings and returns the differences, with
    /// `None` for a setting that is removed.
    pub(crate) fn begin(&mut self, settings: &Settings) -> Vec<(String, Option<Setting>)> {
        let running = self.running.get_or_insert_default();
        let begun = self.applying.replace(settings.clone());
        // An interrupted change may or may not have reached the server.
        let unsure = begun.iter().flat_map(|begun| differing(running, begun));
        let names: BTreeSet<&String> = unsure.chain(differing(running, settings)).collect();
        names.into_iter().map(|name| (name.clone(), settings.get(name).cloned())).collect()
    }

    /// Returns the changes that undo these.
    pub(crate) fn undo(&self, changes: &[(String, Option<Setting>)]) -> Vec<(String, Option<Setting>)> {
        let running = |name: &String| self.running.as_ref().and_then(|running| running.get(name).cloned());
        changes.iter().map(|(name, _)| (name.clone(), running(name))).collect()
    }

    /// Records that the changes were applied, except those that take effect at the next start.
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

    /// Records that the changes were undone.
    pub(crate) fn undone(&mut self) {
        self.applying = None;
    }

    /// Returns the state of the settings, given whether the server is running.
    pub(crate) fn state(&self, runs: bool) -> SettingsState {
        let running = self.running.as_ref().filter(|_| runs);
        let required = running.map(|running| differing(running, &self.wanted).cloned().collect());
        SettingsState { restart_required: required.unwrap_or_default(), rejected: self.rejected.clone() }
    }
}

/// Returns the names whose values differ, in order.
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
    fn changes_apply_at_once_or_after_a_restart() {
        let mut record = running(&[("a", 1), ("b", 1), ("same", 1)]);
        let changes = record.begin(&settings(&[("b", 2), ("c", 3), ("same", 1)]));
        assert_eq!(changes, [change("a", None), change("b", Some(2)), change("c", Some(3))]);
        assert_eq!(record.undo(&changes), [change("a", Some(1)), change("b", Some(1)), change("c", None)]);
        record.changed(changes, &["b".to_owned()]);
        assert_eq!(record.state(true).restart_required, ["b"]);
        assert!(record.state(false).restart_required.is_empty());
        assert!(record.is(&settings(&[("b", 2), ("c", 3), ("same", 1)])));
        // A pending restart is cleared when the value is set back.
        let changes = record.begin(&settings(&[("b", 1), ("c", 3), ("same", 1)]));
        assert_eq!(changes, []);
        record.changed(changes, &[]);
        assert_eq!(record.state(true), SettingsState::default());
    }

    #[test]
    fn interrupted_changes_are_completed_or_undone_by_the_next() {
        let mut record = running(&[("a", 1)]);
        record.begin(&settings(&[("b", 2)]));
        let mut again = record.clone();
        assert_eq!(again.begin(&settings(&[("b", 2)])), [change("a", None), change("b", Some(2))]);
        assert!(!record.is(&settings(&[("a", 1)])), "the server may have the other settings");
        assert_eq!(record.begin(&settings(&[("a", 1)])), [change("a", Some(1)), change("b", None)]);
    }

    #[test]
    fn failed_starts_fall_back_to_the_former_settings() {
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
    fn started_settings_are_running_once_the_server_answers() {
        let mut record = running(&[("a", 1)]);
        record.want(settings(&[("a", 2)]));
        record.start(settings(&[("a", 2)]), None);
        record.answered();
        assert_eq!((record.state(true).restart_required.len(), record.fallback()), (0, None));
        let mut fresh = SettingsRecord::new(settings(&[("a", 1)]));
        assert_eq!((fresh.has_answered(), fresh.fallback()), (false, None));
        fresh.answered();
        assert_eq!(fresh, running(&[("a", 1)]));
    }
}
