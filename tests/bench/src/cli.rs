//! The command line, and the run from the first daemon to the table.

use crate::measure::{Measure, Plan};
use crate::report::Report;
use crate::results::Results;
use crate::side::{Runtime, Side};
use anyhow::{Context, Result};
use clap::Parser;
use cricket_testkit::registry::{self, Registry};
use cricket_testkit::{host, image};
use std::path::PathBuf;
use std::process::ExitCode;

/// Measures cricket and containerd with runc in one run.
///
/// Wants root and a machine with nothing else to do. Everything that is started is its own and removed again.
#[derive(Parser)]
#[command(name = "cricket-bench", version)]
pub(crate) struct Cli {
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The cricket to measure, with its helpers beside it; CRICKET_BIN or the one beside this program without it
    #[arg(long, value_name = "FILE")]
    cricket: Option<PathBuf>,
    /// Measure only this side
    #[arg(long, value_enum)]
    side: Option<Runtime>,
    /// Take only these measures
    #[arg(long = "measure", value_enum, value_delimiter = ',')]
    measures: Vec<Measure>,
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(self.measure())
    }

    async fn measure(self) -> Result<ExitCode> {
        let data = tempfile::Builder::new().prefix("ck-bench-").tempdir_in("/var/tmp")?;
        let registry = Registry::with(registry::Options { data: Some(data.path().to_owned()), ..Default::default() })?;
        registry.fill(&images()?).await?;
        let mut sides = Vec::new();
        for runtime in self.side.map_or_else(|| vec![Runtime::Cricket, Runtime::Containerd], |side| vec![side]) {
            sides.push(Side::start(runtime, self.cricket.as_deref(), registry.url()).await?);
        }
        let plan = if self.quick { Plan::QUICK } else { Plan::FULL };
        let measures = if self.measures.is_empty() { Measure::ALL.to_vec() } else { self.measures };
        let mut results = Results::default();
        let mut report = Report::begin()?;
        for measure in measures {
            eprintln!("cricket-bench: {measure:?}");
            if let Err(error) = measure.take(&mut sides, &registry, &plan, &mut results).await {
                report.failed(format!("{measure:?}: {error:#}"));
                // The next measure wants a node without pods.
                for side in &sides {
                    side.cri.remove_all_pods().await.with_context(|| side.runtime.name())?;
                }
            }
        }
        print!("{}", report.text(&results)?);
        if let Some(path) = self.json {
            let json = serde_json::to_vec_pretty(&report.json(&results)?)?;
            std::fs::write(&path, json).with_context(|| path.display().to_string())?;
        }
        Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The pods' image, and containerd's pause image.
fn images() -> Result<Vec<image::Named>> {
    let wanted = [("library/busybox", "latest"), ("pause", "3.10.2")];
    let mut images = image::suite()?;
    images.retain(|image| wanted.contains(&(&image.repository, &image.tag)));
    anyhow::ensure!(images.len() == wanted.len(), "an image is missing in {}", host::cache_dir()?.display());
    Ok(images)
}
