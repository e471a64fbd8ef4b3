//! Statuses, lists, identifiers and the verbose information that scripts parse.

use std::collections::HashMap;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::host;
use serde_json::Value;
use tonic::Code;

use crate::support::{SOON, Scene, idle, mount, node, security, shell};

#[tokio::test]
async fn a_containers_status_is_complete_and_outlives_its_image() -> Result<()> {
    let scene = Scene::host("status-container").await?;
    let image = scene.image("status", |image| image.env(&["STATUS=1"]).set("StopSignal", "SIGINT")).await?;
    let known = scene.cri.image(&image).await?.context("the image")?;
    let mut config = idle("main");
    config.image = Some(cricket_testkit::cri::image_spec(&known.id));
    config.image.get_or_insert_default().user_specified_image.clone_from(&image);
    config.labels = HashMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
    config.annotations = HashMap::from([("note".into(), "text".into())]);
    config.mounts = vec![mount(scene.node.daemon.home(), "/data")];
    security(&mut config).run_as_user = Some(v1::Int64Value { value: 12 });
    let main = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    let created = scene.cri.container(&main).await?;
    assert_eq!(created.state(), v1::ContainerState::ContainerCreated);
    assert!(created.created_at > 0 && created.started_at == 0 && created.finished_at == 0);
    scene.cri.start(&main).await?;
    let check = |status: &v1::ContainerStatus| {
        assert_eq!(status.id, main);
        assert_eq!(status.metadata, config.metadata);
        let spec = status.image.clone().unwrap_or_default();
        assert_eq!((spec.image.as_str(), spec.user_specified_image.as_str()), (image.as_str(), image.as_str()));
        assert_eq!(status.image_id, known.id);
        assert_eq!(vec![status.image_ref.clone()], known.repo_digests, "repository@digest");
        assert_eq!((&status.labels, &status.annotations), (&config.labels, &config.annotations));
        assert_eq!(status.mounts, config.mounts);
        assert_eq!(status.log_path, scene.logs().join("main.log").display().to_string());
        assert_eq!(status.user.clone().and_then(|u| u.linux).unwrap_or_default().uid, 12);
        assert_eq!(status.stop_signal(), v1::Signal::Sigint);
    };
    let running = scene.cri.container(&main).await?;
    check(&running);
    assert!(running.started_at >= running.created_at);
    scene.cri.remove_image(&known.id).await?;
    assert!(scene.cri.image(&image).await?.is_none());
    check(&scene.cri.container(&main).await?);
    assert_eq!(scene.sh(&main, "echo $STATUS").await?, "1", "its layers are there as long as it is");
    scene.cri.stop(&main, 0).await?;
    check(&scene.cri.container(&main).await?);
    scene.end().await
}

#[tokio::test]
async fn reasons_and_codes_of_an_end() -> Result<()> {
    let scene = Scene::host("status-ends").await?;
    for (script, code, reason) in
        [("exit 0", 0, "Completed"), ("exit 42", 42, "Error"), ("kill -USR1 $$; sleep 9", 0, "")]
    {
        let name = format!("ends-{code}-{}", reason.len());
        let id = scene.run(&shell(&name, script)).await?;
        if reason.is_empty() {
            // Process 1 of a PID namespace is not killed by a signal that it does not handle.
            scene.cri.stop(&id, 0).await?;
            continue;
        }
        let status = scene.cri.wait_exit(&id, SOON).await?;
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason));
        assert!(status.finished_at >= status.started_at && status.started_at > 0);
    }
    scene.end().await
}

