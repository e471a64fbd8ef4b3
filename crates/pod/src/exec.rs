//! ExecSync, and the init of a shared PID namespace: both are work for the exec helper.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cricket_cgroup::{Cgroup, CgroupPath, JoinFds, Resources};
use cricket_model::ErrorKind;
use cricket_oci::oci_spec::runtime::{Capabilities, LinuxNamespaceType, Process, Spec};
use cricket_process::namespaces::Kinds;
use cricket_runtime::handlers::ExecInput;
use cricket_runtime::monitor::{Blame, ExecExit, ExecRequest, HelperFailure, MonitorClient, RunRequest, Supervised};
use cricket_wire::exec_config::{
    CgroupJoin, CommandConfig, ExecConfig, PodInitConfig, Rlimit, SeccompConfig, TerminalSize,
};
use cricket_wire::helper::FIRST_EXTRA_FD;
use cricket_wire::launch_config::LaunchConfig;

use crate::cgroups::{self, Made};
use crate::driver::Held;
use crate::error::{Error, Result};
use crate::pods::Pods;
use crate::record::{ContainerRecord, SandboxRecord};
use crate::sandbox::{INIT, USER};
use crate::shared::{Shared, brief};
use crate::view::Live;

/// Both streams of an ExecSync answer together, in bytes: the whole message has to stay under 16 MiB.
const MAX_OUTPUT: usize = (16 << 20) - (64 << 10);

/// How long output is still read after the command has ended: background children may hold the pipes for ever.
pub(crate) const DRAIN: Duration = Duration::from_millis(500);

/// `oom_score_adj` of the init of a shared PID namespace: the pod's containers go before it. Clamped to what is allowed.
const INIT_SCORE: i32 = -998;

/// What an ExecSync answers.
#[derive(Debug, Default)]
pub struct ExecOutput {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// As a shell counts it.
    pub exit_code: i32,
}

impl Pods {
    /// Executes a command in a running container and collects its output.
    ///
    /// # Errors
    /// `DeadlineExceeded` when the time is over (the command and all its children are killed then), `NotFound`,
    /// `FailedPrecondition` when the container does not run. A command that cannot be executed is no error: the
    /// answer is 126 or 127 with the cause on standard error, as a shell gives it.
    pub async fn exec_sync(&self, id: &str, command: &[String], limit: Option<Duration>) -> Result<ExecOutput> {
        if command.is_empty() {
            return Err(Error::invalid("the command is empty"));
        }
        let (pod, record) = self.container(id)?;
        let (_, live) = pod.running(&record.id)?;
        let monitor = self.monitor_of(&pod).await?;
        let shared = self.shared().clone();
        let (stdout, stdout_w) = crate::pipe::pair()?;
        let (stderr, stderr_w) = crate::pipe::pair()?;
        let (request, leaf) = {
            let (command, record, pod) = (command.to_vec(), record.clone(), pod.clone());
            brief("prepare the exec", move || {
                let stdio = Stdio { tty: false, stdin: null()?, stdout: stdout_w, stderr: stderr_w };
                prepare(&shared, &pod.record.sandbox, &record, &live, &command, limit, stdio)
            })
            .await?
        };
        let outcome = collect(monitor, request, stdout, stderr, limit).await;
        if outcome.is_ok() {
            // What the command left in the background lives on, as after any shell, and ends with the container.
            leaf.leave();
        }
        outcome.map_err(|e| {
            Error::new(cricket_model::Kinded::kind(&e), format_args!("exec in container {}: {e}", record.id.short()))
        })
    }
}

