//! The methods that are counted by their names.

/// CRI's, in the order of their names.
const METHODS: [&str; 43] = [
    "Attach",
    "CheckpointContainer",
    "CheckpointPod",
    "ContainerStats",
    "ContainerStatus",
    "CreateContainer",
    "Exec",
    "ExecSync",
    "GetContainerEvents",
    "ImageFsInfo",
    "ImageStatus",
    "ListContainerStats",
    "ListContainers",
    "ListImages",
    "ListMetricDescriptors",
    "ListPodSandbox",
    "ListPodSandboxMetrics",
    "ListPodSandboxStats",
    "PodSandboxStats",
    "PodSandboxStatus",
    "PortForward",
    "PullImage",
    "RemoveContainer",
    "RemoveImage",
    "RemovePodSandbox",
    "ReopenContainerLog",
    "RestorePod",
    "RunPodSandbox",
    "RuntimeConfig",
    "StartContainer",
    "Status",
    "StopContainer",
    "StopPodSandbox",
    "StreamContainerStats",
    "StreamContainers",
    "StreamImages",
    "StreamPodSandboxMetrics",
    "StreamPodSandboxStats",
    "StreamPodSandboxes",
    "UpdateContainerResources",
    "UpdatePodSandboxResources",
    "UpdateRuntimeConfig",
    "Version",
];

/// The name, if it is one of CRI's: whoever asks may make others up.
pub(crate) fn known(method: &str) -> Option<&'static str> {
    METHODS.binary_search(&method).ok().map(|index| METHODS[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_protocol() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/runtime.v1.proto");
        let proto = std::fs::read_to_string(path).expect("the protocol");
        let name = |line: &str| Some(line.trim().strip_prefix("rpc ")?.split('(').next()?.trim().to_owned());
        let mut names: Vec<_> = proto.lines().filter_map(name).collect();
        names.sort();
        assert_eq!(names, METHODS);
        assert_eq!((known("Version"), known("version")), (Some("Version"), None));
    }
}
