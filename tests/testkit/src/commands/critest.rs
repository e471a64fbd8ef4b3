//! `critest`: the conformance suite, unmodified, and its verdict.

use super::daemon::program;
use anyhow::{Context, Result, bail};
use clap::Args;
use cricket_testkit::daemon::{Daemon, Options};
use cricket_testkit::registry::Registry;
use cricket_testkit::{critest, host, image};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::process::Command;

#[derive(Args)]
pub(crate) struct Critest {
    /// Judge this CRI socket, whose runtime finds the suite's images by itself, instead of starting a daemon
    #[arg(long, value_name = "PATH", conflicts_with = "peer")]
    socket: Option<PathBuf>,
    /// Judge containerd with runc instead of cricket
    #[arg(long)]
    peer: bool,
    /// List of failures that are allowed, a spec name and a reason each
    #[arg(long, value_name = "FILE")]
    allowed: Option<PathBuf>,
    /// Directory for critest's output, its report and the daemon's log
    #[arg(long, value_name = "DIR")]
    artifacts: PathBuf,
    /// Flags for critest, such as -ginkgo.focus=REGEX
    #[arg(last = true)]
    flags: Vec<String>,
}

impl Critest {
    pub(crate) fn run(self, runtime: &tokio::runtime::Runtime) -> Result<ExitCode> {
        std::fs::create_dir_all(&self.artifacts).with_context(|| self.artifacts.display().to_string())?;
        let allowed = self.allowed.as_deref().map(critest::read_allowed).transpose()?.unwrap_or_default();
        let Some(socket) = &self.socket else { return self.own_daemon(runtime, &allowed) };
        runtime.block_on(self.judge(socket, &allowed))
    }

    fn own_daemon(&self, runtime: &tokio::runtime::Runtime, allowed: &critest::Allowed) -> Result<ExitCode> {
        let registry = Registry::start()?;
        runtime.block_on(registry.fill(&image::suite()?))?;
        let daemon = Daemon::with(Options {
            program: program(self.peer),
            registry: Some(registry.url().to_owned()),
            ..Default::default()
        })?;
        let verdict = runtime.block_on(self.judge(&daemon.socket(), allowed));
        std::fs::write(self.artifacts.join("daemon.log"), daemon.log())?;
        let verdict = verdict?;
        let left = runtime.block_on(async {
            let cri = daemon.cri().await?;
            let pods = cri.pods().await?.len();
            cri.remove_all_pods().await?;
            anyhow::Ok(pods)
        })?;
        if left > 0 {
            eprintln!("critest: {left} pods were left and are removed");
        }
        // containerd keeps directories of its state for itself.
        if !self.peer {
            daemon.assert_no_leaks(Duration::from_secs(10)).context("left after every pod was removed")?;
        }
        Ok(verdict)
    }

    async fn judge(&self, socket: &Path, allowed: &critest::Allowed) -> Result<ExitCode> {
        let program = host::tool_dir("cri")?.join("critest");
        let report = self.artifacts.join("report.json");
        let output = self.artifacts.join("critest.log");
        // A report of an earlier run must not be taken for this one's.
        if report.exists() {
            std::fs::remove_file(&report)?;
        }
        let endpoint = format!("unix://{}", socket.display());
        let log = File::create(&output).with_context(|| output.display().to_string())?;
        let began = Instant::now();
        let mut child = Command::new(&program)
            .args(["-runtime-endpoint", &endpoint, "-image-endpoint", &endpoint])
            .args(["-ginkgo.no-color", "-ginkgo.succinct", "-ginkgo.json-report"])
            .arg(std::path::absolute(&report)?)
            .args(&self.flags)
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let status = tokio::select! {
            status = child.wait() => status?,
            result = super::interrupted() => {
                // Returning, unlike dying, removes the daemon and its pods.
                result?;
                bail!("interrupted");
            }
        };
        let specs = critest::read_report(&report)
            .with_context(|| format!("critest ended with {status} and no report: see {}", output.display()))?;
        let verdict = critest::judge(&specs, allowed);
        if !status.success() && verdict.failed.is_empty() && verdict.allowed.is_empty() {
            bail!("no spec failed, but critest ended with {status}: see {}", output.display());
        }
        println!("critest: {} s, output in {}", began.elapsed().as_secs(), output.display());
        println!("{verdict}");
        Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
