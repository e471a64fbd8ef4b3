//! Loading images from a file: OCI image layout (image-spec, "Image Layout") or docker archive.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_model::Digest;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::archive::Archive;
use super::layers::Origin;
use super::pull::Described;
use super::record::LayerRef;
use super::{Inner, blocking};
use crate::reference::Reference;
use crate::registry::Platform;
use crate::{Error, Image, ImageConfiguration, Result};

/// Indexes in indexes.
const MAX_DEPTH: usize = 3;
const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    platform: Option<PlatformOf>,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct PlatformOf {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

/// An index or a manifest: which one is told by what it has.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An image in an archive, with the file of each layer.
pub(crate) type FoundImage = (Described, HashMap<Digest, PathBuf>);

impl Inner {
    pub(crate) async fn import(self: &Arc<Self>, path: &Path) -> Result<Vec<Arc<Image>>> {
        let (path, staging, platform) = (path.to_owned(), self.dirs.staging(), self.config.platform.clone());
        let (found, archive) =
            blocking("read an archive of images", move || read_archive(&path, staging, &platform)).await?;
        let mut images = Vec::new();
        for (image, files) in found {
            // What is loaded is kept as it came: there may be no registry to fetch a layer from again.
            let names: Vec<Digest> = image.layers.iter().map(|l| l.blob.clone()).collect();
            let _lease = self.state().lease(names.iter());
            let (dirs, wanted) = (self.dirs.clone(), files.clone());
            blocking("keep blobs", move || {
                for (digest, file) in wanted {
                    let place = dirs.blob(&digest);
                    if !place.is_file() {
                        keep(&file, &dirs.staging(), &digest, &place)?;
                    }
                }
                Ok(())
            })
            .await?;
            self.sync_all().await?;
            let origin = Origin::Files(Arc::new(move |layer: &LayerRef| files.get(&layer.blob).cloned()));
            images.push(self.install(image, &origin).await?);
        }
        // Its files were needed until here.
        drop(archive);
        Ok(images)
    }
}

/// The images for `platform` in an archive, which is unpacked into `staging` until it is dropped.
pub(crate) fn read_archive(path: &Path, staging: PathBuf, platform: &Platform) -> Result<(Vec<FoundImage>, Archive)> {
    let archive = Archive::open(path, staging)?;
    Ok((read(&archive, platform)?, archive))
}

fn read(archive: &Archive, platform: &Platform) -> Result<Vec<FoundImage>> {
    if let Some(index) = archive.document("index.json")? {
        return layout(archive, &index, platform);
    }
    match archive.document("manifest.json")? {
        Some(manifest) => docker(archive, &manifest),
        None => Err(archive.bad("neither an OCI layout nor a docker archive")),
    }
}

fn layout(archive: &Archive, index: &[u8], platform: &Platform) -> Result<Vec<FoundImage>> {
    let index: Document = parse(archive, "index.json", index)?;
    let mut images = Vec::new();
    for descriptor in index.manifests.unwrap_or_default() {
        let names = names_of(archive, &descriptor.annotations)?;
        let (manifest, digest) = select(archive, &descriptor, platform, MAX_DEPTH)?;
        let document: Document = parse(archive, digest.as_str(), &manifest)?;
        let config = document.config.ok_or_else(|| archive.bad(format!("{digest} is no image manifest")))?;
        let text = utf8(archive, archive.blob(&config.digest)?)?;
        let (_, diff_ids) = ImageConfiguration::parse(text.as_bytes(), config.digest.as_str())?;
        if diff_ids.len() != document.layers.len() {
            return Err(archive.bad(format!("{digest}: its layers and its config's diff ids differ in number")));
        }
        let (mut layers, mut files) = (Vec::new(), HashMap::new());
        for (layer, diff_id) in document.layers.into_iter().zip(diff_ids) {
            let name = format!("blobs/sha256/{}", layer.digest.hex());
            let file = archive.member(&name).ok_or_else(|| archive.bad(format!("{} is missing", layer.digest)))?;
            files.insert(layer.digest.clone(), file);
            layers.push(LayerRef { blob: layer.digest, size: layer.size, media_type: layer.media_type, diff_id });
        }
        let at = |name: &Reference| name.with_digest(descriptor.digest.clone()).canonical();
        images.push((
            Described {
                id: config.digest,
                config: text,
                manifest: Some(utf8(archive, manifest)?),
                layers,
                repo_digests: names.iter().map(at).collect(),
                tags: names.iter().filter(|n| n.digest().is_none()).map(Reference::canonical).collect(),
                keeps_blobs: true,
            },
            files,
        ));
    }
    Ok(images)
}

/// The manifest for this platform below a descriptor.
fn select(archive: &Archive, from: &Descriptor, platform: &Platform, depth: usize) -> Result<(Vec<u8>, Digest)> {
    let bytes = archive.blob(&from.digest)?;
    let document: Document = parse(archive, from.digest.as_str(), &bytes)?;
    let Some(manifests) = document.manifests else { return Ok((bytes, from.digest.clone())) };
    if depth == 0 {
        return Err(archive.bad(format!("{}: more than {MAX_DEPTH} nested indexes", from.digest)));
    }
    let fits = |d: &&Descriptor| match &d.platform {
        Some(p) => {
            let variant = p.variant.is_empty() || platform.variant.is_empty() || p.variant == platform.variant;
            p.os == platform.os && p.architecture == platform.architecture && variant
        }
        None => true,
    };
    let there = || {
        let names = manifests.iter().filter_map(|d| d.platform.as_ref());
        names.map(|p| format!("{}/{}", p.os, p.architecture)).collect::<Vec<_>>().join(", ")
    };
    let wanted = || format!("{}/{}", platform.os, platform.architecture);
    let next = manifests.iter().find(fits);
    let next = next.ok_or_else(|| archive.bad(format!("nothing for platform {}; there is {}", wanted(), there())))?;
    select(archive, next, platform, depth - 1)
}

/// The complete name in containerd's annotation, or a reference name that is one.
fn names_of(archive: &Archive, annotations: &HashMap<String, String>) -> Result<Vec<Reference>> {
    if let Some(name) = annotations.get(NAME) {
        return Ok(vec![Reference::parse(name).map_err(|e| archive.bad(e.to_string()))?]);
    }
    // Some tools write only a tag here: that names no image.
    let whole = annotations.get(REF_NAME).filter(|name| name.contains([':', '/']));
    Ok(whole.and_then(|name| Reference::parse(name).ok()).into_iter().collect())
}

fn docker(archive: &Archive, manifest: &[u8]) -> Result<Vec<FoundImage>> {
    let saved: Vec<Saved> = parse(archive, "manifest.json", manifest)?;
    let mut images = Vec::new();
    for Saved { config, repo_tags, layers: names } in saved {
        let bytes = archive.document(&config)?.ok_or_else(|| archive.bad(format!("{config} is missing")))?;
        let id = Digest::from_sha256(Sha256::digest(&bytes).into());
        let text = utf8(archive, bytes)?;
        let (_, diff_ids) = ImageConfiguration::parse(text.as_bytes(), &config)?;
        if diff_ids.len() != names.len() {
            return Err(archive.bad(format!("{config}: its layers and its diff ids differ in number")));
        }
        let (mut layers, mut files) = (Vec::new(), HashMap::new());
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let file = archive.member(name).ok_or_else(|| archive.bad(format!("{name} is missing")))?;
            let (blob, size) = hash(&file, |_| Ok(()))?;
            files.insert(blob.clone(), file);
            let media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
            layers.push(LayerRef { blob, size, media_type, diff_id });
        }
        let mut tags = BTreeSet::new();
        for tag in repo_tags.unwrap_or_default() {
            tags.insert(Reference::parse(&tag).map_err(|e| archive.bad(e.to_string()))?.canonical());
        }
        let described = Described {
            id,
            config: text,
            manifest: None,
            layers,
            tags,
            repo_digests: BTreeSet::new(),
            keeps_blobs: true,
        };
        images.push((described, files));
    }
    Ok(images)
}

