//! Images: policies, back-off, and registries that want a login.

use crate::space::{Space, has};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::Pod;
use cricket_testkit::image::{self, Image, Layer, Tree};
use cricket_testkit::registry::{Options, Registry};

/// busybox with a file of its own.
pub(crate) fn image(mark: &str) -> Result<Image> {
    let busybox = image::suite()?.into_iter().find(|named| named.repository == "library/busybox");
    let own = Layer::gzip(Tree::new().file("mark", 0o644, mark))?;
    Image::of(busybox.context("no busybox")?.image.layers).layer(own).cmd(&["sh"]).env(&["PATH=/bin"]).build()
}

/// Why a container does not run yet, by reason.
fn waits(pod: &Pod, wanted: &str) -> Option<String> {
    pod.containers.get("main")?.waiting.clone().filter(|(reason, _)| reason == wanted).map(|(_, message)| message)
}

pub(crate) async fn policies_and_back_off(space: Space) -> Result<()> {
    let registry = &space.cluster.nodes()[0].registry;
    let pusher = registry.pusher()?;
    pusher.push("example/present", "1", &image("present")?).await?;
    space.apply(include_str!("../../manifests/pulls.yaml")).await?;

    let message = space.pod("never", "a refusal", |pod| waits(pod, "ErrImageNeverPull")).await?;
    has(&message, &["example/never:1", "is not present with pull policy of Never"])?;
    space.pod("wrong-name", "a refusal", |pod| waits(pod, "InvalidImageName")).await?;
    space.ready("present").await?;
    space.event("present", "Pulled", "Successfully pulled image").await?;

    // Not there, and tried again ever later.
    let message = space.event("late", "Failed", "Failed to pull image").await?;
    has(&message, &["example/late:1", "not found"])?;
    space.pod("late", "back-off", |pod| waits(pod, "ImagePullBackOff")).await?;
    space.event("late", "BackOff", "Back-off pulling image").await?;
    pusher.push("example/late", "1", &image("late")?).await?;
    space.ready("late").await?;
    ensure!(space.sh("late", "main", "cat /mark").await? == "late", "another image");

    // Once it is here nobody asks the registry again.
    let asked = registry.count("/v2/example/present/")?;
    space.delete("present").await?;
    let all = include_str!("../../manifests/pulls.yaml");
    space.apply(all.split("---").find(|part| part.contains("name: present }")).context("not there")?).await?;
    space.ready("present").await?;
    space.event("present", "Pulled", "already present on machine").await?;
    ensure!(registry.count("/v2/example/present/")? == asked, "{:#?}", registry.requests()?);
    space.delete("present").await?;
    space.delete("late").await
}

pub(crate) async fn secret(space: Space) -> Result<()> {
    let login = Some(("reader".to_owned(), "a password".to_owned()));
    let registry = Registry::with(Options { login, ..Options::default() })?;
    registry.pusher()?.push("private/app", "1", &image("private")?).await?;
    let server = format!("--docker-server={}", registry.host());
    let words = [
        "create",
        "secret",
        "docker-registry",
        "login",
        &server,
        "--docker-username=reader",
        "--docker-password=a password",
    ];
    space.kubectl.run(&words).await?;
    let manifest = include_str!("../../manifests/pull-secret.yaml").replace("REGISTRY", &registry.host());
    let (without, with) = manifest.split_once("---").context("two pods")?;

    space.apply(without).await?;
    let message = space.event("anonymous", "Failed", "Failed to pull image").await?;
    ensure!(["401", "nauthorized", "no basic auth"].iter().any(|word| message.contains(word)), "{message}");
    space.apply(with).await?;
    space.ready("with-secret").await?;
    ensure!(space.sh("with-secret", "main", "cat /mark").await? == "private", "another image");
    // The node has the image now; who has no login still does not get it.
    let pod = space.pod("anonymous", "its state", |pod| Some(pod.clone())).await?;
    ensure!(!pod.ready && pod.container("main")?.id.is_empty(), "{pod:#?}");
    space.delete("with-secret").await
}
