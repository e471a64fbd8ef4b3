//! Images through the CRI: names that move, removal under use, anonymous volumes.

use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::cri::{self, Cri};
use cricket_testkit::image::{Image, Layer, Named, Tree, compile, suite, write_docker_archive, write_oci_tar};
use serde_json::json;

use crate::support::{Scene, idle, mount, node};

async fn listed(cri: &Cri) -> Result<Vec<v1::Image>> {
    Ok(cri.images().list_images(v1::ListImagesRequest { filter: None }).await?.into_inner().images)
}

/// A small image that differs by its mark.
fn marked(mark: &str) -> Result<Image> {
    let busybox = suite()?.into_iter().find(|i| i.repository == "e2e-test-images/busybox").context("busybox")?;
    let layer = Layer::gzip(Tree::new().file("mark", 0o644, mark))?;
    Image::of(busybox.image.layers).layer(layer).build()
}

/// `cricket image …`.
fn operate(node: &Node, words: &[&str]) -> Result<String> {
    crate::operator::operate(node, "image", words)
}

async fn push(node: &Node, repository: &str, tag: &str, image: &Image) -> Result<()> {
    let named = Named { repository: repository.into(), tag: tag.into(), image: image.clone() };
    node.registry.fill(&[named]).await
}

#[tokio::test]
async fn a_moved_tag_leaves_the_old_image_untagged_and_in_use() -> Result<()> {
    let scene = Scene::host("images-moved").await?;
    let name = "registry.k8s.io/lifecycle/moved:1";
    let (old, new) = (marked("old")?, marked("new")?);
    push(&scene.node, "lifecycle/moved", "1", &old).await?;
    assert_eq!(scene.cri.pull(name).await?, old.id());
    let mut config = cri::container("main", name, &[]);
    config.command = idle("x").command;
    let main = scene.run(&config).await?;
    push(&scene.node, "lifecycle/moved", "1", &new).await?;
    assert_eq!(scene.cri.pull(name).await?, new.id());
    let images = listed(&scene.cri).await?;
    let find = |id: &str| images.iter().find(|i| i.id == id).with_context(|| format!("{id} is not listed"));
    let (was, is) = (find(old.id())?, find(new.id())?);
    assert_eq!(was.repo_tags, Vec::<String>::new());
    assert_eq!(was.repo_digests, [format!("registry.k8s.io/lifecycle/moved@{}", old.digest())]);
    assert_eq!(is.repo_tags, [name]);
    // What runs goes on as it is, a new container has the new content.
    assert_eq!(scene.sh(&main, "cat /mark").await?, "old");
    assert_eq!(scene.cri.container(&main).await?.image_id, old.id());
    let second = scene.output(&cri::container("second", name, &["cat", "/mark"])).await?;
    assert_eq!(second, ["new"]);
    // Used, it is not one of those that are of no use to anybody.
    let short = &old.id()["sha256:".len()..][..13];
    let would = operate(&scene.node, &["prune", "--dry-run"])?;
    assert!(would.contains("would be freed") && !would.contains(short), "{would}");
    // Both may be named by what is left of their names.
    assert_eq!(scene.cri.image(old.id()).await?.context("by ID")?.id, old.id());
    let short = &old.id()["sha256:".len()..][..12];
    assert_eq!(scene.cri.image(short).await?.context("by a prefix")?.id, old.id());
    let digest = format!("registry.k8s.io/lifecycle/moved@{}", old.digest());
    assert_eq!(scene.cri.image(&digest).await?.context("by digest")?.id, old.id());
    let node = scene.node.clone();
    scene.end().await?;
    let would = operate(&node, &["prune", "--dry-run"])?;
    assert!(would.contains(&format!("would remove {}", &old.id()["sha256:".len()..][..13])), "{would}");
    Ok(())
}

