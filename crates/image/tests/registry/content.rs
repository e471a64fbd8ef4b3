//! Small images, and a registry that has them.

use std::collections::HashMap;

use cricket_image::reference::Reference;
use cricket_image::registry::{Compression, LayerDescriptor, Platform, Registry, RegistryConfig};
use cricket_model::Digest;
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::server::{Reply, Request, Server};

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

/// Deterministic bytes that do not repeat.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(length)
    .collect()
}

pub fn amd64() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: "v3".into() }
}

/// What a registry serves below `/v2/REPOSITORY/`.
#[derive(Clone, Default)]
pub struct Content(HashMap<String, (String, Vec<u8>)>);

impl Content {
    /// A repository whose `tag` is an image of one layer.
    pub fn image(tag: &str, layer: &[u8]) -> Self {
        let mut content = Self::default();
        let manifest = content.add_image("amd64", layer);
        content.tag(tag, OCI_MANIFEST, manifest);
        content
    }

    /// Adds an image without naming it; gives its manifest.
    pub fn add_image(&mut self, architecture: &str, layer: &[u8]) -> Vec<u8> {
        let config = json!({
            "os": "linux", "architecture": architecture,
            "rootfs": { "type": "layers", "diff_ids": [digest(b"unpacked")] },
        });
        self.add_manifest(&config.to_string(), json!([descriptor(OCI_LAYER, layer)]), layer)
    }

    pub fn add_manifest(&mut self, config: &str, layers: Value, layer: &[u8]) -> Vec<u8> {
        self.blob(config.as_bytes());
        self.blob(layer);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        self.manifest(OCI_MANIFEST, &manifest);
        manifest
    }

    pub fn blob(&mut self, bytes: &[u8]) {
        self.insert(format!("blobs/{}", digest(bytes)), "application/octet-stream", bytes);
    }

    pub fn manifest(&mut self, media_type: &str, bytes: &[u8]) {
        self.insert(format!("manifests/{}", digest(bytes)), media_type, bytes);
    }

    pub fn tag(&mut self, tag: &str, media_type: &str, bytes: impl AsRef<[u8]>) {
        self.manifest(media_type, bytes.as_ref());
        self.insert(format!("manifests/{tag}"), media_type, bytes.as_ref());
    }

    fn insert(&mut self, path: String, media_type: &str, bytes: &[u8]) {
        self.0.insert(path, (media_type.to_owned(), bytes.to_vec()));
    }

    /// The bytes behind `manifests/…` or `blobs/…`.
    pub fn get(&self, path: &str) -> &[u8] {
        &self.0[path].1
    }

    /// Answers like a registry does.
    pub fn answer(&self, request: &Request) -> Reply {
        let found = request.path().split_once("/x/").and_then(|(_, path)| self.0.get(path));
        let Some((media_type, bytes)) = found else {
            return Reply::new(404).send(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
        };
        let reply = match request.header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')) {
            None => Reply::ok(bytes.clone()),
            Some(from) => {
                let from: usize = from.parse().unwrap();
                let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206).header("content-range", range).send(&bytes[from..])
            }
        };
        reply.header("content-type", media_type).header("docker-content-digest", digest(bytes))
    }

    /// Serves it.
    pub async fn serve(self) -> Server {
        Server::start(move |request| self.answer(request)).await
    }
}

/// `HOST/x:tag`.
pub fn reference(host: &str) -> Reference {
    Reference::parse(&format!("{host}/x:tag")).unwrap()
}

/// A client with short times.
pub fn config() -> RegistryConfig {
    let short = std::time::Duration::from_secs(1);
    RegistryConfig { progress_timeout: short, response_timeout: short * 3, progress_bytes: 1000, ..Default::default() }
}

pub fn registry() -> Registry {
    Registry::new(config())
}

pub fn layer_of(bytes: &[u8]) -> LayerDescriptor {
    LayerDescriptor {
        digest: digest(bytes),
        size: bytes.len() as u64,
        media_type: OCI_LAYER.to_owned(),
        compression: Compression::Gzip,
        diff_id: digest(b"unpacked"),
    }
}
