//! cricket: flags, configuration, wiring and operator commands.

#![forbid(unsafe_code)]

mod admin;
mod cli;
mod config;
mod doctor;
mod images;
mod layout;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
