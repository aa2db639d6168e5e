use std::{collections::BTreeMap, env};

use crate::Result;

/// The numeric command-line options of a benchmark, such as `--rounds 9`.
#[derive(Debug)]
pub struct Options(BTreeMap<&'static str, u64>);

impl Options {
    /// Parses the command line of this process. `known` lists the options with their defaults.
    pub fn from_command_line(known: &[(&'static str, u64)]) -> Result<Self> {
        // Cargo adds `--bench`.
        Self::parse(known, env::args().skip(1).filter(|arg| arg != "--bench"))
    }

    fn parse(known: &[(&'static str, u64)], args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self(known.iter().copied().collect());
        let mut args = args;
        while let Some(arg) = args.next() {
            let found = arg.strip_prefix("--").and_then(|name| options.0.iter_mut().find(|(known, _)| **known == name));
            let Some((_, value)) = found else {
                let known: Vec<_> = known.iter().map(|(name, default)| format!("--{name} {default}")).collect();
                return Err(
                    format!("unknown option {arg}; the options and their defaults are {}", known.join(", ")).into()
                );
            };
            let text = args.next().unwrap_or_default();
            *value = text.parse().map_err(|_| format!("{arg} requires a number instead of {text:?}"))?;
        }
        Ok(options)
    }

    /// Returns the value of an option.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Returns the value of an option as a count of at least one.
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.get(name)).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str) -> Result<u64, String> {
        let options = Options::parse(&[("rounds", 5)], line.split_whitespace().map(str::to_owned));
        options.map(|options| options.get("rounds")).map_err(|error| error.to_string())
    }

    #[test]
    fn missing_options_have_defaults_and_unknown_options_are_rejected() {
        assert_eq!(parse(""), Ok(5));
        assert_eq!(parse("--rounds 7"), Ok(7));
        assert_eq!(
            parse("--round 7").unwrap_err(),
            "unknown option --round; the options and their defaults are --rounds 5"
        );
        assert_eq!(parse("--rounds").unwrap_err(), "--rounds requires a number instead of \"\"");
    }
}
