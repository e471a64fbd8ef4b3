//! Verifiers decide before anything of an image's layers is fetched, whatever they do themselves.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cricket_image::{Error, ImageStore, VerifierConfig};
use cricket_model::{ErrorKind, Kinded};
use support::{Made, Registry, eventually, image, layer, records, sha};

/// An image in a registry, and a node with verifiers.
struct Scene {
    dir: tempfile::TempDir,
    registry: Registry,
    made: Made,
}

impl Scene {
    fn new() -> Self {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
        let made = image("verified", &[layer(&[("top", "top")])]);
        registry.push("v1", &made);
        std::fs::create_dir(dir.path().join("verifiers")).unwrap();
        Self { dir, registry, made }
    }

    fn verifiers(&self) -> PathBuf {
        self.dir.path().join("verifiers")
    }

    /// Adds a verifier.
    fn verifier(&self, name: &str, script: &str) {
        let path = self.verifiers().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    async fn store(&self, change: impl FnOnce(&mut VerifierConfig)) -> ImageStore {
        let mut config = self.registry.config(self.dir.path());
        config.verifiers.bin_dir = self.verifiers();
        change(&mut config.verifiers);
        ImageStore::open(config, records(self.dir.path()).await).await.unwrap()
    }

    /// The reason for which the image is not pulled; nothing of its layer may have been asked for.
    async fn refusal(&self, store: &ImageStore) -> String {
        let error = store.pull("r.test/repo:v1", None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SignatureValidationFailed, "{error}");
        assert!(matches!(error, Error::Verification { .. }), "{error}");
        assert_eq!(self.registry.fetched(&self.made.layers[0]), 0);
        assert!(store.list().is_empty());
        let text = error.to_string();
        assert!(text.contains("r.test/repo:v1") && text.contains(sha(&self.made.manifest).as_str()), "{text}");
        text
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_told_what_containerd_tells_them() {
    let scene = Scene::new();
    let told = scene.dir.path().join("told");
    let shown = told.display();
    scene.verifier("a", &format!("echo \"$@\" >{shown}; cat >>{shown}; pwd >>{shown}"));
    let store = scene.store(|_| ()).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    let digest = sha(&scene.made.manifest);
    let mut lines = text(&told);
    let arguments = "-stdin-media-type application/vnd.oci.descriptor.v1+json";
    let first = format!("-name r.test/repo:v1 -digest {digest} {arguments}\n");
    let rest = lines.split_off(first.len());
    assert_eq!(lines, first);
    let (json, directory) = rest.rsplit_once('}').unwrap();
    let descriptor: serde_json::Value = serde_json::from_str(&format!("{json}}}")).unwrap();
    let want = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest.as_str(),
        "size": scene.made.manifest.len(),
    });
    assert_eq!((descriptor, directory), (want, "/\n"));
    // Nor is an image that is here pulled again without them.
    scene.verifier("b", "exit 1");
    assert!(store.pull("r.test/repo:v1", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_have_to_agree_and_the_reason_is_told() {
    let scene = Scene::new();
    let ran = scene.dir.path().join("ran");
    scene.verifier("10-good", &format!("echo fine; echo good >>{}", ran.display()));
    scene.verifier("20-bad", "printf 'no signature\\n\\033[31mby anybody\\n'; exit 3");
    scene.verifier("30-never", &format!("echo never >>{}", ran.display()));
    let store = scene.store(|_| ()).await;
    let text_of = scene.refusal(&store).await;
    assert!(text_of.ends_with("image verifier 20-bad refused (status 3): no signature  [31mby anybody"), "{text_of}");
    assert_eq!(text(&ran), "good\n");
    std::fs::remove_file(scene.verifiers().join("20-bad")).unwrap();
    store.pull("r.test/repo:v1", None).await.unwrap();
    assert_eq!(text(&ran), "good\ngood\nnever\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_of_too_many_are_run() {
    let scene = Scene::new();
    scene.verifier("a", "exit 0");
    scene.verifier("b", "exit 1");
    let store = scene.store(|v| v.max_verifiers = Some(1)).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    drop(store);
    let store = scene.store(|v| v.max_verifiers = None).await;
    assert!(store.pull("r.test/repo:v1", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_verifiers_every_image_passes() {
    let scene = Scene::new();
    let store = scene.store(|_| ()).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
    drop(store);
    let store = scene.store(|v| v.bin_dir = "/nonexistent/verifiers".into()).await;
    store.pull("r.test/repo:v1", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_has_not_agreed() {
    let scene = Scene::new();
    std::fs::write(scene.verifiers().join("text"), "#!/bin/sh\nexit 0\n").unwrap();
    let store = scene.store(|_| ()).await;
    assert!(scene.refusal(&store).await.contains("image verifier text gave no judgement: "));
    std::fs::remove_file(scene.verifiers().join("text")).unwrap();
    std::fs::create_dir(scene.verifiers().join("folder")).unwrap();
    assert!(scene.refusal(&store).await.contains("image verifier folder gave no judgement: "));
    std::fs::remove_dir(scene.verifiers().join("folder")).unwrap();
    scene.verifier("killed", "kill -9 $$");
    assert!(scene.refusal(&store).await.contains("gave no judgement: signal: 9"));
    std::fs::remove_file(scene.verifiers().join("killed")).unwrap();
    scene.verifier("silent", "exit 1");
    assert!(scene.refusal(&store).await.ends_with("refused (status 1) and gave no reason"));
    drop(store);
    // The directory itself is in the way.
    let store = scene.store(|v| v.bin_dir = v.bin_dir.join("silent")).await;
    assert!(scene.refusal(&store).await.contains("cannot be listed"));
}

/// Whether the process whose number is in the file has ended.
fn ended(pid_file: &Path) -> bool {
    let pid = text(pid_file).trim().to_owned();
    let stat = text(&PathBuf::from(format!("/proc/{pid}/stat")));
    !pid.is_empty() && (stat.is_empty() || stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_one_is_killed_with_what_it_started() {
    let scene = Scene::new();
    let (own, child) = (scene.dir.path().join("own"), scene.dir.path().join("child"));
    scene.verifier("a", &format!("echo $$ >{}; sleep 1000 & echo $! >{}; wait", own.display(), child.display()));
    let store = scene.store(|v| v.timeout = Duration::from_millis(700)).await;
    let started = Instant::now();
    assert!(scene.refusal(&store).await.ends_with("gave no judgement: not within 0.7 s"));
    assert!(started.elapsed() < Duration::from_secs(5));
    eventually("the verifier's end", || ended(&own)).await;
    eventually("its child's end", || ended(&child)).await;
    // So is one whose pull nobody waits for any more.
    drop(store);
    let store = scene.store(|v| v.timeout = Duration::from_secs(600)).await;
    std::fs::remove_file(&own).unwrap();
    std::fs::remove_file(&child).unwrap();
    {
        let pull = store.pull("r.test/repo:v1", None);
        tokio::pin!(pull);
        while text(&child).is_empty() {
            assert!(tokio::time::timeout(Duration::from_millis(10), &mut pull).await.is_err());
        }
    }
    eventually("the verifier's end", || ended(&own)).await;
    eventually("its child's end", || ended(&child)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_leaves_a_process_is_not_waited_for() {
    let scene = Scene::new();
    let child = scene.dir.path().join("child");
    scene.verifier("a", &format!("sleep 1000 & echo $! >{}; echo yes", child.display()));
    let store = scene.store(|_| ()).await;
    let started = Instant::now();
    store.pull("r.test/repo:v1", None).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(8));
    eventually("its child's end", || ended(&child)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_bounded() {
    let scene = Scene::new();
    scene.verifier("a", "exec 0<&-; head -c 5000000 /dev/zero | tr '\\0' x; head -c 5000000 /dev/urandom >&2; exit 1");
    let store = scene.store(|v| v.timeout = Duration::from_secs(60)).await;
    let text = scene.refusal(&store).await;
    assert!(text.ends_with("xxx (cut)") && text.len() < 3000, "{}", text.len());
    std::fs::remove_file(scene.verifiers().join("a")).unwrap();
    scene.verifier("b", "yes");
    drop(store);
    let store = scene.store(|v| v.timeout = Duration::from_millis(500)).await;
    assert!(scene.refusal(&store).await.ends_with("gave no judgement: not within 0.5 s"));
}