async fn collect(
    monitor: MonitorClient,
    request: ExecRequest,
    stdout: OwnedFd,
    stderr: OwnedFd,
    limit: Option<Duration>,
) -> Result<ExecOutput> {
    let ended = async { monitor.exec(request).await.map_err(|e| Error::monitor(&e)) };
    let (exit, stdout, stderr): (ExecExit, _, _) =
        crate::pipe::collect(ended, [stdout, stderr], MAX_OUTPUT, DRAIN).await?;
    if exit.timed_out {
        let after = limit.map_or(0, |l| l.as_secs());
        return Err(Error::new(ErrorKind::DeadlineExceeded, format_args!("the command timed out after {after} s")));
    }
    match exit.failure {
        None => Ok(ExecOutput { stdout, stderr, exit_code: exit.exit_code }),
        Some(failure) => {
            let message = not_executed(&failure)?;
            let mut stderr = stderr;
            stderr.extend_from_slice(message.as_bytes());
            Ok(ExecOutput { stdout, stderr, exit_code: failure.shell_status })
        }
    }
}

/// What a shell would say of a command that cannot be executed; any other failure is an error.
pub(crate) fn not_executed(failure: &HelperFailure) -> Result<String> {
    match failure.blame {
        Blame::Command => Ok(format!("{}\n", failure.message)),
        Blame::Gone => Err(Error::precondition("the container has ended")),
        Blame::Content => Err(Error::precondition(&failure.message)),
        Blame::Host => Err(Error::new(ErrorKind::Internal, &failure.message)),
    }
}

/// Kills what is in the exec's cgroup and removes it when the exec failed or was given up: the monitor may be lost.
pub(crate) struct Leaf(Option<cricket_cgroup::ExecLeaf>);

impl Leaf {
    /// The exec has ended by itself: its cgroup is the monitor's to remove, or goes with the container's.
    pub(crate) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        if let Some(leaf) = self.0.take() {
            tokio::task::spawn_blocking(move || {
                if leaf.dir().exists() {
                    let killed = leaf.kill_all().and_then(|()| leaf.remove());
                    if let Err(e) = killed {
                        tracing::debug!(leaf = %leaf.dir().display(), error = %e, "exec leaf not removed");
                    }
                }
            });
        }
    }
}

/// Descriptors 0–2 of a command. With a terminal they are not used.
pub(crate) struct Stdio {
    /// The command gets a terminal.
    pub(crate) tty: bool,
    /// Standard input.
    pub(crate) stdin: OwnedFd,
    /// Standard output.
    pub(crate) stdout: OwnedFd,
    /// Standard error.
    pub(crate) stderr: OwnedFd,
}

/// `/dev/null`, for reading and writing.
pub(crate) fn null() -> Result<OwnedFd> {
    // Opened once: each probe wants it.
    static NULL: OnceLock<File> = OnceLock::new();
    let failed = |e: std::io::Error| Error::internal("open /dev/null", &e);
    let file = match NULL.get() {
        Some(file) => file,
        None => {
            let file = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
            NULL.get_or_init(|| file)
        }
    };
    Ok(file.try_clone().map_err(failed)?.into())
}

