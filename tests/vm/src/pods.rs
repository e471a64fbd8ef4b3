//! Pods that would notice if anything happened to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cricket_cri_api::v1;
use cricket_testkit::cri::{self, Cri, container, host_network};
use cricket_testkit::{host, logs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::prepare::BUSYBOX;
use crate::process::{Process, SOON, init, monitor, pod_init};
use crate::unit::UNIT;

/// Counts in its log; any signal would be a line that is no number.
const COUNTER: &str = "for s in TERM HUP INT USR2 CONT QUIT; do trap \"echo signal $s\" $s; done; \
                       i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
/// Gives back what a connection brings.
const ECHO: &str = "exec nc -ll -p 7 -e cat";
/// Ends when it is told to, with the code 42.
const MORTAL: &str = "trap 'exit 42' USR1; while :; do sleep 1 & wait $!; done";

/// What the lists show, by ID.
pub(crate) type View = (BTreeMap<String, v1::PodSandbox>, BTreeMap<String, v1::Container>);

/// A pod with a network, one with one PID namespace for its containers, one on the host's network.
pub(crate) struct Pods {
    counter: String,
    log: std::path::PathBuf,
    seen: usize,
    echo: TcpStream,
    words: u32,
    shared: [String; 2],
    /// Each ends when it gets SIGUSR1.
    pub(crate) mortal: Vec<String>,
    /// The pods' monitors.
    pub(crate) monitors: Vec<Process>,
    processes: Vec<Process>,
    view: View,
}

/// A pod's configuration with logs and control groups as a kubelet's; `pid` says who shares a PID namespace.
pub(crate) fn pod(name: &str, pid: v1::NamespaceMode) -> Result<v1::PodSandboxConfig> {
    let mut pod = cri::pod(name);
    let uid = pod.metadata.as_ref().map_or("", |metadata| &metadata.uid).to_owned();
    pod.log_directory = format!("/var/log/pods/default_{name}_{uid}");
    std::fs::create_dir_all(&pod.log_directory)?;
    let linux = pod.linux.get_or_insert_default();
    linux.cgroup_parent = match host::systemd_driver() {
        false => format!("/kubepods/pod{uid}"),
        true => format!("/kubepods.slice/kubepods-pod{}.slice", uid.replace('-', "_")),
    };
    let options = linux.security_context.get_or_insert_default().namespace_options.get_or_insert_default();
    options.set_pid(pid);
    Ok(pod)
}

/// A container that runs a script; `pid` as its pod's.
pub(crate) fn shell(name: &str, script: &str, pid: v1::NamespaceMode) -> v1::ContainerConfig {
    let mut config = container(name, BUSYBOX, &["sh", "-c", script]);
    let context = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    context.namespace_options.get_or_insert_default().set_pid(pid);
    config
}

/// What the lists show now.
pub(crate) async fn view(cri: &Cri) -> Result<View> {
    let pods = cri.pods().await?.into_iter().map(|p| (p.id.clone(), p)).collect();
    Ok((pods, cri.containers().await?.into_iter().map(|c| (c.id.clone(), c)).collect()))
}

impl Pods {
    pub(crate) async fn start(cri: &Cri) -> Result<Self> {
        let own = v1::NamespaceMode::Container;
        let sandbox = pod("network", own)?;
        let networked = cri.run_pod(&sandbox).await?;
        let config = shell("counter", COUNTER, own);
        let counter = cri.run(&networked, &config, &sandbox).await?;
        let log = Path::new(&sandbox.log_directory).join(&config.log_path);
        let echo = cri.run(&networked, &shell("echo", ECHO, own), &sandbox).await?;
        let ip = cri.pod(&networked).await?.network.context("the pod has no network")?.ip;

        let one = v1::NamespaceMode::Pod;
        let sandbox = pod("shared", one)?;
        let shared = cri.run_pod(&sandbox).await?;
        let first = cri.run(&shared, &shell("first", "exec sleep 86401", one), &sandbox).await?;
        let second = cri.run(&shared, &shell("second", "exec sleep 86402", one), &sandbox).await?;

        let sandbox = host_network(pod("host", own)?);
        let hosted = cri.run_pod(&sandbox).await?;
        let mut mortal = Vec::new();
        for n in 0..3 {
            mortal.push(cri.run(&hosted, &shell(&format!("mortal-{n}"), MORTAL, own), &sandbox).await?);
        }

        let mut processes = vec![pod_init(&init(cri, &first).await?)?];
        for id in [&counter, &echo, &first, &second] {
            processes.push(init(cri, id).await?);
        }
        let monitors =
            [&networked, &shared, &hosted].map(|pod| monitor(pod)).into_iter().collect::<Result<Vec<_>>>()?;
        let mut address = connect(&ip).await?;
        address.set_nodelay(true)?;
        say(&mut address, 0).await?;
        let view = view(cri).await?;
        Ok(Self {
            counter,
            log,
            seen: 0,
            echo: address,
            words: 0,
            shared: [first, second],
            mortal,
            monitors,
            processes,
            view,
        })
    }

    /// Nothing has happened to them, and they can be worked with. The longest time in milliseconds between two lines of
    /// the log since the last look.
    pub(crate) async fn check(&mut self, cri: &Cri) -> Result<i128> {
        self.undisturbed().await?;
        let now = view(cri).await?;
        ensure!(now.0 == self.view.0, "pods: {:?}, not {:?}", now.0, self.view.0);
        for (id, was) in self.view.1.iter().filter(|(id, _)| !self.mortal.contains(id)) {
            ensure!(now.1.get(id) == Some(was), "container {id}: {:?}, not {was:?}", now.1.get(id));
        }
        ensure!(cri.exec_text(&self.counter, &["echo", "hello"]).await? == "hello\n");
        for (container, other) in [(&self.shared[0], "86402"), (&self.shared[1], "86401")] {
            let seen = cri.exec_text(container, &["pgrep", "-f", &format!("^sleep {other}$")]).await?;
            ensure!(seen.lines().count() == 1, "{container} sees the other's process: {seen:?}");
        }
        self.logged()
    }

    /// What needs no daemon: the same processes in the same places, and the connection into a pod.
    pub(crate) async fn undisturbed(&mut self) -> Result<()> {
        for process in self.processes.iter().chain(&self.monitors) {
            ensure!(process.lives(), "process {} is gone", process.pid);
        }
        for monitor in &self.monitors {
            let cgroup = monitor.cgroup()?;
            ensure!(cgroup.starts_with(&format!("/system.slice/{UNIT}")), "a monitor is in {cgroup}");
        }
        self.words += 1;
        say(&mut self.echo, self.words).await.context("the connection into the pod")
    }

    /// A container of [`Self::mortal`] has ended with its code, at a time between these two if they are given.
    pub(crate) async fn ended(&self, cri: &Cri, which: usize, between: Option<(i64, i64)>) -> Result<()> {
        let status = cri.wait_exit(&self.mortal[which], SOON).await?;
        ensure!((status.exit_code, status.reason.as_str()) == (42, "Error"), "{status:?}");
        if let Some((since, until)) = between {
            ensure!((since..=until).contains(&status.finished_at), "{since} {} {until}", status.finished_at);
        }
        Ok(())
    }

    /// The container that counts.
    pub(crate) fn counter(&self) -> &str {
        &self.counter
    }

    /// When the last line of the log was written, in milliseconds since 1970.
    pub(crate) fn last_logged(&self) -> Result<i64> {
        let bytes = std::fs::read(&self.log)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let records = logs::parse(&bytes[..whole])?;
        Ok(records.last().context("nothing is logged")?.time.as_millisecond())
    }

    /// The log goes on without a gap; see [`Self::check`].
    pub(crate) fn logged(&mut self) -> Result<i128> {
        let records = host::wait_for("the log to go on", SOON, || {
            let mut bytes = std::fs::read(&self.log)?;
            bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
            let records = logs::parse(&bytes)?;
            Ok((records.len() > self.seen + 5).then_some(records))
        })?;
        for (n, line) in logs::lines(&records, "stdout").iter().enumerate() {
            ensure!(line == &n.to_string(), "line {n} of the log is {line:?}");
        }
        let new = &records[self.seen.saturating_sub(1)..];
        let gap = new.windows(2).map(|pair| pair[1].time.as_millisecond() - pair[0].time.as_millisecond()).max();
        self.seen = records.len();
        Ok(i128::from(gap.unwrap_or(0)))
    }
}

/// The command inside may not listen yet.
async fn connect(ip: &str) -> Result<TcpStream> {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        match TcpStream::connect((ip, 7)).await {
            Ok(stream) => return Ok(stream),
            Err(error) if tokio::time::Instant::now() > end => return Err(error).with_context(|| ip.to_owned()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn say(stream: &mut TcpStream, word: u32) -> Result<()> {
    stream.write_all(&word.to_be_bytes()).await?;
    let answer = tokio::time::timeout(SOON, stream.read_u32()).await.context("no answer")??;
    ensure!(answer == word, "{answer}, not {word}");
    Ok(())
}

/// Removes every pod; then nothing of them may be there.
pub(crate) async fn remove_all(cri: &Cri) -> Result<()> {
    cri.remove_all_pods().await?;
    ensure!(cri.pods().await?.is_empty() && cri.containers().await?.is_empty());
    let daemon = crate::unit::daemon()?;
    host::wait_for("the service's control group to have the daemon only", SOON, || {
        let processes = std::fs::read_to_string(format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs"))?;
        Ok((processes.trim() == daemon.pid.to_string()).then_some(()))
    })?;
    ensure!(crate::unit::leases()?.is_empty(), "leases: {:?}", crate::unit::leases()?);
    let said = crate::unit::doctor(false)?;
    ensure!(said.contains("leftovers: none; 0 pods are recorded"), "{said}");
    Ok(())
}
