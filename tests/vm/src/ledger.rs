//! What was acknowledged before the power went: printed line by line as it happens, kept by the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Lines of the ledger begin with this; others are for people.
const MARK: &str = "ledger ";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// PullImage is about to be called.
    Pulling { image: String },
    /// It has answered with this ID.
    Pulled { image: String, id: String },
    /// RemoveImage is about to be called: from now on the image may be there or not.
    RemovingImage { image: String },
    /// RunPodSandbox has answered.
    Pod { id: String },
    /// CreateContainer and StartContainer have answered.
    Container { id: String, pod: String },
    /// StopPodSandbox and RemovePodSandbox are about to be called.
    RemovingPod { id: String },
    /// Milliseconds since the round began.
    Time { ms: u64 },
}

/// What must be there, and what may be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// Acknowledged images with their IDs.
    pub(crate) images: BTreeMap<String, String>,
    /// Acknowledged pods.
    pub(crate) pods: BTreeSet<String>,
    /// Acknowledged containers of those pods with the time of their round when they were.
    pub(crate) containers: BTreeMap<String, (String, u64)>,
    /// Pulls that were under way.
    pub(crate) pulling: BTreeSet<String>,
    /// When the last round ended, as far as is known, in its milliseconds.
    pub(crate) ended: u64,
}

impl Entry {
    /// Prints it.
    pub(crate) fn write(&self) -> Result<()> {
        println!("{MARK}{}", serde_json::to_string(self)?);
        Ok(())
    }
}

impl Ledger {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(path).with_context(|| path.display().to_string())?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut ledger = Self::default();
        // The last line may have been cut with the power.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines().filter_map(|line| line.strip_prefix(MARK)) {
            ledger.add(serde_json::from_str(line).with_context(|| line.to_owned())?);
        }
        Ok(ledger)
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Pulling { image } => {
                self.pulling.insert(image);
            }
            Entry::Pulled { image, id } => {
                self.pulling.remove(&image);
                self.images.insert(image, id);
            }
            Entry::RemovingImage { image } => {
                self.images.remove(&image);
            }
            Entry::Pod { id } => {
                self.pods.insert(id);
            }
            Entry::Container { id, pod } => {
                self.containers.insert(id, (pod, self.ended));
            }
            Entry::RemovingPod { id } => {
                self.containers.retain(|_, (pod, _)| *pod != id);
                self.pods.remove(&id);
            }
            Entry::Time { ms } => self.ended = ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_acknowledged_and_not_removed_counts() {
        let text = "power cut\nledger {\"pulling\":{\"image\":\"a\"}}\nledger {\"pulled\":{\"image\":\"a\",\"id\":\"1\"}}\n\
                    ledger {\"pulling\":{\"image\":\"b\"}}\nledger {\"pod\":{\"id\":\"p\"}}\nledger {\"pod\":{\"id\":\"q\"}}\n\
                    ledger {\"time\":{\"ms\":7}}\nledger {\"container\":{\"id\":\"c\",\"pod\":\"p\"}}\n\
                    ledger {\"container\":{\"id\":\"d\",\"pod\":\"q\"}}\nledger {\"removing_pod\":{\"id\":\"q\"}}\nledger {\"po";
        let ledger = Ledger::parse(text).expect("a ledger");
        assert_eq!(ledger.images, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
        assert_eq!(ledger.pulling, BTreeSet::from(["b".to_owned()]));
        assert_eq!(ledger.pods, BTreeSet::from(["p".to_owned()]));
        assert_eq!(ledger.containers, BTreeMap::from([("c".to_owned(), ("p".to_owned(), 7))]));
        assert_eq!(ledger.ended, 7);
    }

    #[test]
    fn a_line_that_is_none_is_an_error() {
        assert!(Ledger::parse("ledger {\"pulled\":{}}\n").is_err());
    }
}
