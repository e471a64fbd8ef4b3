//! Mounts that libcontainer must not make itself, or does not make as they are meant.
//!
//! When `/dev` is a bind mount (device plugins have the host's), libcontainer would make its links and device nodes in
//! it: on the host. So it gets a `/dev` of its own; the real one and all that lies below it are cloned here, in the
//! host's mount namespace, and the init moves them over that one.
//!
//! Bind mounts that share with the host both ways are cloned here, too: only a clone made in the host's mount namespace
//! is a peer of the host's mount. All others libcontainer leaves as slaves of the host's, whatever their options say;
//! the init makes those private that are to be.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_process::mounts::{MountAttributes, Propagation, attach, clone_tree, propagation};
use cricket_process::rooted;
use libcontainer::oci_spec::runtime::{Mount, MountBuilder, Spec};

use crate::error::Error;

/// The directory that libcontainer populates.
const DEV: &str = "/dev";

/// A mount that the init makes.
#[derive(Debug)]
pub(super) struct LateMount {
    tree: OwnedFd,
    target: PathBuf,
    is_dir: bool,
    propagation: Propagation,
}

/// Takes the bind mounts at and below `/dev` out of a specification that has one at `/dev`, and those that share both
/// ways with what is mounted below them.
pub(super) fn take(spec: &mut Spec) -> Result<Vec<LateMount>, Error> {
    let mounts = spec.mounts().clone().unwrap_or_default();
    let dev = mounts.iter().rposition(|m| m.destination() == Path::new(DEV) && is_bind(m));
    let shared: Vec<(usize, PathBuf)> = mounts
        .iter()
        .enumerate()
        .filter(|(_, m)| is_bind(m) && is_shared(m))
        .map(|(at, m)| (at, m.destination().clone()))
        .collect();
    let below = |at: usize, m: &Mount| {
        dev.is_some_and(|dev| at >= dev && m.destination().starts_with(DEV))
            || shared.iter().any(|(from, top)| at >= *from && m.destination().starts_with(top))
    };
    let (late, mut kept): (Vec<_>, Vec<_>) =
        mounts.into_iter().enumerate().partition(|(at, m)| is_bind(m) && below(*at, m));
    if let Some(dev) = dev {
        let own = MountBuilder::default().destination(DEV).typ("tmpfs").source("tmpfs");
        let own = own.options(["nosuid", "strictatime", "mode=755", "size=64k"].map(str::to_owned)).build();
        // After whatever else is at /dev: it is hidden, as the bind mount would have hidden it.
        let at = kept.partition_point(|(at, _)| *at < dev);
        kept.insert(at, (dev, own.map_err(|e| Error::chain("describe a mount", &e))?));
    }
    spec.set_mounts(Some(kept.into_iter().map(|(_, m)| m).collect()));
    late.into_iter().map(|(_, mount)| LateMount::clone_from(&mount)).collect()
}

/// Where bind mounts of a specification are that neither give nor receive.
pub(super) fn private(spec: &Spec) -> Vec<PathBuf> {
    let has = |mount: &Mount, names: [&str; 2]| mount.options().iter().flatten().any(|o| names.contains(&o.as_str()));
    let mounts = spec.mounts().iter().flatten().filter(|m| is_bind(m) && has(m, ["private", "rprivate"]));
    mounts.map(|m| m.destination().clone()).collect()
}

/// Makes what is mounted at these places private. What a later mount hides cannot be reached and needs nothing.
pub(super) fn make_private(targets: &[PathBuf]) -> Result<(), Error> {
    for target in targets {
        match propagation(target, Propagation::Private, true) {
            Err(e) if !matches!(e.errno(), Some(libc::EINVAL | libc::ENOENT | libc::ENOTDIR)) => {
                return Err(Error::host(e.to_line()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_shared(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|o| o == "shared" || o == "rshared")
}

fn is_bind(mount: &Mount) -> bool {
    let has = |name| mount.options().iter().flatten().any(|o| o == name);
    mount.typ().as_deref() == Some("bind") || has("bind") || has("rbind")
}

impl LateMount {
    fn clone_from(mount: &Mount) -> Result<Self, Error> {
        let source = mount.source().as_ref().ok_or_else(|| Error::host("a bind mount has no source"))?;
        let is_dir = fs::metadata(source).map_err(|e| Error::io(format!("look at {}", source.display()), e))?.is_dir();
        let has = |name| mount.options().iter().flatten().any(|o| o == name);
        let tree = clone_tree(source, has("rbind")).map_err(|e| Error::host(e.to_line()))?;
        let attributes = MountAttributes {
            read_only: has("ro") || has("rro"),
            no_suid: has("nosuid"),
            no_dev: has("nodev"),
            no_exec: has("noexec"),
            ..Default::default()
        };
        attributes.apply(tree.as_fd(), has("rro")).map_err(|e| Error::host(e.to_line()))?;
        // Cloned on the host it is a peer of the host's mount, if that one is shared.
        let kind = match () {
            () if is_shared(mount) => Propagation::Shared,
            () if has("slave") || has("rslave") => Propagation::Slave,
            () => Propagation::Private,
        };
        Ok(Self { tree, target: mount.destination().clone(), is_dir, propagation: kind })
    }

    /// Makes the directory that it is mounted on, as long as the root file system can be written to; one that is in
    /// another mount is made by [`LateMount::make`].
    pub(super) fn prepare(&self, rootfs: &Path) -> Result<(), Error> {
        if !self.is_dir || self.target.starts_with(DEV) {
            return Ok(());
        }
        let relative = self.target.strip_prefix("/").unwrap_or(&self.target);
        match rooted::mkdir_in_root(rootfs, relative) {
            Err(e) if e.raw_os_error() != Some(libc::EROFS) => {
                Err(Error::content(format!("make {} in the root file system: {e}", self.target.display())))
            }
            _ => Ok(()),
        }
    }

    /// Moves it to its place in the container, which is the process's root now.
    pub(super) fn make(&self) -> Result<(), Error> {
        let target = &self.target;
        if fs::metadata(target).is_err() {
            let made = match self.is_dir {
                true => fs::create_dir_all(target),
                false => fs::File::create_new(target).map(drop),
            };
            made.map_err(|e| Error::content(format!("make {}: {e}", target.display())))?;
        }
        attach(&self.tree, target)
            .and_then(|()| propagation(target, self.propagation, true))
            .map_err(|e| Error::host(e.to_line()))
    }
}
