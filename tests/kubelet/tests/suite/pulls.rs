//! Pull policies, as the registry sees them.

use crate::support::{LONG, sh};
use anyhow::{Context, Result, ensure};
use cricket_kubelet_tests::{Node, Pod};
use cricket_testkit::image::{self, Image, Layer, Tree};
use serde_json::{Value, json};

#[tokio::test]
async fn pull_policies() -> Result<()> {
    let node = Node::start().await?;
    let (old, new) = (image("old")?, image("new")?);
    let pusher = node.registry.pusher()?;
    pusher.push("pulls/present", "1", &image("present")?).await?;
    pusher.push("pulls/always", "1", &old).await?;
    pusher.push("pulls/never", "1", &image("never")?).await?;

    // The first of each: nothing is here yet.
    add(&node, "present-1", "docker.io/pulls/present:1", "IfNotPresent")?;
    add(&node, "always-1", "docker.io/pulls/always:1", "Always")?;
    add(&node, "never-1", "docker.io/pulls/never:1", "Never")?;
    node.kubelet.wait_ready("present-1", LONG).await?;
    let first = node.kubelet.wait_ready("always-1", LONG).await?;
    ensure!(first.container("c")?.image_id.ends_with(old.digest()), "{first:#?}, not {}", old.digest());
    let refused = |pod: &Pod| pod.containers.get("c")?.waiting.clone();
    let never = |pod: &Pod| refused(pod).filter(|(reason, _)| reason == "ErrImageNeverPull");
    let (_, message) = node.kubelet.wait("never-1", "ErrImageNeverPull", LONG, never).await?;
    ensure!(message.contains("docker.io/pulls/never:1") && message.contains("is not present"), "{message}");
    node.kubelet.wait_event("never-1", "ErrImageNeverPull", "is not present with pull policy of Never", LONG).await?;
    ensure!(requests(&node, "pulls/never")?.is_empty(), "{:#?}", requests(&node, "pulls/never")?);
    let (present, always) = (requests(&node, "pulls/present")?, requests(&node, "pulls/always")?);
    // Each fetched its configuration and its own layer, and one of them the layer below for both.
    let base = &old.layers.first().context("no layers")?.blob.digest;
    let fetched = [blobs(&present), blobs(&always)].concat();
    ensure!(fetched.len() == 5, "{fetched:#?}");
    ensure!(fetched.iter().filter(|line| line.contains(base)).count() == 1, "{fetched:#?}");

    // Once more: IfNotPresent and Never ask for nothing, Always only what the tag is.
    add(&node, "present-2", "docker.io/pulls/present:1", "IfNotPresent")?;
    add(&node, "present-3", "docker.io/pulls/present:1", "Never")?;
    add(&node, "always-2", "docker.io/pulls/always:1", "Always")?;
    for pod in ["present-2", "present-3", "always-2"] {
        node.kubelet.wait_ready(pod, LONG).await?;
    }
    node.kubelet.wait_event("present-2", "Pulled", "already present on machine", LONG).await?;
    ensure!(requests(&node, "pulls/present")? == present, "{:#?}", requests(&node, "pulls/present")?);
    let again = requests(&node, "pulls/always")?;
    ensure!(again.len() > always.len(), "{again:#?}");
    ensure!(blobs(&again) == blobs(&always), "{again:#?}");

    // The tag moves: a new image, and the containers of the old one stay as they are.
    pusher.push("pulls/always", "1", &new).await?;
    add(&node, "always-3", "docker.io/pulls/always:1", "Always")?;
    let moved = node.kubelet.wait_ready("always-3", LONG).await?;
    ensure!(moved.container("c")?.image_id.ends_with(new.digest()), "{moved:#?}, not {}", new.digest());
    let fetched: Vec<_> = blobs(&requests(&node, "pulls/always")?).split_off(blobs(&again).len());
    let wanted = [new.id(), &new.layers.last().context("no layers")?.blob.digest];
    ensure!(
        fetched.len() == 2 && wanted.iter().all(|digest| fetched.iter().any(|line| line.contains(digest))),
        "{fetched:#?}"
    );
    for name in ["always-1", "always-2"] {
        let pods = node.kubelet.pods().await?;
        let pod = pods.iter().find(|pod| pod.name == name).context(name)?;
        let container = pod.container("c")?;
        ensure!(container.running.is_some() && container.restarts == 0, "{pod:#?}");
        ensure!(container.image_id == first.container("c")?.image_id, "{pod:#?}");
    }
    let cri = node.cri().await?;
    let untagged = cri.image(old.id()).await?.context("the old image is gone")?;
    ensure!(untagged.repo_tags.is_empty() && untagged.id == old.id(), "{untagged:#?}");
    let tagged = cri.image("docker.io/pulls/always:1").await?.context("no image")?;
    ensure!(tagged.id == new.id(), "{tagged:#?}");
    node.finish().await
}

/// busybox with a layer of its own.
fn image(mark: &str) -> Result<Image> {
    let suite = image::suite()?;
    let busybox = suite.into_iter().find(|named| named.repository == "library/busybox").context("no busybox")?;
    let own = Layer::gzip(Tree::new().file("mark", 0o644, mark))?;
    Image::of(busybox.image.layers).layer(own).cmd(&["sh"]).env(&["PATH=/bin"]).build()
}

fn add(node: &Node, name: &str, image: &str, policy: &str) -> Result<()> {
    let spec: Value = json!({
        "terminationGracePeriodSeconds": 2,
        "containers": [{
            "name": "c", "image": image, "imagePullPolicy": policy,
            "command": sh("trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        }],
    });
    node.kubelet.add(name, &spec)
}

/// What was read of a repository; pushes look blobs up by HEAD, runtimes do not.
fn requests(node: &Node, repository: &str) -> Result<Vec<String>> {
    let path = format!(" /v2/{repository}/");
    let reads = |line: &String| line.contains("\"GET ") || line.contains("\"HEAD ") && line.contains("/manifests/");
    Ok(node.registry.requests()?.into_iter().filter(|line| line.contains(&path) && reads(line)).collect())
}

fn blobs(requests: &[String]) -> Vec<String> {
    requests.iter().filter(|line| line.contains("\"GET ") && line.contains("/blobs/")).cloned().collect()
}