#[tokio::test]
async fn lists_take_a_name() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let list = |name: &str| {
        let filter = v1::ImageFilter { image: Some(cri::image_spec(name)) };
        let mut client = cri.images();
        async move { client.list_images(v1::ListImagesRequest { filter: Some(filter) }).await }
    };
    let found = list(cricket_integration::BUSYBOX).await?.into_inner().images;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].repo_tags, [cricket_integration::BUSYBOX]);
    assert!(found[0].size > 0 && !found[0].pinned);
    assert!(list("registry.k8s.io/no/such:image").await?.into_inner().images.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_image_in_use_may_be_removed() -> Result<()> {
    let scene = Scene::host("images-in-use").await?;
    let name = "registry.k8s.io/lifecycle/in-use:1";
    let image = marked("in use")?;
    push(&scene.node, "lifecycle/in-use", "1", &image).await?;
    scene.cri.pull(name).await?;
    let mut config = cri::container("main", name, &[]);
    config.command = idle("x").command;
    let main = scene.run(&config).await?;
    scene.cri.remove_image(name).await?;
    assert!(scene.cri.image(name).await?.is_none());
    assert_eq!(scene.sh(&main, "cat /mark").await?, "in use");
    // Again: it is gone already.
    scene.cri.remove_image(name).await?;
    let error = scene.cri.create(&scene.id, &cri::container("other", name, &[]), &scene.pod).await.expect_err("gone");
    assert_eq!(error.code(), tonic::Code::NotFound, "{error}");
    scene.end().await
}

#[tokio::test]
async fn a_reference_with_tag_and_digest_is_recorded_by_its_digest() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let image = marked("both")?;
    push(&node, "lifecycle/both", "1", &image).await?;
    push(&node, "lifecycle/both", "other", &marked("another")?).await?;
    let name = format!("registry.k8s.io/lifecycle/both:other@{}", image.digest());
    assert_eq!(cri.pull(&name).await?, image.id(), "the digest wins");
    let found = cri.image(&name).await?.context("found by the whole name")?;
    assert_eq!(found.repo_tags, Vec::<String>::new());
    assert_eq!(found.repo_digests, [format!("registry.k8s.io/lifecycle/both@{}", image.digest())]);
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_kubelets_words() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    assert!(cri.image("registry.k8s.io/no/such:image").await?.is_none(), "an empty answer and no error");
    let error = cri.pull("registry.k8s.io/no/such:image").await.expect_err("the registry has no such image");
    assert_eq!(error.code(), tonic::Code::NotFound, "{error}");
    assert!(error.message().contains("registry.k8s.io/no/such:image"), "{error}");
    let error = cri.pull("127.0.0.1:1/x:y").await.expect_err("nobody listens there");
    assert_eq!(error.code(), tonic::Code::Unknown, "{error}");
    assert!(error.message().starts_with("RegistryUnavailable: "), "{error}");
    for bad in ["lower/UPPER", "a:b:c:d", "../up", "x@sha256:short", " "] {
        let error = cri.pull(bad).await.expect_err(bad);
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{bad}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn volumes_of_the_image_are_filled_and_go_with_the_container() -> Result<()> {
    let scene = Scene::host("images-volumes").await?;
    let tree = Tree::new()
        .dirs(["data", "covered"])
        .owned_by(33, 44)
        .dir("data/sub", 0o750)
        .file("data/sub/file", 0o640, "of the image")
        .file("covered/file", 0o644, "hidden");
    let layer = Layer::gzip(tree)?;
    let image = scene
        .image("volumes", |image| {
            image.layer(layer).set("Volumes", json!({ "/data": {}, "/covered": {}, "/none": {} }))
        })
        .await?;
    let mine = scene.node.daemon.home().join("covering");
    std::fs::create_dir_all(&mine)?;
    let mut config = cri::container("main", &image, &[]);
    config.command = idle("x").command;
    config.mounts = vec![mount(&mine, "/covered")];
    let main = scene.run(&config).await?;
    let seen = scene
        .sh(&main, "cat /data/sub/file; echo; stat -c %u:%g:%a /data/sub; ls /covered | wc -l; ls -d /none")
        .await?;
    assert_eq!(seen, "of the image\n33:44:750\n0\n/none");
    let mounts = scene
        .sh(&main, "cut -d ' ' -f 5 /proc/self/mountinfo | grep -xE '/data|/none|/covered' | sort | xargs")
        .await?;
    assert_eq!(mounts, "/covered /data /none");
    scene.sh(&main, "echo changed > /data/sub/file").await?;
    // The source is the container's own: found by what was written there.
    let root = scene.node.daemon.root().to_owned();
    let holds = || {
        cricket_testkit::leaks::files(&root)
            .into_iter()
            .filter(|p| p.ends_with("sub/file"))
            .filter(|p| std::fs::read_to_string(root.join(p)).is_ok_and(|text| text == "changed\n"))
            .count()
    };
    assert_eq!(holds(), 1);
    // Another container of the image begins with the image's content.
    let second = scene.output(&cri::container("second", &image, &["cat", "/data/sub/file"])).await?;
    assert_eq!(second, ["of the image"]);
    scene.cri.remove(&main).await?;
    assert_eq!(holds(), 0, "removed with the container");
    scene.end().await
}

#[tokio::test]
async fn the_images_user_is_told_to_the_kubelet() -> Result<()> {
    let scene = Scene::host("images-user").await?;
    for (user, uid, name) in [
        ("1002", Some(1002), ""),
        ("www-data", None, "www-data"),
        ("1003:users", Some(1003), ""),
        ("www-data:100", None, "www-data"),
        ("", Some(0), ""),
    ] {
        let tag = format!("user-{}", user.replace([':'], "-"));
        let image =
            scene.image(tag.trim_end_matches('-'), |image| image.user(user).env(&[&format!("T={tag}")])).await?;
        let found = scene.cri.image(&image).await?.context("the image")?;
        let expected = (if user.is_empty() { found.uid.map(|u| u.value) } else { uid }, name.to_owned());
        assert_eq!((found.uid.map(|u| u.value), found.username), expected, "{user:?}");
    }
    scene.end().await
}

/// Prints its effective capabilities as the kernel says them.
const PRINT_EFFECTIVE: &str = r#"
#include <stdio.h>
#include <string.h>
int main(void) {
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "CapEff:", 7)) fputs(line, stdout);
    return 0;
}
"#;

