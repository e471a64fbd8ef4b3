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
    ///
    /// What may fail with the handler NAME besides is in FILE with the extension `NAME.txt`, if that exists.
    #[arg(long, value_name = "FILE")]
    allowed: Option<PathBuf>,
    /// List of specs that may be skipped, a name and a reason each, for runs of the whole suite
    ///
    /// Flags that choose specs make it count for nothing. Handlers have lists of their own as with `--allowed`.
    #[arg(long, value_name = "FILE")]
    skips: Option<PathBuf>,
    /// Fail unless this many specs ran: those that flags choose may still skip themselves
    #[arg(long, value_name = "N", default_value_t = 1)]
    least: usize,
    /// Run the suite so often
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Run it with this runtime handler instead of the default one: youki, youki-no-devices or runc with a daemon of
    /// its own; may be given more than once
    #[arg(long, value_name = "NAME")]
    handler: Vec<String>,
    /// Run it with each of them
    #[arg(long, conflicts_with_all = ["handler", "socket", "peer"])]
    each_handler: bool,
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
        let _alone = alone()?;
        let Some(socket) = &self.socket else { return self.own_daemon(runtime) };
        runtime.block_on(self.judge_all(socket))
    }

    fn own_daemon(&self, runtime: &tokio::runtime::Runtime) -> Result<ExitCode> {
        let registry = Registry::start()?;
        runtime.block_on(registry.fill(&image::suite()?))?;
        let daemon = Daemon::with(Options {
            program: program(self.peer),
            registry: Some(registry.url().to_owned()),
            tables: if self.peer || !self.names_handlers() { String::new() } else { handlers()? },
            ..Default::default()
        })?;
        let verdict = runtime.block_on(self.judge_all(&daemon.socket()));
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

    fn names_handlers(&self) -> bool {
        self.each_handler || !self.handler.is_empty()
    }

    /// Every round with every handler, also after one that failed: a flake shows in how many it fails.
    async fn judge_all(&self, socket: &Path) -> Result<ExitCode> {
        let handlers: Vec<Option<&str>> = match (self.each_handler, self.handler.is_empty()) {
            (true, _) => HANDLERS.into_iter().map(Some).collect(),
            (false, true) => vec![None],
            (false, false) => self.handler.iter().map(|name| Some(name.as_str())).collect(),
        };
        let mut bad = 0;
        for handler in &handlers {
            for round in 1..=self.rounds {
                let mut artifacts = self.artifacts.clone();
                if self.rounds > 1 || handler.is_some() {
                    let name = handler.unwrap_or("default");
                    println!("critest: handler {name}, round {round} of {}", self.rounds);
                    artifacts = artifacts.join(format!("{name}-{round}"));
                    std::fs::create_dir_all(&artifacts).with_context(|| artifacts.display().to_string())?;
                }
                bad += usize::from(!self.judge(socket, *handler, &artifacts).await?);
            }
        }
        if bad > 0 {
            eprintln!("critest: {bad} of {} runs are not as they should be", handlers.len() * self.rounds as usize);
        }
        Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What may be skipped with a handler; `None`: anything, because somebody chose what runs.
    fn skips(&self, handler: Option<&str>) -> Result<Option<critest::Allowed>> {
        const CHOOSING: [&str; 4] = ["ginkgo.focus", "ginkgo.skip", "ginkgo.label-filter", "benchmark"];
        let chosen = |flag: &String| CHOOSING.iter().any(|name| flag.trim_start_matches('-').starts_with(name));
        let list = self.skips.as_deref().filter(|_| !self.flags.iter().any(chosen));
        list.map(|path| list_for(path, handler)).transpose()
    }

    /// One run; whether it is as it should be.
    async fn judge(&self, socket: &Path, handler: Option<&str>, artifacts: &Path) -> Result<bool> {
        let allowed = self.allowed.as_deref().map(|path| list_for(path, handler)).transpose()?.unwrap_or_default();
        let skips = self.skips(handler)?;
        let program = host::tool_dir("cri")?.join("critest");
        let report = artifacts.join("report.json");
        let output = artifacts.join("critest.log");
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
            .args(handler.into_iter().flat_map(|name| ["-runtime-handler", name]))
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
        let verdict = critest::judge(&specs, &allowed, skips.as_ref());
        if !status.success() && verdict.failed.is_empty() && verdict.allowed.is_empty() {
            bail!("no spec failed, but critest ended with {status}: see {}", output.display());
        }
        println!("critest: {} s, output in {}", began.elapsed().as_secs(), output.display());
        println!("{verdict}");
        if verdict.ran() < self.least {
            println!("critest: only {} specs ran, {} were to", verdict.ran(), self.least);
        }
        Ok(verdict.is_good() && verdict.ran() >= self.least)
    }
}

/// A list, with what is in the handler's own one besides.
fn list_for(path: &Path, handler: Option<&str>) -> Result<critest::Allowed> {
    let mut list = critest::read_allowed(path)?;
    if let Some(name) = handler {
        let own = path.with_extension(format!("{name}.txt"));
        if own.exists() {
            list.extend(critest::read_allowed(&own)?);
        }
    }
    Ok(list)
}

/// Held while the suite runs: it listens on fixed ports of the host (12001 and others), so that two runs at once would
/// make each other fail.
fn alone() -> Result<File> {
    let lock = Path::new("/run/critest.lock");
    let file = File::options().create(true).append(true).open(lock).with_context(|| lock.display().to_string())?;
    if file.try_lock().is_err() {
        eprintln!("critest: another run has {}, waiting for its end", lock.display());
        file.lock().with_context(|| lock.display().to_string())?;
    }
    Ok(file)
}

/// Handlers of a daemon that is started for `--handler` and `--each-handler`; the first is the default and built in.
const HANDLERS: [&str; 3] = ["youki", "youki-no-devices", "runc"];

/// Tables that configure those that are not there by themselves: the built-in one with other options, and runc by path.
fn handlers() -> Result<String> {
    let runc = host::tool_dir("runc")?.join("runc");
    let table = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
    let [_, second, oci] = HANDLERS;
    Ok(format!(
        "[{table}.{second}]\n\
         runtime_type = 'io.cricket.youki.v1'\n\
         privileged_without_host_devices = true\n\
         [{table}.{oci}]\n\
         runtime_type = 'io.containerd.runc.v2'\n\
         [{table}.{oci}.options]\n\
         BinaryName = {:?}\n",
        runc.display().to_string()
    ))
}
