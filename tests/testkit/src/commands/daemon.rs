//! `daemon`: a node without a kubelet, for a person or a script.

use anyhow::Result;
use clap::Args;
use cricket_testkit::daemon::{self, Options, Program};
use cricket_testkit::{image, registry};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Daemon {
    /// Start containerd with runc instead of cricket
    #[arg(long)]
    peer: bool,
    /// File to write the path of the socket to, when the daemon is ready
    #[arg(long, value_name = "FILE")]
    socket_file: Option<PathBuf>,
}

impl Daemon {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let registry = registry::Registry::start()?;
        registry.fill(&image::suite()?).await?;
        let daemon = daemon::Daemon::with(Options {
            program: program(self.peer),
            registry: Some(registry.url().to_owned()),
            ..Default::default()
        })?;
        let socket = daemon.socket().display().to_string();
        if let Some(path) = self.socket_file {
            super::announce(&path, &format!("{socket}\n"))?;
        }
        println!("unix://{socket}");
        super::interrupted().await?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn program(peer: bool) -> Program {
    if peer { Program::Containerd } else { Program::Cricket }
}
