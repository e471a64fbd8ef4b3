//! A container runtime daemon of one's own: cricket, or containerd where the
//! harness itself or a measurement needs the peer.
//!
//! Every directory, the socket, the network and the cgroup parents of its pods
//! carry one mark (`ck-` and eight hex digits). The daemon dies with this
//! process. On drop its pods are removed through CRI and then whatever still
//! carries the mark is killed, unmounted and removed.

mod config;
mod place;

pub use config::{Options, Program};

use crate::cni::Network;
use crate::cri::Cri;
use crate::{host, logs};
use anyhow::{Context, Result, bail};
use cricket_cri_api::v1;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::Pid;
use place::{Baseline, Place};
use std::fs::OpenOptions;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

/// How long a daemon may take to answer on its socket; an emulated processor takes a while.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A daemon and everything that was made for it.
pub struct Daemon {
    child: Option<Child>,
    options: Options,
    network: Network,
    baseline: Baseline,
    // Dropped last: it removes what all the others leave.
    place: Place,
}

impl Daemon {
    /// Starts cricket with a network of its own and mirrors to the registry at this URL.
    pub fn start(registry: &str) -> Result<Self> {
        Self::with(Options { registry: Some(registry.to_owned()), ..Options::default() })
    }

    /// Starts a daemon.
    pub fn with(options: Options) -> Result<Self> {
        let place = Place::new()?;
        let network = Network::new(&place.home)?;
        config::write(&options, &place, &network)?;
        let mut daemon = Self { child: None, options, network, baseline: Baseline::default(), place };
        daemon.launch()?;
        daemon.baseline = daemon.place.baseline();
        Ok(daemon)
    }

    /// Starts it again after [`Self::kill`] or [`Self::stop`], on the same directories.
    pub fn launch(&mut self) -> Result<()> {
        if let Some(child) = &self.child {
            bail!("daemon {} runs already", child.id());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = config::command(&self.options, &self.place)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = host::spawn(command)?;
        let socket = self.socket();
        let ready = host::wait_for("the daemon's socket", START_LIMIT, || {
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended: {status}\n{}", self.log_tail());
            }
            // A child that the former daemon was just starting may hold the former socket a moment longer.
            Ok(listener(&socket).filter(|pid| *pid == child.id().cast_signed()).map(drop))
        });
        if ready.is_err() {
            // It may be the one thing that ended; otherwise it must not stay.
            let _ = child.kill();
            let _ = child.wait();
        }
        ready.with_context(|| self.log_tail())?;
        self.child = Some(child);
        Ok(())
    }

    /// The CRI socket.
    pub fn socket(&self) -> PathBuf {
        self.place.socket()
    }

    /// Where a kubelet's cAdvisor looks for containerd: nobody is there unless [`Options::cadvisor`] says so.
    pub fn containerd_socket(&self) -> PathBuf {
        match self.options.program {
            Program::Containerd => self.socket(),
            _ => self.place.containerd(),
        }
    }

    /// A new client.
    pub async fn cri(&self) -> Result<Cri> {
        Cri::connect(&self.socket()).await
    }

    /// `--root`.
    pub fn root(&self) -> &Path {
        &self.place.root
    }

    /// `--state`.
    pub fn state(&self) -> PathBuf {
        self.place.state()
    }

    /// A directory for the test's own files; removed with the daemon.
    pub fn home(&self) -> &Path {
        &self.place.home
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.place.config()
    }

    /// Its CNI network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The part that the names of everything of this daemon have in common.
    pub fn mark(&self) -> &str {
        &self.place.mark
    }

    /// Its process ID while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// File descriptors that the daemon has open now.
    pub fn open_fds(&self) -> Result<usize> {
        let pid = self.pid().context("the daemon does not run")?;
        Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    }