/// Copies a blob to its place, which has it only if it is what its digest says.
fn keep(file: &Path, staged: &Path, digest: &Digest, place: &Path) -> Result<()> {
    let copy = || {
        let mut out = std::fs::File::create_new(staged).map_err(|e| Error::io("create", staged, e))?;
        let (actual, _) = hash(file, |bytes| out.write_all(bytes).map_err(|e| Error::io("write", staged, e)))?;
        if actual != *digest {
            let what = format!("blob {}", file.display());
            return Err(Error::Mismatch { what, expected: digest.to_string(), actual: actual.to_string() });
        }
        std::fs::rename(staged, place).map_err(|e| Error::io("rename", staged, e))
    };
    copy().inspect_err(|_| drop(std::fs::remove_file(staged)))
}

/// A file's digest and size; `each` sees its bytes.
fn hash(path: &Path, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<(Digest, u64)> {
    let failed = |e| Error::io("read", path, e);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut hash, mut size, mut buf) = (Sha256::new(), 0u64, vec![0u8; 128 << 10]);
    loop {
        match std::io::Read::read(&mut file, &mut buf).map_err(failed)? {
            0 => return Ok((Digest::from_sha256(hash.finalize().into()), size)),
            n => {
                hash.update(&buf[..n]);
                each(&buf[..n])?;
                size += n as u64;
            }
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(archive: &Archive, name: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| archive.bad(format!("{name}: {e}")))
}

fn utf8(archive: &Archive, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| archive.bad("a document is not UTF-8"))
}
