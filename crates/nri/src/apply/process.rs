//! Arguments, environment, hooks, limits, scores.

use std::path::PathBuf;

use cricket_oci::oci_spec::runtime::{Hook, LinuxIOPriority, PosixRlimit, Scheduler, Spec};

use crate::api::{self, ContainerAdjustment, KeyValue};
use crate::error::{Error, Result};
use crate::merge::removal;

use super::{named, part};

pub(super) fn apply(spec: &mut Spec, adjust: &ContainerAdjustment) -> Result<()> {
    let mut process = spec.process().clone().unwrap_or_default();
    if !adjust.args.is_empty() {
        process.set_args(Some(adjust.args.clone()));
    }
    process.set_env(Some(environment(process.env().as_deref().unwrap_or_default(), &adjust.env)));
    let mut limits = process.rlimits().clone().unwrap_or_default();
    for asked in &adjust.rlimits {
        let limit = rlimit(asked)?;
        limits.retain(|other| other.typ() != limit.typ());
        limits.push(limit);
    }
    process.set_rlimits(Some(limits));
    if let Some(linux) = &adjust.linux {
        if let Some(score) = &linux.oom_score_adj {
            let score = i32::try_from(score.value).ok().filter(|score| (-1000..=1000).contains(score));
            let score = score.ok_or_else(|| Error::adjustment("OOM score", "is not between -1000 and 1000"))?;
            process.set_oom_score_adj(Some(score));
        }
        if let Some(priority) = &linux.io_priority {
            process.set_io_priority(io_priority(priority)?);
        }
        if let Some(asked) = &linux.scheduler {
            process.set_scheduler(scheduler(asked)?);
        }
    }
    spec.set_process(Some(process));
    if let Some(asked) = &adjust.hooks {
        hooks(spec, asked);
    }
    Ok(())
}

/// Replaces in place, removes what is marked, appends the rest.
fn environment(old: &[String], asked: &[KeyValue]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut env = old.to_vec();
    // An addition is newer than the removal of an earlier plugin.
    for removed in asked.iter().filter_map(|variable| removal(&variable.key)) {
        env.retain(|variable| name(variable) != removed);
    }
    for variable in asked.iter().filter(|variable| removal(&variable.key).is_none() && !variable.key.is_empty()) {
        let text = format!("{}={}", variable.key, variable.value);
        match env.iter_mut().find(|old| name(old) == variable.key) {
            Some(old) => *old = text,
            None => env.push(text),
        }
    }
    env
}

/// `RLIMIT_NOFILE`, or short `nofile`.
fn rlimit(asked: &api::PosixRlimit) -> Result<PosixRlimit> {
    let name = asked.r#type.to_uppercase();
    let name = if name.starts_with("RLIMIT_") { name } else { format!("RLIMIT_{name}") };
    if asked.soft > asked.hard {
        return Err(Error::adjustment("rlimits", format_args!("{name}: the soft limit is above the hard one")));
    }
    part("rlimits", serde_json::json!({ "type": name, "hard": asked.hard, "soft": asked.soft }))
}

fn io_priority(asked: &api::LinuxIoPriority) -> Result<Option<LinuxIOPriority>> {
    let class = asked.class();
    if class == api::IoPrioClass::IoprioClassNone {
        return Ok(None);
    }
    let priority = serde_json::json!({ "class": class.as_str_name(), "priority": asked.priority });
    part("I/O priority", priority).map(Some)
}

fn scheduler(asked: &api::LinuxScheduler) -> Result<Option<Scheduler>> {
    let policy = asked.policy();
    if policy == api::LinuxSchedulerPolicy::SchedNone {
        return Ok(None);
    }
    let flags = asked.flags().map(|flag| named("scheduler flags", flag.as_str_name())).collect::<Result<Vec<_>>>()?;
    let mut scheduler = Scheduler::default();
    scheduler
        .set_policy(named("scheduler", policy.as_str_name())?)
        .set_nice((asked.nice != 0).then_some(asked.nice))
        .set_priority((asked.priority != 0).then_some(asked.priority))
        .set_flags((!flags.is_empty()).then_some(flags))
        .set_runtime((asked.runtime != 0).then_some(asked.runtime))
        .set_deadline((asked.deadline != 0).then_some(asked.deadline))
        .set_period((asked.period != 0).then_some(asked.period));
    Ok(Some(scheduler))
}

fn hooks(spec: &mut Spec, asked: &api::Hooks) {
    if *asked == api::Hooks::default() {
        return;
    }
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    add(hooks.prestart_mut(), &asked.prestart);
    add(hooks.create_runtime_mut(), &asked.create_runtime);
    add(hooks.create_container_mut(), &asked.create_container);
    add(hooks.start_container_mut(), &asked.start_container);
    add(hooks.poststart_mut(), &asked.poststart);
    add(hooks.poststop_mut(), &asked.poststop);
    spec.set_hooks(Some(hooks));
}

fn add(place: &mut Option<Vec<Hook>>, asked: &[api::Hook]) {
    if !asked.is_empty() {
        place.get_or_insert_default().extend(asked.iter().map(hook));
    }
}

fn hook(asked: &api::Hook) -> Hook {
    let mut hook = Hook::default();
    hook.set_path(PathBuf::from(&asked.path))
        .set_args((!asked.args.is_empty()).then(|| asked.args.clone()))
        .set_env((!asked.env.is_empty()).then(|| asked.env.clone()))
        .set_timeout(asked.timeout.map(|seconds| seconds.value));
    hook
}