    /// Kills the daemon itself as `kill -9` does.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// How it ended by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("the daemon does not run")?;
        let status = host::wait_for("the daemon to end by itself", limit, || Ok(child.try_wait()?))?;
        self.child = None;
        Ok(status)
    }

    /// What the next [`Self::launch`] starts it with; the configuration file stays as it is.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Where NRI's socket (`nri.sock`), plugins (`plugins`) and their configurations (`conf.d`) are.
    pub fn nri(&self) -> PathBuf {
        self.place.nri()
    }

    /// A directory whose programs are the first that are found as CNI plugins.
    pub fn plugins(&self) -> PathBuf {
        self.place.plugins()
    }

    /// Asks the daemon itself to end, as `systemctl stop` does.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the daemon does not run")?;
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        let ended = host::wait_for("the daemon to end", Duration::from_secs(20), || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ended
    }

    /// `kill -9` and a new start.
    pub fn kill_and_launch(&mut self) -> Result<()> {
        self.kill()?;
        self.launch()
    }

    /// What it has logged since the first start.
    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// A pod's configuration with logs and cgroups of this daemon.
    pub fn pod(&self, name: &str) -> v1::PodSandboxConfig {
        let mut pod = crate::cri::pod(name);
        let uid = pod.metadata.as_ref().map_or("", |metadata| &metadata.uid).to_owned();
        let logs = self.place.home.join("logs").join(format!("default_{name}_{uid}"));
        pod.log_directory = logs.display().to_string();
        pod.linux.get_or_insert_default().cgroup_parent = match host::systemd_driver() {
            false => format!("/{}/pod{uid}", self.place.mark),
            // A dash is a level: `ck-MARK` has one.
            true => {
                let (top, pod) = (&self.place.mark, uid.replace('-', "_"));
                format!("/ck.slice/{top}.slice/{top}-pod{pod}.slice")
            }
        };
        // A kubelet makes the log directory before it asks for the pod.
        if let Err(error) = std::fs::create_dir_all(&logs) {
            panic!("{}: {error}", logs.display());
        }
        pod
    }

    /// The records of a container's log, by the names in the two configurations.
    pub fn logs(&self, pod: &v1::PodSandboxConfig, container: &v1::ContainerConfig) -> Result<Vec<logs::Record>> {
        logs::read(&Path::new(&pod.log_directory).join(&container.log_path))
    }

    /// What is on the host that was not there when the daemon had started, and
    /// that belongs to it: processes, mounts, files of the state directory,
    /// control groups, network namespaces, leases, devices, rules. Empty once
    /// every pod is removed. Log files are the caller's, images and records in
    /// `--root` are the daemon's own.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let daemon = self.pid().map(i32::try_from).transpose()?;
        let mut leaks = self.place.leaks(&self.baseline, daemon, self.options.shared_netns)?;
        leaks.extend(self.network.leaks()?);
        Ok(leaks)
    }

    /// Waits until nothing is left; an error lists what is.
    pub fn assert_no_leaks(&self, limit: Duration) -> Result<()> {
        let mut last = Vec::new();
        let clean = host::wait_for("the last of a daemon's pods to be gone", limit, || {
            last = self.leaks()?;
            Ok(last.is_empty().then_some(()))
        });
        clean.with_context(|| last.join("\n"))
    }

    /// The file that it logs to.
    pub fn log_path(&self) -> PathBuf {
        self.place.home.join("daemon.log")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Removes the pods through CRI, which also undoes what plugins did.
    fn remove_pods(&self) -> Result<()> {
        let socket = self.socket();
        // A thread of its own: the caller may be inside an async runtime.
        let thread = std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let all = async { Cri::connect(&socket).await?.remove_all_pods().await };
                tokio::time::timeout(Duration::from_secs(30), all).await.context("no answer to the removal of pods")?
            })
        });
        thread.join().map_err(|_| anyhow::anyhow!("the removal of pods panicked"))?
    }
}

/// Removes what is left of daemons whose owners were killed; their marks.
pub fn clean_abandoned() -> Result<Vec<String>> {
    let mut marks = Vec::new();
    for place in Place::abandoned()? {
        // Dropping removes: the network's traces first, they are named in a file of the place.
        let network = Network::left_in(&place.home);
        if let Err(error) = &network {
            eprintln!("{}: {error:#}", place.mark);
        }
        marks.push(place.mark.clone());
    }
    Ok(marks)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("last lines of {}:\n{}", self.log_path().display(), self.log_tail());
        }
        if self.child.is_some() {
            if let Err(error) = self.remove_pods() {
                eprintln!("{}: {error:#}", self.place.mark);
            }
            if let Err(error) = self.stop() {
                eprintln!("{}: {error:#}", self.place.mark);
            }
        }
    }
}

/// PID of the process that listens on a unix socket.
fn listener(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    getsockopt(&stream, PeerCredentials).ok().map(|peer| peer.pid())
}
