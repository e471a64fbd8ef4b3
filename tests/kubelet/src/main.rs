//! `cricket-node`: a node to play with, until it is interrupted. `hack/node`
//! starts and stops it.

#![forbid(unsafe_code)]

mod next;

use anyhow::{Context, Result};
use clap::Parser;
use cricket_kubelet_tests::cluster::Cluster;
use cricket_kubelet_tests::{Node, Options};
use cricket_testkit::daemon::Program;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// A pod with the parts that a kubelet makes use of.
const EXAMPLE: &str = include_str!("example.yaml");

/// Registry, network, runtime and a kubelet, for static pods or in a cluster, until interrupted
#[derive(Parser)]
#[command(name = "cricket-node", version)]
struct Cli {
    /// Directory for links to everything of the node; made when the node is ready, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Run containerd with runc instead of cricket
    #[arg(long)]
    peer: bool,
    /// Make it the node of a cluster of its own, with a RuntimeClass for each handler
    #[arg(long)]
    cluster: bool,
    /// Serve the images in this directory (`cricket-testkit registry up --data`) instead of making them
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// The handler of pods that name none, such as runc
    #[arg(long, value_name = "NAME", default_value = "", conflicts_with = "peer")]
    default_handler: String,
}

impl Cli {
    fn options(&self) -> Options {
        Options {
            program: if self.peer { Program::Containerd } else { Program::Cricket },
            all_images: true,
            images: self.images.clone(),
            all_handlers: self.cluster || !self.default_handler.is_empty(),
            default_handler: self.default_handler.clone(),
            ..Options::default()
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    // Before anything is started: an interrupt from now on is one that cleans up.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut again = signal(SignalKind::hangup())?;
    let mut running = tokio::select! {
        running = Running::start(&cli) => running?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let links = Links::make(&cli.dir, &running)?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = again.recv() => {
                running.node_mut()?.daemon.kill_and_launch()?;
                println!("the runtime was killed and started again");
            }
        }
    }
    running.node()?.kubelet.delete_all()?;
    drop(running);
    drop(links);
    Ok(())
}

/// What is running.
enum Running {
    Alone(Box<Node>),
    Cluster(Box<Cluster>),
}

impl Running {
    async fn start(cli: &Cli) -> Result<Self> {
        Ok(match cli.cluster {
            false => Self::Alone(Box::new(Node::with(cli.options()).await?)),
            true => Self::Cluster(Box::new(Cluster::with(cli.options()).await?)),
        })
    }

    fn node(&self) -> Result<&Node> {
        match self {
            Self::Alone(node) => Ok(node),
            Self::Cluster(cluster) => cluster.nodes().first().context("a cluster without a node"),
        }
    }

    fn node_mut(&mut self) -> Result<&mut Node> {
        match self {
            Self::Alone(node) => Ok(node),
            Self::Cluster(cluster) => cluster.node(0),
        }
    }
}

/// The directory through which a person finds what has unique names.
struct Links(PathBuf);

impl Links {
    /// It appears with its whole content.
    fn make(dir: &Path, running: &Running) -> Result<Self> {
        let node = running.node()?;
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
        fs::write(new.join("registry"), format!("{}\n", node.registry.url()))?;
        fs::write(new.join("example.yaml"), EXAMPLE)?;
        let socket = node.daemon.socket();
        let crictl =
            format!("runtime-endpoint: unix://{0}\nimage-endpoint: unix://{0}\ntimeout: 30\n", socket.display());
        fs::write(new.join("crictl.yaml"), crictl)?;
        let mut text = next::pods(dir, node);
        if let Running::Cluster(cluster) = running {
            symlink(cluster.kubeconfig(), new.join("kubeconfig"))?;
            symlink(cluster.logs(), new.join("control-plane"))?;
            text = next::cluster(dir, node)?;
        }
        fs::write(new.join("next"), next::text(dir, node, &text)?)?;
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
