//! `cricket-bench`: a CRI client that measures cricket and containerd with runc
//! in one run, on the same images, networks and settings. See `--help`.
//!
//! What is compared is interleaved: the machine drifts by more than what is to
//! be seen. Single operations are paced, as they come on a node; only the
//! measurement with many clients loads the machine.
//!
//! Invariants:
//! - every measure asks both sides for exactly the same, in an order that
//!   changes from round to round, and both were warmed up before;
//! - what a kubelet does around a call (log directories, cgroup parents) is
//!   done off the clock;
//! - a figure is never left out: what could not be measured is an error.

#![forbid(unsafe_code)]

mod account;
mod cli;
mod measure;
mod metric;
mod procs;
mod report;
mod results;
mod side;
mod workload;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cricket-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
