//! Annotations of the specification: what OCI runtimes and shims read of a container's place in its pod, under the
//! keys that containerd gives them, and what the handler lets through of the pod's and the container's own.

use std::collections::HashMap;

use cricket_cri_api::v1;
use cricket_model::SandboxId;

use crate::input::ContainerInput;
use crate::sandbox::SandboxInput;

const PREFIX: &str = "io.kubernetes.cri.";
const CRIO_PREFIX: &str = "io.kubernetes.cri-o.";

pub(crate) fn annotations(input: &ContainerInput<'_>) -> HashMap<String, String> {
    let container = input.config.metadata.clone().unwrap_or_default();
    let mut out = passed(&input.handler.pod_annotations, &input.sandbox.annotations);
    out.extend(passed(&input.handler.container_annotations, &input.config.annotations));
    // Last, so that no annotation of a pod passes for one of these.
    out.extend(place("container", input.sandbox_id, input.sandbox));
    out.extend([("container-name", container.name), ("image-name", input.image_name.to_owned())].map(own));
    out
}

/// Those of the pod's first container, with what the pod as a whole may use: virtual machines are sized by that. containerd
/// tells the sum of its containers alone, CRI-O also what the RuntimeClass adds (`overhead.podFixed`), both as JSON.
pub(crate) fn of_sandbox(input: &SandboxInput<'_>) -> HashMap<String, String> {
    let linux = input.sandbox.linux.clone().unwrap_or_default();
    let mut out = passed(&input.handler.pod_annotations, &input.sandbox.annotations);
    out.extend(place("sandbox", input.id, input.sandbox));
    if let Some(resources) = &linux.resources {
        let sizes = [
            ("sandbox-cpu-period", resources.cpu_period.to_string()),
            ("sandbox-cpu-quota", resources.cpu_quota.to_string()),
            ("sandbox-cpu-shares", resources.cpu_shares.to_string()),
            ("sandbox-memory", resources.memory_limit_in_bytes.to_string()),
        ];
        out.extend(sizes.map(own));
    }
    for (key, resources) in [("PodLinuxResources", &linux.resources), ("PodLinuxOverhead", &linux.overhead)] {
        if let Some(resources) = resources {
            out.insert(format!("{CRIO_PREFIX}{key}"), json(resources).to_string());
        }
    }
    out
}

/// What of a pod's resources is said: the kubelet says no more of them than processors and memory.
fn json(resources: &v1::LinuxContainerResources) -> serde_json::Value {
    let said = [
        ("cpu_period", resources.cpu_period),
        ("cpu_quota", resources.cpu_quota),
        ("cpu_shares", resources.cpu_shares),
        ("memory_limit_in_bytes", resources.memory_limit_in_bytes),
    ];
    said.into_iter().filter(|(_, value)| *value != 0).collect()
}

/// What the globs let through.
fn passed(globs: &[String], given: &HashMap<String, String>) -> HashMap<String, String> {
    let wanted = |key: &str| globs.iter().any(|glob| glob_matches(glob.as_bytes(), key.as_bytes()));
    given.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What a container is to its pod; the first two also in CRI-O's words.
fn place(kind: &str, id: &SandboxId, sandbox: &v1::PodSandboxConfig) -> impl Iterator<Item = (String, String)> {
    let pod = sandbox.metadata.clone().unwrap_or_default();
    let crio = [("ContainerType", kind.to_owned()), ("SandboxID", id.to_string())];
    let own_keys = [
        ("container-type", kind.to_owned()),
        ("sandbox-id", id.to_string()),
        ("sandbox-name", pod.name),
        ("sandbox-namespace", pod.namespace),
        ("sandbox-uid", pod.uid),
        ("sandbox-log-directory", sandbox.log_directory.clone()),
    ];
    own_keys.map(own).into_iter().chain(crio.map(|(key, value)| (format!("{CRIO_PREFIX}{key}"), value)))
}

fn own((key, value): (&str, String)) -> (String, String) {
    (format!("{PREFIX}{key}"), value)
}

/// Globs as containerd's configuration has them (Go's `path.Match`): `*` and `?` match no slash, `[a-z]` and `[^a]`
/// are classes, a backslash takes the next character literally. A malformed glob matches nothing. Linear in the
/// lengths' product: only the last star is ever tried again.
pub(crate) fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if g < glob.len() && glob[g] == b'*' {
            star = Some((g, t));
            g += 1;
            continue;
        }
        if t == text.len() && g == glob.len() {
            return true;
        }
        if t < text.len()
            && let Some(next) = one(&glob[g..], text[t])
        {
            g += next;
            t += 1;
            continue;
        }
        match star {
            Some((at, from)) if from < text.len() && text[from] != b'/' => {
                star = Some((at, from + 1));
                (g, t) = (at + 1, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many bytes of `glob` match `byte`, if they do.
fn one(glob: &[u8], byte: u8) -> Option<usize> {
    match *glob.first()? {
        b'?' => (byte != b'/').then_some(1),
        b'\\' => (*glob.get(1)? == byte).then_some(2),
        b'[' => class(glob, byte),
        literal => (literal == byte).then_some(1),
    }
}

fn class(glob: &[u8], byte: u8) -> Option<usize> {
    let negated = glob.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let (first, mut matched) = (at, false);
    loop {
        if *glob.get(at)? == b']' && at > first {
            break;
        }
        let low = member(glob, &mut at)?;
        let mut high = low;
        if glob.get(at) == Some(&b'-') {
            at += 1;
            high = member(glob, &mut at)?;
        }
        matched |= (low..=high).contains(&byte);
    }
    (matched != negated && byte != b'/').then_some(at + 1)
}

/// A character of a class, a backslash before it skipped.
fn member(glob: &[u8], at: &mut usize) -> Option<u8> {
    *at += usize::from(*glob.get(*at)? == b'\\');
    let byte = *glob.get(*at)?;
    *at += 1;
    Some(byte)
}

#[cfg(test)]
mod tests {
    use super::glob_matches;

    #[test]
    fn matches_as_path_match_does() {
        for (glob, text, want) in [
            ("io.katacontainers.*", "io.katacontainers.config.hypervisor.x", true),
            ("io.*", "io.x/y", false),
            ("io.*/*", "io.x/y", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "ace", false),
            ("a[^b-d]e", "aze", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[", "[", false),
            ("a[b", "ab", false),
            ("*.x.*.z", "a.x.b.x.c.z", true),
            ("", "a", false),
        ] {
            assert_eq!(glob_matches(glob.as_bytes(), text.as_bytes()), want, "{glob} {text}");
        }
        assert!(!glob_matches("*a".repeat(500).as_bytes(), "a".repeat(499).as_bytes()));
    }
}
