//! What was measured more than once.

use std::time::Duration;

/// Figures of one kind, in the order they were taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    pub(crate) fn push_ms(&mut self, duration: Duration) {
        self.push(duration.as_secs_f64() * 1e3);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same in another unit.
    pub(crate) fn map(&self, convert: impl Fn(f64) -> f64) -> Self {
        Self(self.0.iter().copied().map(convert).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The lower one of two in the middle; 0 of none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
    }

    /// `minimum / median / maximum`.
    pub(crate) fn spread(&self) -> String {
        let sorted = self.sorted();
        match (sorted.first(), sorted.last()) {
            (Some(first), Some(last)) => {
                format!("{} / **{}** / {}", figure(*first), figure(self.median()), figure(*last))
            }
            _ => "–".to_owned(),
        }
    }
}

/// Three digits, more where the number is larger.
pub(crate) fn figure(number: f64) -> String {
    match number {
        number if number >= 100.0 => format!("{number:.0}"),
        number if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn the_middle_and_the_ends() {
        let mut samples = Samples::default();
        assert_eq!(samples.spread(), "–");
        for figure in [3.0, 120.4, 12.34, 1.0, 2.0] {
            samples.push(figure);
        }
        assert_eq!(samples.spread(), "1.00 / **3.00** / 120");
        samples.push(4.0);
        assert_eq!(samples.median().to_string(), "3");
    }
}
