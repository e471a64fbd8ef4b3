//! What goes wrong in pods, and what people are told.

use crate::space::{Space, has};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::{Exit, Pod};

const MANIFEST: &str = include_str!("../../manifests/failures.yaml");

/// One pod of a manifest with several.
fn one(manifest: &'static str, name: &str) -> Result<&'static str> {
    manifest
        .split("---")
        .find(|part| part.contains(&format!("name: {name} }}")))
        .with_context(|| format!("no pod {name}"))
}

fn ended(pod: &Pod) -> Option<Exit> {
    pod.containers.get("main")?.ended.clone()
}

/// The state before the last start.
fn last(pod: &Pod) -> Option<Exit> {
    pod.containers.get("main")?.last.clone()
}

pub(crate) async fn out_of_memory(space: Space) -> Result<()> {
    space.apply(one(MANIFEST, "oom")?).await?;
    let exit = space.pod("oom", "its end", ended).await?;
    ensure!(exit.reason == "OOMKilled" && exit.code == 137, "{exit:#?}");
    Ok(())
}

pub(crate) async fn crash_loop(space: Space) -> Result<()> {
    space.apply(one(MANIFEST, "crash-loop")?).await?;
    let waits = |pod: &Pod| {
        let main = pod.containers.get("main")?;
        main.waiting
            .clone()
            .filter(|(reason, _)| reason == "CrashLoopBackOff")
            .map(|(_, message)| (message, main.clone()))
    };
    let (message, main) = space.pod("crash-loop", "CrashLoopBackOff", waits).await?;
    has(&message, &["back-off 10s restarting failed container=main"])?;
    ensure!(main.last.as_ref().is_some_and(|exit| exit.code == 1 && exit.reason == "Error"), "{main:#?}");
    space.event("crash-loop", "BackOff", "Back-off restarting failed container main").await?;
    let restarted =
        space.pod("crash-loop", "a second start", |pod| (pod.container("main").ok()?.restarts > 1).then_some(()));
    restarted.await?;
    let log = space.kubectl.run(&["logs", "crash-loop"]).await?;
    ensure!(log == "cannot start\n", "{log}");
    space.delete("crash-loop").await
}

pub(crate) async fn no_command(space: Space) -> Result<()> {
    space.apply(one(MANIFEST, "no-command")?).await?;
    let exit = space.pod("no-command", "its end", ended).await?;
    ensure!(exit.reason == "StartError" && exit.code == 128 && exit.message.contains("/no/such/program"), "{exit:#?}");
    space.event("no-command", "Failed", "no such file or directory").await.map(drop)
}

pub(crate) async fn liveness(space: Space) -> Result<()> {
    space.apply(one(MANIFEST, "deaf")?).await?;
    space.event("deaf", "Unhealthy", "Liveness probe failed: out of order").await?;
    space.event("deaf", "Killing", "Container main failed liveness probe, will be restarted").await?;
    let exit = space.pod("deaf", "a second start", last).await?;
    ensure!(exit.code == 137, "{exit:#?}");
    space.delete("deaf").await
}

pub(crate) async fn hooks_that_fail(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/hooks.yaml")).await?;
    for name in ["post-start-exits", "post-start-missing", "post-start-http"] {
        space.event(name, "FailedPostStartHook", "PostStartHook failed").await?;
        space.event(name, "Killing", "FailedPostStartHook").await?;
        // The hook's failure ends the container, which is then started again.
        let exit = space.pod(name, "the end of its first container", |pod| last(pod).or_else(|| ended(pod))).await?;
        ensure!(exit.code == 137 || exit.code == 143, "{name}: {exit:#?}");
    }
    space.ready("pre-stop-exits").await?;
    space.cluster.api().delete(&format!("{}/pre-stop-exits", space.path("pods"))).await?;
    let text = space.event("pre-stop-exits", "FailedPreStopHook", "").await?;
    has(&text, &["PreStopHook failed"])?;
    space.gone("pre-stop-exits").await
}
