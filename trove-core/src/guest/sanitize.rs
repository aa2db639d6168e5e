//! Sanitizes the texts of agents: an agent may be compromised, and its texts are stored and shown.

use crate::model::{Health, Observed};

/// The maximum length of a text from an agent, in characters.
pub(super) const MAX_TEXT: usize = 2000;
/// The maximum number of parameter names in a report.
pub(super) const MAX_NAMES: usize = 500;

/// Truncates the texts of an observation and strips control characters from them.
pub(crate) fn sanitize_observed(mut observed: Observed) -> Observed {
    observed.server_version = observed.server_version.map(|version| sanitize_text(&version));
    match &mut observed.health {
        Health::Unknown(problem) | Health::Impaired(problem) | Health::Down(problem) => {
            problem.message = sanitize_text(&problem.message);
        }
        Health::Starting | Health::Healthy | Health::Stopped => {}
    }
    if let Some(settings) = &mut observed.settings {
        settings.rejected = settings.rejected.as_deref().map(sanitize_text);
        settings.restart_required.truncate(MAX_NAMES);
        settings.restart_required.iter_mut().for_each(|name| *name = sanitize_text(name));
    }
    observed
}

/// Truncates a text to [`MAX_TEXT`] and strips control characters.
pub(crate) fn sanitize_text(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_TEXT).collect()
}
