//! What other users and other daemons of the host find.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::{BUSYBOX, Node};
use cricket_testkit::{cri, host};
use serde_json::json;

use crate::support::{Scene, assert_unharmed, idle};

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(path).with_context(|| path.display().to_string())?.permissions().mode() & 0o7777)
}

/// Whether a user without any right of its own may do this.
fn nobody_may(program: &str, path: &Path) -> Result<bool> {
    let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--", program];
    Ok(Command::new("setpriv").args(user).arg(path).output()?.status.success())
}

/// What others could list, read or connect to below a directory of the same file system.
fn exposed(dir: &Path, device: u64, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let (kind, bits) = (metadata.file_type(), metadata.mode() & 0o7);
        if metadata.dev() != device || kind.is_symlink() {
            // A file system that is mounted there is a container's own.
            continue;
        }
        let open = if kind.is_dir() { bits & 0o6 } else { bits };
        if open != 0 {
            found.push(format!("{} {:o}", path.display(), metadata.mode()));
        }
        if kind.is_socket() && metadata.mode() & 0o077 != 0 {
            found.push(format!("socket {} {:o}", path.display(), metadata.mode()));
        }
        // Where others cannot pass, it does not matter what is inside.
        if kind.is_dir() && bits & 0o1 != 0 {
            exposed(&path, device, found)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn other_users_find_closed_doors() -> Result<()> {
    let scene = Scene::new("modes").await?;
    let id = scene.run(&idle("main", BUSYBOX)).await?;
    let daemon = &scene.node.daemon;
    let (root, state, socket) = (daemon.root().to_owned(), daemon.state(), daemon.socket());
    assert_eq!((mode(&root)?, mode(&state)?), (0o700, 0o711));
    assert_eq!(mode(&socket)? & 0o117, 0, "{:o}", mode(&socket)?);
    assert!(!nobody_may("ls", &root)? && !nobody_may("ls", &state)?);
    assert!(nobody_may("ls", Path::new("/usr"))?, "the test itself works");
    let mut found = Vec::new();
    exposed(&state, fs::metadata(&state)?.dev(), &mut found)?;
    assert_eq!(found, Vec::<String>::new(), "others reach these below the state directory");
    let log = Path::new(&scene.pod.log_directory).join("main.log");
    assert_eq!(mode(&log)?, 0o640, "{}", log.display());
    scene.cri.remove(&id).await?;
    scene.end().await
}

#[tokio::test]
async fn two_daemons_do_not_meet_and_one_root_has_one() -> Result<()> {
    let (one, two) = (Node::start().await?, Node::start().await?);
    let (first, second) = (one.daemon.cri().await?, two.daemon.cri().await?);
    // The same names in both, which is no conflict.
    let pod = cri::host_network(one.daemon.pod("same"));
    let mut twin = cri::host_network(two.daemon.pod("same"));
    twin.metadata.clone_from(&pod.metadata);
    let id = first.run_pod(&pod).await?;
    let other = second.run_pod(&twin).await?;
    let main = first.run(&id, &idle("main", BUSYBOX), &pod).await?;
    assert_eq!(second.containers().await?.len(), 0);
    assert_eq!(second.pods().await?.into_iter().map(|p| p.id).collect::<Vec<_>>(), [other]);
    second.remove_all_pods().await?;
    second.remove_image(BUSYBOX).await?;
    assert_eq!(first.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    assert!(first.image(BUSYBOX).await?.is_some());
    two.daemon.assert_no_leaks(Duration::from_secs(5))?;

    let program = fs::read_link(format!("/proc/{}/exe", one.daemon.pid().context("no daemon")?))?;
    let elsewhere = one.daemon.home().join("elsewhere");
    for (root, state) in [(one.daemon.root(), elsewhere.clone()), (elsewhere.as_path(), one.daemon.state())] {
        let mut command = host::bound(&program);
        command.args(["serve", "--config"]).arg(one.daemon.config()).arg("--root").arg(root).arg("--state").arg(state);
        command.arg("--address").arg(one.daemon.home().join("elsewhere.sock"));
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains("held by another cricket"), "{said}");
    }
    assert_eq!(first.container(&main).await?.state(), v1::ContainerState::ContainerRunning);
    assert_unharmed(&one).await
}

#[tokio::test]
async fn a_network_plugin_is_a_name_and_no_path() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let (evil, ran) = (node.daemon.home().join("evil"), node.daemon.home().join("evil-ran"));
    fs::write(&evil, format!("#!/bin/sh\ntouch {}\n", ran.display()))?;
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755))?;
    let conf = node.daemon.network().conf_dir().to_owned();
    for entry in fs::read_dir(&conf)? {
        fs::remove_file(entry?.path())?;
    }
    for kind in [evil.display().to_string(), "../evil".to_owned(), "../../evil".to_owned()] {
        let list = json!({ "cniVersion": "1.0.0", "name": "evil", "plugins": [{ "type": kind }] });
        fs::write(conf.join("00-evil.conflist"), list.to_string())?;
        let pod = node.daemon.pod("plugin");
        let error = cri.run_pod(&pod).await.expect_err("no path is a plugin");
        assert!(!ran.exists(), "{kind}: {error}");
    }
    let status = cri.runtime().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    let conditions = status.status.unwrap_or_default().conditions;
    assert!(conditions.iter().any(|c| c.r#type == "NetworkReady" && !c.status), "{conditions:?}");
    assert_unharmed(&node).await
}
