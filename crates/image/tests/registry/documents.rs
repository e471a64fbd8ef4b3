//! Manifests, indexes, configs: what is taken and what is refused.

use bytes::Bytes;
use cricket_image::reference::Reference;
use cricket_image::registry::{Compression, KnownContent, RegistryError, Resolved};
use cricket_model::{Digest, ErrorKind, Kinded};
use serde_json::{Value, json};

use crate::content::*;
use crate::server::{Reply, Server, Step};

async fn resolve(content: Content) -> Result<Resolved, RegistryError> {
    let server = content.serve().await;
    registry().resolve(&reference(&server.host()), None, &amd64(), None).await
}

/// The error of a repository whose tag is this document.
async fn refused(media_type: &str, document: Value) -> String {
    let mut content = Content::image("other", b"layer");
    content.tag("tag", media_type, document.to_string());
    let error = resolve(content).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_plain_image() {
    let content = Content::image("tag", b"layer");
    let manifest = content.get("manifests/tag").to_vec();
    let image = resolve(content).await.unwrap();
    assert_eq!(image.digest, digest(&manifest));
    assert_eq!(image.manifest.bytes(), &manifest);
    assert_eq!(image.layers, [layer_of(b"layer")]);
    assert_eq!(image.layers[0].compression, Compression::Gzip);
    assert_eq!(image.config.digest(), &digest(image.config.bytes()));
}

#[tokio::test]
async fn an_index_gives_its_own_digest_and_the_best_image() {
    let mut content = Content::default();
    let child = |content: &mut Content, layer: &[u8], variant: &str| {
        let mut child = descriptor(OCI_MANIFEST, &content.add_image("amd64", layer));
        child["platform"] = json!({ "os": "linux", "architecture": "amd64", "variant": variant });
        child
    };
    let (plain, v3) = (child(&mut content, b"plain", ""), child(&mut content, b"v3", "v3"));
    let attestation = json!({
        "mediaType": OCI_MANIFEST, "digest": digest(b"attestation"), "size": 3,
        "platform": { "os": "unknown", "architecture": "unknown" },
    });
    let inner = json!({ "schemaVersion": 2, "manifests": [attestation, plain, v3] }).to_string();
    content.manifest(OCI_INDEX, inner.as_bytes());
    let outer = json!({ "schemaVersion": 2, "manifests": [descriptor(OCI_INDEX, inner.as_bytes())] }).to_string();
    content.tag("tag", OCI_INDEX, &outer);
    let image = resolve(content).await.unwrap();
    assert_eq!(image.digest, digest(outer.as_bytes()));
    assert_eq!(image.layers, [layer_of(b"v3")]);
}

#[tokio::test]
async fn no_image_for_the_platform_lists_what_there_is() {
    let mut content = Content::default();
    let mut children = Vec::new();
    for (architecture, variant) in [("arm", "v7"), ("s390x", ""), ("amd64", "v4")] {
        let mut child = descriptor(OCI_MANIFEST, &content.add_image(architecture, b"layer"));
        child["platform"] = json!({ "os": "linux", "architecture": architecture, "variant": variant });
        children.push(child);
    }
    content.tag("tag", OCI_INDEX, json!({ "schemaVersion": 2, "manifests": children }).to_string());
    let error = resolve(content).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains("linux/amd64/v3; there is linux/amd64/v4, linux/arm/v7, linux/s390x"), "{text}");

    let mut content = Content::default();
    let manifest = content.add_image("arm64", b"layer");
    content.tag("tag", OCI_MANIFEST, manifest);
    let text = resolve(content).await.unwrap_err().to_string();
    assert!(text.contains("there is linux/arm64"), "{text}");
}

#[tokio::test]
async fn schema_1_is_refused_by_name() {
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let text = refused(kind, json!({ "schemaVersion": 1, "fsLayers": [] })).await;
    assert!(text.contains("schema 1"), "{text}");
}

#[tokio::test]
async fn ambiguous_and_malformed_documents_are_refused() {
    let config = descriptor("application/vnd.oci.image.config.v1+json", b"{}");
    let both = json!({ "schemaVersion": 2, "config": config, "layers": [], "manifests": [] });
    assert!(refused(OCI_MANIFEST, both).await.contains("ambiguous"));
    let image = json!({ "schemaVersion": 2, "config": config, "layers": [] });
    assert!(refused(OCI_INDEX, image.clone()).await.contains("ambiguous"));
    let mut lying = image;
    lying["mediaType"] = json!(OCI_INDEX);
    assert!(refused("text/plain", lying).await.contains("ambiguous"));
    assert!(refused(OCI_MANIFEST, json!({ "schemaVersion": 2 })).await.contains("neither"));
    assert!(refused(OCI_MANIFEST, json!([1, 2])).await.contains("malformed"));
}

#[tokio::test]
async fn bad_layers_are_refused() {
    let layer = |change: Value| {
        let mut layer = descriptor(OCI_LAYER, b"layer");
        layer.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        layer
    };
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    for (layers, want) in [
        (json!([layer(json!({ "urls": ["https://elsewhere"] }))]), "foreign"),
        (json!([layer(json!({ "mediaType": foreign }))]), "foreign"),
        (json!([layer(json!({ "mediaType": "application/vnd.cncf.helm.chart" }))]), "unsupported media type"),
        (json!([layer(json!({ "size": -1 }))]), "size -1"),
        (json!([layer(json!({ "size": 1u64 << 40 }))]), "at most"),
        (json!([layer(json!({ "digest": "sha256:../../etc/passwd" }))]), "invalid digest"),
        (json!(vec![layer(json!({})); 201]), "201 layers"),
        (json!([layer(json!({})), layer(json!({}))]), "1 diff IDs for 2 layers"),
    ] {
        let mut content = Content::default();
        let config = json!({ "rootfs": { "diff_ids": [digest(b"unpacked")] } }).to_string();
        let manifest = content.add_manifest(&config, layers, b"layer");
        content.tag("tag", OCI_MANIFEST, manifest);
        let error = resolve(content).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(want), "{want}: {error}");
    }
}

