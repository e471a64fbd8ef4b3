//! `cricket doctor`: is the node fit, and is anything left over.
//!
//! Leftovers are found in this order: what is there, then what is recorded, then whether the former is still there. A
//! pod that comes or goes meanwhile is in the records or gone from the kernel, so it is never taken for a leftover.

mod cgroups;
mod known;
mod leftovers;
mod node;
mod repair;
mod store;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cricket_store::Store;

use crate::admin::{Answer, Operation, client};
use crate::cli::Outcome;
use crate::config::Config;
use known::Known;
use leftovers::{Others, Suspect};

pub(crate) use repair::{Repair, collected, repair as repair_leftovers, to_collect};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// As it should be.
    Good(String),
    /// It was left over, and has been taken away.
    Fixed(String),
    /// Worth knowing.
    Note(String),
    /// Wrong: pods cannot run, or something is left over.
    Wrong(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(text) => write!(f, "ok     {text}"),
            Self::Fixed(text) => write!(f, "fixed  {text}"),
            Self::Note(text) => write!(f, "note   {text}"),
            Self::Wrong(text) => write!(f, "WRONG  {text}"),
        }
    }
}

/// The mounts below `state` in a table of proc_pid_mountinfo(5), each with the pod or container it is of.
pub(crate) fn mounts_in(table: &[u8], state: &Path) -> Vec<(PathBuf, String)> {
    leftovers::mounts_in(table, state).into_iter().map(|suspect| (suspect.path, suspect.owner)).collect()
}

/// Runs the command.
pub(crate) fn run(config: &Config, verify: bool, repair: bool) -> Outcome {
    let mut wrong = 0usize;
    let mut tell = |findings: Vec<Finding>| {
        for finding in findings {
            wrong += usize::from(matches!(finding, Finding::Wrong(_)));
            println!("{finding}");
        }
    };
    tell(node::kernel());
    tell(node::cgroups(config.own.cgroup_driver));
    tell(node::helpers(config));
    tell(node::handlers(config));
    tell(node::settings(config));
    tell(network(config));
    tell(vec![node::cadvisor(config)]);
    if repair {
        tell(repairs(config));
    }
    tell(leftovers(config)?);
    tell(store::layers(config));
    if verify {
        tell(layers(config));
    }
    if wrong > 0 {
        println!("{wrong} wrong");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn network(config: &Config) -> Vec<Finding> {
    let dir = config.cni.conf_dir.display();
    vec![match client::network(config) {
        Ok(None) => Finding::Good(format!("network: ready ({dir})")),
        Ok(Some(reason)) => Finding::Wrong(format!("network: {reason}")),
        Err(e) => Finding::Wrong(format!("network: {e}")),
    }]
}

/// Has leftovers taken away.
fn repairs(config: &Config) -> Vec<Finding> {
    let repairs = match client::ask(config, Operation::Repair) {
        Ok(Answer::Repaired(repairs)) => repairs,
        Ok(other) => return vec![Finding::Wrong(format!("repair: unexpected answer {other:?}"))],
        Err(e) => return vec![Finding::Wrong(format!("repair: {e}"))],
    };
    let finding = |Repair { what, outcome }| match outcome {
        repair::Outcome::Gone(how) => Finding::Fixed(format!("{what}: {how}")),
        repair::Outcome::LeftAlone(why) => Finding::Note(format!("{what}: left alone: {why}")),
        repair::Outcome::Failed(why) => Finding::Wrong(format!("{what}: not taken away: {why}")),
    };
    repairs.into_iter().map(finding).collect()
}

/// What a search found.
struct Found {
    /// What belongs to nobody.
    left: Vec<Suspect>,
    /// Who else is here.
    others: Others,
    /// Records that could not be read.
    unreadable: Vec<String>,
    /// How many pods are recorded.
    pods: usize,
}

/// Looks for what is left over of pods. `store`: the records, where the caller has them open.
///
/// # Errors
/// When what is there, or what is recorded, cannot be read.
fn search(config: &Config, store: Option<&Store>) -> io::Result<Found> {
    let mut suspects = leftovers::mounts(&config.own.state)?;
    suspects.extend(leftovers::namespaces(&config.netns_dir(), &config.own.state));
    suspects.extend(leftovers::attachments(&config.own.root));
    suspects.extend(leftovers::monitors(&config.own.state));
    suspects.extend(leftovers::folders(&config.own.state));
    let groups = cgroups::all();
    let known = Known::read(config, store)?;
    suspects.extend(cgroups::suspects(groups, &known));
    suspects.retain(|s| !s.belongs(&known) && s.is_there());
    Ok(Found {
        left: suspects,
        others: Others::beside(&config.own.state),
        unreadable: known.unreadable().map(str::to_owned).collect(),
        pods: known.pods(),
    })
}

/// What is left over of pods, for the operator.
///
/// # Errors
/// As [`search`].
fn leftovers(config: &Config) -> io::Result<Vec<Finding>> {
    let found = search(config, None)?;
    let mut findings: Vec<_> = found.left.iter().map(|s| s.finding(found.others.any())).collect();
    findings.extend(found.unreadable.into_iter().map(Finding::Wrong));
    if findings.is_empty() {
        findings.push(Finding::Good(format!("leftovers: none; {} pods are recorded", found.pods)));
    }
    Ok(findings)
}

fn layers(config: &Config) -> Vec<Finding> {
    match client::ask(config, Operation::VerifyLayers) {
        Ok(Answer::Layers(damaged)) if damaged.is_empty() => {
            vec![Finding::Good("layers: every file is as it was unpacked".to_owned())]
        }
        Ok(Answer::Layers(damaged)) => damaged.into_iter().map(damage).collect(),
        Ok(other) => vec![Finding::Wrong(format!("layers: unexpected answer {other:?}"))],
        Err(e) => vec![Finding::Wrong(format!("layers: {e}"))],
    }
}

fn damage(found: crate::admin::LayerDamage) -> Finding {
    let details = found.details.iter().map(|d| format!("\n         {d}")).collect::<String>();
    match found.failure {
        None => Finding::Note(format!("layer {}: was damaged, has been fetched again{details}", found.layer)),
        Some(why) => {
            Finding::Wrong(format!("layer {}: is damaged and cannot be had again: {why}{details}", found.layer))
        }
    }
}

#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod tests;
