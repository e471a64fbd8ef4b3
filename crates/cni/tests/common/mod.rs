//! A client in temporary directories, with plugins that are shell scripts.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cricket_cni::{Cni, CniConfig, PodNetwork};
use cricket_model::SandboxId;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const NETNS: &str = "/proc/self/ns/net";
pub(crate) const RESULT: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/n"}],"ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}]}"#;

pub(crate) struct Lab {
    pub(crate) dir: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        for sub in ["net.d", "bin", "calls"] {
            fs::create_dir(dir.path().join(sub)).expect("mkdir");
        }
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A plugin that notes each call, keeps what it was given and then runs `body`.
    pub(crate) fn plugin(&self, name: &str, body: &str) {
        let calls = self.path("calls");
        let calls = calls.display();
        let text = format!(
            "#!/bin/sh\ncalls={calls}\necho \"{name} $CNI_COMMAND $CNI_IFNAME [$CNI_NETNS]\" >> $calls/log\n\
             cat > $calls/{name}.$CNI_COMMAND.json\nenv > $calls/{name}.$CNI_COMMAND.env\n{body}\n"
        );
        let path = self.path("bin").join(name);
        let temporary = self.path("calls").join(format!("{name}.new"));
        fs::write(&temporary, text).expect("write plugin");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::rename(temporary, path).expect("install plugin");
    }

    /// A plugin whose ADD prints `result`.
    pub(crate) fn good(&self, name: &str, result: &str) {
        self.plugin(name, &format!("[ $CNI_COMMAND != ADD ] || echo '{result}'"));
    }

    pub(crate) fn conf(&self, file: &str, json: &str) {
        let path = self.path("net.d").join(file);
        let temporary = self.path("calls").join("conf.new");
        fs::write(&temporary, json).expect("write conf");
        fs::rename(temporary, path).expect("install conf");
    }

    /// A list named `net` of plugins without options.
    pub(crate) fn list(&self, version: &str, plugins: &[&str]) {
        let plugins: Vec<_> = plugins.iter().map(|p| serde_json::json!({"type": p})).collect();
        let list = serde_json::json!({"name": "net", "cniVersion": version, "plugins": plugins});
        self.conf("10-net.conflist", &list.to_string());
    }

    pub(crate) fn config(&self) -> CniConfig {
        CniConfig {
            conf_dir: self.path("net.d"),
            bin_dirs: vec![self.path("bin")],
            max_conf_num: 0,
            cache_dir: self.path("cache"),
            handlers: Default::default(),
            timeout: Duration::from_secs(30),
        }
    }

    pub(crate) fn open(&self) -> Cni {
        Cni::open(self.config()).expect("open")
    }

    /// The calls so far, `PLUGIN VERB IFNAME [NETNS]` each; forgotten then.
    pub(crate) fn calls(&self) -> Vec<String> {
        let log = self.path("calls/log");
        let lines = fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect();
        let _ = fs::remove_file(log);
        lines
    }

    /// The configuration that a plugin was last given.
    pub(crate) fn given(&self, plugin: &str, verb: &str) -> Value {
        let text = fs::read(self.path("calls").join(format!("{plugin}.{verb}.json"))).expect("call");
        serde_json::from_slice(&text).expect("json")
    }

    pub(crate) fn environment(&self, plugin: &str, verb: &str) -> String {
        fs::read_to_string(self.path("calls").join(format!("{plugin}.{verb}.env"))).expect("call")
    }
}

pub(crate) fn pod() -> PodNetwork {
    PodNetwork {
        sandbox: SandboxId::generate(),
        netns: NETNS.into(),
        handler: String::new(),
        namespace: "default".into(),
        name: "web-0".into(),
        uid: "0a1b".into(),
        annotations: Default::default(),
        port_mappings: Vec::new(),
        bandwidth: None,
        dns: None,
        cgroup_parent: String::new(),
    }
}

/// Waits until a readiness satisfies `want`.
pub(crate) async fn until(cni: &Cni, want: impl Fn(&Result<(), cricket_cni::NotReady>) -> bool) {
    let mut changes = cni.subscribe();
    let waited = tokio::time::timeout(Duration::from_secs(20), changes.wait_for(want)).await;
    assert!(waited.is_ok(), "readiness stays {:?}", cni.ready());
}

pub(crate) fn alive(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).expect("pid");
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}
