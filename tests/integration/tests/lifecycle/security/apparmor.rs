//! AppArmor profiles: the node's default one, none, and one of the node's operator.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use cricket_cri_api::v1;
use cricket_testkit::host;

use super::{RUNTIME_DEFAULT, profile};
use crate::support::{SOON, Scene, idle, security, shell};
use client::{Session, order};

#[expect(dead_code, reason = "the tests of streaming use the rest")]
#[path = "../../streaming/client.rs"]
mod client;

const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// mount(2) needs `CAP_SYS_ADMIN` alone where nothing else forbids it.
const MOUNT: &str = "mkdir -p /mnt && mount -t tmpfs none /mnt";

/// A profile that is loaded as long as this lives.
struct Loaded {
    name: String,
    text: String,
}

impl Loaded {
    /// It allows everything but writing one file.
    fn new() -> Result<Self> {
        let name = format!("cricket-test-{}", std::process::id());
        let text = format!(
            "profile {name} flags=(attach_disconnected, mediate_deleted) {{\n  capability,\n  file,\n  network,\n  \
             mount,\n  umount,\n  signal,\n  ptrace,\n  deny /tmp/denied w,\n}}\n"
        );
        let loaded = Self { name, text };
        loaded.parse("--replace")?;
        Ok(loaded)
    }

    fn parse(&self, action: &str) -> Result<()> {
        let mut parser =
            Command::new("apparmor_parser").args([action, "--skip-cache"]).stdin(Stdio::piped()).spawn()?;
        parser.stdin.take().context("no standard input")?.write_all(self.text.as_bytes())?;
        let status = parser.wait()?;
        ensure!(status.success(), "apparmor_parser {action}: {status}");
        Ok(())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = self.parse("--remove");
    }
}

/// The same container, which could mount but for a profile.
fn able(mut config: v1::ContainerConfig, asked: Option<v1::SecurityProfile>) -> v1::ContainerConfig {
    let context = security(&mut config);
    context.apparmor = asked;
    context.capabilities =
        Some(v1::Capability { add_capabilities: vec!["SYS_ADMIN".into()], ..v1::Capability::default() });
    config
}

/// Runs such a container, and looks at the labels of all that runs in it.
async fn starts_in(scene: &Scene, name: &str, asked: Option<v1::SecurityProfile>, label: &str) -> Result<String> {
    let id = scene.run(&able(idle(name), asked)).await?;
    // From outside: nothing of the container can say so falsely.
    let init = std::fs::read_to_string(format!("/proc/{}/attr/current", scene.pid(&id).await?))?;
    let read = "cat /proc/self/attr/current";
    let synchronous = scene.sh(&id, read).await?;
    let streamed = Session::exec(&scene.cri, order(&id, read)).await?.finish().await?;
    assert_eq!(streamed.code()?, 0, "{name}: {streamed:?}");
    assert_eq!([init.trim(), synchronous.trim(), streamed.stdout.trim()], [label; 3], "{name}");
    Ok(id)
}

#[tokio::test]
async fn apparmor_confines_init_and_execs() -> Result<()> {
    if !std::path::Path::new(LOADED).exists() {
        host::skip("the kernel has no AppArmor");
        return Ok(());
    }
    if Command::new("apparmor_parser").arg("--version").stdout(Stdio::null()).status().is_err() {
        host::skip("there is no apparmor_parser, and so no default profile");
        return Ok(());
    }
    let own = Loaded::new()?;
    let scene = Scene::host("sec-profiles").await?;
    for (name, asked) in [("default", profile(RUNTIME_DEFAULT, "")), ("unset", None)] {
        let id = starts_in(&scene, name, asked.clone(), "cricket-default (enforce)").await?;
        let refused = scene.cri.exec(&id, &["sh", "-c", MOUNT], 5).await?;
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.exit_code != 0 && why.contains("ermission denied"), "{name}: {why}");
        let streamed = Session::exec(&scene.cri, order(&id, MOUNT)).await?.finish().await?;
        assert_ne!(streamed.code()?, 0, "{name}: {streamed:?}");
        // The same for what the container starts with.
        let init = scene.run(&able(shell(&format!("{name}-init"), MOUNT), asked)).await?;
        assert_ne!(scene.cri.wait_exit(&init, SOON).await?.exit_code, 0, "{name}");
    }

    let unconfined = profile(v1::security_profile::ProfileType::Unconfined, "");
    let free = starts_in(&scene, "free", unconfined, "unconfined").await?;
    let mounted = scene.cri.exec(&free, &["sh", "-c", MOUNT], 5).await?;
    assert_eq!(mounted.exit_code, 0, "{}", String::from_utf8_lossy(&mounted.stderr));

    let localhost = v1::security_profile::ProfileType::Localhost;
    let label = format!("{} (enforce)", own.name);
    let named = starts_in(&scene, "named", profile(localhost, &own.name), &label).await?;
    assert_eq!(scene.cri.exec(&named, &["touch", "/tmp/allowed"], 5).await?.exit_code, 0);
    assert_ne!(scene.cri.exec(&named, &["touch", "/tmp/denied"], 5).await?.exit_code, 0);
    let mut config = idle("missing");
    security(&mut config).apparmor = profile(localhost, "cricket-test-no-such-profile");
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err("nobody loaded it");
    assert!(error.message().contains("cricket-test-no-such-profile"), "{error}");
    scene.end().await
}
