//! The Container Device Interface: what specifications on the node say of a device is in the container that asks for it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use cricket_cri_api::v1;
use cricket_integration::{Node, SOON};
use cricket_testkit::cri;
use cricket_testkit::daemon::Options;
use cricket_testkit::host;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{Scene, idle, until};
use crate::userns;

/// Directories of specifications, removed at the end.
pub(crate) struct Directories(PathBuf);

impl Drop for Directories {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Directories {
    pub(crate) fn new() -> Result<Self> {
        let home = std::env::temp_dir().join(format!("cricket-cdi-{}", host::unique()));
        for name in ["static", "dynamic", "given"] {
            std::fs::create_dir_all(home.join(name))?;
        }
        std::fs::write(home.join("given/file"), "from a specification\n")?;
        Ok(Self(home))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Keys for the table of the runtime.
    pub(crate) fn keys(&self) -> String {
        format!("cdi_spec_dirs = [{:?}, {:?}]", self.path("static"), self.path("dynamic"))
    }

    fn write(&self, file: &str, kind: &str, device: &str, edits: &Value) -> Result<()> {
        let devices = json!([{ "name": device, "containerEdits": edits }]);
        let all = json!({ "env": [format!("KIND={kind}")] });
        let spec = json!({ "cdiVersion": "0.7.0", "kind": kind, "devices": devices, "containerEdits": all });
        Ok(std::fs::write(self.path(file), spec.to_string())?)
    }

    /// A device of everything, `vendor.com/card=one`.
    pub(crate) fn card(&self) -> Result<()> {
        let noted = |name: &str| format!("cat > {}", self.path(name).display());
        let hook = |name: &str| json!({ "hookName": name, "path": "/bin/sh", "args": ["sh", "-c", noted(name)] });
        let edits = json!({
            "env": ["CARD=one"],
            "deviceNodes": [
                { "path": "/dev/card", "hostPath": "/dev/zero" },
                { "path": "/dev/narrow", "hostPath": "/dev/kmsg", "permissions": "w", "fileMode": 0o666 },
            ],
            "mounts": [{ "hostPath": self.path("given"), "containerPath": "/given", "options": ["ro", "nosuid", "bind"] }],
            "hooks": [hook("createRuntime"), hook("poststart"), hook("poststop")],
            "additionalGids": [4321],
        });
        self.write("static/card.json", "vendor.com/card", "one", &edits)
    }
}

async fn scene(directories: &Directories, more: &str, name: &str) -> Result<Scene> {
    let runtime_keys = format!("{}\n{more}", directories.keys());
    let node = Node::with(Options { runtime_keys, ..Options::default() }).await?;
    let pod = cri::host_network(node.daemon.pod(name));
    Scene::with(node.into(), pod).await
}

/// Ends the pod; nothing is left.
async fn end(scene: Scene) -> Result<()> {
    let node = scene.node.clone();
    scene.end().await?;
    node.daemon.assert_no_leaks(SOON)
}

fn asking(name: &str, devices: &[&str]) -> v1::ContainerConfig {
    let device = |name: &&str| v1::CdiDevice { name: (*name).to_owned() };
    v1::ContainerConfig { cdi_devices: devices.iter().map(device).collect(), ..idle(name) }
}

const SEEN: &str = "echo $CARD; head -c 4 /dev/card | wc -c; cat /given/file; touch /given/x 2>/dev/null || echo no; \
                    grep -c 4321 /proc/1/status";
const WANT: &str = "one\n4\nfrom a specification\nno\n1";

#[tokio::test]
async fn cdi_devices_by_field_and_by_annotation() -> Result<()> {
    let directories = Directories::new()?;
    directories.card()?;
    let yaml = "cdiVersion: 0.5.0\nkind: vendor.com/net\ndevices:\n- name: 0\n  containerEdits:\n    env: [NET=zero]\n    \
                deviceNodes:\n    - path: /dev/net0\n      hostPath: /dev/null\n      fileMode: 0640\n\
                containerEdits:\n  env: [KIND=vendor.com/net]\n";
    std::fs::write(directories.path("dynamic/net.yaml"), yaml)?;
    let scene = scene(&directories, "", "cdi-both").await?;
    let main = scene.run(&asking("field", &["vendor.com/card=one"])).await?;
    assert_eq!(scene.sh(&main, SEEN).await?, WANT);
    let state: Value = serde_json::from_slice(&std::fs::read(directories.path("createRuntime"))?)?;
    assert_eq!((&state["id"], &state["status"]), (&json!(main), &json!("creating")));
    ensure!(directories.path("poststart").exists(), "the poststart hook did not run");
    // It may be opened for what is said and nothing else, though the node's mode permits it.
    let open = "(: > /dev/narrow) 2>/dev/null && echo written; (: < /dev/narrow) 2>/dev/null || echo not read";
    assert_eq!(scene.sh(&main, open).await?, "written\nnot read");
    let user = scene.cri.container(&main).await?.user.and_then(|user| user.linux).context("no user")?;
    ensure!(user.supplemental_groups.contains(&4321), "{user:?}");

    let mut config = asking("annotation", &["vendor.com/card=one"]);
    let names = "vendor.com/net=0,vendor.com/card=one";
    config.annotations.insert("cdi.k8s.io/vendor.com_net".into(), names.into());
    let both = scene.run(&config).await?;
    assert_eq!(scene.sh(&both, SEEN).await?, WANT);
    let seen = scene.sh(&both, "echo $NET $KIND; stat -c '%a %F %t:%T' /dev/net0; echo > /dev/net0 && echo ok").await?;
    assert_eq!(seen, "zero vendor.com/net\n640 character special file 1:3\nok", "the later kind's variable counts");
    ensure!(!directories.path("poststop").exists(), "the poststop hook ran early");
    scene.cri.stop(&main, 10).await?;
    until("the poststop hook", || async { Ok(directories.path("poststop").exists()) }).await?;
    end(scene).await
}

#[tokio::test]
async fn a_cdi_device_that_is_not_there_fails_the_create_until_it_is() -> Result<()> {
    let directories = Directories::new()?;
    let scene = scene(&directories, "", "cdi-missing").await?;
    let config = asking("main", &["vendor.com/card=one"]);
    let refused = |scene: &Scene, config: &v1::ContainerConfig| {
        let (cri, id, pod, config) = (scene.cri.clone(), scene.id.clone(), scene.pod.clone(), config.clone());
        async move { cri.create(&id, &config, &pod).await.err().context("created without its device") }
    };
    let error = refused(&scene, &config).await?;
    assert_eq!(error.code(), Code::FailedPrecondition);
    let (one, two) = (directories.path("static"), directories.path("dynamic"));
    let want = format!("unresolvable CDI devices vendor.com/card=one: not in {}, {}", one.display(), two.display());
    ensure!(error.message().contains(&want), "{error}");
    // Of two that have it nobody knows which.
    directories.card()?;
    std::fs::copy(directories.path("static/card.json"), directories.path("static/copy.json"))?;
    let error = refused(&scene, &config).await?;
    let both = format!("{0}/card.json and {0}/copy.json", one.display());
    ensure!(error.message().contains(&both), "{error}");
    std::fs::remove_file(directories.path("static/copy.json"))?;
    // What the built-in runtime does not do is refused, and what is no name.
    let rdt = json!({ "intelRdt": { "closID": "gold" } });
    directories.write("dynamic/rdt.json", "vendor.com/rdt", "one", &rdt)?;
    let error = refused(&scene, &asking("main", &["vendor.com/rdt=one"])).await?;
    ensure!(error.code() == Code::Unimplemented && error.message().contains("intelRdt"), "{error}");
    let error = refused(&scene, &asking("main", &["/dev/null"])).await?;
    ensure!(error.code() == Code::InvalidArgument && error.message().contains("cdi_devices"), "{error}");
    ensure!(scene.cri.containers().await?.is_empty(), "a container is left");
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, SEEN).await?, WANT);
    end(scene).await
}

