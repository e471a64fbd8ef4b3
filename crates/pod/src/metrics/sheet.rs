//! The metrics of one pod or container, with their labels.

use cricket_cri_api::v1;

use super::descriptors::{Descriptor, LABELS};
use crate::stats::value;

/// A list that grows.
pub(super) struct Sheet {
    labels: [String; LABELS.len()],
    metrics: Vec<v1::Metric>,
}

impl Sheet {
    /// With the values of [`LABELS`].
    pub(super) fn new(labels: [String; LABELS.len()]) -> Self {
        Self { labels, metrics: Vec::new() }
    }

    /// Adds a figure that was read just now; `labels` are the values of the metric's own labels.
    pub(super) fn add(&mut self, metric: &Descriptor, labels: &[&str], figure: u64) {
        debug_assert_eq!(labels.len(), metric.labels.len(), "{}", metric.name);
        self.metrics.push(v1::Metric {
            name: metric.name.to_owned(),
            // 0: not from a cache (runtime.v1.proto, Metric).
            timestamp: 0,
            metric_type: metric.kind.into(),
            label_values: self
                .labels
                .iter()
                .map(String::as_str)
                .chain(labels.iter().copied())
                .map(Into::into)
                .collect(),
            value: value(figure),
        });
    }

    /// Adds a figure if there is one.
    pub(super) fn maybe(&mut self, metric: &Descriptor, labels: &[&str], figure: Option<u64>) {
        if let Some(figure) = figure {
            self.add(metric, labels, figure);
        }
    }

    pub(super) fn done(self) -> Vec<v1::Metric> {
        self.metrics
    }
}