/// What the monitor has to be asked for, and the guard of the exec's cgroup. Blocks.
pub(crate) fn prepare(
    shared: &Shared,
    sandbox: &SandboxRecord,
    record: &ContainerRecord,
    live: &Live,
    command: &[String],
    limit: Option<Duration>,
    stdio: Stdio,
) -> Result<(ExecRequest, Leaf)> {
    let exec_id = format!("exec-{}", uuid::Uuid::new_v4().simple());
    let process =
        cricket_oci::exec_process(&live.spec, command, stdio.tty).map_err(|e| Error::from_kinded("exec", &e))?;
    if let Some(order) = runtimes_own(shared, sandbox, record, &process, stdio.tty)? {
        let request = ExecRequest {
            exec_id,
            container: record.id.to_string(),
            helper: shared.helpers.launch().map_err(|e| Error::internal("duplicate the launcher", &e))?,
            args: vec!["cricket-launch".into(), record.id.short().to_owned()],
            config: memfd_json(&order)?,
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            extra: Vec::new(),
            timeout: limit,
            leaves: Vec::new(),
            started: None,
        };
        return Ok((request, Leaf(None)));
    }
    let path = record.cgroup.parse::<CgroupPath>().map_err(|e| Error::from_kinded("cgroup path", &e))?;
    let group = Cgroup::open(&shared.hierarchies, &path);
    let leaf = group.exec_leaf(&exec_id).map_err(|e| Error::from_kinded("make the exec's cgroup", &e))?;
    let guard = Leaf(Some(leaf.clone()));
    let mut extra = Extra::default();
    let target = live.pidfd.try_clone().map_err(|e| Error::internal("duplicate the container's pidfd", &e))?;
    let target_fd = extra.push(target.into());
    let unjoinable = |e: cricket_cgroup::Error| Error::from_kinded("open the exec's cgroup", &e);
    let files = live.exec_files(&group).map_err(unjoinable)?;
    let cgroup = extra.join(leaf.join_fds(files).map_err(unjoinable)?);
    let seccomp = crate::seccomp::of_live(live)?.map(|program| -> Result<SeccompConfig> {
        let fd = program
            .fd
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| Error::internal("duplicate the seccomp program", &e))?;
        Ok(SeccompConfig { program_fd: extra.push(fd), flags: program.flags })
    });
    let config = ExecConfig::Command(Box::new(command_config(
        &process,
        target_fd,
        namespaces(&live.spec),
        cgroup,
        seccomp.transpose()?,
    )));
    let request = ExecRequest {
        exec_id,
        container: record.id.to_string(),
        helper: shared.helpers.exec().map_err(|e| Error::internal("duplicate the exec helper", &e))?,
        args: vec!["cricket-exec".into(), record.id.short().to_owned()],
        config: memfd_json(&config)?,
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        extra: extra.fds,
        timeout: limit,
        leaves: vec![leaf.dir().to_owned()],
        started: None,
    };
    Ok((request, guard))
}

/// The order where the container's runtime executes commands itself.
fn runtimes_own(
    shared: &Shared,
    sandbox: &SandboxRecord,
    record: &ContainerRecord,
    process: &Process,
    terminal: bool,
) -> Result<Option<LaunchConfig>> {
    let handler = shared.handlers.get(&sandbox.handler).map_err(|e| Error::from_kinded("runtime handler", &e))?;
    if !handler.executes() {
        return Ok(None);
    }
    let process = serde_json::to_string(process).map_err(|e| Error::internal("encode the process", &e))?;
    let bundle = shared.bundle(&sandbox.id, &record.id);
    let input = ExecInput { process, terminal };
    Ok(handler.exec_config(record.id.as_str(), &bundle, &shared.config.state, &input))
}

/// A helper's configuration as it finds it.
pub(crate) fn memfd_json<T: serde::Serialize>(config: &T) -> Result<OwnedFd> {
    let text = serde_json::to_vec(config).map_err(|e| Error::internal("encode a helper's configuration", &e))?;
    cricket_process::memfd::config(&text).map_err(|e| Error::internal("a helper's configuration", &e))
}

/// Descriptors of a helper from [`FIRST_EXTRA_FD`] on.
#[derive(Default)]
struct Extra {
    fds: Vec<OwnedFd>,
}

impl Extra {
    fn push(&mut self, fd: OwnedFd) -> i32 {
        self.fds.push(fd);
        FIRST_EXTRA_FD + i32::try_from(self.fds.len()).unwrap_or(i32::MAX) - 1
    }

    fn join(&mut self, join: JoinFds) -> CgroupJoin {
        let tasks_fds: Vec<i32> = join.tasks.into_iter().map(|fd| self.push(fd)).collect();
        match (join.directory.map(|fd| self.push(fd)), tasks_fds.is_empty()) {
            (None, true) => CgroupJoin::Stay,
            (None, false) => CgroupJoin::TasksFds(tasks_fds),
            (Some(directory_fd), true) => CgroupJoin::DirectoryFd(directory_fd),
            (Some(directory_fd), false) => CgroupJoin::Hybrid { tasks_fds, directory_fd },
        }
    }
}

