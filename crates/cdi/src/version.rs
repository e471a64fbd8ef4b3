//! Versions of the CDI specification, and which of them a file's fields need (SPEC.md, "Released versions";
//! specs-go/version.go). Older ones than 0.3.0 had another format.

use crate::model::{DeviceNode, Edits, IntelRdt, Specification};

type Version = (u8, u8, u8);

/// Every one there is, the newest last.
const KNOWN: [Version; 8] = [(0, 3, 0), (0, 4, 0), (0, 5, 0), (0, 6, 0), (0, 7, 0), (0, 8, 0), (1, 0, 0), (1, 1, 0)];
const NEWEST: Version = KNOWN[KNOWN.len() - 1];
/// The last with `enableCMT` and `enableMBM`.
const OLD_RDT: Version = (1, 0, 0);

fn text((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

/// Checks that the version is one, and has all that the file uses.
pub(crate) fn check(spec: &Specification) -> Result<(), String> {
    let said = spec.cdi_version.strip_prefix('v').unwrap_or(&spec.cdi_version);
    let Some(version) = KNOWN.into_iter().find(|known| text(*known) == said) else {
        let (oldest, newest) = (text(KNOWN[0]), text(NEWEST));
        return Err(format!("cdiVersion {} is none from {oldest} to {newest}", crate::error::shown(&spec.cdi_version)));
    };
    let needs = needs(spec);
    if let Some((needed, what)) = needs.into_iter().max_by_key(|(needed, _)| *needed).filter(|(n, _)| *n > version) {
        return Err(format!("cdiVersion {} has no {what}, which is of {}", text(version), text(needed)));
    }
    let old = |rdt: &IntelRdt| rdt.enable_cmt || rdt.enable_mbm;
    if version > OLD_RDT && edits(spec).any(|e| e.intel_rdt.as_ref().is_some_and(old)) {
        return Err(format!("cdiVersion {} has no enableCMT and enableMBM any more", text(version)));
    }
    Ok(())
}

/// What the file uses that was not there from the beginning.
fn needs(spec: &Specification) -> Vec<(Version, &'static str)> {
    let mut needs = Vec::new();
    let mut need = |is: bool, version, what| needs.extend(is.then_some((version, what)));
    for edits in edits(spec) {
        let monitoring = |rdt: &IntelRdt| rdt.schemata.is_some() || rdt.enable_monitoring;
        need(!edits.net_devices.is_empty(), (1, 1, 0), "netDevices");
        need(edits.intel_rdt.as_ref().is_some_and(monitoring), (1, 1, 0), "intelRdt.schemata and enableMonitoring");
        need(edits.intel_rdt.is_some(), (0, 7, 0), "intelRdt");
        need(!edits.additional_gids.is_empty(), (0, 7, 0), "additionalGids");
        need(edits.device_nodes.iter().any(|n: &DeviceNode| !n.host_path.is_empty()), (0, 5, 0), "hostPath of devices");
        need(edits.mounts.iter().any(|m| !m.kind.is_empty()), (0, 4, 0), "type of mounts");
    }
    let annotated = !spec.annotations.is_empty() || spec.devices.iter().any(|d| !d.annotations.is_empty());
    need(annotated, (0, 6, 0), "annotations");
    let dotted = spec.kind.split_once('/').is_some_and(|(_, class)| class.contains('.'));
    need(dotted, (0, 6, 0), "class with a dot");
    let digit = spec.devices.iter().any(|d| d.name.starts_with(|c: char| c.is_ascii_digit()));
    need(digit, (0, 5, 0), "device whose name begins with a digit");
    needs
}

/// Those of the file and of every device.
pub(crate) fn edits(spec: &Specification) -> impl Iterator<Item = &Edits> {
    [&spec.container_edits].into_iter().chain(spec.devices.iter().map(|device| &device.container_edits))
}
