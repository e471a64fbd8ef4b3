//! Judges a run of critest by ginkgo's JSON report and lists of failures and of
//! skipped specs that are allowed: every surprise counts, also a listed spec that
//! passes. Specs skip what a runtime does not say it can do, so that a feature
//! that is no longer advertised shows only in what did not run.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// How a spec ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and found what it wanted.
    Passed,
    /// It ran and did not: the first line of its message.
    Failed(String),
    /// It did not run.
    Skipped,
}

/// Full name (containers and leaf, joined by spaces) to outcome.
pub type Specs = BTreeMap<String, Outcome>;

/// Spec names, each with the reason why it may fail, or be skipped.
pub type Allowed = BTreeMap<String, String>;

/// What a run was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Specs that passed.
    pub passed: usize,
    /// Specs that failed and may.
    pub allowed: Vec<String>,
    /// Specs that failed and may not, with their message.
    pub failed: Vec<(String, String)>,
    /// Specs in the list that passed.
    pub stale: Vec<String>,
    /// Specs that did not run and should have.
    pub missed: Vec<String>,
    /// Specs in a list that the suite does not have.
    pub unknown: Vec<String>,
    /// Specs that did not run.
    pub skipped: usize,
}

/// Reads the report that `-ginkgo.json-report` wrote.
pub fn read_report(path: &Path) -> Result<Specs> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    report(&serde_json::from_slice(&text)?).with_context(|| path.display().to_string())
}

/// Reads a list of allowed failures or skipped specs: a spec name a line; its reason is behind
/// ` # ` or in the comment lines right above it.
pub fn read_allowed(path: &Path) -> Result<Allowed> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    allowed(&text).with_context(|| path.display().to_string())
}

/// Compares a run with the lists. Without a list of what may be skipped anything may: for runs of chosen specs. A spec
/// of that list that ran is no surprise: hosts differ.
pub fn judge(specs: &Specs, allowed: &Allowed, skips: Option<&Allowed>) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, outcome) in specs {
        let listed = allowed.contains_key(name);
        match outcome {
            Outcome::Skipped => {
                verdict.skipped += 1;
                if skips.is_some_and(|skips| !skips.contains_key(name)) {
                    verdict.missed.push(name.clone());
                }
            }
            Outcome::Passed => {
                verdict.passed += 1;
                if listed {
                    verdict.stale.push(name.clone());
                }
            }
            Outcome::Failed(_) if listed => verdict.allowed.push(name.clone()),
            Outcome::Failed(message) => verdict.failed.push((name.clone(), message.clone())),
        }
    }
    let listed = allowed.keys().chain(skips.into_iter().flat_map(Allowed::keys));
    verdict.unknown = listed.filter(|name| !specs.contains_key(*name)).cloned().collect();
    verdict
}

impl Verdict {
    /// Nothing differs from the lists, and something ran.
    pub fn is_good(&self) -> bool {
        let surprises = self.failed.len() + self.stale.len() + self.unknown.len() + self.missed.len();
        surprises == 0 && self.ran() > 0
    }

    /// Specs that ran.
    pub fn ran(&self) -> usize {
        self.passed + self.allowed.len() + self.failed.len()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, message) in &self.failed {
            writeln!(f, "FAILED   {name}\n         {message}")?;
        }
        for name in &self.stale {
            writeln!(f, "STALE    {name}\n         passes, but is in the list of allowed failures")?;
        }
        for name in &self.missed {
            writeln!(f, "SKIPPED  {name}\n         is not in the list of specs that may be skipped")?;
        }
        for name in &self.unknown {
            writeln!(f, "UNKNOWN  {name}\n         is in a list, but not in the suite")?;
        }
        write!(
            f,
            "critest: ran {} passed {} failed {} (allowed {}) skipped {}",
            self.ran(),
            self.passed,
            self.failed.len() + self.allowed.len(),
            self.allowed.len(),
            self.skipped
        )
    }
}

