use std::fmt::{self, Write};

use secrecy::{ExposeSecret, SecretString};

use crate::model::Endpoint;

/// A connection URI: `postgresql://app@127.0.0.1:20000/app`. Its `Display` form never contains a
/// password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionUri {
    scheme: String,
    user: Option<String>,
    endpoint: Endpoint,
    database: Option<String>,
}

impl ConnectionUri {
    pub(super) fn new(scheme: &str, endpoint: Endpoint, database: Option<&str>) -> Self {
        Self { scheme: scheme.to_owned(), user: None, endpoint, database: database.map(str::to_owned) }
    }

    /// Sets the user.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Returns the URI with the password of the user.
    pub fn with_password(&self, password: &SecretString) -> SecretString {
        SecretString::from(self.text(Some(password)))
    }

    fn text(&self, password: Option<&SecretString>) -> String {
        let mut text = format!("{}://", self.scheme);
        if let Some(user) = &self.user {
            encode(&mut text, user);
            if let Some(password) = password {
                text.push(':');
                encode(&mut text, password.expose_secret());
            }
            text.push('@');
        }
        text.push_str(&self.endpoint.to_string());
        if let Some(database) = &self.database {
            text.push('/');
            encode(&mut text, database);
        }
        text
    }
}

impl fmt::Display for ConnectionUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(None))
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn encode(text: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_percent_encoded_and_the_password_is_shown_only_on_request() {
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 20000 };
        let uri = ConnectionUri::new("postgresql", endpoint.clone(), Some("a/b?c")).user("o'brien@x");
        assert_eq!(uri.to_string(), "postgresql://o%27brien%40x@127.0.0.1:20000/a%2Fb%3Fc");
        let whole = uri.with_password(&SecretString::from("p:w/ä"));
        assert!(whole.expose_secret().contains(":p%3Aw%2F%C3%A4@"));
        assert_eq!(ConnectionUri::new("redis", endpoint, None).user("app").to_string(), "redis://app@127.0.0.1:20000");
    }
}
