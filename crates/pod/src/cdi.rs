//! CDI devices of containers: those that the request and its annotations name, before plugins see the specification,
//! and those that plugins add.

use cricket_cdi::{Able, Error as CdiError, Host, LiveNodes, Snapshot};
use cricket_cri_api::v1;
use cricket_oci::oci_spec::runtime::Spec;
use cricket_runtime::handlers::{Handler, YOUKI_TYPE};

use crate::error::{Error, Result};
use crate::host::LivePaths;
use crate::shared::Shared;

/// Gives the container what it asks for; blocks while changed files are read.
///
/// # Errors
/// When it cannot have all of it; `spec` is then not to be used. Annotations are not looked at where CDI is disabled,
/// as with containerd.
pub(crate) fn inject(
    shared: &Shared,
    handler: &dyn Handler,
    config: &v1::ContainerConfig,
    spec: &mut Spec,
) -> Result<()> {
    let Some(registry) = &shared.cdi else {
        return match config.cdi_devices.first() {
            None => Ok(()),
            Some(first) => {
                Err(Error::precondition(format_args!("cdi_devices: {:?}: CDI is disabled (enable_cdi)", first.name)))
            }
        };
    };
    let names =
        cricket_cdi::requested(&config.cdi_devices, &config.annotations).map_err(|e| Error::from_kinded("CDI", &e))?;
    if names.is_empty() {
        return Ok(());
    }
    edit(shared, handler, &registry.read(), spec, &names).map_err(|e| Error::from_kinded("CDI", &e))
}

/// Edits a specification. Looks at paths of the host.
pub(crate) fn edit(
    shared: &Shared,
    handler: &dyn Handler,
    snapshot: &Snapshot,
    spec: &mut Spec,
    names: &[String],
) -> std::result::Result<(), CdiError> {
    // A runtime of its own does what a specification says.
    let other = !matches!(handler.config().runtime_type.as_str(), "" | YOUKI_TYPE);
    let mapped_mounts = handler.spec_options().mapped_mounts && shared.host.facts.mount_attributes;
    let able = Able { intel_rdt: other, net_devices: other, mapped_mounts };
    snapshot.inject(spec, names, &Host { nodes: &LiveNodes, mounts: &LivePaths, able })
}
