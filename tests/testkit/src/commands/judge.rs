//! `judge`: the verdict on a run of Kubernetes' end-to-end suite.

use anyhow::{Context, Result};
use clap::Args;
use cricket_testkit::conformance::Run;
use cricket_testkit::critest;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Judge {
    /// What ginkgo's --json-report wrote
    report: PathBuf,
    /// List of failures that are allowed, a spec name and a reason each
    #[arg(long, value_name = "FILE")]
    allowed: Option<PathBuf>,
    /// List of specs that have to have run, a name a line
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
}

impl Judge {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let allowed = self.allowed.as_deref().map(critest::read_allowed).transpose()?.unwrap_or_default();
        let expected = match &self.expected {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                Some(lines.map(str::to_owned).collect())
            }
            None => None,
        };
        let verdict = Run::read(&self.report)?.judge(allowed, expected.as_ref());
        println!("{verdict}");
        Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
