//! Validates settings against the parameters of a server. Pure.

use crate::{
    error::{Error, Result},
    model::{Parameter, ParameterCatalog, ParameterKind, Setting, Settings},
};

/// The maximum number of settings.
const MAX_SETTINGS: usize = 500;
/// The maximum length of a value, in bytes.
const MAX_VALUE_BYTES: usize = 4096;

/// Units of memory in bytes and of time in microseconds. Only units of one list convert to each
/// other.
const MEMORY: [(&str, u64); 5] = [("B", 1), ("kB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];
const TIME: [(&str, u64); 6] =
    [("us", 1), ("ms", 1000), ("s", 1_000_000), ("min", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// Validates settings, and returns them with the server's spelling of names and with normalized
/// booleans.
///
/// Numbers of parameters with a unit may have one: `128MB`, `1.5 min`.
///
/// # Errors
///
/// [`Invalid`](crate::error::Kind::Invalid) for a parameter that is unknown or reserved, and for a
/// value of another type or out of range.
pub fn check_settings(catalog: &ParameterCatalog, settings: &Settings) -> Result<Settings> {
    if settings.len() > MAX_SETTINGS {
        return Err(Error::invalid(format!(
            "too many settings: {} exceed the maximum of {MAX_SETTINGS}",
            settings.len()
        )));
    }
    let mut checked = Settings::new();
    for (name, setting) in settings {
        let parameter = catalog.parameter(name).ok_or_else(|| {
            Error::invalid(format!("version {} of the server has no parameter {name:?}", catalog.server_version))
        })?;
        let name = &parameter.name;
        if let Some(reason) = &parameter.reserved {
            return Err(Error::invalid(format!("parameter {name} cannot be set: {reason}")));
        }
        check(parameter, setting)?;
        if checked.insert(name.clone(), normalize(parameter, setting)).is_some() {
            return Err(Error::invalid(format!("parameter {name} is set twice")));
        }
    }
    Ok(checked)
}

/// Returns a numeric setting in this unit: `kB`, `8kB`, `ms`, or empty for none. `None` if the
/// setting is not a number.
pub fn in_units(setting: &Setting, unit: &str) -> Option<f64> {
    real(Some(unit).filter(|unit| !unit.is_empty()), setting)
}

fn check(parameter: &Parameter, setting: &Setting) -> Result<()> {
    let name = &parameter.name;
    let wrong = |wanted: String| Err(Error::invalid(format!("parameter {name} requires {wanted}, not {setting:?}")));
    if let Setting::Float(number) = setting
        && !number.is_finite()
    {
        return wrong("a finite number".to_owned());
    }
    if let Setting::Text(text) = setting
        && (text.len() > MAX_VALUE_BYTES || text.chars().any(char::is_control))
    {
        return wrong(format!("at most {MAX_VALUE_BYTES} bytes without control characters"));
    }
    match &parameter.kind {
        ParameterKind::Boolean => match setting {
            Setting::Boolean(_) | Setting::Integer(0 | 1) => Ok(()),
            Setting::Text(text) if ["on", "off", "true", "false", "yes", "no"].contains(&&*text.to_lowercase()) => {
                Ok(())
            }
            _ => wrong("on or off".to_owned()),
        },
        ParameterKind::Integer { min, max } => match whole(parameter, setting) {
            Some(number) if number >= i128::from(*min) && number <= i128::from(*max) => Ok(()),
            _ => wrong(format!("an integer from {min} to {max}{}", unit(parameter))),
        },
        ParameterKind::Float { min, max } => match real(parameter.unit.as_deref(), setting) {
            Some(number) if number >= *min && number <= *max => Ok(()),
            _ => wrong(format!("a number from {min} to {max}{}", unit(parameter))),
        },
        ParameterKind::Enum { values } => {
            let word = setting.to_string();
            let is = |value: &String| value.eq_ignore_ascii_case(&word);
            if values.iter().any(is) { Ok(()) } else { wrong(format!("one of {}", values.join(", "))) }
        }
        ParameterKind::Set { values } => {
            let words = setting.to_string();
            let known = |word: &str| values.iter().any(|value| value.eq_ignore_ascii_case(word.trim()));
            let all = words.is_empty() || words.split(',').all(known);
            if all { Ok(()) } else { wrong(format!("any of {}, separated by commas", values.join(", "))) }
        }
        ParameterKind::Text => Ok(()),
    }
}

/// Converts the spellings of a boolean to a boolean, because servers accept different spellings.
fn normalize(parameter: &Parameter, setting: &Setting) -> Setting {
    match (&parameter.kind, setting) {
        (ParameterKind::Boolean, Setting::Text(text)) => {
            Setting::Boolean(["on", "true", "yes"].contains(&&*text.to_lowercase()))
        }
        (ParameterKind::Boolean, Setting::Integer(number)) => Setting::Boolean(*number == 1),
        _ => setting.clone(),
    }
}

fn unit(parameter: &Parameter) -> String {
    parameter.unit.as_ref().map(|unit| format!(", in units of {unit}")).unwrap_or_default()
}

fn whole(parameter: &Parameter, setting: &Setting) -> Option<i128> {
    match setting {
        Setting::Integer(number) => Some(i128::from(*number)),
        Setting::Text(text) => match text.trim().parse() {
            Ok(number) => Some(number),
            // The server rounds values between two steps.
            Err(_) => with_unit(parameter.unit.as_deref(), text).map(|number| number.round() as i128),
        },
        Setting::Boolean(_) | Setting::Float(_) => None,
    }
}

#[allow(clippy::cast_precision_loss, reason = "range limits are exactly representable")]
fn real(unit: Option<&str>, setting: &Setting) -> Option<f64> {
    match setting {
        Setting::Integer(number) => Some(*number as f64),
        Setting::Float(number) => Some(*number),
        Setting::Text(text) => {
            text.trim().parse().ok().filter(|number: &f64| number.is_finite()).or_else(|| with_unit(unit, text))
        }
        Setting::Boolean(_) => None,
    }
}

/// Converts a number with a unit to another unit.
#[allow(clippy::cast_precision_loss, reason = "units are small")]
fn with_unit(own: Option<&str>, text: &str) -> Option<f64> {
    let text = text.trim();
    let at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, given) = (text[..at].trim().parse::<f64>().ok()?, &text[at..]);
    let own = own?;
    let (count, own) = own.split_at(own.find(|letter: char| letter.is_ascii_alphabetic())?);
    let count: f64 = if count.is_empty() { 1.0 } else { count.parse().ok()? };
    let size = |list: &[(&str, u64)], name: &str| list.iter().find(|(unit, _)| *unit == name).map(|(_, size)| *size);
    let (given, own) = [&MEMORY[..], &TIME[..]].iter().find_map(|list| Some((size(list, given)?, size(list, own)?)))?;
    Some(number * given as f64 / (own as f64 * count)).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> ParameterCatalog {
        let mut sizes = Parameter::new("shared_buffers", ParameterKind::Integer { min: 16, max: 1_073_741_823 });
        sizes.unit = Some("8kB".to_owned());
        let mut delay = Parameter::new("delay", ParameterKind::Float { min: -1.0, max: 100.0 });
        delay.unit = Some("ms".to_owned());
        let mut port = Parameter::new("port", ParameterKind::Integer { min: 1, max: 65535 });
        port.reserved = Some("the service chooses it".to_owned());
        let words = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let parameters = vec![
            sizes,
            delay,
            port,
            Parameter::new("max_rows", ParameterKind::Integer { min: 0, max: u64::MAX }),
            Parameter::new("fsync", ParameterKind::Boolean),
            Parameter::new("DateStyle", ParameterKind::Text),
            Parameter::new("level", ParameterKind::Enum { values: words(&["MINIMAL", "FULL"]) }),
            Parameter::new("sql_mode", ParameterKind::Set { values: words(&["ANSI", "STRICT"]) }),
        ];
        ParameterCatalog::new("sha256:0", "17.1", parameters)
    }

    fn checked(name: &str, setting: impl Into<Setting>) -> Result<Settings> {
        check_settings(&catalog(), &Settings::from([(name.to_owned(), setting.into())]))
    }

    #[test]
    fn valid_settings_are_returned_under_the_servers_own_name() {
        assert_eq!(checked("datestyle", "ISO").unwrap().keys().next().unwrap(), "DateStyle");
        assert_eq!(checked("Shared-Buffers", 16).unwrap().keys().next().unwrap(), "shared_buffers");
        for fine in ["16", "128kB", "1 MB", "0.5GB"] {
            checked("shared_buffers", fine).unwrap();
        }
        checked("delay", "0.05 s").unwrap();
        checked("delay", "-1").unwrap();
        checked("delay", 1.5).unwrap();
        checked("max_rows", "18446744073709551615").unwrap();
        for (on, fine) in [
            (true, Setting::from("on")),
            (false, "OFF".into()),
            (true, "Yes".into()),
            (false, "false".into()),
            (true, true.into()),
            (false, 0.into()),
        ] {
            assert_eq!(checked("fsync", fine).unwrap()["fsync"], Setting::Boolean(on));
        }
        checked("level", "full").unwrap();
        checked("sql_mode", "ansi, STRICT").unwrap();
        checked("sql_mode", "").unwrap();
    }

    #[test]
    fn settings_convert_to_the_requested_unit() {
        for (setting, unit, number) in [
            (Setting::from(16), "8kB", Some(16.0)),
            ("16MB".into(), "kB", Some(16384.0)),
            ("16MB".into(), "8kB", Some(2048.0)),
            ("1.5".into(), "", Some(1.5)),
            ("1kB".into(), "", None),
            ("1kB".into(), "ms", None),
            (true.into(), "", None),
        ] {
            assert_eq!(in_units(&setting, unit), number, "{setting:?} {unit:?}");
        }
    }

    #[test]
    fn invalid_settings_are_rejected_with_the_accepted_values() {
        for (name, setting, says) in [
            ("nothing", Setting::from(1), "has no parameter \"nothing\""),
            ("port", 5432.into(), "cannot be set: the service chooses it"),
            ("shared_buffers", 15.into(), "from 16 to 1073741823, in units of 8kB"),
            ("shared_buffers", "120kB".into(), "from 16"),
            ("shared_buffers", "16 min".into(), "from 16"),
            ("shared_buffers", 16.5.into(), "an integer"),
            ("shared_buffers", true.into(), "an integer"),
            ("shared_buffers", "1e400 MB".into(), "an integer"),
            ("max_rows", "18446744073709551616".into(), "to 18446744073709551615"),
            ("max_rows", "1kB".into(), "an integer"),
            ("delay", "0.2 s".into(), "from -1 to 100"),
            ("delay", "nan".into(), "a number"),
            ("DateStyle", f64::NAN.into(), "a finite number"),
            ("fsync", "maybe".into(), "on or off"),
            ("fsync", 2.into(), "on or off"),
            ("level", "none".into(), "one of MINIMAL, FULL"),
            ("sql_mode", "ANSI,BAD".into(), "any of ANSI, STRICT"),
            ("DateStyle", "a\nport = 1".into(), "control characters"),
            ("DateStyle", "x".repeat(5000).into(), "4096 bytes"),
        ] {
            let error = checked(name, setting.clone()).unwrap_err().to_string();
            assert!(error.contains(says), "{name} = {setting:?}: {error}");
        }
        let twice = Settings::from([("FSYNC".to_owned(), true.into()), ("fsync".to_owned(), true.into())]);
        assert!(check_settings(&catalog(), &twice).unwrap_err().to_string().contains("twice"));
    }
}
