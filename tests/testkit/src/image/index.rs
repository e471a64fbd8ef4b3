//! Image indexes: one name for an image of each platform.

use super::{Blob, Dialect, Image, build::architecture};
use anyhow::Result;
use serde_json::{Value, json};

/// A platform as an index's entry names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture in Go's words, such as `amd64`.
    pub architecture: String,
    /// Variant, such as `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// The machine this runs on.
    pub fn here() -> Self {
        Self::linux(architecture())
    }

    /// Linux on the given architecture.
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    fn json(&self) -> Value {
        let mut value = json!({ "os": self.os, "architecture": self.architecture });
        if let Some(variant) = &self.variant {
            value["variant"] = json!(variant);
        }
        value
    }
}

/// An index and the images it leads to.
#[derive(Clone, Debug)]
pub struct Index {
    /// The index itself.
    pub blob: Blob,
    /// The images it names.
    pub images: Vec<Image>,
}

impl Index {
    /// An index of these images.
    pub fn new(dialect: Dialect, entries: Vec<(Platform, Image)>) -> Result<Self> {
        let manifests = entries.iter().map(|(platform, image)| {
            let mut descriptor = image.manifest.descriptor();
            descriptor["platform"] = platform.json();
            descriptor
        });
        let blob = Self::raw(dialect, manifests.collect())?;
        Ok(Self { blob, images: entries.into_iter().map(|(_, image)| image).collect() })
    }

    /// An index blob of arbitrary descriptors: nested ones, cycles, nonsense.
    pub fn raw(dialect: Dialect, manifests: Vec<Value>) -> Result<Blob> {
        let index = json!({ "schemaVersion": 2, "mediaType": dialect.index(), "manifests": manifests });
        Ok(Blob::new(dialect.index(), serde_json::to_vec(&index)?))
    }
}
