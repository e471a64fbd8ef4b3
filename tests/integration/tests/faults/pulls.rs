//! The daemon is killed in the middle of PullImage and RemoveImage.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cricket_testkit::cri::{Cri, container};
use cricket_testkit::daemon::Daemon;
use cricket_testkit::fake::{FakeRegistry, Fault, Rule};
use cricket_testkit::host;
use cricket_testkit::image::{Image, Layer, Tree, digest, suite};

use crate::support::{SOON, die_at};

const NAME: &str = "docker.io/library/big:v1";

struct Scene {
    registry: FakeRegistry,
    daemon: Daemon,
    /// The digest of the largest layer.
    large: String,
    /// `sha256sum` of the files that the layers bring.
    sums: BTreeSet<String>,
}

impl Scene {
    /// busybox with two layers of data that does not compress.
    fn new() -> Result<Self> {
        let registry = FakeRegistry::start()?;
        let busybox = suite()?.into_iter().find(|i| i.repository.ends_with("/busybox")).context("no busybox")?;
        let mut layers = busybox.image.layers.clone();
        let mut sums = BTreeSet::new();
        for (n, size) in [(0, 1 << 20), (1, 6 << 20)] {
            let data = noise(n, size);
            let name = format!("data-{n}");
            sums.insert(format!("{}  /{name}", digest(&data).trim_start_matches("sha256:")));
            layers.push(Layer::gzip(Tree::new().file(&name, 0o644, data))?);
        }
        let large = layers.last().context("no layer")?.blob.digest.clone();
        registry.put("library/big", "v1", &Image::of(layers).build()?);
        let daemon = Daemon::start(registry.url())?;
        Ok(Self { registry, daemon, large, sums })
    }

    /// The image runs, and every byte of it is right.
    async fn sound(&self, cri: &Cri) -> Result<()> {
        let sandbox = cricket_testkit::cri::host_network(self.daemon.pod("check"));
        let pod = cri.run_pod(&sandbox).await?;
        let config = container("sums", NAME, &["sh", "-c", "sha256sum /data-*"]);
        let id = cri.run(&pod, &config, &sandbox).await?;
        cri.wait_exit(&id, SOON).await?;
        let lines = cricket_testkit::logs::lines(&self.daemon.logs(&sandbox, &config)?, "stdout");
        ensure!(lines.into_iter().collect::<BTreeSet<_>>() == self.sums);
        crate::support::remove(cri, &pod).await
    }

    /// What is being made or deleted below the root.
    fn unfinished(&self) -> Vec<String> {
        let images = self.daemon.root().join("images");
        let names = |dir: &str| cricket_testkit::leaks::names(&images.join(dir)).into_iter().collect::<Vec<_>>();
        [names("staging"), names("trash")].concat()
    }

    fn layers(&self) -> usize {
        cricket_testkit::leaks::names(&self.daemon.root().join("images/layers")).len()
    }

    async fn forget(&self, cri: &Cri) -> Result<()> {
        cri.remove_image(NAME).await?;
        host::wait_for("the layers to be collected", SOON, || {
            Ok((self.layers() == 0 && self.unfinished().is_empty()).then_some(()))
        })
    }
}

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(size / 8).flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulling() -> Result<()> {
    let mut scene = Scene::new()?;
    let points = [
        "pull.resolved",
        "layer.bytes",
        "layer.unpacked",
        "layer.placed",
        "pull.layers",
        "pull.synced",
        "pull.recorded",
    ];
    for point in points {
        let at = || format!("after {point}");
        let cri = die_at(&mut scene.daemon, point, async |cri| cri.pull(NAME).await).await?;
        let there = cri.image(NAME).await?.is_some();
        ensure!(there == (point == "pull.recorded"), "{}: the image is {}there", at(), if there { "" } else { "not " });
        host::wait_for("leftovers to go", SOON, || Ok(scene.unfinished().is_empty().then_some(()))).with_context(at)?;
        ensure!(there || scene.layers() == 0, "{}: layers without an image", at());
        cri.pull(NAME).await.with_context(at)?;
        scene.sound(&cri).await.with_context(at)?;
        scene.forget(&cri).await.with_context(at)?;
    }
    Ok(())
}

/// The connection stands still in the middle of the largest layer when the daemon is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_middle_of_a_blob() -> Result<()> {
    let mut scene = Scene::new()?;
    for bytes in [1, 1 << 20, 5 << 20] {
        scene.registry.rule(Rule::blob(&scene.large, Fault::Stall(bytes)).times(1));
        let cri = scene.daemon.cri().await?;
        let pull = tokio::spawn(async move { cri.pull(NAME).await });
        host::wait_for("a layer to be begun", SOON, || Ok((!scene.unfinished().is_empty()).then_some(())))?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        scene.daemon.kill_and_launch()?;
        ensure!(pull.await?.is_err());
        let cri = scene.daemon.cri().await?;
        ensure!(cri.image(NAME).await?.is_none(), "{bytes} bytes of a layer make an image");
        cri.pull(NAME).await?;
        scene.sound(&cri).await?;
        scene.forget(&cri).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing() -> Result<()> {
    let mut scene = Scene::new()?;
    scene.daemon.cri().await?.pull(NAME).await?;
    let call = async |cri: Cri| {
        cri.remove_image(NAME).await?;
        // The layers go after the answer.
        tokio::time::sleep(SOON).await;
        cri.image(NAME).await
    };
    let cri = die_at(&mut scene.daemon, "layers.forgotten", call).await?;
    ensure!(cri.image(NAME).await?.is_none());
    host::wait_for("the layers to be collected", SOON, || {
        Ok((scene.layers() == 0 && scene.unfinished().is_empty()).then_some(()))
    })?;
    cri.pull(NAME).await?;
    scene.sound(&cri).await
}
