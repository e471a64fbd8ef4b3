//! Container logs as the kubelet reads and rotates them.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::Duration;

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_testkit::logs::{lines, parse, read};

use crate::support::{SOON, Scene, idle, node, shell, until};

#[tokio::test]
async fn streams_order_and_long_lines() -> Result<()> {
    let scene = Scene::host("logs-format").await?;
    // A line of 40,000 bytes is two full parts and a rest; the last line has no newline.
    let script = "echo one; echo two >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; echo; printf end";
    let config = shell("main", script);
    let main = scene.run(&config).await?;
    assert_eq!(scene.cri.wait_exit(&main, SOON).await?.exit_code, 0);
    let records = scene.node.daemon.logs(&scene.pod, &config)?;
    assert_eq!(lines(&records, "stdout"), ["one", &"x".repeat(40000), "", "end"]);
    assert_eq!(lines(&records, "stderr"), ["two"]);
    let parts: Vec<(usize, bool)> =
        records.iter().filter(|r| r.text.starts_with(b"xx")).map(|r| (r.text.len(), r.partial)).collect();
    assert_eq!(parts.iter().map(|(length, _)| length).sum::<usize>(), 40000);
    assert!(parts.iter().all(|(length, _)| *length <= 16 * 1024), "{parts:?}");
    assert!(parts.iter().filter(|(_, partial)| *partial).count() >= 2, "{parts:?}");
    assert!(records.is_sorted_by_key(|r| r.time), "times go forward");
    // Nine digits of a second: kubelets cut records to a time by comparing texts.
    let text = std::fs::read_to_string(scene.logs().join("main.log"))?;
    for line in text.lines() {
        let time = line.split(' ').next().unwrap_or_default();
        let fraction = time.split('.').nth(1).unwrap_or_default();
        assert_eq!(fraction.bytes().take_while(u8::is_ascii_digit).count(), 9, "{time}");
    }
    scene.end().await
}

#[tokio::test]
async fn files_are_for_root_and_their_group() -> Result<()> {
    let scene = Scene::host("logs-mode").await?;
    let mut config = shell("main", "echo text");
    config.log_path = "main/0.log".into();
    std::fs::create_dir(scene.logs().join("main"))?;
    let main = scene.run(&config).await?;
    let status = scene.cri.wait_exit(&main, SOON).await?;
    let path = scene.logs().join("main/0.log");
    assert_eq!(status.log_path, path.display().to_string(), "absolute");
    let meta = path.metadata()?;
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 0, 0));
    scene.end().await
}

#[tokio::test]
async fn rotation_loses_nothing() -> Result<()> {
    let scene = Scene::host("logs-rotate").await?;
    let config = shell(
        "main",
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i%100)) = 0 ] && sleep 0.02; done; sleep 1000",
    );
    let main = scene.run(&config).await?;
    let path = scene.logs().join("main.log");
    let mut rotated = Vec::new();
    for n in 0..5 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        let old = scene.logs().join(format!("main.log.{n}"));
        std::fs::rename(&path, &old)?;
        let request = v1::ReopenContainerLogRequest { container_id: main.clone() };
        scene.cri.runtime().reopen_container_log(request).await?;
        // It is there when the call has answered: the kubelet compresses the old one then.
        assert_eq!(path.metadata()?.mode() & 0o7777, 0o640);
        rotated.push(old);
    }
    rotated.push(path.clone());
    let all = || -> Result<Vec<String>> {
        let mut all = Vec::new();
        for file in &rotated {
            all.extend(lines(&read(file)?, "stdout"));
        }
        Ok(all)
    };
    until("the last line", || async { Ok(all().is_ok_and(|all| all.iter().any(|line| line == "line 2999"))) }).await?;
    let expected: Vec<String> = (0..3000).map(|n| format!("line {n}")).collect();
    assert_eq!(all()?, expected, "each line once and in order");
    scene.end().await
}

