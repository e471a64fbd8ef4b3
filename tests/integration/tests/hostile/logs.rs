//! Log paths that lead out of the pod's log directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri;
use tonic::Code;

use crate::support::{Scene, idle};

#[tokio::test]
async fn paths_that_lead_upwards_are_refused() -> Result<()> {
    let scene = Scene::new("log-paths").await?;
    for path in ["../out.log", "/tmp/out.log", "a/../../out.log", "..", "a\nb.log", "a\0b.log", "dir/"] {
        let mut config = idle("main", BUSYBOX);
        config.log_path = path.to_owned();
        let error = scene.create(&config).await.expect_err(path);
        assert!(error.code() == Code::InvalidArgument && error.message().contains("log_path"), "{path:?}: {error}");
    }
    let above = Path::new(&scene.pod.log_directory).parent().map(|dir| dir.join("out.log"));
    assert!(above.is_some_and(|file| !file.exists()));
    scene.end().await
}

#[tokio::test]
async fn links_below_the_directory_are_not_followed() -> Result<()> {
    let scene = Scene::new("log-links").await?;
    let outside = scene.node.daemon.home().join("outside-logs");
    fs::create_dir(&outside)?;
    fs::write(outside.join("file"), "precious")?;
    let directory = Path::new(&scene.pod.log_directory);
    symlink(&outside, directory.join("link"))?;
    symlink(outside.join("file"), directory.join("file.log"))?;
    symlink(outside.join("new"), directory.join("new.log"))?;
    for (name, path) in [("a", "link/out.log"), ("b", "file.log"), ("c", "new.log"), ("d", "link/file")] {
        let mut config = cri::container(name, BUSYBOX, &["sh", "-c", "echo evil"]);
        config.log_path = path.to_owned();
        assert!(scene.run(&config).await.is_err(), "{path} is a link");
    }
    // One that is swapped while it is written, as a rotation with a bad hand would.
    let config = cri::container("main", BUSYBOX, &["sh", "-c", "while :; do echo line; sleep 0.05; done"]);
    let id = scene.run(&config).await?;
    let file = directory.join(&config.log_path);
    fs::remove_file(&file)?;
    symlink(outside.join("file"), &file)?;
    let reopen = v1::ReopenContainerLogRequest { container_id: id.clone() };
    assert!(scene.cri.runtime().reopen_container_log(reopen.clone()).await.is_err());
    assert_eq!(fs::read_to_string(outside.join("file"))?, "precious");
    assert_eq!(fs::read_dir(&outside)?.count(), 1);
    fs::remove_file(&file)?;
    scene.cri.runtime().reopen_container_log(reopen).await?;
    assert!(file.symlink_metadata()?.is_file(), "the log goes on once the link is gone");
    scene.end().await
}
