//! `cricket-node`: a node to play with, until it is interrupted. `hack/node`
//! starts and stops it.

#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use cricket_kubelet_tests::{Node, Options};
use cricket_testkit::daemon::Program;
use cricket_testkit::host;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// A pod with the parts that a kubelet makes use of.
const EXAMPLE: &str = include_str!("example.yaml");

/// Registry, network, runtime and a kubelet for static pods, until interrupted
#[derive(Parser)]
#[command(name = "cricket-node", version)]
struct Cli {
    /// Directory for links to everything of the node; made when the node is ready, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Run containerd with runc instead of cricket
    #[arg(long)]
    peer: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Cli { dir, peer } = Cli::parse();
    // Before anything is started: an interrupt from now on is one that cleans up.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut again = signal(SignalKind::hangup())?;
    let program = if peer { Program::Containerd } else { Program::Cricket };
    let mut node = tokio::select! {
        node = Node::with(Options { program, all_images: true }) => node?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let links = Links::make(&dir, &node)?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = again.recv() => {
                node.daemon.kill_and_launch()?;
                println!("the runtime was killed and started again");
            }
        }
    }
    node.kubelet.delete_all()?;
    drop(node);
    drop(links);
    Ok(())
}

/// The directory through which a person finds what has unique names.
struct Links(PathBuf);

impl Links {
    /// It appears with its whole content.
    fn make(dir: &Path, node: &Node) -> Result<Self> {
        let new = dir.with_extension("new");
        // One that a killed node has left.
        for old in [dir, &new] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| old.display().to_string())?;
            }
        }
        fs::create_dir_all(&new).with_context(|| new.display().to_string())?;
        symlink(node.kubelet.manifests(), new.join("manifests"))?;
        symlink(node.kubelet.logs(), new.join("pod-logs"))?;
        symlink(node.kubelet.log_path(), new.join("kubelet.log"))?;
        symlink(node.daemon.log_path(), new.join("runtime.log"))?;
        symlink(node.daemon.config(), new.join("config.toml"))?;
        symlink(node.daemon.socket(), new.join("runtime.sock"))?;
        fs::write(new.join("example.yaml"), EXAMPLE)?;
        let socket = node.daemon.socket();
        let crictl =
            format!("runtime-endpoint: unix://{0}\nimage-endpoint: unix://{0}\ntimeout: 30\n", socket.display());
        fs::write(new.join("crictl.yaml"), crictl)?;
        fs::write(new.join("next"), next(dir, node)?)?;
        fs::rename(&new, dir).with_context(|| dir.display().to_string())?;
        Ok(Self(dir.to_owned()))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// What a person may type next.
fn next(dir: &Path, node: &Node) -> Result<String> {
    let dir = dir.display();
    let crictl = format!("{} -c {dir}/crictl.yaml", host::tool_dir("cri")?.join("crictl").display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/node").canonicalize()?;
    let script = script.display();
    let (pods, kubelet, socket) = (node.daemon.network().subnet(), node.kubelet.url(), node.daemon.socket());
    Ok(format!(
        "The node is up: runtime at {}, kubelet at {kubelet}, pods in {pods}.\n\
         Images of registry.k8s.io and docker.io come from {}.\n\n\
         A pod, by a static manifest:\n  \
           cp {dir}/example.yaml {dir}/manifests/\n  \
           curl -s {kubelet}/pods | jq '.items[].status'\n  \
           tail {dir}/pod-logs/*/*/*.log\n  \
           rm {dir}/manifests/example.yaml\n\n\
         What the runtime says:\n  \
           alias crictl='{crictl}'\n  \
           crictl info; crictl images; crictl pods; crictl ps -a; crictl stats\n  \
           crictl exec -s $(crictl ps -q --name main) hostname\n\n\
         Logs and configuration:\n  \
           tail -f {dir}/runtime.log\n  \
           jq -c 'select(.msg == \"Event occurred\") | [.reason, .message]' {dir}/kubelet.log\n  \
           less {dir}/config.toml\n\n\
         Kill the runtime and start it again, pods run on:\n  \
           {script} restart\n\
         Remove everything:\n  \
           {script} down\n",
        socket.display(),
        node.registry.url(),
    ))
}
