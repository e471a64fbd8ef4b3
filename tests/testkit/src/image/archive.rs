//! Writers of the two archive formats that `image load` reads.

use super::{Blob, Image, Index, Tree};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Writes an OCI image layout directory; each image is named by the
/// `org.opencontainers.image.ref.name` annotation.
pub fn write_oci_dir(dir: &Path, images: &[(&str, &Image)]) -> Result<()> {
    for (path, data) in layout(images)? {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(dir))?;
        std::fs::write(path, data)?;
    }
    Ok(())
}

/// Writes an OCI image layout as a tar archive.
pub fn write_oci_tar(file: &Path, images: &[(&str, &Image)]) -> Result<()> {
    let mut tree = Tree::new();
    for (path, data) in layout(images)? {
        tree = tree.parents(&path).file(&path, 0o644, data);
    }
    Ok(std::fs::write(file, tree.tar())?)
}

/// Writes what `docker save` does: `manifest.json`, configurations by digest,
/// uncompressed layers. The images' layers must know their archives.
pub fn write_docker_archive(file: &Path, images: &[(&str, &Image)]) -> Result<()> {
    let mut files: BTreeMap<String, bytes::Bytes> = BTreeMap::new();
    let mut manifest = Vec::new();
    for (name, image) in images {
        let config = format!("{}.json", hex_part(&image.config));
        let mut layers = Vec::new();
        for layer in &image.layers {
            let path = format!("{}/layer.tar", layer.diff_id.trim_start_matches("sha256:"));
            files.insert(path.clone(), layer.archive.clone());
            layers.push(path);
        }
        files.insert(config.clone(), image.config.data.clone());
        manifest.push(json!({ "Config": config, "RepoTags": [name], "Layers": layers }));
    }
    let mut tree = Tree::new();
    for (path, data) in files {
        tree = tree.parents(&path).file(&path, 0o644, data);
    }
    tree = tree.file("manifest.json", 0o644, serde_json::to_vec(&manifest)?);
    Ok(std::fs::write(file, tree.tar())?)
}

fn hex_part(blob: &Blob) -> &str {
    blob.digest.trim_start_matches("sha256:")
}

/// Path to content of each file of the layout.
fn layout(images: &[(&str, &Image)]) -> Result<BTreeMap<String, bytes::Bytes>> {
    let mut files = BTreeMap::new();
    let mut manifests: Vec<Value> = Vec::new();
    for (name, image) in images {
        let mut descriptor = image.manifest.descriptor();
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        manifests.push(descriptor);
        let blobs = [&image.manifest, &image.config].into_iter().chain(image.layers.iter().map(|l| &l.blob));
        files.extend(blobs.map(|blob| (format!("blobs/sha256/{}", hex_part(blob)), blob.data.clone())));
    }
    files.insert("oci-layout".to_owned(), r#"{"imageLayoutVersion":"1.0.0"}"#.into());
    files.insert("index.json".to_owned(), Index::raw(super::Dialect::Oci, manifests)?.data);
    Ok(files)
}