#[tokio::test]
async fn a_pods_status_echoes_what_the_kubelet_compares() -> Result<()> {
    let node = node().await?;
    let mut pod = node.daemon.pod("status-pod");
    pod.labels = HashMap::from([("app".into(), "x".into())]);
    pod.annotations = HashMap::from([("note".into(), "y".into())]);
    let scene = Scene::with(node, pod).await?;
    let status = scene.cri.pod(&scene.id).await?;
    assert_eq!(status.metadata, scene.pod.metadata);
    assert_eq!((&status.labels, &status.annotations), (&scene.pod.labels, &scene.pod.annotations));
    let asked = scene.pod.linux.as_ref().and_then(|l| l.security_context.as_ref());
    assert_eq!(
        status.linux.and_then(|l| l.namespaces).and_then(|n| n.options),
        asked.and_then(|s| s.namespace_options.clone())
    );
    let item = scene.cri.pods().await?.into_iter().find(|p| p.id == scene.id).context("is listed")?;
    assert_eq!((item.metadata, item.labels, item.created_at), (status.metadata, status.labels, status.created_at));
    scene.end().await
}

#[tokio::test]
async fn any_unambiguous_prefix_names_a_thing() -> Result<()> {
    let scene = Scene::host("status-prefix").await?;
    let mut ids = Vec::new();
    // With 17 of them two begin with the same digit.
    for n in 0..17 {
        ids.push(scene.cri.create(&scene.id, &idle(&format!("c{n}")), &scene.pod).await?);
    }
    let prefix = &ids[0][..16];
    assert_eq!(scene.cri.container(prefix).await?.id, ids[0]);
    scene.cri.start(prefix).await?;
    assert_eq!(scene.sh(prefix, "echo works").await?, "works");
    let stats =
        scene.cri.runtime().container_stats(v1::ContainerStatsRequest { container_id: prefix.to_owned() }).await?;
    assert_eq!(stats.into_inner().stats.and_then(|s| s.attributes).unwrap_or_default().id, ids[0]);
    let pod_prefix = &scene.id[..16];
    assert_eq!(scene.cri.pod(pod_prefix).await?.id, scene.id);
    let one = scene.cri.create(pod_prefix, &idle("by-prefix"), &scene.pod).await?;
    assert_eq!(scene.cri.container(&one).await?.id, one);
    let list = |filter: v1::ContainerFilter| {
        let mut client = scene.cri.runtime();
        async move { client.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await }
    };
    let found = list(v1::ContainerFilter { id: prefix.to_owned(), ..Default::default() }).await?.into_inner();
    assert_eq!(found.containers.len(), 1);
    let found = list(v1::ContainerFilter { pod_sandbox_id: pod_prefix.to_owned(), ..Default::default() }).await?;
    assert_eq!(found.into_inner().containers.len(), 18);

    let mut digits: HashMap<&str, usize> = HashMap::new();
    ids.iter().for_each(|id| *digits.entry(&id[..1]).or_default() += 1);
    let ambiguous = digits.into_iter().find(|(_, n)| *n > 1).map(|(d, _)| d.to_owned()).context("two alike")?;
    let errors = [
        scene.cri.container(&ambiguous).await.err(),
        scene.cri.start(&ambiguous).await.err(),
        scene.cri.stop(&ambiguous, 0).await.err(),
        scene.cri.remove(&ambiguous).await.err(),
        scene.cri.exec(&ambiguous, &["true"], 1).await.err(),
        list(v1::ContainerFilter { id: ambiguous.clone(), ..Default::default() }).await.err(),
    ];
    for (n, error) in errors.into_iter().enumerate() {
        let error = error.with_context(|| format!("request {n} took an ambiguous prefix"))?;
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains("ambiguous"), "{error}");
    }
    assert_eq!(scene.cri.container(&ids[0]).await?.state(), v1::ContainerState::ContainerRunning);
    scene.end().await
}

