//! StopContainer: signal, grace period, and what is left when it is over.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri;
use cricket_testkit::leaks;
use cricket_testkit::logs::lines;

use crate::support::{SOON, Scene, idle, node, pod_security, security, shell, until};

const STUBBORN: &str = "trap 'echo term' TERM; echo up; while :; do sleep 0.05; done";

/// Starts a container that says when its traps are set.
async fn start(scene: &Scene, config: &v1::ContainerConfig) -> Result<String> {
    let id = scene.run(config).await?;
    until("the container to be up", || async { Ok(!scene.node.daemon.logs(&scene.pod, config)?.is_empty()) }).await?;
    Ok(id)
}

#[tokio::test]
async fn the_whole_grace_period_then_kill() -> Result<()> {
    let scene = Scene::host("stop-grace").await?;
    let config = shell("main", STUBBORN);
    let main = start(&scene, &config).await?;
    let began = Instant::now();
    scene.cri.stop(&main, 2).await?;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < SOON, "{took:?}");
    let status = scene.cri.container(&main).await?;
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (v1::ContainerState::ContainerExited, 137, "Error")
    );
    assert!(status.finished_at > status.started_at && status.started_at >= status.created_at);
    assert_eq!(lines(&scene.node.daemon.logs(&scene.pod, &config)?, "stdout"), ["up", "term"]);
    // Again, when it has ended: nothing to do.
    scene.cri.stop(&main, 10).await?;
    scene.end().await
}

#[tokio::test]
async fn the_earliest_deadline_wins_and_the_signal_comes_once() -> Result<()> {
    let scene = Scene::host("stop-again").await?;
    let config = shell("main", STUBBORN);
    let main = start(&scene, &config).await?;
    let began = Instant::now();
    let (first, second) = (scene.cri.clone(), scene.cri.clone());
    let (one, two, three) = tokio::join!(
        first.stop(&main, 60),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            second.stop(&main, 2).await
        },
        async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            scene.cri.stop(&main, 30).await
        },
    );
    one.and(two).and(three)?;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2) && took < SOON, "{took:?}");
    let signals = lines(&scene.node.daemon.logs(&scene.pod, &config)?, "stdout");
    assert_eq!(signals, ["up", "term"], "the signal is sent once");
    scene.end().await
}

