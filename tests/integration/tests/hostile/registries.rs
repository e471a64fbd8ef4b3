//! What registries may answer, as PullImage tells it.

use std::time::{Duration, Instant};

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_testkit::fake::{Access, FakeRegistry, Fault, Rule};
use cricket_testkit::image::{Blob, Dialect, Image, Index, Layer, Platform, Tree};
use serde_json::json;
use tonic::Code;

use crate::support::{assert_unharmed, node};

fn small() -> Result<Image> {
    Image::of([Layer::gzip(Tree::new().file("file", 0o644, "content"))?]).build()
}

#[tokio::test]
async fn statuses_have_codes_and_causes() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let fake = FakeRegistry::start()?;
    fake.put("status", "1", &small()?);
    let name = format!("{}/status:1", fake.host());
    let slow_down = Fault::status_with(429, "Retry-After", "3600");
    for (fault, code, part) in [
        (Fault::status(404), Code::NotFound, "404"),
        (Fault::status(401), Code::Unauthenticated, "401"),
        (Fault::status(403), Code::PermissionDenied, "403"),
        (slow_down, Code::ResourceExhausted, "retry after 3600"),
        (Fault::status(500), Code::Unknown, "500"),
        (Fault::Close, Code::Unknown, "RegistryUnavailable: "),
        (Fault::Redirect(format!("{}{{path}}", fake.url())), Code::Unknown, "redirect"),
        (Fault::Replace("not a manifest".into()), Code::DataLoss, "digest mismatch"),
    ] {
        let described = format!("{fault:?}");
        fake.behave();
        fake.rule(Rule::manifests(fault));
        let began = Instant::now();
        let error = cri.pull(&name).await.expect_err(&described);
        assert!(began.elapsed() < Duration::from_secs(30), "{described}: {:?}", began.elapsed());
        assert_eq!(error.code(), code, "{described}: {error}");
        assert!(error.message().contains(part) && error.message().contains(&fake.host()), "{described}: {error}");
        // The only form in which kubelets recognise it.
        assert_eq!(code == Code::Unknown, error.message().starts_with("RegistryUnavailable: "), "{described}: {error}");
        assert_eq!(cri.image(&name).await?, None, "{described}");
    }
    fake.behave();
    cri.pull(&name).await?;
    cri.remove_image(&name).await?;
    let gone = name.replace(&fake.host(), "127.0.0.1:1");
    let error = cri.pull(&gone).await.expect_err("nobody listens");
    assert!(error.code() == Code::Unknown && error.message().starts_with("RegistryUnavailable: "), "{error}");
    assert_unharmed(&node).await
}

#[tokio::test]
async fn credentials_are_wanted_and_stay_out_of_messages_and_logs() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let fake = FakeRegistry::start()?;
    fake.put("private", "1", &small()?);
    fake.set_access(Access::Token(Some(("user".into(), "right".into()))));
    let name = format!("{}/private:1", fake.host());
    let auth = |password: &str| {
        Some(v1::AuthConfig { username: "user".into(), password: password.into(), ..Default::default() })
    };
    let secret = "a-secret-that-nobody-reads";
    let error = cri.pull_with(&name, auth(secret)).await.expect_err("wrong");
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    assert!(!error.message().contains(secret) && !node.daemon.log().contains(secret));
    assert_eq!(cri.pull(&name).await.expect_err("none").code(), Code::Unauthenticated);
    cri.pull_with(&name, auth("right")).await?;
    // Another host gets none of it.
    let other = FakeRegistry::start()?;
    let image = Image::of([Layer::gzip(Tree::new().file("other", 0o644, "blob"))?]).build()?;
    fake.put("moved", "1", &image);
    other.put("moved", "1", &image);
    let to = other.url().replace("127.0.0.1", "localhost");
    fake.rule(Rule::blobs(Fault::Redirect(format!("{to}{{path}}"))));
    cri.pull_with(&format!("{}/moved:1", fake.host()), auth("right")).await?;
    let requests = other.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|r| r.header("authorization").is_none()), "{requests:?}");
    assert_unharmed(&node).await
}