#[tokio::test]
async fn lists_are_filtered_by_state_and_labels() -> Result<()> {
    let scene = Scene::host("status-lists").await?;
    let mut config = idle("one");
    config.labels = HashMap::from([("k".into(), scene.id.clone()), ("n".into(), "1".into())]);
    let one = scene.run(&config).await?;
    let mut config = idle("two");
    config.labels = HashMap::from([("k".into(), scene.id.clone()), ("n".into(), "2".into())]);
    let two = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    let list = |filter: v1::ContainerFilter| {
        let mut client = scene.cri.runtime();
        async move {
            let answer = client.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await?;
            let mut ids: Vec<String> = answer.into_inner().containers.into_iter().map(|c| c.id).collect();
            ids.sort();
            anyhow::Ok(ids)
        }
    };
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let by_label = v1::ContainerFilter { label_selector: labels(&[("k", &scene.id)]), ..Default::default() };
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(list(by_label).await?, both);
    let by_two = v1::ContainerFilter { label_selector: labels(&[("k", &scene.id), ("n", "2")]), ..Default::default() };
    assert_eq!(list(by_two).await?, [two.as_str()]);
    let running = v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() };
    let by_state = v1::ContainerFilter { pod_sandbox_id: scene.id.clone(), state: Some(running), ..Default::default() };
    assert_eq!(list(by_state).await?, [one.as_str()]);
    let pods = v1::PodSandboxFilter {
        id: scene.id.clone(),
        state: Some(v1::PodSandboxStateValue { state: v1::PodSandboxState::SandboxNotready.into() }),
        ..Default::default()
    };
    let answer = scene.cri.runtime().list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(pods) }).await?;
    assert!(answer.into_inner().items.is_empty());
    scene.end().await
}

#[tokio::test]
async fn verbose_information_has_containerds_names() -> Result<()> {
    let scene = Scene::networked("status-verbose").await?;
    let main = scene.idle("main").await?;
    let info = scene.verbose(&main).await?;
    assert_eq!(info["sandboxID"], scene.id.as_str());
    assert!(info["pid"].as_u64().is_some_and(|pid| pid > 1));
    assert_eq!(info["runtimeSpec"]["process"]["args"][0], "sh");
    assert_eq!(info["config"]["metadata"]["name"], "main");
    assert!(info["snapshotKey"].as_str().is_some_and(|key| !key.is_empty()));

    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: scene.id.clone(), verbose: true };
    let answer = scene.cri.runtime().pod_sandbox_status(request).await?.into_inner();
    let info: Value = serde_json::from_str(answer.info.get("info").context("key `info`")?)?;
    assert!(info["pid"].as_u64().is_some_and(|pid| pid > 1));
    assert!(info["runtimeHandler"].is_string() && info["runtimeSpec"].is_object());
    assert_eq!(info["config"]["metadata"]["name"], "status-verbose");
    let ip = answer.status.and_then(|s| s.network).unwrap_or_default().ip;
    assert!(info["cniResult"].to_string().contains(&ip), "{}", info["cniResult"]);

    let request = v1::ImageStatusRequest { image: Some(cricket_testkit::cri::image_spec(BUSYBOX)), verbose: true };
    let answer = scene.cri.images().image_status(request).await?.into_inner();
    let info: Value = serde_json::from_str(answer.info.get("info").context("key `info`")?)?;
    assert!(info["chainID"].as_str().is_some_and(|id| id.starts_with("sha256:")));
    assert_eq!(info["imageSpec"]["os"], "linux");
    assert!(info["imageSpec"]["config"]["Cmd"].is_array());

    let answer = scene.cri.runtime().status(v1::StatusRequest { verbose: true }).await?.into_inner();
    for key in ["config", "cniconfig"] {
        let value: Value = serde_json::from_str(answer.info.get(key).with_context(|| format!("key `{key}`"))?)?;
        assert!(value.is_object(), "{key}: {value}");
    }
    let quiet = scene.cri.runtime().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    assert!(quiet.info.is_empty());
    scene.end().await
}

#[tokio::test]
async fn names_are_taken_as_long_as_their_owner_is_there() -> Result<()> {
    let scene = Scene::host("status-names").await?;
    let config = idle("main");
    let first = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("the caller was told of the first");
    assert_eq!(error.code(), Code::AlreadyExists);
    assert!(error.message().contains(&first), "{error}");
    let mut second = config.clone();
    second.metadata = Some(v1::ContainerMetadata { name: "main".into(), attempt: 1 });
    scene.cri.create(&scene.id, &second, &scene.pod).await?;
    scene.cri.remove(&first).await?;
    let again = scene.cri.create(&scene.id, &config, &scene.pod).await?;
    assert_ne!(first, again);
    let error = scene.cri.run_pod(&scene.pod).await.expect_err("the pod exists");
    assert!(error.code() == Code::AlreadyExists && error.message().contains(&scene.id), "{error}");
    scene.end().await
}

