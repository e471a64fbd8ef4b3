//! `clean`: the processes, mounts, networks and directories of killed tests.

use anyhow::Result;
use clap::Args;
use cricket_testkit::daemon;
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Clean {}

impl Clean {
    pub(crate) fn run(self) -> Result<ExitCode> {
        for mark in daemon::clean_abandoned()? {
            println!("{mark}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
