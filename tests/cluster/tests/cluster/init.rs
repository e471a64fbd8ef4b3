//! Init containers and sidecars.

use crate::space::Space;
use anyhow::{Context, Result, ensure};

/// Under each restart policy.
pub(crate) async fn restart_policies(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/init-containers.yaml")).await?;
    let never = space.phase("never", "Failed").await?;
    let setup = never.container("setup")?;
    ensure!(
        setup.ended.as_ref().is_some_and(|exit| exit.code == 5 && exit.reason == "Error") && setup.restarts == 0,
        "{never:#?}"
    );
    let main = never.container("main")?;
    ensure!(
        main.waiting.as_ref().is_some_and(|(reason, _)| reason == "PodInitializing") && main.id.is_empty(),
        "{never:#?}"
    );
    ensure!(space.kubectl.run(&["logs", "never", "-c", "setup"]).await? == "giving up\n", "another log");

    let done = space.phase("on-failure", "Succeeded").await?;
    ensure!(done.container("setup")?.restarts == 1 && done.container("check")?.restarts == 0, "{done:#?}");
    ensure!(done.container("main")?.restarts == 0, "{done:#?}");
    let log = space.kubectl.run(&["logs", "on-failure", "-c", "main"]).await?;
    ensure!(log == "try\ntry\nchecked\n", "{log}");

    // The init container failed once, the main one ended once with success, and the pod runs on.
    let again = |pod: &cricket_kubelet_tests::Pod| {
        let main = pod.containers.get("main")?;
        (pod.ready && main.restarts == 1).then(|| pod.clone())
    };
    let always = space.pod("always", "its second start", again).await?;
    let last = always.container("main")?.last.as_ref().context("no last state")?;
    ensure!(last.code == 0 && last.reason == "Completed", "{always:#?}");
    ensure!(always.container("setup")?.restarts == 1, "{always:#?}");
    let tries = space.sh("always", "main", "cat /work/tries").await?;
    ensure!(tries == "try\ntry\nrun\nrun\n", "{tries}");
    space.delete("always").await
}

/// A sidecar that fails at first is started again, comes up before what follows, and ends after the main container.
pub(crate) async fn sidecar(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/sidecar.yaml")).await?;
    let pod = space.phase("job", "Succeeded").await?;
    let (proxy, main) = (pod.container("proxy")?, pod.container("main")?);
    ensure!(proxy.restarts == 1, "{pod:#?}");
    let (proxy, main) = (proxy.ended.as_ref().context("it runs")?, main.ended.as_ref().context("it runs")?);
    ensure!(proxy.code == 0 && main.code == 0, "{pod:#?}");
    ensure!(proxy.finished >= main.finished && proxy.started <= main.started, "{pod:#?}");
    let order = space.kubectl.run(&["logs", "job", "-c", "main"]).await?;
    ensure!(order == "proxy\nproxy\nsetup\nmain\n", "{order}");
    space.event("job", "Killing", "Stopping container proxy").await.map(drop)
}
