//! Judges a run of Kubernetes' end-to-end suite by ginkgo's JSON report and a list of failures that are allowed.
//!
//! The report has every spec of the suite, thousands of them; those that the focus did not choose are not counted. A
//! spec that was chosen may skip itself, with a message: it then ran as little as one that does not exist, which only
//! a list of what is to run can notice.

use crate::critest::Allowed;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// Of a failure's message, so much is shown.
const MESSAGE: usize = 400;

/// What a run was. Names are those of the containers and the leaf, joined by spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Specs that passed.
    pub passed: BTreeSet<String>,
    /// Specs that failed, each with the start of its message.
    pub failed: BTreeMap<String, String>,
    /// Specs that were chosen and skipped themselves, each with the reason.
    pub skipped: BTreeMap<String, String>,
    /// Failures of what is not a spec, such as the suite's preparation.
    pub broken: Vec<String>,
    /// Every name of the suite.
    known: BTreeSet<String>,
}

/// A run beside what was expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    run: Run,
    allowed: Allowed,
    missed: Vec<String>,
    unknown: Vec<String>,
}

impl Run {
    /// Reads the report that `--json-report` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        Self::parse(&serde_json::from_slice(&text)?).with_context(|| path.display().to_string())
    }

    fn parse(report: &Value) -> Result<Self> {
        let mut run = Self::default();
        for suite in report.as_array().context("not a list of suites")? {
            let reasons = suite["SpecialSuiteFailureReasons"].as_array().into_iter().flatten();
            run.broken.extend(reasons.filter_map(Value::as_str).map(str::to_owned));
            for spec in suite["SpecReports"].as_array().context("a suite without specs")? {
                run.add(spec)?;
            }
        }
        Ok(run)
    }

    fn add(&mut self, spec: &Value) -> Result<()> {
        let state = spec["State"].as_str().context("a spec without a state")?;
        let message = spec["Failure"]["Message"].as_str().unwrap_or_default();
        if spec["LeafNodeType"] != "It" {
            if !matches!(state, "passed" | "skipped") {
                let node = spec["LeafNodeType"].as_str().unwrap_or_default();
                self.broken.push(format!("{node}: {state}: {}", shown(message)));
            }
            return Ok(());
        }
        let containers = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
        let words = containers.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str);
        let name = words.collect::<Vec<_>>().join(" ");
        self.known.insert(name.clone());
        match state {
            "passed" => drop(self.passed.insert(name)),
            "skipped" | "pending" if message.is_empty() => {}
            "skipped" => drop(self.skipped.insert(name, shown(message))),
            state => drop(self.failed.insert(name, format!("{state}: {}", shown(message)))),
        }
        Ok(())
    }

    /// Compares with the failures that are allowed, and with the specs that are to run, if not any will do.
    pub fn judge(self, allowed: Allowed, expected: Option<&BTreeSet<String>>) -> Verdict {
        let ran = |name: &&String| self.passed.contains(*name) || self.failed.contains_key(*name);
        let missed = expected.into_iter().flatten().filter(|name| !ran(name)).cloned().collect();
        let unknown = allowed.keys().filter(|name| !self.known.contains(*name)).cloned().collect();
        Verdict { run: self, allowed, missed, unknown }
    }
}

impl Verdict {
    /// Something ran, everything that was to, and no spec failed that may not. A spec of the list that passes is no
    /// surprise: kernels differ.
    pub fn is_good(&self) -> bool {
        let allowed = |name| self.allowed.contains_key(name);
        !self.run.passed.is_empty()
            && self.run.failed.keys().all(allowed)
            && self.run.broken.is_empty()
            && self.missed.is_empty()
            && self.unknown.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run { passed, failed, skipped, broken, .. } = &self.run;
        for reason in broken {
            writeln!(f, "BROKEN   {reason}")?;
        }
        for (name, message) in skipped {
            writeln!(f, "SKIPPED  {name}\n         {message}")?;
        }
        for name in &self.missed {
            writeln!(f, "MISSED   {name}\n         was to run")?;
        }
        for name in &self.unknown {
            writeln!(f, "UNKNOWN  {name}\n         is in the list of allowed failures, but not in the suite")?;
        }
        for (name, message) in failed {
            match self.allowed.get(name) {
                Some(reason) => writeln!(f, "ALLOWED  {name}\n         {reason}")?,
                None => writeln!(f, "FAILED   {name}\n         {message}")?,
            }
        }
        let allowed = failed.keys().filter(|name| self.allowed.contains_key(*name)).count();
        let ran = passed.len() + failed.len();
        write!(f, "conformance: ran {ran} passed {} failed {} (allowed {allowed})", passed.len(), failed.len())?;
        write!(f, " skipped themselves {}", skipped.len())
    }
}

/// A message on one line, and not all of a long one.
fn shown(message: &str) -> String {
    let words: Vec<_> = message.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(name: &str, state: &str, message: &str) -> Value {
        json!({ "LeafNodeType": "It", "LeafNodeText": name, "ContainerHierarchyTexts": ["[sig-node] Pods"],
                "State": state, "Failure": { "Message": message } })
    }

    fn run() -> Run {
        let report = json!([{ "SpecReports": [
            { "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed" },
            spec("run", "passed", ""), spec("stop", "failed", "expected\n  this"), spec("wait", "timedout", "late"),
            spec("are elsewhere", "skipped", ""), spec("need two nodes", "skipped", "only one node"),
        ] }]);
        Run::parse(&report).expect("a report")
    }

    fn allowed(names: &[&str]) -> Allowed {
        names.iter().map(|name| (format!("[sig-node] Pods {name}"), "a reason".to_owned())).collect()
    }

    #[test]
    fn every_failure_has_to_be_allowed() {
        let verdict = run().judge(allowed(&["wait"]), None);
        assert!(!verdict.is_good());
        let text = verdict.to_string();
        assert!(text.contains("FAILED   [sig-node] Pods stop\n         failed: expected this\n"), "{text}");
        assert!(text.contains("ALLOWED  [sig-node] Pods wait\n         a reason\n"), "{text}");
        assert!(text.contains("SKIPPED  [sig-node] Pods need two nodes\n         only one node\n"), "{text}");
        assert!(text.ends_with("conformance: ran 3 passed 1 failed 2 (allowed 1) skipped themselves 1"), "{text}");
        assert!(run().judge(allowed(&["wait", "stop", "run"]), None).is_good());
        assert!(
            !run().judge(allowed(&["wait", "stop", "walk"]), None).is_good(),
            "a name that the suite does not have"
        );
    }

    #[test]
    fn what_is_to_run_has_to_run() {
        let judged = |names: &[&str]| {
            let expected = names.iter().map(|name| format!("[sig-node] Pods {name}")).collect();
            run().judge(allowed(&["wait", "stop"]), Some(&expected))
        };
        assert!(judged(&["run", "stop"]).is_good());
        for name in ["are elsewhere", "need two nodes", "do not exist"] {
            let verdict = judged(&["run", name]);
            assert!(!verdict.is_good() && verdict.to_string().contains("MISSED"), "{verdict}");
        }
    }

    #[test]
    fn a_run_that_could_not_begin_is_not_good() {
        assert!(!Run::default().judge(Allowed::new(), None).is_good());
        let begun = |state: &str| {
            let before = json!({ "LeafNodeType": "SynchronizedBeforeSuite", "State": state });
            let report = json!([{ "SpecReports": [before, spec("run", "passed", "")] }]);
            Run::parse(&report).expect("a report").judge(Allowed::new(), None)
        };
        assert!(begun("passed").is_good());
        assert!(!begun("failed").is_good());
    }
}
