//! What a kubelet is told: directories, its configuration and its command line.

use anyhow::{Context, Result};
use cricket_testkit::{host, leaks};
use serde_json::{Map, Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directories whose paths are fixed in the kubelet's code.
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";
const CONTAINER_LOGS: &str = "/var/log/containers";

const CGROUPS: &str = "/sys/fs/cgroup";

/// Puts other directories in place of the fixed ones and becomes the kubelet.
/// The mounts those are on stop propagating first, so that nobody else sees it.
const WRAPPER: &str = r#"
set -e
for pair in "$1:/var/lib/kubelet/device-plugins" "$2:/var/log/containers"; do
  mount --make-private "$(stat -c %m "${pair#*:}")"
  mount --bind "${pair%%:*}" "${pair#*:}"
done
shift 2
exec "$@"
"#;

/// What a kubelet is told besides what every one of them is.
#[derive(Clone, Debug, Default)]
pub struct KubeletOptions {
    /// The cluster whose node it is; none: it has static pods only.
    pub kubeconfig: Option<PathBuf>,
    /// Labels of the node, as `KEY=VALUE`.
    pub labels: Vec<String>,
    /// Settings of its configuration, in place of those that are there.
    pub config: Map<String, Value>,
}

/// Files and directories of one kubelet.
pub(crate) struct Layout {
    home: PathBuf,
    cgroup: String,
}

impl Layout {
    /// Makes the directories and the control group root.
    pub(crate) fn new(daemon_home: &Path, mark: &str) -> Result<Self> {
        let layout = Self { home: daemon_home.join("kubelet"), cgroup: mark.to_owned() };
        let hidden = ["plugins", "links"].map(|name| layout.home.join(name));
        for dir in [layout.root(), layout.manifests(), layout.logs()].iter().chain(&hidden) {
            fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        for dir in [DEVICE_PLUGINS, CONTAINER_LOGS] {
            fs::create_dir_all(dir).with_context(|| dir.to_owned())?;
        }
        for dir in hierarchies() {
            let group = dir.join(mark);
            fs::create_dir_all(&group).with_context(|| group.display().to_string())?;
        }
        // The kubelet runs in a mount namespace of its own; what it mounts here has to be seen by the runtime.
        let root = layout.root();
        host::run("mount", [Path::new("--bind"), &root, &root])?;
        host::run("mount", [Path::new("--make-shared"), &root])?;
        Ok(layout)
    }

    /// `--root-dir`, a mount point.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// The directory of static pods.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.home.join("manifests")
    }

    /// Where pods' log directories are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }

    /// What the kubelet itself has logged, a JSON object a line.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("kubelet.log")
    }

    /// A file beside the manifests, to be renamed to its place.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.home.join("new")
    }

    /// Writes the configuration for a kubelet on this address and runtime.
    pub(crate) fn configure(
        &self,
        address: Ipv4Addr,
        [port, read_only]: [u16; 2],
        socket: &Path,
        options: &KubeletOptions,
    ) -> Result<()> {
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
            "address": address,
            "port": port,
            "readOnlyPort": read_only,
            "healthzPort": 0,
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "staticPodPath": self.manifests(),
            "podLogsDir": self.logs(),
            "volumePluginDir": self.home.join("volume-plugins"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup),
            "enforceNodeAllocatable": [],
            "makeIPTablesUtilChains": false,
            // A test machine may forbid what a node's administrator may do.
            "failCgroupV1": false,
            "failSwapOn": false,
            "oomScoreAdj": 0,
            "evictionHard": { "memory.available": "1Mi" },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            // Tests wait for this.
            "fileCheckFrequency": "1s",
            "serializeImagePulls": false,
            "registryPullQPS": 0,
            // Events are logged from this verbosity on.
            "logging": { "format": "json", "verbosity": 3 },
        });
        if options.kubeconfig.is_none() {
            // Alone, without anybody's watches: what tests wait for comes with these.
            config["syncFrequency"] = json!("1s");
            config["crashLoopBackOff"] = json!({ "maxContainerRestartPeriod": "1s" });
        }
        for (key, value) in &options.config {
            config[key] = value.clone();
        }
        let path = self.config();
        fs::write(&path, serde_json::to_vec_pretty(&config)?).with_context(|| path.display().to_string())
    }

    /// The command that becomes the kubelet of this node.
    pub(crate) fn command(
        &self,
        node: &str,
        address: Ipv4Addr,
        containerd: &Path,
        options: &KubeletOptions,
    ) -> Result<Command> {
        let mut command = host::bound("unshare");
        command.args(["--mount", "--propagation", "unchanged", "--", "sh", "-c", WRAPPER, "sh"]);
        command.arg(self.home.join("plugins")).arg(self.home.join("links"));
        command.arg(host::tool_dir("kubernetes")?.join("kubelet"));
        command.arg("--config").arg(self.config());
        command.arg("--root-dir").arg(self.root());
        command.arg("--cert-dir").arg(self.home.join("pki"));
        command.arg(format!("--hostname-override={node}"));
        command.arg(format!("--node-ip={address}"));
        // Where cAdvisor looks for containerd: not at the one that the machine may have.
        command.arg(format!("--containerd={}", containerd.display()));
        if let Some(path) = &options.kubeconfig {
            command.arg("--kubeconfig").arg(path);
        }
        if !options.labels.is_empty() {
            command.arg(format!("--node-labels={}", options.labels.join(",")));
        }
        Ok(command)
    }

    fn config(&self) -> PathBuf {
        self.home.join("config.json")
    }
}

/// The directories below which control groups are made: one on a host with
/// only cgroup v2, else each v1 hierarchy (and the v2 one beside them).
fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new(CGROUPS);
    let is_group = |dir: &PathBuf| dir.join("cgroup.procs").exists();
    if is_group(&top.to_owned()) {
        return vec![top.to_owned()];
    }
    leaks::names(top).into_iter().map(|name| top.join(name)).filter(is_group).collect()
}
