//! The subcommands, one file each.

mod clean;
mod critest;
mod daemon;
mod images;
mod judge;
mod registry;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Registries, images, networks and daemons for tests and scripts.
#[derive(Parser)]
#[command(name = "cricket-testkit", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A registry on loopback that has the suites' images
    #[command(subcommand)]
    Registry(registry::Registry),
    /// The suites' images, made from this machine's files
    #[command(subcommand)]
    Images(images::Images),
    /// A daemon with registry, mirrors and network, until this is interrupted
    Daemon(daemon::Daemon),
    /// Remove what is left of daemons whose tests were killed
    Clean(clean::Clean),
    /// Run critest and compare its failures with a list
    Critest(critest::Critest),
    /// Say how a run of Kubernetes' end-to-end suite went, and compare its failures with a list
    Judge(judge::Judge),
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        match self.command {
            Command::Registry(command) => runtime.block_on(command.run()),
            Command::Images(command) => command.run(&runtime),
            Command::Daemon(command) => runtime.block_on(command.run()),
            Command::Clean(command) => command.run(),
            Command::Critest(command) => command.run(&runtime),
            Command::Judge(command) => command.run(),
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Writes a file that scripts wait for: it appears with its whole content.
fn announce(path: &std::path::Path, content: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content)?;
    Ok(std::fs::rename(temporary, path)?)
}
