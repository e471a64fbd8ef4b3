//! The control plane: etcd, API server, scheduler and controller manager.

use super::Api;
use super::files::{Files, SERVICES};
use crate::kubelet::free_ports;
use anyhow::{Context, Result, bail};
use cricket_testkit::host;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// An API server on a busy machine takes a while for its first roles and priorities.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The programs of one control plane on one address. Their objects are in
/// memory as far as the directory is; they end with this value.
pub(super) struct ControlPlane {
    programs: Vec<(&'static str, Child)>,
    files: Files,
    api: Api,
}

impl ControlPlane {
    /// Starts etcd and the API server; [`Self::ready`] waits for them.
    pub(super) fn start(dir: PathBuf, address: Ipv4Addr) -> Result<Self> {
        let files = Files::new(dir, address)?;
        let [[client, peer], [port, _]] = [free_ports(address)?, free_ports(address)?];
        let url = format!("https://{address}:{port}");
        let token = files.credentials(&url)?;
        let api = Api::new(&url, &fs::read(files.path("ca.pem"))?, &token)?;
        let mut control = Self { programs: Vec::new(), files, api };

        let (client, peer) = (format!("http://{address}:{client}"), format!("http://{address}:{peer}"));
        control.launch(
            "etcd",
            host::tool_dir("etcd")?.join("etcd"),
            [
                control.files.flag("data-dir", "etcd"),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
            ],
        )?;
        control.launch(
            "kube-apiserver",
            program("kube-apiserver")?,
            [
                format!("--etcd-servers={client}"),
                format!("--bind-address={address}"),
                format!("--advertise-address={address}"),
                format!("--secure-port={port}"),
                control.files.flag("tls-cert-file", "server.pem"),
                control.files.flag("tls-private-key-file", "server.key"),
                control.files.flag("client-ca-file", "ca.pem"),
                control.files.flag("token-auth-file", "tokens.csv"),
                "--authorization-mode=RBAC".to_owned(),
                "--allow-privileged".to_owned(),
                format!("--service-cluster-ip-range={SERVICES}"),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                control.files.flag("service-account-key-file", "tokens.pub"),
                control.files.flag("service-account-signing-key-file", "tokens.key"),
                // Nobody routes to the service's address: there is no kube-proxy.
                "--endpoint-reconciler-type=none".to_owned(),
                // Nodes' names are not in DNS.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
            ],
        )?;
        Ok(control)
    }

    /// Waits for the API server, then starts the programs that need it.
    pub(super) async fn ready(&mut self) -> Result<()> {
        let began = Instant::now();
        while let Err(error) = self.api.ready().await {
            self.alive()?;
            if began.elapsed() > host::patient(START_LIMIT) {
                return Err(error.context(self.log_tail("kube-apiserver")));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let common = [
            self.files.flag("kubeconfig", "kubeconfig"),
            "--leader-elect=false".to_owned(),
            // Nobody asks them anything.
            "--secure-port=0".to_owned(),
        ];
        self.launch("kube-scheduler", program("kube-scheduler")?, common.clone())?;
        let more = [
            self.files.flag("root-ca-file", "ca.pem"),
            self.files.flag("cluster-signing-cert-file", "ca.pem"),
            self.files.flag("cluster-signing-key-file", "ca.key"),
            self.files.flag("service-account-private-key-file", "tokens.key"),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ];
        self.launch("kube-controller-manager", program("kube-controller-manager")?, common.into_iter().chain(more))
    }

    /// A client of the API server.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// What kubectl wants.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.files.kubeconfig()
    }

    /// The directory with the programs' logs (`NAME.log`).
    pub(super) fn dir(&self) -> &Path {
        self.files.dir()
    }

    /// The IDs of its processes.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.programs.iter().map(|(_, child)| child.id())
    }

    /// An error when one of the programs has ended.
    pub(super) fn alive(&mut self) -> Result<()> {
        for (name, child) in &mut self.programs {
            if let Some(status) = child.try_wait()? {
                let name = *name;
                bail!("{name} ended: {status}\n{}", self.log_tail(name));
            }
        }
        Ok(())
    }

    fn launch(
        &mut self,
        name: &'static str,
        program: PathBuf,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<()> {
        let path = self.log(name);
        let log = File::create(&path).with_context(|| path.display().to_string())?;
        let mut command = host::bound(program);
        command.args(arguments).current_dir(self.files.dir());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.programs.push((name, host::spawn(command)?));
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.files.path(&format!("{name}.log"))
    }

    fn log_tail(&self, name: &str) -> String {
        let log = fs::read(self.log(name)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for (_, child) in self.programs.iter_mut().rev() {
            // It may have ended by itself; waiting then collects it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn program(name: &str) -> Result<PathBuf> {
    Ok(host::tool_dir("kubernetes")?.join(name))
}
