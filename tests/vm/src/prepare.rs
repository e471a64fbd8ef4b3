//! Made on the host, where processors are not emulated: an archive of busybox and a registry's directory.

use std::path::Path;

use anyhow::{Context, Result};
use cricket_testkit::image::{Named, large, suite, write_oci_tar};
use cricket_testkit::registry::{Options, Registry};

/// The name of busybox in the archive.
pub(crate) const BUSYBOX: &str = "localhost/busybox:latest";
/// The archive, in the directory of the images.
pub(crate) const ARCHIVE: &str = "busybox.tar";
/// The registry's directory there.
pub(crate) const REGISTRY: &str = "registry";
/// How many images the registry has.
pub(crate) const PULLABLE: u64 = 24;

/// Name of the image with this number, below [`PULLABLE`].
pub(crate) fn pullable(number: u64) -> String {
    format!("registry.k8s.io/{}:1", repository(number))
}

fn repository(number: u64) -> String {
    format!("power/image-{number}")
}

pub(crate) async fn run(dir: &Path) -> Result<()> {
    let registry = dir.join(REGISTRY);
    if registry.exists() {
        std::fs::remove_dir_all(&registry)?;
    }
    std::fs::create_dir_all(&registry).with_context(|| registry.display().to_string())?;
    let busybox = suite()?.into_iter().find(|i| i.repository.ends_with("/busybox")).context("no busybox")?;
    write_oci_tar(&dir.join(ARCHIVE), &[(BUSYBOX, &busybox.image)])?;
    let registry = Registry::with(Options { data: Some(registry), ..Options::default() })?;
    for number in 0..PULLABLE {
        let image = large(number * 100, 3, 1 << 20)?;
        registry.fill(&[Named { repository: repository(number), tag: "1".into(), image }]).await?;
    }
    Ok(())
}