#[tokio::test]
async fn wrong_content_is_data_loss() {
    let good = Content::image("tag", b"layer");
    let config_path = {
        let manifest: Value = serde_json::from_slice(good.get("manifests/tag")).unwrap();
        format!("blobs/{}", manifest["config"]["digest"].as_str().unwrap())
    };
    // The manifest differs from the header, then from the reference's digest; the config differs from the manifest.
    let (content, path) = (good.clone(), config_path);
    let server = Server::start(move |request| match request.path() {
        "/v2/x/manifests/tag" => Reply::ok("{}").header("docker-content-digest", digest(b"other")),
        p if p.ends_with(&path) => Reply::ok(vec![b' '; content.get(&path).len()]),
        p if p.ends_with(digest(b"asked").as_str()) => Reply::ok("{}"),
        _ => content.answer(request),
    })
    .await;
    let right = digest(good.get("manifests/tag"));
    for version in [":tag".to_owned(), format!("@{}", digest(b"asked")), format!("@{right}")] {
        let reference = Reference::parse(&format!("{}/x{version}", server.host())).unwrap();
        let error = registry().resolve(&reference, None, &amd64(), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{version}: {error}");
        assert!(error.to_string().contains(&server.host()), "{error}");
    }
}

#[tokio::test]
async fn a_huge_manifest_is_bounded() {
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
    let server = Server::start(move |request| match request.path() {
        "/v2/x/manifests/tag" => Reply::new(200).step(Step::Repeat(vec![b' '; 1 << 20], 1 << 10)),
        _ => Reply::new(200).header("transfer-encoding", "chunked").step(Step::Repeat(chunk.clone(), 1 << 14)),
    })
    .await;
    for tag in ["tag", "chunked"] {
        let reference = Reference::parse(&format!("{}/x:{tag}", server.host())).unwrap();
        let error = registry().resolve(&reference, None, &amd64(), None).await.unwrap_err();
        assert!(error.to_string().contains("larger than 4194304 bytes"), "{error}");
    }
}

#[tokio::test]
async fn nesting_is_bounded_and_a_cycle_is_a_mismatch() {
    let mut content = Content::default();
    let mut inner = content.add_image("amd64", b"layer");
    let mut kind = OCI_MANIFEST;
    for depth in 1..=4 {
        inner = json!({ "schemaVersion": 2, "manifests": [descriptor(kind, &inner)] }).to_string().into_bytes();
        kind = OCI_INDEX;
        content.tag(&format!("depth{depth}"), kind, &inner);
    }
    let server = content.serve().await;
    for (depth, fits) in [(1, true), (3, true), (4, false)] {
        let reference = Reference::parse(&format!("{}/x:depth{depth}", server.host())).unwrap();
        let result = registry().resolve(&reference, None, &amd64(), None).await;
        assert_eq!(result.is_ok(), fits, "{depth}: {:?}", result.err());
    }

    let myself = json!({ "schemaVersion": 2, "manifests": [
        { "mediaType": OCI_INDEX, "digest": digest(b"cycle"), "size": 10 },
    ]});
    let cycle = Server::start(move |_| Reply::ok(myself.to_string()).header("content-type", OCI_INDEX)).await;
    let error = registry().resolve(&reference(&cycle.host()), None, &amd64(), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert_eq!(cycle.requests().len(), 2);
}

#[tokio::test]
async fn an_index_that_leads_everywhere_is_bounded() {
    let mut content = Content::default();
    let children: Vec<_> = (0..100)
        .map(|i| descriptor(OCI_MANIFEST, &content.add_image("s390x", format!("layer {i}").as_bytes())))
        .collect();
    content.tag("tag", OCI_INDEX, json!({ "schemaVersion": 2, "manifests": children }).to_string());
    // Every layer makes another manifest, and the config is the same.
    let server = content.serve().await;
    let error = registry().resolve(&reference(&server.host()), None, &amd64(), None).await.unwrap_err();
    assert!(error.to_string().contains("more than 32 documents"), "{error}");
    assert!(server.requests().len() <= 64);
}

struct Kept(Content, Resolved);

impl KnownContent for Kept {
    fn blob(&self, digest: &Digest) -> Option<Bytes> {
        let known = [&self.1.manifest, &self.1.config].into_iter().find(|b| b.digest() == digest)?;
        Some(known.bytes().clone())
    }
}

#[tokio::test]
async fn known_content_costs_one_head() {
    let content = Content::image("tag", b"layer");
    let server = content.clone().serve().await;
    let (registry, reference) = (registry(), reference(&server.host()));
    let first = registry.resolve(&reference, None, &amd64(), None).await.unwrap();
    let before = server.requests().len();
    let kept = Kept(content, first);
    let second = registry.resolve(&reference, None, &amd64(), Some(&kept)).await.unwrap();
    assert_eq!(second.digest, kept.1.digest);
    let new: Vec<_> = server.requests().into_iter().skip(before).map(|r| r.method).collect();
    assert_eq!(new, ["HEAD"]);
    // By digest the registry is asked as well: it decides who may pull.
    let by_digest = reference.with_digest(second.digest.clone());
    registry.resolve(&by_digest, None, &amd64(), Some(&kept)).await.unwrap();
    assert_eq!(server.requests().len(), before + 2);
    assert!(!kept.0.get("manifests/tag").is_empty());
}
