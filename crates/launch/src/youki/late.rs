//! Mounts that libcontainer must not make itself.
//!
//! When `/dev` is a bind mount (device plugins have the host's), libcontainer would make its links and device nodes in
//! it: on the host. So it gets a `/dev` of its own; the real one and all that lies below it are cloned here, in the
//! host's mount namespace, and the init moves them over that one.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cricket_process::mounts::{MountAttributes, Propagation, attach, clone_tree, propagation};
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

/// Takes the bind mounts at and below `/dev` out of a specification that has one at `/dev`.
pub(super) fn take(spec: &mut Spec) -> Result<Vec<LateMount>, Error> {
    let mounts = spec.mounts().clone().unwrap_or_default();
    let Some(first) = mounts.iter().rposition(|m| m.destination() == Path::new(DEV) && is_bind(m)) else {
        return Ok(Vec::new());
    };
    let (late, mut kept): (Vec<_>, Vec<_>) = mounts
        .into_iter()
        .enumerate()
        .partition(|(at, m)| *at >= first && m.destination().starts_with(DEV) && is_bind(m));
    let own = MountBuilder::default().destination(DEV).typ("tmpfs").source("tmpfs");
    let own = own.options(["nosuid", "strictatime", "mode=755", "size=64k"].map(str::to_owned)).build();
    // After whatever else is at /dev: it is hidden, as the bind mount would have hidden it.
    let at = kept.partition_point(|(at, _)| *at < first);
    kept.insert(at, (first, own.map_err(|e| Error::chain("describe a mount", &e))?));
    spec.set_mounts(Some(kept.into_iter().map(|(_, m)| m).collect()));
    late.into_iter().map(|(_, mount)| LateMount::clone_from(&mount)).collect()
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
        // Cloned on the host it is a peer of the host's mount; like all others it receives at most.
        let receives = ["slave", "rslave", "shared", "rshared"].into_iter().any(has);
        let kind = if receives { Propagation::Slave } else { Propagation::Private };
        Ok(Self { tree, target: mount.destination().clone(), is_dir, propagation: kind })
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
