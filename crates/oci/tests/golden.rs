//! Whole specifications against files in `tests/golden`. `UPDATE_GOLDEN=1 cargo test -p cricket-oci` rewrites them;
//! read the difference before committing it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;

use cricket_cri_api::v1;
use serde_json::Value;
use support::{Case, ids, strings};

/// Sets (capabilities) have no order in memory; files have.
fn canonical(mut value: Value) -> Value {
    if let Some(Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    value
}

fn check(name: &str, case: &Case) {
    let made = case.spec().unwrap_or_else(|error| panic!("{name}: {error}"));
    let got = canonical(serde_json::to_value(&made.spec).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&got).unwrap() + "\n").unwrap();
        return;
    }
    let want: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(want, got, "{name}: differs from {}", path.display());
}

#[test]
fn minimal() {
    check("minimal", &Case::default());
}

#[test]
fn cgroup_v1() {
    let mut case = Case::default();
    case.host.cgroup_v2 = false;
    check("cgroup_v1", &case);
}

#[test]
fn user_namespace() {
    let mut case = Case::default().with_ids(ids(0, 100_000, 65_536));
    let mount = case.mount("/data", "/mnt/data");
    (mount.uid_mappings, mount.gid_mappings) = (vec![ids(0, 100_000, 65_536)], vec![ids(0, 100_000, 65_536)]);
    case.mount("/plain", "/mnt/plain");
    check("user_namespace", &case);
}

#[test]
fn privileged_on_the_host() {
    let mut case = Case::default().privileged();
    let host = v1::NamespaceOption {
        network: v1::NamespaceMode::Node as i32,
        pid: v1::NamespaceMode::Node as i32,
        ipc: v1::NamespaceMode::Node as i32,
        ..Default::default()
    };
    case.context().namespace_options = Some(host.clone());
    case.pod_context().namespace_options = Some(host);
    case.sandbox.hostname.clear();
    case.mount("/host", "/").propagation = v1::MountPropagation::PropagationBidirectional as i32;
    check("privileged_on_the_host", &case);
}

#[test]
fn kubelet_pod() {
    let image = cricket_oci::ImageDefaults {
        entrypoint: strings(&["/entry"]),
        cmd: strings(&["--default"]),
        env: strings(&["PATH=/app:/bin", "LANG=C"]),
        user: "web:staff".into(),
        working_dir: "/srv".into(),
        stop_signal: "SIGQUIT".into(),
        volumes: strings(&["/data"]),
        ..Default::default()
    };
    let volumes = vec![cricket_oci::AnonymousVolume { destination: "/data".into(), source: "/var/lib/v/1".into() }];
    let mut case = Case { image, volumes, ..Default::default() };
    let config = &mut case.config;
    config.args = strings(&["--port=80"]);
    config.tty = true;
    config.envs = vec![v1::KeyValue { key: "KUBERNETES_SERVICE_HOST".into(), value: b"10.0.0.1".to_vec() }];
    config.annotations.insert("example.test/pass".into(), "yes".into());
    config.annotations.insert("other.test/drop".into(), "no".into());
    config.linux.as_mut().unwrap().resources = Some(v1::LinuxContainerResources {
        cpu_shares: 102,
        cpu_quota: 10_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        oom_score_adj: 985,
        cpuset_cpus: "0-1".into(),
        hugepage_limits: vec![
            v1::HugepageLimit { page_size: "2MB".into(), limit: 0 },
            v1::HugepageLimit { page_size: "1GB".into(), limit: 0 },
        ],
        unified: [("memory.high".to_owned(), "60000000".to_owned())].into(),
        ..Default::default()
    });
    case.handler.container_annotations = strings(&["example.test/*"]);
    let context = case.context();
    context.seccomp = Some(v1::SecurityProfile { profile_type: 2, localhost_ref: "/profiles/x.json".into() });
    context.no_new_privs = true;
    context.readonly_rootfs = true;
    context.supplemental_groups = vec![2000];
    context.masked_paths = strings(&["/proc/kcore"]);
    context.readonly_paths = strings(&["/proc/sys"]);
    context.capabilities = Some(v1::Capability {
        add_capabilities: strings(&["NET_ADMIN"]),
        drop_capabilities: strings(&["ALL"]),
        ..Default::default()
    });
    case.localhost_seccomp = Some(
        br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["ptrace"],"action":"SCMP_ACT_ERRNO"}]}"#.to_vec(),
    );
    case.mount("/etc/hosts", "/var/lib/kubelet/pods/1/etc-hosts");
    case.mount("/var/run/secrets/kubernetes.io/serviceaccount", "/var/lib/kubelet/pods/1/token").readonly = true;
    case.mount("/dev/termination-log", "/var/lib/kubelet/pods/1/log");
    case.mount("/cache", "/mnt/cache").propagation = v1::MountPropagation::PropagationHostToContainer as i32;
    check("kubelet_pod", &case);
}

#[test]
fn seccomp_runtime_default() {
    // Only where the file was made: the profile names the calls of one architecture.
    if cfg!(target_arch = "x86_64") {
        let mut case = Case::default();
        case.context().seccomp = Some(v1::SecurityProfile::default());
        check("seccomp_runtime_default", &case);
    }
}
