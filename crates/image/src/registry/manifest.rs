//! Reads manifests, indexes and configs: OCI image-spec 1.1 and Docker's schema 2.

use cricket_model::Digest;
use serde::Deserialize;

use super::resolved::{Compression, Platform};

/// Largest manifest, index or config, in bytes.
pub(crate) const MAX_DOCUMENT: usize = 4 << 20;
/// Most layers of an image.
pub(crate) const MAX_LAYERS: usize = 200;
/// Largest layer, in bytes.
pub(crate) const MAX_LAYER: u64 = 64 << 30;
/// Most images in an index.
const MAX_CHILDREN: usize = 10_000;

/// What a registry is asked for, the newest forms first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";

/// A pointer to content (image-spec, "Descriptor").
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: i64,
    #[serde(default)]
    pub(crate) urls: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) platform: Option<PlatformField>,
}

/// The `platform` of a descriptor.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PlatformField {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl From<&PlatformField> for Platform {
    fn from(field: &PlatformField) -> Self {
        let short = |s: &str| super::failure::clean(s).chars().take(40).collect();
        Self { os: short(&field.os), architecture: short(&field.architecture), variant: short(&field.variant) }
    }
}

/// What a manifest's address may hold.
#[derive(Debug)]
pub(crate) enum Document {
    /// Images for several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
}

/// The two kinds that media types tell apart.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
enum Kind {
    Index,
    Image,
}

fn kind(media_type: &str) -> Option<Kind> {
    let plain = media_type.split(';').next().unwrap_or_default().trim();
    match plain {
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json" => {
            Some(Kind::Index)
        }
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json" => {
            Some(Kind::Image)
        }
        _ => None,
    }
}

impl Document {
    /// Reads a manifest or index. `said` is what others call it: the answer's `Content-Type`, the parent's
    /// descriptor. All that name a kind must agree, and the fields with them: a document that is both could be
    /// verified as the one and used as the other.
    pub(crate) fn parse(bytes: &[u8], said: &[&str]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            #[serde(default)]
            schema_version: i64,
            #[serde(default)]
            media_type: String,
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| format!("malformed manifest: {e}"))?;
        if raw.schema_version == 1 {
            return Err("schema 1 manifests are not supported, push the image again with a current tool".to_owned());
        }
        if raw.schema_version != 2 {
            return Err(format!("manifest with schema version {}, want 2", raw.schema_version));
        }
        let shape = match (&raw.manifests, &raw.config, &raw.layers) {
            (Some(_), None, None) => Kind::Index,
            (None, Some(_), _) => Kind::Image,
            (Some(_), ..) => return Err("ambiguous manifest: an index with an image's fields".to_owned()),
            (None, None, _) => return Err("malformed manifest: neither an index nor an image".to_owned()),
        };
        let mut named = said.iter().copied().chain([raw.media_type.as_str()]);
        if let Some(other) = named.find(|m| kind(m).is_some_and(|k| k != shape)) {
            return Err(format!("ambiguous manifest: its fields do not belong to media type {other}"));
        }
        match (raw.manifests, raw.config) {
            (Some(children), _) if children.len() > MAX_CHILDREN => {
                Err(format!("an index of {} images, at most {MAX_CHILDREN} are read", children.len()))
            }
            (Some(children), _) => Ok(Self::Index(children)),
            (None, Some(config)) => Ok(Self::Image { config, layers: raw.layers.unwrap_or_default() }),
            (None, None) => Err("malformed manifest: neither an index nor an image".to_owned()),
        }
    }
}

/// What a document is: as it says itself, else as `said`, else the OCI type of its shape. Those that say nothing of use
/// were made before manifests had to name their type.
pub(crate) fn media_type(bytes: &[u8], said: &str) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw<'a> {
        #[serde(default, borrow)]
        media_type: std::borrow::Cow<'a, str>,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let raw = serde_json::from_slice::<Raw<'_>>(bytes).ok();
    let own = raw.as_ref().map_or("", |r| &r.media_type);
    let known = [own, said].into_iter().find(|m| kind(m).is_some());
    let shape = match raw.as_ref().is_some_and(|r| r.manifests.is_some()) {
        true => "application/vnd.oci.image.index.v1+json",
        false => "application/vnd.oci.image.manifest.v1+json",
    };
    known.unwrap_or(shape).to_owned()
}

/// A document's size as its descriptor promises it.
pub(crate) fn document_size(descriptor: &Descriptor) -> Result<u64, String> {
    match u64::try_from(descriptor.size) {
        Ok(size) if size <= MAX_DOCUMENT as u64 => Ok(size),
        _ => Err(format!(
            "{} has a size of {} bytes, at most {MAX_DOCUMENT} are read",
            descriptor.digest, descriptor.size
        )),
    }
}

/// Checks one layer and says how it is packed.
pub(crate) fn layer(descriptor: &Descriptor) -> Result<(u64, Compression), String> {
    let digest = &descriptor.digest;
    let kind = descriptor.media_type.as_str();
    let foreign = kind.contains(".foreign.") || kind.contains(".nondistributable.");
    if foreign || descriptor.urls.as_ref().is_some_and(|u| !u.is_empty()) {
        return Err(format!("layer {digest} is foreign (to be had from other servers only), which is not supported"));
    }
    let compression = match kind {
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => Compression::None,
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Compression::Gzip
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
            Compression::Zstd
        }
        other => {
            return Err(format!("layer {digest} has the unsupported media type {:?}", super::failure::clean(other)));
        }
    };
    match u64::try_from(descriptor.size) {
        Ok(size) if size <= MAX_LAYER => Ok((size, compression)),
        Ok(size) => Err(format!("layer {digest} has {size} bytes, at most {MAX_LAYER} are taken")),
        Err(_) => Err(format!("layer {digest} has the size {}", descriptor.size)),
    }
}

/// What resolving needs of an image's config.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(flatten)]
    platform: PlatformField,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

impl Config {
    /// Reads a config and compares its layers' number with the manifest's.
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<Self, String> {
        let config: Self = serde_json::from_slice(bytes).map_err(|e| format!("malformed image config: {e}"))?;
        let ids = config.diff_ids().len();
        if ids != layers {
            return Err(format!("the image config has {ids} diff IDs for {layers} layers"));
        }
        Ok(config)
    }

    pub(crate) fn diff_ids(&self) -> &[Digest] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }

    /// What the image says it runs on; none if it says nothing.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let said = !self.platform.os.is_empty() || !self.platform.architecture.is_empty();
        said.then(|| Platform::from(&self.platform))
    }
}
