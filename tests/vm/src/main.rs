//! Shows of cricket what only a machine of one's own can: the systemd unit installed as a user does it, restarts and
//! upgrades of the service, reboots, power cuts, a clock that is set. `hack/vm-node` runs it in virtual machines; run anywhere else it would
//! take that machine over.

#![forbid(unsafe_code)]

mod clock;
mod ledger;
mod pods;
mod power;
mod prepare;
mod process;
mod readiness;
mod reboot;
mod service;
mod unit;
mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

/// Tests in a virtual machine; see hack/vm-node.
#[derive(Parser)]
#[command(name = "cricket-vm-tests", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What `prepare` made
    #[arg(long, global = true, default_value = ".")]
    images: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// On the host: makes the images that the others load and pull, in the directory of --images
    Prepare,
    /// Restarts, stops and starts the service under pods that would notice
    Service,
    /// The service's programs are replaced by this build's while pods of the older one run
    Upgrade {
        /// Directory with the older programs
        previous: PathBuf,
    },
    /// Sets the clock a year forward and back under pods that would notice
    Clock,
    /// Starts the pods that a reboot ends
    RebootBefore,
    /// What is left of them after it
    RebootAfter,
    /// Checks what former rounds acknowledged, then pulls images and runs pods until the power is cut
    PowerCut {
        /// What the former rounds printed
        ledger: PathBuf,
        /// Check only, and remove everything
        #[arg(long)]
        last: bool,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    let images = std::path::absolute(cli.images)?;
    if !matches!(cli.command, Command::Prepare) {
        let guest = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        ensure!(guest.trim() == "vm" && unit::in_guest(), "not in a machine of hack/vm --systemd");
    }
    let done = match cli.command {
        Command::Prepare => return prepare::run(&images).await,
        Command::Service => service::run(&images).await,
        Command::Upgrade { previous } => upgrade::run(&images, &previous).await,
        Command::Clock => clock::run(&images).await,
        Command::RebootBefore => reboot::before(&images).await,
        Command::RebootAfter => reboot::after(&images).await,
        Command::PowerCut { ledger, last } => power::run(&images, &ledger, last).await,
    };
    if done.is_err() {
        println!("{}", unit::journal());
    }
    done
}
