//! Capabilities (capabilities(7)): containerd's default set, what the request adds and drops, never more than the
//! host's bounding set. Inheritable stays empty but for ambient ones: a process with inheritable capabilities could
//! regain them through a file's.

use cricket_cri_api::v1;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use crate::error::{Error, Result, shown};

/// What an unprivileged container has when it asks for nothing: the set of containerd and Docker.
pub const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// One capability or all of them.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    All,
    One(Capability),
}

/// `NET_ADMIN`, `CAP_NET_ADMIN`, `ALL`, in any case.
fn parse(field: &str, name: &str) -> Result<Named> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(Named::All);
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    bare.parse().map(Named::One).map_err(|_| Error::invalid(field, format!("no capability is called {}", shown(name))))
}

fn parse_all(field: &str, names: &[String]) -> Result<(bool, Capabilities)> {
    let mut all = false;
    let mut set = Capabilities::new();
    for name in names {
        match parse(field, name)? {
            Named::All => all = true,
            Named::One(capability) => {
                set.insert(capability);
            }
        }
    }
    Ok((all, set))
}

/// The five sets of a container. `ALL` is applied first, so that "drop ALL, add CHOWN" and "add ALL, drop CHOWN" mean
/// what they say; a capability that is both added and dropped is dropped.
pub(crate) fn capabilities(
    context: &v1::LinuxContainerSecurityContext,
    default: Option<&[String]>,
    bounding: &Capabilities,
) -> Result<LinuxCapabilities> {
    let start = match default {
        Some(names) => {
            let (all, set) = parse_all("the handler's default capabilities", names)?;
            if all { bounding.clone() } else { set }
        }
        None => DEFAULT.into_iter().collect(),
    };
    let request = context.capabilities.clone().unwrap_or_default();
    let (add_all, add) = parse_all("linux.security_context.capabilities.add_capabilities", &request.add_capabilities)?;
    let (drop_all, drop) =
        parse_all("linux.security_context.capabilities.drop_capabilities", &request.drop_capabilities)?;
    let (ambient_all, ambient) =
        parse_all("linux.security_context.capabilities.add_ambient_capabilities", &request.add_ambient_capabilities)?;

    let mut held = if context.privileged {
        bounding.clone()
    } else {
        let mut held = start;
        if add_all || ambient_all {
            held = bounding.clone();
        }
        if drop_all {
            held.clear();
        }
        held.extend(add);
        held.extend(&ambient);
        held.retain(|capability| !drop.contains(capability));
        held
    };
    held.retain(|capability| bounding.contains(capability));
    let raised: Capabilities =
        held.iter().copied().filter(|capability| ambient_all || ambient.contains(capability)).collect();
    Ok(sets(held, raised))
}

fn sets(held: Capabilities, ambient: Capabilities) -> LinuxCapabilities {
    LinuxCapabilitiesBuilder::default()
        .bounding(held.clone())
        .effective(held.clone())
        .permitted(held)
        .inheritable(ambient.clone())
        .ambient(ambient)
        .build()
        .expect("no field is required")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|s| (*s).to_owned()).collect()
    }

    fn make(add: &[&str], drop: &[&str], ambient: &[&str], privileged: bool) -> Result<LinuxCapabilities> {
        let context = v1::LinuxContainerSecurityContext {
            privileged,
            capabilities: Some(v1::Capability {
                add_capabilities: strings(add),
                drop_capabilities: strings(drop),
                add_ambient_capabilities: strings(ambient),
            }),
            ..Default::default()
        };
        let mut bounding: Capabilities = DEFAULT.into_iter().collect();
        bounding.extend([Capability::NetAdmin, Capability::SysAdmin]);
        capabilities(&context, None, &bounding)
    }

    fn held(caps: &LinuxCapabilities) -> Capabilities {
        assert_eq!(caps.bounding(), caps.effective());
        assert_eq!(caps.bounding(), caps.permitted());
        assert_eq!(caps.inheritable(), caps.ambient());
        caps.bounding().clone().unwrap()
    }

    #[test]
    fn adds_and_drops() {
        let count = |add: &[&str], drop: &[&str]| held(&make(add, drop, &[], false).unwrap()).len();
        assert_eq!(count(&[], &[]), 14);
        assert_eq!(count(&["net_admin", "CAP_SYS_ADMIN"], &["MKNOD"]), 15);
        assert_eq!(count(&["ALL"], &[]), 16);
        assert_eq!(count(&["CHOWN"], &["ALL"]), 1);
        assert_eq!(count(&["all"], &["CAP_CHOWN"]), 15);
        assert_eq!(count(&["ALL"], &["ALL"]), 0);
        assert_eq!(count(&["SYS_TIME"], &[]), 14, "the host's bounding set clamps");
    }

    #[test]
    fn inheritable_is_empty_unless_ambient() {
        assert_eq!(make(&[], &[], &[], true).unwrap().inheritable().as_ref().map(Capabilities::len), Some(0));
        let caps = make(&[], &["ALL"], &["NET_ADMIN", "SYS_TIME"], false).unwrap();
        assert_eq!(held(&caps), Capabilities::from([Capability::NetAdmin]));
        assert_eq!(caps.ambient().clone().unwrap(), Capabilities::from([Capability::NetAdmin]));
    }

    #[test]
    fn unknown_names_are_the_callers_mistake() {
        for bad in ["", "CAP_", "NET-ADMIN", "CAP_CAP_CHOWN", "CHOWN\n"] {
            assert!(matches!(make(&[bad], &[], &[], false), Err(Error::Invalid { .. })), "{bad:?}");
        }
    }
}
