use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// A parameter of a database server that can be configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parameter {
    /// What the server calls it.
    pub name: String,
    /// What its values are like.
    #[serde(flatten)]
    pub kind: ParameterKind,
    /// What a plain number counts: `ms`, `kB`, `8kB`; `None` where that is not said.
    pub unit: Option<String>,
    /// The value of a server that nobody configured, as it writes it. What this service derives from the flavor is not
    /// in it.
    pub default: Option<String>,
    /// True where a running server takes another value at once; false where it has to be restarted.
    pub dynamic: bool,
    /// Why it cannot be set, where it cannot: it is the service's own.
    pub reserved: Option<String>,
    /// What it is for, in the server's words; empty where it says nothing.
    pub description: String,
}

impl Parameter {
    /// A parameter that needs a restart, without unit, default and description.
    pub fn new(name: impl Into<String>, kind: ParameterKind) -> Self {
        Self {
            name: name.into(),
            kind,
            unit: None,
            default: None,
            dynamic: false,
            reserved: None,
            description: String::new(),
        }
    }
}

/// What the values of a [`Parameter`] are like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ParameterKind {
    /// On or off.
    Boolean,
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: u64,
    },
    /// A number.
    Float {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// One word of these, without regard to case.
    Enum {
        /// The words.
        values: Vec<String>,
    },
    /// Any number of these words, separated by commas, without regard to case.
    Set {
        /// The words.
        values: Vec<String>,
    },
    /// Any text; what is wrong with it only the server knows.
    Text,
}

/// The value that a parameter is to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// On or off.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A text, a word, or a number with a unit.
    Text(String),
}

/// The parameters to set, by name.
pub type Settings = BTreeMap<String, Setting>;

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(true) => f.write_str("on"),
            Self::Boolean(false) => f.write_str("off"),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<bool> for Setting {
    fn from(on: bool) -> Self {
        Self::Boolean(on)
    }
}

impl From<i64> for Setting {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Setting {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<&str> for Setting {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Setting {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// All parameters of the servers of one image, as one of them told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Catalogue {
    /// The digest of the image.
    pub digest: String,
    /// The version its servers say they are.
    pub server_version: String,
    /// The parameters, in order of name.
    pub parameters: Vec<Parameter>,
}

impl Catalogue {
    /// The catalogue of an image.
    pub fn new(digest: impl Into<String>, server_version: impl Into<String>, mut parameters: Vec<Parameter>) -> Self {
        parameters.sort_by(|one, other| one.name.cmp(&other.name));
        Self { digest: digest.into(), server_version: server_version.into(), parameters }
    }

    /// The parameter of this name, in which case does not count and `-` is `_`.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        let same = |known: &str| {
            known.len() == name.len()
                && known.bytes().zip(name.bytes()).all(|(one, other)| folded(one) == folded(other))
        };
        self.parameters.iter().find(|parameter| same(&parameter.name))
    }
}

fn folded(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() }
}

/// How the settings of an instance stand with its server, as its guest last told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsState {
    /// The parameters that have their values only after a restart, in order of name.
    pub restart_required: Vec<String>,
    /// Why the settings are not in use, where the server did not start with them: it runs with the last ones with
    /// which it did.
    pub rejected: Option<String>,
}
