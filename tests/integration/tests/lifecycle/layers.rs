//! As many layers as images have, and more.

use anyhow::{Context, Result};
use cricket_integration::busybox;
use cricket_testkit::cri;
use cricket_testkit::image::{Image, Layer, Named, Tree};
use tonic::Code;

use crate::support::Scene;

/// An image of so many layers, with a shell; each has a file of its own and replaces one that all of them have.
fn stacked(count: usize) -> Result<Image> {
    let mut image = busybox()?;
    for number in image.clone().build()?.layers.len()..count {
        let tree = Tree::new().dirs(["stack"]).file("last", 0o644, number.to_string());
        image = image.layer(Layer::gzip(tree.file(&format!("stack/{number}"), 0o644, "x"))?);
    }
    let image = image.build()?;
    assert_eq!(image.layers.len(), count);
    Ok(image)
}

async fn pull(scene: &Scene, count: usize) -> Result<std::result::Result<String, tonic::Status>> {
    let repository = format!("lifecycle/stack-{count}");
    let named = Named { repository: repository.clone(), tag: "1".into(), image: stacked(count)? };
    scene.node.registry.fill(&[named]).await?;
    let name = format!("registry.k8s.io/{repository}:1");
    Ok(scene.cri.pull(&name).await.map(|_| name))
}

#[tokio::test]
async fn layers_by_the_hundred_mount_and_more_than_two_hundred_are_refused() -> Result<()> {
    let scene = Scene::host("layers-many").await?;
    // 127 is what other runtimes' mounts have room for.
    for count in [127, 200] {
        let name = pull(&scene, count).await??;
        let config =
            cri::container(&format!("main-{count}"), &name, &["sh", "-c", "cat /last; echo; ls /stack | wc -l"]);
        let output = scene.output(&config).await.with_context(|| format!("{count} layers"))?;
        assert_eq!(output, [(count - 1).to_string(), (count - 1).to_string()]);
        // And it can be written to.
        let config = cri::container(
            &format!("write-{count}"),
            &name,
            &["sh", "-c", "rm -r /stack && echo new >/last && cat /last"],
        );
        assert_eq!(scene.output(&config).await?, ["new"]);
    }
    let refused = pull(&scene, 201).await?.err().context("201 layers were pulled")?;
    assert!(refused.message().contains("201 layers, at most 200 are supported"), "{refused}");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    scene.end().await
}
