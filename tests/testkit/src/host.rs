//! This machine: unique names, the cache, programs that must not outlive us.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

/// Eight hex digits that no other test has.
pub fn unique() -> String {
    let mut bytes = [0; 4];
    // Without entropy from the kernel, process and time still tell two tests apart.
    if getrandom::fill(&mut bytes).is_err() {
        let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos());
        bytes = (std::process::id().rotate_left(16) ^ nanos).to_le_bytes();
    }
    hex::encode(bytes)
}

/// A unique name in the form of a UUID, as pods have it.
pub fn uuid() -> String {
    let digits: String = (0..4).map(|_| unique()).collect();
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits[part].to_owned()).join("-")
}

/// Where `hack/` keeps downloads and built tools: `CRICKET_CACHE`, else
/// `cricket` in the user's cache directory.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CRICKET_CACHE") {
        return Ok(path.into());
    }
    if let Some(path) = std::env::var_os("XDG_CACHE_HOME") {
        return Ok(PathBuf::from(path).join("cricket"));
    }
    let home = std::env::var_os("HOME").context("neither CRICKET_CACHE nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/cricket"))
}

/// The path of a program in `PATH`.
pub fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program}: not in PATH (run hack/deps, or hack/tools/build for a Go tool)"))
}

/// The directory of a tool that `hack/tools/build` made; builds it when it is missing.
pub fn tool_dir(name: &str) -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/tools/build");
    let output = Command::new(script).arg(name).output().with_context(|| script.to_owned())?;
    if !output.status.success() {
        bail!("{script} {name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// The directory with the programs of an older cricket; `hack/previous` builds them when they are missing.
pub fn previous() -> Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/previous");
    Ok(PathBuf::from(run::<&str>(script, [])?.trim_end()))
}

/// Runs a program to its end; its output, or an error with what it wrote to standard error.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let Output { status, stdout, stderr } = command.output().with_context(|| program.to_owned())?;
    if !status.success() {
        bail!("{command:?}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// A command that the kernel kills when this process dies, in a process group
/// of its own, so that a terminal's interrupt reaches only this process. Spawn
/// it with [`spawn`]: the kernel counts the thread that forked as the parent.
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).process_group(0);
    command
}

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Spawns from a thread that lives as long as the process: a test's thread, or
/// a worker of its async runtime, would take its children with it.
pub fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                // Who asked may be gone; the child then ends with the process.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let description = format!("{command:?}");
    let (answer, child) = mpsc::channel();
    SPAWNER.send((command, answer)).map_err(|_| anyhow::anyhow!("the spawner thread is gone"))?;
    child.recv()?.context(description)
}

/// A TCP port of an address on which nobody listens, for a program that is started later. It is none of those that the
/// kernel gives out by itself, where it leaves some: who takes any port, or connects to somewhere, does not get it meanwhile.
pub fn free_port(address: Ipv4Addr) -> Result<u16> {
    const LOWEST: u32 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let end: u32 = range.split_whitespace().next().context("no range of ports")?.parse()?;
    for _ in 0..100 {
        let Some(count) = end.checked_sub(LOWEST).filter(|count| *count > 0) else { break };
        let port = u16::try_from(LOWEST + u32::from_str_radix(&unique(), 16)? % count)?;
        if TcpListener::bind((address, port)).is_ok() {
            return Ok(port);
        }
    }
    Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
}

/// A limit for what happens by itself, longer where the machine is slow: so many times as `CRICKET_TEST_SLOW` says.
pub fn patient(limit: Duration) -> Duration {
    static TIMES: LazyLock<u32> = LazyLock::new(|| {
        let told = std::env::var("CRICKET_TEST_SLOW").ok().and_then(|times| times.parse().ok());
        told.unwrap_or(1).clamp(1, 100)
    });
    limit * *TIMES
}

/// Asks every ten milliseconds until there is an answer; an error that says
/// what was waited for when the time, see [`patient`], is over.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let (began, limit) = (Instant::now(), patient(limit));
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if began.elapsed() > limit {
            bail!("waited {limit:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the daemons under test let systemd make cgroups: `CRICKET_TEST_CGROUP_DRIVER=systemd`.
pub fn systemd_driver() -> bool {
    std::env::var_os("CRICKET_TEST_CGROUP_DRIVER").is_some_and(|driver| driver == "systemd")
}

/// Says that a test cannot be carried out here, and why. It passes: libtest knows nothing else. What is written past it
/// is shown, and `hack/test` counts it.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("skipped: {name}: {why}\n"));
}

/// The name of a container's cgroup in its pod's.
pub fn container_cgroup(id: &str) -> String {
    if systemd_driver() { format!("cricket-{id}.scope") } else { id.to_owned() }
}