#[tokio::test]
async fn file_capabilities_of_a_layer_are_in_effect() -> Result<()> {
    let scene = Scene::host("images-caps").await?;
    // security.capability, revision 2, effective: only CAP_NET_RAW (13), as ping has it.
    let mut value = Vec::new();
    for word in [0x0200_0001_u32, 1 << 13, 0, 0, 0] {
        value.extend_from_slice(&word.to_le_bytes());
    }
    let program = compile(PRINT_EFFECTIVE)?;
    let capability = [("SCHILY.xattr.security.capability", value.as_slice())];
    let layer = Layer::gzip(Tree::new().pax(capability).file("caps", 0o755, program))?;
    let image = scene.image("caps", |image| image.layer(layer)).await?;
    let mut config = cri::container("main", &image, &["/caps"]);
    crate::support::security(&mut config).run_as_user = Some(v1::Int64Value { value: 1000 });
    assert_eq!(scene.output(&config).await?, ["CapEff:\t0000000000002000"]);
    scene.end().await
}

#[tokio::test]
async fn archives_are_loaded_pinned_and_used_without_a_registry() -> Result<()> {
    let node = Node::start().await?;
    let cri = node.daemon.cri().await?;
    let (oci, docker) = (marked("from a layout")?, marked("from docker save")?);
    let (first, second) = (node.daemon.home().join("oci.tar"), node.daemon.home().join("docker.tar"));
    write_oci_tar(&first, &[("docker.io/loaded/oci:1", &oci)])?;
    write_docker_archive(&second, &[("docker.io/loaded/docker:1", &docker)])?;
    for path in [&first, &second] {
        operate(&node, &["load", &path.display().to_string()])?;
    }
    let before = node.registry.requests()?.len();
    let pod = cri::host_network(node.daemon.pod("loaded"));
    let id = cri.run_pod(&pod).await?;
    let scene = Scene { cri: cri.clone(), pod, id, node: node.into() };
    for (name, image, mark) in
        [("docker.io/loaded/oci:1", &oci, "from a layout"), ("loaded/docker:1", &docker, "from docker save")]
    {
        let found = cri.image(name).await?.with_context(|| name.to_owned())?;
        assert_eq!(found.id, image.id());
        let config = cri::container(mark.split(' ').next_back().unwrap_or_default(), name, &["cat", "/mark"]);
        assert_eq!(scene.output(&config).await?, [mark]);
    }
    assert_eq!(scene.node.registry.requests()?.len(), before, "nobody was asked");
    operate(&scene.node, &["pin", "loaded/oci:1"])?;
    let pinned = |images: Vec<v1::Image>| images.into_iter().any(|i| i.id == oci.id() && i.pinned);
    assert!(pinned(listed(&cri).await?));
    // A hint to the kubelet; who removes it by name means it.
    cri.remove_image("docker.io/loaded/oci:1").await?;
    assert!(cri.image(oci.id()).await?.is_none());
    assert_eq!(scene.node.daemon.root().metadata()?.mode() & 0o777, 0o700);
    scene.end().await
}