fn report(report: &Value) -> Result<Specs> {
    let mut specs = Specs::new();
    for suite in report.as_array().context("not a list of suites")? {
        let reports = suite["SpecReports"].as_array().context("a suite without specs")?;
        for spec in reports.iter().filter(|spec| spec["LeafNodeType"] == "It") {
            let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
            let words = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str);
            let name = words.collect::<Vec<_>>().join(" ");
            let outcome = match spec["State"].as_str().context("a spec without a state")? {
                "passed" => Outcome::Passed,
                "skipped" | "pending" => Outcome::Skipped,
                state => {
                    let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
                    Outcome::Failed(format!("{state}: {}", message.lines().next().unwrap_or_default()))
                }
            };
            if specs.insert(name.clone(), outcome).is_some() {
                bail!("two specs are called {name:?}");
            }
        }
    }
    Ok(specs)
}

fn allowed(text: &str) -> Result<Allowed> {
    let mut allowed = Allowed::new();
    let mut above: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() {
            above.clear();
        } else if let Some(comment) = line.strip_prefix('#') {
            above.push(comment.trim());
        } else {
            let (name, reason) = line.split_once(" # ").unwrap_or((line, ""));
            let (name, reason) = (name.trim(), reason.trim());
            let reason = if reason.is_empty() { above.join(" ") } else { reason.to_owned() };
            if reason.is_empty() {
                bail!("line {number}: no reason for {name:?}");
            }
            if !seen.insert(name) {
                bail!("line {number}: {name:?} is there twice");
            }
            allowed.insert(name.to_owned(), reason);
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(words: &[&str], state: &str) -> Value {
        let (leaf, containers) = words.split_last().expect("a name");
        json!({ "LeafNodeType": "It", "LeafNodeText": leaf, "ContainerHierarchyTexts": containers, "State": state,
                "Failure": { "Message": "expected\nthis" } })
    }

    #[test]
    fn surprises_of_every_kind() {
        let specs = json!([{ "SpecReports": [
            { "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed" },
            spec(&["[k8s.io] A", "works"], "passed"), spec(&["[k8s.io] A", "now works"], "passed"),
            spec(&["B", "fails"], "failed"), spec(&["B", "may fail"], "timedout"), spec(&["C", "waits"], "skipped"),
        ] }]);
        let list = "# a header\n\n# not yet there\n# (needs X)\nB may fail\n\n\
                    [k8s.io] A now works # once broken\nD is gone # renamed\nC waits # no X here\n";
        let list = allowed(list).expect("a list");
        assert_eq!(list["B may fail"], "not yet there (needs X)");
        let verdict = judge(&report(&specs).expect("a report"), &list, None);
        assert!(!verdict.is_good());
        assert_eq!(verdict.failed, [("B fails".to_owned(), "failed: expected".to_owned())]);
        assert_eq!(verdict.stale, ["[k8s.io] A now works"]);
        assert_eq!(verdict.unknown, ["D is gone"]);
        let text = verdict.to_string();
        assert!(text.ends_with("critest: ran 4 passed 2 failed 2 (allowed 1) skipped 1"), "{text}");
    }

    #[test]
    fn nothing_run_is_not_good() {
        assert!(!judge(&Specs::new(), &Allowed::new(), None).is_good());
    }

    #[test]
    fn what_is_silently_skipped_is_not_good() {
        let specs =
            json!([{ "SpecReports": [spec(&["A"], "passed"), spec(&["B"], "skipped"), spec(&["C"], "skipped")] }]);
        let specs = report(&specs).expect("a report");
        let judged = |skips: &str| judge(&specs, &Allowed::new(), Some(&allowed(skips).expect("a list")));
        let verdict = judged("B # no X here\n");
        assert_eq!((verdict.missed.as_slice(), verdict.is_good()), (&["C".to_owned()][..], false));
        assert!(verdict.to_string().contains("SKIPPED  C\n"), "{verdict}");
        // Here A runs, elsewhere it may not.
        assert!(judged("# no X here\nA\nB\nC\n").is_good());
        assert_eq!(judged("# no X here\nB\nC\nD\n").unknown, ["D"]);
        assert!(judge(&specs, &Allowed::new(), None).is_good());
    }

    #[test]
    fn a_list_needs_reasons() {
        assert!(allowed("# header\n\nA spec\n").is_err());
        assert!(allowed("A # x\nA # y\n").is_err());
    }
}
