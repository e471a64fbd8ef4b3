//! The service: installed as README.md says, configured, and controlled with systemctl.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cricket_testkit::cri::Cri;
use cricket_testkit::{host, mirrors};
use serde_json::json;

use crate::prepare::ARCHIVE;
use crate::process::Process;

/// The unit's name.
pub(crate) const UNIT: &str = "cricket.service";
/// The configuration.
const CONFIG: &str = "/etc/cricket/config.toml";
/// Where the node's networks are configured.
const NETWORKS: &str = "/etc/cni/net.d";
/// host-local's own directory.
const LEASES: &str = "/var/lib/cni/networks";
const CERTS: &str = "/etc/cricket/certs.d";
const ROOT: &str = "/var/lib/cricket";
const LOGS: &str = "/var/log/pods";
const HELPERS: [&str; 3] = ["cricket-monitor", "cricket-launch", "cricket-exec"];

/// Whether this is a guest of `hack/vm --systemd`.
pub(crate) fn in_guest() -> bool {
    Path::new("/run/vm/in/command").exists() && Path::new("/run/systemd/system").exists()
}

/// Where this build's programs are.
pub(crate) fn this_build() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    Ok(me.parent().context("no directory")?.to_owned())
}

/// What a node keeps, on a file system that overlay's upper directories can be on: the disk, or memory.
pub(crate) fn storage(disk: bool) -> Result<()> {
    std::fs::create_dir_all("/srv/node")?;
    match disk {
        true => host::run("mount", ["/dev/vda", "/srv/node"])?,
        false => host::run("mount", ["-t", "tmpfs", "node", "/srv/node"])?,
    };
    for (name, path) in [("root", ROOT), ("cni", "/var/lib/cni"), ("logs", LOGS)] {
        let kept = Path::new("/srv/node").join(name);
        std::fs::create_dir_all(&kept)?;
        std::fs::create_dir_all(path)?;
        host::run("mount", [Path::new("--bind"), &kept, Path::new(path)])?;
    }
    Ok(())
}

/// Installs the programs of a directory and the unit.
pub(crate) fn install(programs: &Path) -> Result<()> {
    let program = |name: &str| programs.join(name).display().to_string();
    host::run("install", ["-m", "0755", &program("cricket"), "/usr/local/bin/"])?;
    let helpers = HELPERS.map(program);
    let words = ["-D", "-m", "0755", "-t", "/usr/libexec/cricket"].map(str::to_owned);
    host::run("install", words.iter().chain(&helpers))?;
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/cricket.service");
    host::run("install", ["-m", "0644", unit, "/etc/systemd/system/"])?;
    systemctl(&["daemon-reload"]).map(drop)
}

/// The text of the configuration: plugins where Debian has them, the driver under test.
fn config() -> String {
    // Older versions do not know this key, nor another driver than the default.
    let own = if host::systemd_driver() { "\n[plugins.'io.cricket.v1']\ncgroup_driver = 'systemd'\n" } else { "" };
    format!(
        "version = 3\n\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/usr/lib/cni']\n\n\
         [plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{CERTS}'\n{own}"
    )
}

/// Writes the configuration, with a network of this name and public registries' names leading to `registry`.
pub(crate) fn configure(network: &str, registry: Option<&str>) -> Result<()> {
    for dir in ["/etc/cricket", CERTS, NETWORKS] {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(CONFIG, config())?;
    if let Some(url) = registry {
        mirrors::write(Path::new(CERTS), url)?;
    }
    for entry in std::fs::read_dir(NETWORKS)? {
        std::fs::remove_file(entry?.path())?;
    }
    let list = json!({ "cniVersion": "1.0.0", "name": network, "plugins": [
        { "type": "bridge", "bridge": "ckvm0", "isGateway": true,
          "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.231.7.0/24" }]] } },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ]});
    Ok(std::fs::write(Path::new(NETWORKS).join("10-vm.conflist"), list.to_string())?)
}

/// Installs this build, configures it, starts the service and loads busybox: a node.
pub(crate) fn up(programs: &Path, images: &Path) -> Result<()> {
    install(programs)?;
    configure("vm", None)?;
    systemctl(&["enable", "--now", "cricket"])?;
    cricket(&["image", "load", &images.join(ARCHIVE).display().to_string()]).map(drop)
}

pub(crate) fn systemctl(words: &[&str]) -> Result<String> {
    host::run("systemctl", words)
}

/// A property of the unit.
pub(crate) fn property(name: &str) -> Result<String> {
    Ok(systemctl(&["show", "--value", "-p", name, UNIT])?.trim().to_owned())
}

/// The daemon, while it runs.
pub(crate) fn daemon() -> Result<Process> {
    let pid = property("MainPID")?;
    ensure!(pid != "0", "the service does not run");
    Process::now(pid.parse()?)
}

/// The program of an operator.
pub(crate) fn cricket(words: &[&str]) -> Result<String> {
    host::run("/usr/local/bin/cricket", words)
}

/// Connects at once, without waiting for the daemon.
pub(crate) async fn connect() -> Result<Cri> {
    Cri::connect(Path::new("/run/cricket/cricket.sock")).await
}

/// The addresses that host-local has given away, in every network. It does not sync its files: after a power cut one may be
/// there without a word of whose it was. No DEL can find such a lease again, whoever asks for it.
pub(crate) fn leases() -> Result<Vec<String>> {
    let mut found = Vec::new();
    let Ok(networks) = std::fs::read_dir(LEASES) else { return Ok(found) };
    for network in networks {
        for file in std::fs::read_dir(network?.path())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with("10.") && file.metadata()?.len() > 0 {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// `cricket doctor`, which must find nothing wrong; what it says.
pub(crate) fn doctor(verify: bool) -> Result<String> {
    let words: &[&str] = if verify { &["doctor", "--verify"] } else { &["doctor"] };
    let output = Command::new("/usr/local/bin/cricket").args(words).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "cricket doctor: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// The last lines of the service's log.
pub(crate) fn journal() -> String {
    let log = host::run("journalctl", ["--no-pager", "-o", "cat", "-n", "60", "-u", UNIT]);
    log.unwrap_or_else(|error| format!("no journal: {error:#}"))
}
