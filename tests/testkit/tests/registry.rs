//! The real registry: every kind of it serves what was pushed.

use anyhow::{Context, Result};
use cricket_testkit::image::{self, Compression, Dialect, Image, Index, Layer, Platform, Tree, digest};
use cricket_testkit::registry::{Options, Registry};
use reqwest::{Client, StatusCode};

fn small(mark: &str, compression: Compression) -> Result<Image> {
    let layer = Layer::compressed(Tree::new().file("mark", 0o644, mark).tar(), compression)?;
    Image::of([layer]).cmd(&["/mark"]).build()
}

#[tokio::test]
async fn an_image_comes_back_as_it_was() -> Result<()> {
    let registry = Registry::start()?;
    let image = small("one", Compression::Zstd)?;
    let pusher = registry.pusher()?;
    assert_eq!(pusher.push("a/one", "v1", &image).await?, image.digest());
    // The second repository's blobs are mounted from the first.
    pusher.push("b/one", "v1", &image).await?;
    assert_eq!(registry.count("PUT /v2/b/one/blobs/")?, 0);

    let client = Client::builder().no_proxy().build()?;
    for repository in ["a/one", "b/one"] {
        let url = format!("{}/v2/{repository}/manifests/v1", registry.url());
        let manifest = client.get(url).header("accept", Dialect::Oci.manifest()).send().await?;
        assert_eq!(manifest.headers()["content-type"], image.manifest.media_type.as_str());
        assert_eq!(manifest.bytes().await?, image.manifest.data);
        let layer = &image.layers[0].blob;
        let blob = client.get(format!("{}/v2/{repository}/blobs/{}", registry.url(), layer.digest)).send().await?;
        assert_eq!(blob.bytes().await?, layer.data);
    }
    assert_eq!(registry.count("GET /v2/a/one/blobs/")?, 1);
    Ok(())
}

#[tokio::test]
async fn an_index_leads_to_its_images() -> Result<()> {
    let registry = Registry::start()?;
    let (here, other) = (small("here", Compression::Gzip)?, small("other", Compression::None)?);
    let entries = vec![(Platform::linux("s390x"), other), (Platform::here(), here.clone())];
    let index = Index::new(Dialect::Oci, entries)?;
    registry.pusher()?.push_index("many", "v1", &index).await?;
    let client = Client::builder().no_proxy().build()?;
    let request = client.get(format!("{}/v2/many/manifests/v1", registry.url())).header("accept", Dialect::Oci.index());
    assert_eq!(digest(&request.send().await?.bytes().await?), index.blob.digest);
    let url = format!("{}/v2/many/manifests/{}", registry.url(), here.digest());
    let request = client.get(url).header("accept", Dialect::Oci.manifest());
    assert_eq!(request.send().await?.bytes().await?, here.manifest.data);
    Ok(())
}

#[tokio::test]
async fn a_login_and_a_private_authority_are_needed() -> Result<()> {
    let login = Some(("user".to_owned(), "secret".to_owned()));
    let registry = Registry::with(Options { login, tls: true, data: None })?;
    let image = small("private", Compression::Gzip)?;
    registry.pusher()?.push("private", "v1", &image).await?;

    let url = format!("{}/v2/private/manifests/v1", registry.url());
    let stranger = Client::builder().no_proxy().build()?;
    assert!(stranger.get(&url).send().await.is_err(), "the certificate is not of a public authority");
    let ca = std::fs::read(registry.ca().context("no CA")?)?;
    let client = Client::builder().no_proxy().tls_certs_only([reqwest::Certificate::from_pem(&ca)?]).build()?;
    assert_eq!(client.get(&url).send().await?.status(), StatusCode::UNAUTHORIZED);
    let wrong = client.get(&url).basic_auth("user", Some("wrong")).send().await?;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let right = client.get(&url).basic_auth("user", Some("secret")).header("accept", Dialect::Oci.manifest());
    let right = right.send().await?;
    assert_eq!(right.bytes().await?, image.manifest.data);
    Ok(())
}

#[tokio::test]
async fn it_is_gone_when_it_is_dropped() -> Result<()> {
    let registry = Registry::start()?;
    let address = registry.host();
    assert!(std::net::TcpStream::connect(&address).is_ok());
    drop(registry);
    assert!(std::net::TcpStream::connect(&address).is_err());
    Ok(())
}

/// What critest counts on: names that are unique, tags that differ, tags that do not.
#[test]
fn the_suite_has_what_critest_counts_on() -> Result<()> {
    let suite = image::suite()?;
    let id = |repository: &str, tag: &str| {
        let found = suite.iter().find(|named| named.repository == repository && named.tag == tag);
        found.map(|named| named.image.id().to_owned()).with_context(|| format!("{repository}:{tag}"))
    };
    let tags = "k8s-staging-cri-tools/test-image-tags";
    assert_eq!(id(tags, "1")?, id(tags, "2")?);
    assert_ne!(id("pause", "3.9")?, id("pause", "3.10")?);
    let mut names: Vec<_> = suite.iter().map(|named| (&named.repository, &named.tag)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), suite.len());
    Ok(())
}

#[test]
fn archives_have_every_blob() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let image = small("file", Compression::Gzip)?;
    let images = [("docker.io/library/file:v1", &image)];
    image::write_oci_dir(&dir.path().join("layout"), &images)?;
    for blob in [&image.manifest, &image.config, &image.layers[0].blob] {
        let path = dir.path().join("layout/blobs/sha256").join(blob.digest.trim_start_matches("sha256:"));
        assert_eq!(digest(&std::fs::read(path)?), blob.digest);
    }
    let file = dir.path().join("docker.tar");
    image::write_docker_archive(&file, &images)?;
    let mut archive = tar::Archive::new(std::fs::File::open(file)?);
    let mut seen = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut data = Vec::new();
        std::io::copy(&mut entry, &mut data)?;
        if entry.path()?.ends_with("layer.tar") {
            assert_eq!(digest(&data), image.layers[0].diff_id);
            seen += 1;
        } else if entry.path()?.ends_with("manifest.json") {
            let manifest: serde_json::Value = serde_json::from_slice(&data)?;
            assert_eq!(manifest[0]["RepoTags"][0], "docker.io/library/file:v1");
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
    Ok(())
}
