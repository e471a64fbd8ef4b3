//! Volumes that the runtime itself provides.

use crate::pulls::image;
use crate::space::Space;
use anyhow::{Result, ensure};
use cricket_testkit::image::{Image, Layer, Tree};

/// An image as a read-only volume, whole and one directory of it.
pub(crate) async fn image_volume(space: Space) -> Result<()> {
    let data = Tree::new().file("readme", 0o644, "read me").dirs(["weights"]).file("weights/layer", 0o644, "42");
    let data = Image::of([Layer::gzip(data)?]).build()?;
    space.cluster.nodes()[0].registry.pusher()?.push("data/model", "1", &data).await?;
    // The same as a container's image, with another content, so that both are one pod's.
    space.cluster.nodes()[0].registry.pusher()?.push("data/program", "1", &image("program")?).await?;
    space.apply(include_str!("../../manifests/image-volume.yaml")).await?;
    space.ready("image-volume").await?;
    let seen =
        space.sh("image-volume", "main", "cat /model/readme /model/weights/layer; ls /weights; cat /mark").await?;
    ensure!(seen == "read me42layer\nprogram", "{seen:?}");
    let ran = space.exec("image-volume", "main", &["touch", "/model/new"]).await?;
    ensure!(ran.code != 0 && ran.stderr.contains("Read-only file system"), "{ran}");
    space.delete("image-volume").await
}
