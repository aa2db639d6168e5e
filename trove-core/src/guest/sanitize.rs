//! Sanitizes the texts of agents: an agent may be compromised, and its texts are stored and shown.

use crate::model::{Health, Observed};

/// The maximum length of a text from an agent, in bytes.
pub(super) const MAX_TEXT: usize = 2000;
/// The maximum length of the name of a parameter, in bytes. The engines have names of up to 64.
const MAX_NAME: usize = 64;
/// The maximum number of parameter names in a report.
pub(super) const MAX_NAMES: usize = 50;

/// Truncates the texts of an observation and strips control characters from them, so that it has a
/// few KiB at most.
pub(crate) fn sanitize_observed(mut observed: Observed) -> Observed {
    observed.server_version = observed.server_version.map(|version| plain(&version, MAX_NAME));
    match &mut observed.health {
        Health::Unknown(problem) | Health::Impaired(problem) | Health::Down(problem) => {
            problem.message = sanitize_text(&problem.message);
        }
        Health::Starting | Health::Healthy | Health::Stopped => {}
    }
    if let Some(settings) = &mut observed.settings {
        settings.rejected = settings.rejected.as_deref().map(sanitize_text);
        settings.restart_required.truncate(MAX_NAMES);
        settings.restart_required.iter_mut().for_each(|name| *name = plain(name, MAX_NAME));
    }
    observed
}

/// Truncates a text to [`MAX_TEXT`] and strips control characters.
pub(crate) fn sanitize_text(text: &str) -> String {
    plain(text, MAX_TEXT)
}

fn plain(text: &str, max_bytes: usize) -> String {
    let printed = text.chars().filter(|character| !character.is_control());
    let within = printed.scan(0, |length, character| {
        *length += character.len_utf8();
        (*length <= max_bytes).then_some(character)
    });
    within.collect()
}
