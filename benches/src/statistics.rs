use std::fmt;

/// Measurements of one thing, shown as `median (least..greatest)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        let at = self.sorted.partition_point(|other| *other < value);
        self.sorted.insert(at, value);
    }

    /// The value in the middle, between the two in the middle of an even number; not a number where there is none.
    pub fn median(&self) -> f64 {
        let middle = self.sorted.len() / 2;
        match (self.sorted.len(), self.sorted.get(middle)) {
            (count, Some(upper)) if count % 2 == 1 => *upper,
            (_, Some(upper)) => f64::midpoint(self.sorted[middle - 1], *upper),
            (_, None) => f64::NAN,
        }
    }

    /// The least of them.
    pub fn least(&self) -> f64 {
        self.sorted.first().copied().unwrap_or(f64::NAN)
    }

    /// The greatest of them.
    pub fn greatest(&self) -> f64 {
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

/// With as many decimals as asked for, two unless said.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        let (median, least, greatest) = (self.median(), self.least(), self.greatest());
        write!(f, "{median:.decimals$} ({least:.decimals$}..{greatest:.decimals$})")
    }
}

/// How many times the floor's measurement each of ours is, neighbour by neighbour.
pub fn ratios(ours: &[f64], floor: &[f64]) -> Sample {
    ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let of = |values: &[f64]| values.iter().copied().collect::<Sample>();
        assert_eq!(of(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert!(of(&[]).median().is_nan());
        assert_eq!(format!("{:.1}", of(&[3.0, 1.0, 2.25])), "2.2 (1.0..3.0)");
    }

    #[test]
    fn a_ratio_is_of_neighbours() {
        // Twice as slow for a while disturbs neither ratio.
        assert_eq!(ratios(&[1.5, 3.0], &[1.0, 2.0]).greatest(), 1.5);
    }
}