#[tokio::test]
async fn version_and_features_are_said() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let version = cri.runtime().version(v1::VersionRequest { version: "0.1.0".into() }).await?.into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("cricket", "v1"));
    assert!(!version.runtime_version.is_empty());
    let config = cri.runtime().runtime_config(v1::RuntimeConfigRequest {}).await?.into_inner();
    let driver = config.linux.map(|l| l.cgroup_driver).context("the driver is said explicitly")?;
    let expected = if host::systemd_driver() { v1::CgroupDriver::Systemd } else { v1::CgroupDriver::Cgroupfs };
    assert_eq!(driver, i32::from(expected));
    let status = cri.runtime().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    assert!(status.features.is_some_and(|f| f.supplemental_groups_policy), "security::groups_… shows that it is true");
    let handlers: Vec<_> = status.runtime_handlers.iter().map(|h| h.name.as_str()).collect();
    assert!(handlers.contains(&""), "the default handler is listed under the empty name, too: {handlers:?}");
    Ok(())
}

#[tokio::test]
async fn a_second_attempt_lives_beside_the_first() -> Result<()> {
    let scene = Scene::host("status-attempt").await?;
    scene.cri.stop_pod(&scene.id).await?;
    let mut again = scene.pod.clone();
    again.metadata.get_or_insert_default().attempt = 1;
    let second = scene.cri.run_pod(&again).await?;
    assert_eq!(scene.cri.pod(&second).await?.metadata, again.metadata);
    assert_eq!(scene.cri.pod(&scene.id).await?.state(), v1::PodSandboxState::SandboxNotready);
    scene.cri.stop_pod(&second).await?;
    scene.cri.remove_pod(&second).await?;
    scene.end().await
}

#[tokio::test]
async fn removal_is_by_force_and_complete() -> Result<()> {
    let scene = Scene::networked("status-remove").await?;
    let main = scene.idle("main").await?;
    let pid = scene.pid(&main).await?;
    scene.cri.remove(&main).await?;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it was running");
    assert_eq!(scene.cri.container(&main).await.expect_err("removed").code(), Code::NotFound);
    let other = scene.idle("other").await?;
    let pid = scene.pid(&other).await?;
    // Without stopping anything first.
    scene.cri.remove_pod(&scene.id).await?;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it was running");
    assert_eq!(scene.cri.container(&other).await.expect_err("removed").code(), Code::NotFound);
    assert_eq!(scene.cri.pod(&scene.id).await.expect_err("removed").code(), Code::NotFound);
    assert!(!scene.cri.containers().await?.iter().any(|c| c.pod_sandbox_id == scene.id));
    // The logs are the kubelet's.
    assert!(scene.logs().join("other.log").exists());
    Ok(())
}

#[tokio::test]
async fn a_pods_status_has_its_containers() -> Result<()> {
    let scene = Scene::host("status-containers").await?;
    let main = scene.idle("main").await?;
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: scene.id.clone(), verbose: false };
    let answer = scene.cri.runtime().pod_sandbox_status(request).await?.into_inner();
    assert!(answer.timestamp > 0 && answer.info.is_empty());
    assert_eq!(answer.containers_statuses, [scene.cri.container(&main).await?]);
    let request = v1::UpdatePodSandboxResourcesRequest { pod_sandbox_id: scene.id.clone(), ..Default::default() };
    scene.cri.runtime().update_pod_sandbox_resources(request).await?;
    let request = v1::UpdatePodSandboxResourcesRequest { pod_sandbox_id: "d".repeat(64), ..Default::default() };
    let error = scene.cri.runtime().update_pod_sandbox_resources(request).await.expect_err("unknown");
    assert_eq!(error.code(), Code::NotFound);
    scene.end().await
}
