//! The figures of a run, by what was measured and on which side.

use crate::metric::Metric;
use crate::side::Runtime;
use std::collections::BTreeMap;

/// Figures of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// One more figure.
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value that so large a part of them does not exceed: interpolated
    /// between the two nearest. None without figures.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let at = part.clamp(0.0, 1.0) * last as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        Some(low + (high - low) * at.fract())
    }

    /// The median.
    pub(crate) fn p50(&self) -> Option<f64> {
        self.quantile(0.5)
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// How busy the machine was with other things, in percent of one processor.
    pub(crate) background: Samples,
    samples: BTreeMap<(Metric, Runtime), Samples>,
}

impl Results {
    /// One more figure.
    pub(crate) fn add(&mut self, metric: Metric, runtime: Runtime, value: f64) {
        self.samples.entry((metric, runtime)).or_default().push(value);
    }

    /// The figures of one kind; None when there are none.
    pub(crate) fn get(&self, metric: Metric, runtime: Runtime) -> Option<&Samples> {
        self.samples.get(&(metric, runtime))
    }

    /// Their median.
    pub(crate) fn p50(&self, metric: Metric, runtime: Runtime) -> Option<f64> {
        self.get(metric, runtime)?.p50()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_other_quantiles() {
        let samples = |values: &[f64]| Samples(values.to_vec());
        assert_eq!(samples(&[]).p50(), None);
        assert_eq!(samples(&[7.0]).p50(), Some(7.0));
        assert_eq!(samples(&[9.0, 1.0, 5.0]).p50(), Some(5.0));
        assert_eq!(samples(&[4.0, 1.0, 2.0, 3.0]).p50(), Some(2.5));
        assert_eq!(samples(&[1.0, 2.0, 3.0, 4.0, 5.0]).quantile(0.9), Some(4.6));
        assert_eq!(samples(&[1.0, 2.0]).quantile(1.0), Some(2.0));
    }

    #[test]
    fn sides_are_kept_apart() {
        let mut results = Results::default();
        results.add(Metric::Exec, Runtime::Cricket, 1.0);
        results.add(Metric::Exec, Runtime::Containerd, 9.0);
        assert_eq!(results.p50(Metric::Exec, Runtime::Cricket), Some(1.0));
        assert_eq!(results.p50(Metric::Exec, Runtime::Containerd), Some(9.0));
        assert_eq!(results.p50(Metric::Stats, Runtime::Containerd), None);
    }
}
