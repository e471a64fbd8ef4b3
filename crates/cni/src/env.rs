//! The environment of a plugin: the `CNI_*` variables, `PATH`, nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cricket_model::SandboxId;

use crate::{Error, PodNetwork, Result, Verb};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Which attachment a plugin works on; STATUS and GC have none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) sandbox: &'a SandboxId,
    /// `None` once the namespace is gone.
    pub(crate) netns: Option<&'a Path>,
    pub(crate) ifname: &'a str,
    pub(crate) args: &'a str,
}

/// `CNI_ARGS` in the order that other runtimes give and some plugins expect.
///
/// # Errors
/// `;`, `=` and control characters would change the meaning of the list.
pub(crate) fn args(pod: &PodNetwork) -> Result<String> {
    let mut text = String::from("IgnoreUnknown=1");
    for (key, value) in [
        ("K8S_POD_NAMESPACE", pod.namespace.as_str()),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_UID", &pod.uid),
        ("K8S_POD_INFRA_CONTAINER_ID", pod.sandbox.as_str()),
    ] {
        if value.contains(|c: char| c == ';' || c == '=' || c.is_control()) || value.len() > 1024 {
            let reason = format!("{:?} cannot be part of CNI_ARGS", value.chars().take(80).collect::<String>());
            return Err(Error::InvalidArgument { field: key.into(), reason });
        }
        text.push_str(&format!(";{key}={value}"));
    }
    Ok(text)
}

/// All variables of one run.
pub(crate) fn variables(verb: Verb, bin_dirs: &[PathBuf], target: Option<Target<'_>>) -> Vec<(&'static str, OsString)> {
    let mut path = OsString::new();
    for dir in bin_dirs {
        if !path.is_empty() {
            path.push(":");
        }
        path.push(dir);
    }
    let mut vars = vec![
        ("PATH", std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())),
        ("CNI_COMMAND", verb.as_str().into()),
        ("CNI_PATH", path),
    ];
    if let Some(t) = target {
        vars.push(("CNI_CONTAINERID", t.sandbox.as_str().into()));
        vars.push(("CNI_NETNS", t.netns.map(Into::into).unwrap_or_default()));
        vars.push(("CNI_IFNAME", t.ifname.into()));
        vars.push(("CNI_ARGS", t.args.into()));
    }
    vars
}

/// Whether a path still leads to a namespace: after a crash or a reboot a plain file may be left of it.
pub(crate) fn is_namespace(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|t| t == NSFS_MAGIC))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn pod(namespace: &str, name: &str, uid: &str) -> PodNetwork {
        PodNetwork {
            sandbox: SandboxId::generate(),
            netns: "/proc/self/ns/net".into(),
            handler: String::new(),
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            annotations: Default::default(),
            port_mappings: Vec::new(),
            bandwidth: None,
            dns: None,
            cgroup_parent: String::new(),
        }
    }

    #[test]
    fn args_are_in_the_order_of_other_runtimes() {
        let pod = pod("ns", "n", "u");
        let want = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=n;K8S_POD_UID=u;K8S_POD_INFRA_CONTAINER_ID={}",
            pod.sandbox
        );
        assert_eq!(args(&pod).expect("valid"), want);
    }

    #[test]
    fn only_namespaces_are_namespaces() {
        assert!(is_namespace(Path::new("/proc/self/ns/net")));
        assert!(!is_namespace(Path::new("/dev/null")) && !is_namespace(Path::new("/nowhere")));
    }

    proptest! {
        #[test]
        fn no_value_adds_an_argument(name in "[\\PC\n;=]{0,20}") {
            match args(&pod("ns", &name, "u")) {
                Ok(text) => prop_assert_eq!((text.matches(';').count(), text.matches('=').count()), (4, 5)),
                Err(e) => prop_assert_eq!(cricket_model::Kinded::kind(&e), cricket_model::ErrorKind::InvalidArgument),
            }
        }
    }
}