#[tokio::test]
async fn content_that_is_not_what_its_digest_says_is_refused() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let fake = FakeRegistry::start()?;
    let layer = Layer::gzip(Tree::new().file("file", 0o644, "digests"))?;
    let image = Image::of([layer.clone()]).build()?;
    fake.put("digest", "1", &image);
    let name = format!("{}/digest:1", fake.host());
    let mut swapped = layer.blob.data.to_vec();
    swapped.reverse();
    fake.rule(Rule::blob(&layer.blob.digest, Fault::Replace(swapped.into())));
    let error = cri.pull(&name).await.expect_err("another layer");
    assert!(error.code() == Code::DataLoss && error.message().contains(&layer.blob.digest), "{error}");
    fake.behave();
    fake.rule(Rule::blob(&image.config.digest, Fault::Replace(vec![b' '; image.config.data.len()].into())));
    let error = cri.pull(&name).await.expect_err("another configuration");
    assert!(error.code() == Code::DataLoss && error.message().contains(&image.config.digest), "{error}");
    // By digest, another manifest.
    fake.behave();
    fake.put_manifest("digest", &image.manifest.digest, small()?.manifest);
    let error = cri.pull(&format!("{}/digest@{}", fake.host(), image.manifest.digest)).await.expect_err("another");
    assert!(error.code() == Code::DataLoss && error.message().contains(&image.manifest.digest), "{error}");
    // A layer whose archive is not the one of its diff ID.
    let other = Layer::gzip(Tree::new().file("file", 0o644, "other"))?;
    let lie = Image::of([Layer::claimed(layer.blob.clone(), other.diff_id.clone())]).build()?;
    fake.put("lie", "1", &lie);
    let error = cri.pull(&format!("{}/lie:1", fake.host())).await.expect_err("another archive");
    assert!(error.code() == Code::DataLoss && error.message().contains(&other.diff_id), "{error}");
    assert!(cri.image(&name).await?.is_none());
    assert_unharmed(&node).await
}

#[tokio::test]
async fn images_that_cannot_be_had_are_refused_by_what_is_there() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let fake = FakeRegistry::start()?;
    let foreign = [Platform::linux("s390x"), Platform::linux("riscv64")];
    let index = Index::new(Dialect::Oci, foreign.into_iter().map(|p| Ok((p, small()?))).collect::<Result<_>>()?)?;
    fake.put_index("platforms", "1", &index);
    let error = cri.pull(&format!("{}/platforms:1", fake.host())).await.expect_err("none for this machine");
    assert!(["s390x", "riscv64"].iter().all(|p| error.message().contains(p)), "{error}");
    assert_eq!(error.code(), Code::NotFound, "{error}");

    let old = json!({ "schemaVersion": 1, "name": "old", "tag": "1", "fsLayers": [], "history": [] });
    let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let old = Blob::new(media_type, old.to_string());
    fake.put_manifest("old", &old.digest, old.clone());
    fake.put_manifest("old", "1", old);
    let error = cri.pull(&format!("{}/old:1", fake.host())).await.expect_err("schema 1");
    assert!(error.code() == Code::InvalidArgument && error.message().contains("schema"), "{error}");

    // What is fetched from an address in the manifest would be fetched from anywhere.
    let bait = FakeRegistry::start()?;
    let foreign = Layer::gzip(Tree::new().file("file", 0o644, "foreign"))?
        .with_media_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let image = Image::of([foreign]).build()?;
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest.data)?;
    manifest["layers"][0]["urls"] = json!([format!("{}/v2/bait", bait.url())]);
    let manifest = Blob::new(&image.manifest.media_type, serde_json::to_vec(&manifest)?);
    fake.put("foreign", "0", &image);
    fake.put_manifest("foreign", &manifest.digest, manifest.clone());
    fake.put_manifest("foreign", "1", manifest);
    let error = cri.pull(&format!("{}/foreign:1", fake.host())).await.expect_err("a foreign layer");
    assert!(error.code() == Code::InvalidArgument && error.message().contains("foreign"), "{error}");
    assert!(bait.requests().is_empty());
    assert_unharmed(&node).await
}

#[tokio::test]
async fn archives_that_reach_out_leave_the_host_alone() -> Result<()> {
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let fake = FakeRegistry::start()?;
    let target = node.daemon.home().join("tar-target");
    let inside = target.display().to_string();
    let dots = format!("../../../../../../../../../../../..{inside}");
    for (n, tree) in [
        Tree::new().file(&dots, 0o644, "evil"),
        Tree::new().symlink("link", "/run").file(
            &format!("link/{}", inside.trim_start_matches("/run/")),
            0o644,
            "evil",
        ),
        Tree::new().hard_link("passwd", "../../../../../../../../../../../../etc/passwd").file("passwd", 0o644, "evil"),
        Tree::new().symlink("up", "../../../../../../../..").file(&format!("up{inside}"), 0o644, "evil"),
    ]
    .into_iter()
    .enumerate()
    {
        fake.put(&format!("tar-{n}"), "1", &Image::of([Layer::gzip(tree)?]).build()?);
        // Some are refused, some stay inside their layer.
        let _ = cri.pull(&format!("{}/tar-{n}:1", fake.host())).await;
        assert!(!target.exists(), "archive {n} made {inside}");
    }
    assert!(!std::fs::read_to_string("/etc/passwd")?.contains("evil"));
    assert_unharmed(&node).await
}