#[tokio::test]
async fn cdi_devices_of_a_pod_with_users_of_its_own() -> Result<()> {
    let directories = Directories::new()?;
    directories.card()?;
    let node = Node::with(Options { runtime_keys: directories.keys(), ..Options::default() }).await?;
    let pod = userns::of_pod(&node, "cdi-userns");
    let scene = Scene::with(node.into(), pod).await?;
    let main = scene.run(&userns::with_users(asking("main", &["vendor.com/card=one"]))).await?;
    assert_eq!(scene.sh(&main, SEEN).await?, WANT);
    let owner = scene.sh(&main, "stat -c %u:%g /given/file; stat -c %t:%T /dev/card").await?;
    assert_eq!(owner, "0:0\n1:5", "root's on the host, and so in the container");
    let edits = json!({ "deviceNodes": [{ "path": "/dev/none", "type": "c", "major": 240, "minor": 1 }] });
    directories.write("static/none.json", "vendor.com/none", "one", &edits)?;
    let config = userns::with_users(asking("none", &["vendor.com/none=one"]));
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.err().context("created")?;
    ensure!(error.code() == Code::FailedPrecondition && error.message().contains("/dev/none"), "{error}");
    end(scene).await
}

#[tokio::test]
async fn without_cdi_the_field_is_refused_and_annotations_mean_nothing() -> Result<()> {
    let directories = Directories::new()?;
    directories.card()?;
    let scene = scene(&directories, "enable_cdi = false", "cdi-disabled").await?;
    let config = asking("main", &["vendor.com/card=one"]);
    let error = scene.cri.create(&scene.id, &config, &scene.pod).await.err().context("created")?;
    ensure!(error.code() == Code::FailedPrecondition && error.message().contains("enable_cdi"), "{error}");
    let mut config = idle("main");
    config.annotations.insert("cdi.k8s.io/x".into(), "vendor.com/card=one".into());
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "echo ${CARD-none}; ls /dev/card 2>/dev/null | wc -l").await?, "none\n0");
    end(scene).await
}
