//! `cricket doctor`.
use crate::cli::Outcome;
use crate::config::Config;
use std::process::ExitCode;
pub(crate) fn run(_config: &Config, _verify: bool) -> Outcome {
    Ok(ExitCode::SUCCESS)
}