#[tokio::test]
async fn timeout_zero_kills_at_once() -> Result<()> {
    let scene = Scene::host("stop-zero").await?;
    let config = shell("main", STUBBORN);
    let main = start(&scene, &config).await?;
    let waiting = scene.cri.clone();
    let id = main.clone();
    let long = tokio::spawn(async move { waiting.stop(&id, 300).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    scene.cri.stop(&main, 0).await?;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    tokio::time::timeout(SOON, long).await???;
    assert_eq!(scene.cri.container(&main).await?.exit_code, 137);
    scene.end().await
}

#[tokio::test]
async fn goes_on_when_its_caller_goes_away() -> Result<()> {
    let scene = Scene::host("stop-abandoned").await?;
    let config = shell("main", STUBBORN);
    let main = start(&scene, &config).await?;
    let stop = {
        let (cri, main) = (scene.cri.clone(), main.clone());
        tokio::spawn(async move { cri.stop(&main, 3).await })
    };
    let log = || anyhow::Ok(lines(&scene.node.daemon.logs(&scene.pod, &config)?, "stdout"));
    until("the signal", || async { Ok(log()?.last().is_some_and(|line| line == "term")) }).await?;
    stop.abort();
    assert!(stop.await.is_err_and(|e| e.is_cancelled()), "the caller gave up first");
    let status = scene.cri.wait_exit(&main, SOON).await?;
    assert_eq!(status.exit_code, 137);
    scene.end().await
}

#[tokio::test]
async fn unknown_ids_are_stopped_and_removed_already() -> Result<()> {
    let scene = Scene::host("stop-unknown").await?;
    let unknown = "0123456789abcdef".repeat(4);
    scene.cri.stop(&unknown, 1).await?;
    scene.cri.remove(&unknown).await?;
    scene.cri.stop_pod(&unknown).await?;
    scene.cri.remove_pod(&unknown).await?;
    for error in [
        scene.cri.container(&unknown).await.err(),
        scene.cri.pod(&unknown).await.err(),
        scene.cri.exec(&unknown, &["true"], 1).await.err(),
        scene.cri.runtime().container_stats(v1::ContainerStatsRequest { container_id: unknown.clone() }).await.err(),
        scene
            .cri
            .runtime()
            .pod_sandbox_stats(v1::PodSandboxStatsRequest { pod_sandbox_id: unknown.clone() })
            .await
            .err(),
    ] {
        assert_eq!(error.context("an error")?.code(), tonic::Code::NotFound);
    }
    scene.end().await
}

/// Says which signal came, and ends by it.
const LISTENER: &str = "for s in TERM QUIT USR1 INT; do trap \"echo $s; exit 0\" $s; done; echo up; \
                        while :; do sleep 0.05; done";

#[tokio::test]
async fn the_signal_is_the_containers_then_the_images_then_term() -> Result<()> {
    let scene = Scene::host("stop-signal").await?;
    let with_signal = scene.image("stop-signal", |image| image.set("StopSignal", "SIGUSR1")).await?;
    let with_signal = with_signal.as_str();
    let cases = [
        ("by-default", BUSYBOX, v1::Signal::RuntimeDefault, "TERM", v1::Signal::Sigterm),
        ("by-image", with_signal, v1::Signal::RuntimeDefault, "USR1", v1::Signal::Sigusr1),
        ("by-container", with_signal, v1::Signal::Sigquit, "QUIT", v1::Signal::Sigquit),
    ];
    for (name, image, asked, expected, reported) in cases {
        let mut config = cri::container(name, image, &["sh", "-c", LISTENER]);
        config.stop_signal = asked.into();
        let id = start(&scene, &config).await?;
        assert_eq!(scene.cri.container(&id).await?.stop_signal(), reported, "{name}");
        scene.cri.stop(&id, 10).await?;
        assert_eq!(lines(&scene.node.daemon.logs(&scene.pod, &config)?, "stdout"), ["up", expected], "{name}");
        assert_eq!(scene.cri.container(&id).await?.exit_code, 0, "{name}");
    }
    scene.end().await
}

/// A container whose init leaves a process behind in the PID namespace of `mode`.
async fn leaves_nothing(name: &str, mode: v1::NamespaceMode) -> Result<()> {
    let node = node().await?;
    let mut pod = cri::host_network(node.daemon.pod(name));
    pod_security(&mut pod).namespace_options.get_or_insert_default().set_pid(mode);
    let scene = Scene::with(node, pod).await?;
    let mut config =
        shell("main", "setsid sleep 4300 & setsid sleep 4301 & echo up; while [ ! -e /end ]; do sleep 0.05; done");
    security(&mut config).namespace_options.get_or_insert_default().set_pid(mode);
    let mark = scene.pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    let left = || -> Result<usize> {
        Ok(leaks::processes(&mark)?.iter().filter(|p| p.command.starts_with("sleep 430")).count())
    };
    let main = start(&scene, &config).await?;
    until("its children to be there", || async { Ok(left()? == 2) }).await?;
    // By itself: the exit of init takes the rest with it.
    scene.cri.exec(&main, &["touch", "/end"], 5).await?;
    assert_eq!(scene.cri.wait_exit(&main, SOON).await?.exit_code, 0);
    until("what init left to be gone", || async { Ok(left()? == 0) }).await?;
    // By a stop.
    let mut second = config.clone();
    second.metadata = Some(v1::ContainerMetadata { name: "second".into(), attempt: 0 });
    second.log_path = "second.log".into();
    let main = start(&scene, &second).await?;
    until("its children to be there", || async { Ok(left()? == 2) }).await?;
    scene.cri.stop(&main, 0).await?;
    until("the stopped container's processes to be gone", || async { Ok(left()? == 0) }).await?;
    scene.end().await
}

#[tokio::test]
async fn everything_dies_with_init_in_the_hosts_pid_namespace() -> Result<()> {
    leaves_nothing("stop-host-pid", v1::NamespaceMode::Node).await
}

#[tokio::test]
async fn everything_dies_with_init_in_the_pods_pid_namespace() -> Result<()> {
    leaves_nothing("stop-pod-pid", v1::NamespaceMode::Pod).await
}

#[tokio::test]
async fn everything_dies_with_init_in_its_own_pid_namespace() -> Result<()> {
    leaves_nothing("stop-own-pid", v1::NamespaceMode::Container).await
}

#[tokio::test]
async fn a_stopped_pod_stops_its_containers() -> Result<()> {
    let scene = Scene::networked("stop-pod").await?;
    let running = scene.run(&idle("running")).await?;
    let created = scene.cri.create(&scene.id, &idle("created"), &scene.pod).await?;
    scene.cri.stop_pod(&scene.id).await?;
    assert_eq!(scene.cri.container(&running).await?.state(), v1::ContainerState::ContainerExited);
    let pod = scene.cri.pod(&scene.id).await?;
    assert_eq!(pod.state(), v1::PodSandboxState::SandboxNotready);
    let error = scene.cri.start(&created).await.expect_err("the pod is stopped");
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    scene.cri.stop_pod(&scene.id).await?;
    scene.end().await
}
