use std::fmt;

/// The measurements of one quantity, displayed as `median (minimum..maximum)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        let position = self.sorted.partition_point(|other| *other < value);
        self.sorted.insert(position, value);
    }

    /// Returns the median, or NaN without measurements.
    pub fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        match (self.sorted.len(), self.sorted.get(middle)) {
            (count, Some(upper)) if count % 2 == 1 => *upper,
            (_, Some(upper)) => f64::midpoint(self.sorted[middle - 1], *upper),
            (_, None) => f64::NAN,
        }
    }

    /// Returns the smallest measurement, or NaN without measurements.
    pub fn min(&self) -> f64 {
        self.sorted.first().copied().unwrap_or(f64::NAN)
    }

    /// Returns the largest measurement, or NaN without measurements.
    pub fn max(&self) -> f64 {
        self.sorted.last().copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut sample = Self::default();
        values.into_iter().for_each(|value| sample.push(value));
        sample
    }
}

/// Honors the precision of the format string; the default is two decimals.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        let (median, min, max) = (self.median(), self.min(), self.max());
        write!(f, "{median:.decimals$} ({min:.decimals$}..{max:.decimals$})")
    }
}

/// Returns the ratios of measurements to the baseline measurements of the same rounds.
pub fn ratios(measured: &[f64], baseline: &[f64]) -> Sample {
    measured.iter().zip(baseline).map(|(measured, baseline)| measured / baseline).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_depend_on_the_order() {
        let of = |values: &[f64]| values.iter().copied().collect::<Sample>();
        assert_eq!(of(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert!(of(&[]).median().is_nan());
        assert_eq!(format!("{:.1}", of(&[3.0, 1.0, 2.25])), "2.2 (1.0..3.0)");
    }

    #[test]
    fn ratios_compare_measurements_of_the_same_round() {
        // A slow round changes neither ratio.
        assert_eq!(ratios(&[1.5, 3.0], &[1.0, 2.0]).max(), 1.5);
    }
}