#[tokio::test]
async fn reopening_wants_a_running_container() -> Result<()> {
    let scene = Scene::host("logs-reopen").await?;
    let main = scene.cri.create(&scene.id, &shell("main", "true"), &scene.pod).await?;
    let request = v1::ReopenContainerLogRequest { container_id: main.clone() };
    let error = scene.cri.runtime().reopen_container_log(request).await.expect_err("is not running");
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    scene.end().await
}

#[tokio::test]
async fn the_directory_may_be_a_link_but_nothing_below_it() -> Result<()> {
    let node = node().await?;
    let mut pod = cricket_testkit::cri::host_network(node.daemon.pod("logs-links"));
    // As /var/log/pods on many nodes: the kubelet's path leads through a link.
    let (real, link) = (pod.log_directory.clone(), node.daemon.home().join("pods-link"));
    symlink(&real, &link)?;
    pod.log_directory = link.display().to_string();
    let scene = Scene::with(node, pod).await?;
    let main = scene.run(&shell("main", "echo through")).await?;
    scene.cri.wait_exit(&main, SOON).await?;
    assert_eq!(lines(&read(&std::path::Path::new(&real).join("main.log"))?, "stdout"), ["through"]);

    let outside = scene.node.daemon.home().join("outside");
    std::fs::create_dir(&outside)?;
    std::fs::write(outside.join("victim"), "untouched")?;
    symlink(&outside, std::path::Path::new(&real).join("dir"))?;
    symlink(outside.join("victim"), std::path::Path::new(&real).join("file.log"))?;
    for (name, path) in [("a", "dir/a.log"), ("b", "file.log"), ("c", "../escaped.log"), ("d", "dir/../../escaped.log")]
    {
        let mut config = shell(name, "echo hostile");
        config.log_path = path.into();
        let refused = match scene.cri.create(&scene.id, &config, &scene.pod).await {
            Ok(id) => scene.cri.start(&id).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{path}");
    }
    let names: BTreeSet<_> =
        std::fs::read_dir(&outside)?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(std::fs::read_to_string(outside.join("victim"))?, "untouched");
    assert!(!scene.node.daemon.home().join("logs/escaped.log").exists());
    scene.end().await
}

#[tokio::test]
async fn output_written_just_before_the_end_is_there_when_it_is_seen() -> Result<()> {
    let scene = Scene::host("logs-end").await?;
    for n in 0..5 {
        let config = shell(&format!("main-{n}"), "seq 1 500; echo last >&2");
        let main = scene.run(&config).await?;
        scene.cri.wait_exit(&main, SOON).await?;
        let records = parse(&std::fs::read(scene.logs().join(&config.log_path))?)?;
        assert_eq!(lines(&records, "stdout").len(), 500);
        assert_eq!(lines(&records, "stderr"), ["last"]);
    }
    scene.end().await
}

#[tokio::test]
async fn a_container_without_a_log_runs() -> Result<()> {
    let scene = Scene::host("logs-none").await?;
    let mut config = idle("main");
    config.log_path.clear();
    let main = scene.run(&config).await?;
    assert_eq!(scene.cri.container(&main).await?.log_path, "");
    scene.cri.stop(&main, 5).await?;
    scene.end().await
}

#[tokio::test]
async fn what_outlives_init_cannot_hold_its_log_up() -> Result<()> {
    let scene = Scene::host("logs-held").await?;
    // The child has the pipe open when init ends; it is killed and what it wrote is there.
    let script = "(trap '' TERM HUP; echo child; echo >/said; sleep 1000) & while [ ! -e /said ]; do sleep 0.05; done; \
                  echo init";
    let config = shell("main", script);
    let main = scene.run(&config).await?;
    let status = scene.cri.wait_exit(&main, SOON).await?;
    assert_eq!(status.exit_code, 0);
    assert_eq!(lines(&scene.node.daemon.logs(&scene.pod, &config)?, "stdout"), ["child", "init"]);
    scene.end().await
}
