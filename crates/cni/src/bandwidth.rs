//! A pod's bandwidth limits, from its annotations.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{Error, Result, quantity};

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Kubernetes refuses limits outside of 1 kbit/s to 1 Pbit/s.
const RANGE: std::ops::RangeInclusive<i128> = 1000..=1_000_000_000_000_000;
/// The convention has no annotation for bursts; the largest that the `bandwidth` plugin takes leaves them alone.
const BURST: u32 = u32::MAX;

/// Limits in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// Towards the pod.
    pub ingress: Option<u64>,
    /// Out of the pod.
    pub egress: Option<u64>,
}

impl Bandwidth {
    /// Reads `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth`; `None` when there is neither.
    ///
    /// # Errors
    /// A value that is no quantity, or an unreasonable one.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let read = |key: &str| {
            let Some(text) = annotations.get(key) else { return Ok(None) };
            match quantity::parse(text).filter(|v| RANGE.contains(v)).and_then(|v| u64::try_from(v).ok()) {
                Some(bits) => Ok(Some(bits)),
                None => Err(Error::InvalidArgument {
                    field: format!("annotation {key}"),
                    reason: format!("{:?} is no quantity from 1k to 1P", text.chars().take(64).collect::<String>()),
                }),
            }
        };
        let limits = Self { ingress: read(INGRESS)?, egress: read(EGRESS)? };
        Ok(Some(limits).filter(|l| *l != Self::default()))
    }

    /// The `bandwidth` capability argument (CNI conventions, "Dynamic plugin specific fields").
    pub(crate) fn to_value(self) -> Value {
        let mut map = Map::new();
        for (name, rate) in [("ingress", self.ingress), ("egress", self.egress)] {
            if let Some(rate) = rate {
                map.insert(format!("{name}Rate"), rate.into());
                map.insert(format!("{name}Burst"), BURST.into());
            }
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<Option<Bandwidth>> {
        Bandwidth::from_annotations(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    #[test]
    fn only_set_directions_are_limited() {
        let limits = read(INGRESS, "10M").expect("valid").expect("some");
        assert_eq!(limits.to_value(), serde_json::json!({"ingressRate": 10_000_000, "ingressBurst": u32::MAX}));
        assert_eq!(read("other", "10M").expect("valid"), None);
    }

    #[test]
    fn unreasonable_limits_are_refused() {
        for bad in ["", "x", "1", "-5M", "2P", "1E"] {
            assert!(read(EGRESS, bad).is_err(), "{bad}");
        }
    }
}
