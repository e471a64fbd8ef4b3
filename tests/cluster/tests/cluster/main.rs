//! Pods of a whole cluster, from manifests that a person could have written.
//! The cluster is started once, every spec has a namespace of its own, and at
//! the end nothing of any pod may be left on the machine. With
//! `CRICKET_TEST_PEER=1` the runtime is containerd, which shows that what the
//! specs ask for is what clusters get.
//!
//! There are two nodes: one with a kubelet as it comes, and one labelled and
//! tainted `dedicated`, whose kubelet takes events and numbers from the runtime.

#![forbid(unsafe_code)]

mod environment;
mod failures;
mod handlers;
mod init;
mod lifecycle;
mod logs;
mod nodes;
mod pulls;
mod space;
mod streams;
mod volumes;

use anyhow::{Context, Result};
use cricket_kubelet_tests::cluster::Cluster;
use cricket_kubelet_tests::{KubeletOptions, Options, handlers as classes, peer};
use cricket_testkit::daemon::Program;
use libtest_mimic::{Arguments, Trial};
use serde_json::json;
use space::Space;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

/// A spec that runs to its end.
type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A name, and what makes the spec run in a namespace.
pub(crate) struct Spec(String, Box<dyn Fn(Space) -> Running + Send>);

/// Specs of functions, named by their paths.
macro_rules! specs {
    ($($path:path),* $(,)?) => {
        vec![$(Spec(stringify!($path).replace(' ', ""), Box::new(|space| Box::pin($path(space))))),*]
    };
}

fn all() -> Vec<Spec> {
    let mut all = specs![
        environment::environment,
        environment::host_namespaces,
        environment::user_namespace,
        failures::out_of_memory,
        failures::crash_loop,
        failures::no_command,
        failures::liveness,
        failures::hooks_that_fail,
        handlers::unknown,
        handlers::default,
        handlers::overhead,
        handlers::overhead_of_sandboxes,
        handlers::scheduling,
        init::restart_policies,
        init::sidecar,
        lifecycle::termination_messages,
        lifecycle::active_deadline,
        lifecycle::grace_longer_than_the_hook,
        lifecycle::grace_shorter_than_the_hook,
        lifecycle::resize,
        logs::kubectl_logs,
        logs::rotation,
        nodes::numbers_from_the_runtime,
        nodes::events_from_the_runtime,
        pulls::policies_and_back_off,
        pulls::secret,
        streams::exec,
        streams::attach,
        streams::port_forward,
        streams::cp,
        streams::debug,
        volumes::image_volume,
    ];
    for name in options().handlers() {
        let run = move |space| -> Running { Box::pin(handlers::each(space, name)) };
        all.push(Spec(format!("handlers::each::{name}"), Box::new(run)));
    }
    all
}

fn options() -> Options {
    let program = if peer() { Program::Containerd } else { Program::Cricket };
    Options { program, all_handlers: true, ..Options::default() }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    if arguments.list {
        let names = all().into_iter().map(|Spec(name, _)| Trial::test(name, || Ok(())));
        return Ok(libtest_mimic::run(&arguments, names.collect()).exit_code());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let cluster = Arc::new(runtime.block_on(start())?);
    let trial = |Spec(name, spec): Spec| {
        let (cluster, runtime) = (Arc::clone(&cluster), runtime.handle().clone());
        let title = name.clone();
        Trial::test(name, move || {
            let ran = runtime.block_on(Space::run(&cluster, &title, spec));
            ran.map_err(|error| format!("{error:?}").into())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, all().into_iter().map(trial).collect());
    let cluster = Arc::into_inner(cluster).context("somebody still uses the cluster")?;
    runtime.block_on(cluster.finish()).context("at the end")?;
    Ok(conclusion.exit_code())
}

/// Both nodes, and the classes that are not only a handler.
async fn start() -> Result<Cluster> {
    let mut first = options();
    // The least that it accepts, so that rotation does not need a spec with patience.
    let rotation = [("containerLogMaxSize", json!("64Ki")), ("containerLogMonitorInterval", json!("3s"))];
    first.kubelet.config.extend(rotation.map(|(key, value)| (key.to_owned(), value)));
    let mut cluster = Cluster::with(first).await?;
    let config = json!({
        "featureGates": { "EventedPLEG": true, "PodAndContainerStatsFromCRI": true },
        "registerWithTaints": [{ "key": "example.com/dedicated", "effect": "NoSchedule" }],
    });
    let kubelet = KubeletOptions {
        labels: vec!["example.com/pool=dedicated".to_owned()],
        config: config.as_object().cloned().unwrap_or_default(),
        ..KubeletOptions::default()
    };
    cluster.join(Options { kubelet, ..options() }).await?;
    let classes = include_str!("../../manifests/runtimeclasses.yaml");
    cluster.kubectl("default")?.apply(&space::for_peer(classes, classes::BUILT_IN)).await?;
    Ok(cluster)
}
