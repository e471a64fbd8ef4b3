//! cricket: flags, configuration, wiring and operator commands.

#![forbid(unsafe_code)]

mod admin;
mod cli;
mod config;
mod doctor;
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod kernel;
mod layout;
mod serve;

use std::process::ExitCode;

/// Does what the command line says.
pub fn run() -> ExitCode {
    cli::run()
}
