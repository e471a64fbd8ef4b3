//! `cricket-testkit`: the test kit for scripts. See `--help`.

#![forbid(unsafe_code)]

mod commands;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cricket-testkit: {error:#}");
            ExitCode::FAILURE
        }
    }
}
