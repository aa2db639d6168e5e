use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// A configuration parameter of a database server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Parameter {
    /// The name, as the server spells it.
    pub name: String,
    /// The type of the values.
    #[serde(flatten)]
    pub kind: ParameterKind,
    /// The unit of a number without a suffix: `ms`, `kB`, `8kB`; `None` if the server does not
    /// report one.
    pub unit: Option<String>,
    /// The default of the server, as it formats it, without the values that this service derives
    /// from the flavor.
    pub default: Option<String>,
    /// Whether a change applies to a running server; otherwise it requires a restart.
    pub dynamic: bool,
    /// Why the parameter cannot be set, if it is managed by the service.
    pub reserved: Option<String>,
    /// The description by the server; empty if it has none.
    pub description: String,
}

impl Parameter {
    /// Creates a parameter that requires a restart, without unit, default and description.
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

/// The type of the values of a [`Parameter`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ParameterKind {
    /// A Boolean.
    Boolean,
    /// An integer.
    Integer {
        /// The minimum.
        min: i64,
        /// The maximum.
        max: u64,
    },
    /// A floating-point number.
    Float {
        /// The minimum.
        min: f64,
        /// The maximum.
        max: f64,
    },
    /// One of these values, case-insensitive.
    Enum {
        /// The values.
        values: Vec<String>,
    },
    /// Any number of these values, separated by commas, case-insensitive.
    Set {
        /// The values.
        values: Vec<String>,
    },
    /// Text, which only the server can validate.
    Text,
}

/// The desired value of a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A Boolean.
    Boolean(bool),
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// A text, an enum value, or a number with a unit.
    Text(String),
}

/// The desired values of parameters by name.
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

/// The parameters of the servers of one image, as reported by one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParameterCatalog {
    /// The digest of the image.
    pub digest: String,
    /// The version that the server reported.
    pub server_version: String,
    /// The parameters in order of name.
    pub parameters: Vec<Parameter>,
}

impl ParameterCatalog {
    /// Creates the catalog of an image.
    pub fn new(digest: impl Into<String>, server_version: impl Into<String>, mut parameters: Vec<Parameter>) -> Self {
        parameters.sort_by(|one, other| one.name.cmp(&other.name));
        Self { digest: digest.into(), server_version: server_version.into(), parameters }
    }

    /// Returns the parameter of this name; case is ignored, and `-` and `_` are the same.
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

/// Whether the settings of an instance are in effect, as last reported by its guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsState {
    /// The parameters whose values take effect after a restart, in order of name.
    pub restart_required: Vec<String>,
    /// Why the server did not start with the settings. It then runs with the last settings that
    /// worked.
    pub rejected: Option<String>,
}
