//! From layers and a configuration to an image: config blob and manifest.

use super::{Blob, Layer};
use anyhow::Result;
use serde_json::{Map, Value, json};

/// Whose media types a manifest uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// OCI image specification 1.1.
    #[default]
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

impl Dialect {
    /// Media type of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    /// Media type of an image configuration.
    pub fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    /// Media type of a list of manifests by platform.
    pub fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }
}

/// An image whose every byte is decided.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Starts an image of these layers, lowest first.
    pub fn of(layers: impl IntoIterator<Item = Layer>) -> ImageBuilder {
        ImageBuilder {
            layers: layers.into_iter().collect(),
            config: Map::new(),
            top: Map::new(),
            dialect: Dialect::Oci,
            raw_config: None,
            annotations: Map::new(),
        }
    }

    /// The image ID that a runtime reports: the configuration's digest.
    pub fn id(&self) -> &str {
        &self.config.digest
    }

    /// The digest that `repository@digest` names.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// Bytes of configuration and layers as transferred.
    pub fn transfer_size(&self) -> usize {
        self.config.data.len() + self.layers.iter().map(|layer| layer.blob.data.len()).sum::<usize>()
    }
}

/// Collects what an image's configuration and manifest say.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    layers: Vec<Layer>,
    config: Map<String, Value>,
    top: Map<String, Value>,
    dialect: Dialect,
    raw_config: Option<Vec<u8>>,
    annotations: Map<String, Value>,
}

impl ImageBuilder {
    /// One more layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// A field of the configuration's `config` object, such as `User`,
    /// `WorkingDir`, `Volumes`, `ExposedPorts`, `Labels`, `StopSignal`.
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.config.insert(field.to_owned(), value.into());
        self
    }

    /// `Entrypoint`.
    pub fn entrypoint(self, words: &[&str]) -> Self {
        self.set("Entrypoint", json!(words))
    }

    /// `Cmd`.
    pub fn cmd(self, words: &[&str]) -> Self {
        self.set("Cmd", json!(words))
    }

    /// `Env`, as `NAME=value`.
    pub fn env(self, variables: &[&str]) -> Self {
        self.set("Env", json!(variables))
    }

    /// `User`.
    pub fn user(self, user: &str) -> Self {
        self.set("User", user)
    }

    /// A top-level field of the configuration, such as `architecture` or
    /// `rootfs`; replaces what would be computed.
    pub fn top(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.top.insert(field.to_owned(), value.into());
        self
    }

    /// The configuration is exactly these bytes.
    pub fn raw_config(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.raw_config = Some(bytes.into());
        self
    }

    /// An annotation of the manifest.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// Uses these media types for manifest and configuration. Layers keep
    /// theirs: see [`Layer::with_media_type`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The finished image.
    pub fn build(self) -> Result<Image> {
        let config = match self.raw_config {
            Some(bytes) => bytes,
            None => {
                let diff_ids: Vec<_> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
                let history: Vec<_> = (0..diff_ids.len())
                    .map(|n| json!({ "created": "2026-01-01T00:00:00Z", "created_by": format!("layer {n}") }))
                    .collect();
                let mut config = json!({
                    "architecture": architecture(),
                    "os": "linux",
                    "created": "2026-01-01T00:00:00Z",
                    "config": self.config,
                    "rootfs": { "type": "layers", "diff_ids": diff_ids },
                    "history": history,
                });
                if let Some(object) = config.as_object_mut() {
                    object.extend(self.top);
                }
                serde_json::to_vec(&config)?
            }
        };
        let config = Blob::new(self.dialect.config(), config);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.dialect.manifest(),
            "config": config.descriptor(),
            "layers": self.layers.iter().map(|layer| layer.blob.descriptor()).collect::<Vec<_>>(),
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = Value::Object(self.annotations);
        }
        let manifest = Blob::new(self.dialect.manifest(), serde_json::to_vec(&manifest)?);
        Ok(Image { manifest, config, layers: self.layers })
    }
}

/// This machine's architecture in Go's words, which image platforms use.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