/// The namespaces of a container that are not the host's: all that its specification names, made or joined.
fn namespaces(spec: &Spec) -> Kinds {
    let named = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let kinds = named.into_iter().flatten().map(|namespace| match namespace.typ() {
        LinuxNamespaceType::Mount => Kinds::MOUNT,
        LinuxNamespaceType::Cgroup => Kinds::CGROUP,
        LinuxNamespaceType::Uts => Kinds::UTS,
        LinuxNamespaceType::Ipc => Kinds::IPC,
        LinuxNamespaceType::User => Kinds::USER,
        LinuxNamespaceType::Pid => Kinds::PID,
        LinuxNamespaceType::Network => Kinds::NET,
        // No container of the CRI has one of its own.
        LinuxNamespaceType::Time => Kinds::NONE,
    });
    kinds.fold(Kinds::NONE, Kinds::with)
}

fn command_config(
    process: &Process,
    target_fd: i32,
    namespaces: Kinds,
    cgroup: CgroupJoin,
    seccomp: Option<SeccompConfig>,
) -> CommandConfig {
    let user = process.user();
    let held = process.capabilities().as_ref();
    let named = |set: Option<&Capabilities>| {
        let mut names: Vec<String> = set.into_iter().flatten().map(|c| format!("CAP_{c}")).collect();
        names.sort();
        names
    };
    let rlimit = |l: &cricket_oci::oci_spec::runtime::PosixRlimit| Rlimit {
        name: l.typ().to_string(),
        soft: l.soft(),
        hard: l.hard(),
    };
    CommandConfig {
        target_fd,
        namespaces: Some(namespaces.bits()),
        cgroup,
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().to_string_lossy().into_owned(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        capabilities: named(held.and_then(|c| c.effective().as_ref())),
        ambient: named(held.and_then(|c| c.ambient().as_ref())),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp,
        apparmor_profile: process.apparmor_profile().clone(),
        selinux_label: process.selinux_label().clone().filter(|label| !label.is_empty()),
        rlimits: process.rlimits().iter().flatten().map(rlimit).collect(),
        oom_score_adj: process.oom_score_adj(),
        terminal: process.terminal().unwrap_or(false).then(TerminalSize::default),
    }
}

/// What the monitor has to run as the init of a shared PID namespace: in the pod's namespaces, in a cgroup of its own, to be
/// released when it runs.
pub(crate) async fn init_request(
    shared: &Arc<Shared>,
    sandbox: &SandboxRecord,
    held: &[Held],
) -> Result<(RunRequest, Made)> {
    let mut extra = Extra::default();
    let (mut user_fd, mut namespace_fds) = (None, Vec::new());
    for namespace in held {
        let fd = namespace.fd.try_clone().map_err(|e| Error::internal("duplicate a namespace", &e))?;
        match namespace.name.as_str() {
            USER => user_fd = Some(extra.push(fd)),
            _ => namespace_fds.push(extra.push(fd)),
        }
    }
    if let Some(netns) = &sandbox.netns {
        let file = File::open(netns).map_err(|e| Error::internal(format_args!("open {}", netns.display()), &e))?;
        namespace_fds.push(extra.push(file.into()));
    }
    let path = shared.cgroups.leaf(&shared.cgroups.parent(&sandbox.config.0), sandbox.id.as_str());
    let made = cgroups::make(shared, &path, &Resources::default(), None).await?;
    let group = &made.cgroup;
    let cgroup = extra.join(group.join_fds().map_err(|e| Error::from_kinded("open the init's cgroup", &e))?);
    let config = ExecConfig::PodInit(PodInitConfig { user_fd, namespace_fds, cgroup, oom_score_adj: Some(INIT_SCORE) });
    let request = RunRequest {
        container: Supervised {
            container: INIT.to_owned(),
            cgroup: Some(crate::driver::monitor_cgroup(group)),
            ..Supervised::default()
        },
        helper: shared.helpers.exec().map_err(|e| Error::internal("duplicate the exec helper", &e))?,
        args: vec!["cricket-exec".into(), "init".into()],
        config: memfd_json(&config)?,
        extra: extra.fds,
    };
    Ok((request, made))
}
