//! What a container gets, row by row.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::{Path, PathBuf};

use cricket_cri_api::v1;
use cricket_oci::oci_spec::runtime::{LinuxNamespaceType, LinuxSeccompAction, Mount, Spec};
use cricket_oci::selinux::{Label, SelinuxLabels};
use cricket_oci::{AnonymousVolume, ImageDefaults, PathKind, exec_process, image_volumes, localhost_seccomp_path};
use support::{Case, char_device, strings};

fn mounts_at<'a>(spec: &'a Spec, path: &str) -> Vec<&'a Mount> {
    spec.mounts().iter().flatten().filter(|mount| mount.destination() == Path::new(path)).collect()
}

fn has(spec: &Spec, path: &str) -> bool {
    !mounts_at(spec, path).is_empty()
}

#[test]
fn a_mount_takes_the_place_of_the_default() {
    let mut case = Case::default();
    case.mount("/etc/resolv.conf", "/kubelet/resolv.conf");
    case.mount("/sys/", "/host-sys");
    case.mount("//dev/./shm", "/kubelet/shm");
    let spec = case.spec().unwrap().spec;
    for (path, source) in [
        ("/etc/resolv.conf", "/kubelet/resolv.conf"),
        ("/sys", "/host-sys"),
        ("/dev/shm", "/kubelet/shm"),
        ("/etc/hosts", "/run/s/hosts"),
    ] {
        let sources: Vec<_> = mounts_at(&spec, path).iter().map(|mount| mount.source().clone().unwrap()).collect();
        assert_eq!(sources, [PathBuf::from(source)], "{path}");
    }
    assert!(!has(&spec, "/sys/fs/cgroup"));
}

#[test]
fn one_on_dev_takes_the_place_of_everything_below() {
    let mut case = Case::default();
    case.mount("/dev", "/dev");
    case.mount("/dev/termination-log", "/kubelet/log");
    let spec = case.spec().unwrap().spec;
    assert_eq!(mounts_at(&spec, "/dev").len(), 1);
    for gone in ["/dev/pts", "/dev/shm", "/dev/mqueue"] {
        assert!(!has(&spec, gone), "{gone}");
    }
    assert!(has(&spec, "/dev/termination-log"));
}

#[test]
fn mounts_are_made_from_the_root_down_and_stay_inside() {
    let mut case = Case::default();
    case.mount("/a/b/c", "/1");
    case.mount("/a", "/2");
    case.mount("/../../a/b", "/3");
    let spec = case.spec().unwrap().spec;
    let depths: Vec<usize> =
        spec.mounts().iter().flatten().map(|mount| mount.destination().components().count()).collect();
    assert!(depths.is_sorted(), "{depths:?}");
    assert!(has(&spec, "/a") && has(&spec, "/a/b") && has(&spec, "/a/b/c"));
}

#[test]
fn missing_host_paths_are_to_be_made() {
    let mut case = Case::default();
    for path in ["/b", "/a"] {
        case.paths.kinds.insert(path.into(), PathKind::Missing);
    }
    case.mount("/1", "/b");
    case.mount("/2", "/a");
    case.mount("/3", "/a");
    case.mount("/4", "/there");
    assert_eq!(case.spec().unwrap().mounts_to_create, [PathBuf::from("/a"), PathBuf::from("/b")]);
}

#[test]
fn recursive_read_only_where_the_handler_has_it() {
    let mut case = Case::default();
    (case.handler.recursive_read_only, case.host.mount_attributes) = (true, true);
    let mount = case.mount("/a", "/x");
    (mount.readonly, mount.recursive_read_only, mount.mount_options) = (true, true, strings(&["noexec"]));
    let spec = case.spec().unwrap().spec;
    assert_eq!(mounts_at(&spec, "/a")[0].options().clone().unwrap(), ["rbind", "rprivate", "ro", "rro", "noexec"]);
}

#[test]
fn volumes_of_images() {
    let image = |volumes: &[&str]| ImageDefaults { volumes: strings(volumes), ..Default::default() };
    let mounts = [v1::Mount { container_path: "/data/".into(), ..Default::default() }];
    assert_eq!(image_volumes(&image(&["/log", "/data", "/log/"]), &mounts).unwrap(), [PathBuf::from("/log")]);
    for bad in ["/../../etc", "/a/../b", "..", "rel", "/", "", "/a\0b"] {
        assert!(image_volumes(&image(&[bad]), &[]).is_err(), "{bad:?}");
    }
    let mut case = Case {
        volumes: vec![AnonymousVolume { destination: "/data".into(), source: "/v".into() }],
        ..Default::default()
    };
    assert!(has(&case.spec().unwrap().spec, "/data"));
    case.mount("/data", "/mine");
    assert_eq!(mounts_at(&case.spec().unwrap().spec, "/data").len(), 1);
}

#[test]
fn namespaces_by_mode() {
    use v1::NamespaceMode::{Container, Node, Pod, Target};
    // Modes of the container and the pod, and the path of the PID namespace in the result: none means not listed.
    for (own, pod, given, want) in [
        (Container, Container, None, Some(None)),
        (Pod, Pod, Some("/proc/9/ns/pid"), Some(Some("/proc/9/ns/pid"))),
        (Target, Container, Some("/proc/8/ns/pid"), Some(Some("/proc/8/ns/pid"))),
        (Node, Node, None, None),
        (Pod, Node, None, None),
        (Pod, Container, None, Some(None)),
    ] {
        let mut case = Case::default();
        let options = case.context().namespace_options.get_or_insert_default();
        options.pid = own as i32;
        options.target_id = "target".into();
        case.pod_context().namespace_options.get_or_insert_default().pid = pod as i32;
        case.namespaces.pid = given.map(PathBuf::from);
        let spec = case.spec().unwrap().spec;
        let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        let found = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Pid);
        assert_eq!(found.map(|namespace| namespace.path().as_deref()), want.map(|path| path.map(Path::new)));
        assert!(namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Mount && n.path().is_none()));
        assert_eq!(spec.hostname(), &None);
    }
    let mut case = Case::default();
    case.context().namespace_options.get_or_insert_default().pid = Pod as i32;
    case.pod_context().namespace_options.get_or_insert_default().pid = Pod as i32;
    assert_eq!(case.refusal(), "the PID namespace to join was not given");
}

#[test]
fn requested_devices_and_their_rules() {
    let mut case = Case::default();
    case.paths.devices.insert("/dev/fuse".into(), vec![char_device("/dev/fuse", 10, 229)]);
    case.paths
        .devices
        .insert("/dev/snd".into(), vec![char_device("/dev/snd/a", 116, 1), char_device("/dev/snd/by/b", 116, 2)]);
    let device = |host: &str, own: &str, access: &str| v1::Device {
        container_path: own.into(),
        host_path: host.into(),
        permissions: access.into(),
    };
    case.config.devices = vec![device("/dev/fuse", "/dev/mine", "wr"), device("/dev/snd", "/dev/sound", "")];
    case.context().run_as_user = Some(v1::Int64Value { value: 1000 });
    case.handler.device_ownership_from_security_context = true;
    let linux = case.spec().unwrap().spec.linux().clone().unwrap();
    let nodes = linux.devices().clone().unwrap();
    let paths: Vec<_> = nodes.iter().map(|node| node.path().to_str().unwrap()).collect();
    assert_eq!(paths, ["/dev/mine", "/dev/sound/a", "/dev/sound/by/b"]);
    assert_eq!((nodes[0].uid(), nodes[0].gid()), (Some(1000), Some(6)));
    let rules: Vec<_> = linux.resources().as_ref().unwrap().devices().iter().flatten().map(|r| r.to_string()).collect();
    assert_eq!(rules[rules.len() - 3..], ["c 10:229 rw", "c 116:1 rwm", "c 116:2 rwm"]);
    assert_eq!(rules[0], "a *:* rwm");
}

#[test]
fn privileged_without_host_devices() {
    let mut case = Case::default().privileged();
    case.handler.privileged_without_host_devices = true;
    let rules = |case: &Case| {
        let linux = case.spec().unwrap().spec.linux().clone().unwrap();
        assert_eq!(linux.devices().as_ref().map(Vec::len), Some(0));
        linux.resources().as_ref().unwrap().devices().as_ref().unwrap().len()
    };
    assert!(rules(&case) > 1);
    case.handler.privileged_without_host_devices_all_devices_allowed = true;
    assert_eq!(rules(&case), 1);
}

#[test]
fn seccomp_by_request_and_configuration() {
    let filter = |case: &Case| case.spec().unwrap().spec.linux().as_ref().unwrap().seccomp().clone();
    let profile = |kind| Some(v1::SecurityProfile { profile_type: kind, ..Default::default() });
    let mut case = Case::default();
    assert!(filter(&case).is_none(), "nothing requested");
    case.handler.unset_seccomp_profile = "runtime/default".into();
    assert_eq!(filter(&case).unwrap().default_action(), LinuxSeccompAction::ScmpActErrno);
    case.context().seccomp = profile(1);
    assert!(filter(&case).is_none(), "unconfined");
    case.context().seccomp = profile(0);
    assert!(filter(&case).is_some());
    let privileged = case.privileged();
    assert!(filter(&privileged).is_none(), "privileged");

    let mut case = Case::default();
    #[allow(deprecated)]
    case.context().seccomp_profile_path.push_str("localhost//p/x.json");
    assert_eq!(localhost_seccomp_path(&case.config, "").unwrap(), Some(PathBuf::from("/p/x.json")));
    case.localhost_seccomp = Some(b"{\"defaultAction\":\"SCMP_ACT_LOG\"}".to_vec());
    assert_eq!(filter(&case).unwrap().default_action(), LinuxSeccompAction::ScmpActLog);
    case.localhost_seccomp = Some(b"{".to_vec());
    assert!(case.refusal().contains("seccomp profile cannot be read"));
}

#[test]
fn confinement_that_is_asked_for_and_there() {
    let mut case = Case::default();
    case.host.apparmor_enabled = true;
    case.context().apparmor = Some(v1::SecurityProfile { profile_type: 2, localhost_ref: "localhost/mine".into() });
    let label = |text| Label::parse(text).unwrap();
    let labels = SelinuxLabels {
        process: label("system_u:system_r:container_t:s0:c1,c2"),
        files: label("system_u:object_r:container_file_t:s0:c1,c2"),
    };
    case.selinux = Some(labels.clone());
    case.context().selinux_options = Some(v1::SeLinuxOption { level: "s0:c1,c2".into(), ..Default::default() });
    let spec = case.spec().unwrap().spec;
    let process = spec.process().clone().unwrap();
    assert_eq!(process.apparmor_profile().as_deref(), Some("mine"));
    assert_eq!(process.selinux_label().as_deref(), Some("system_u:system_r:container_t:s0:c1,c2"));
    let label = spec.linux().as_ref().unwrap().mount_label().clone();
    assert_eq!(label.as_deref(), Some("system_u:object_r:container_file_t:s0:c1,c2"));

    // What a privileged container may is the policy's to say, unless a type is named; its files have a label.
    let mut privileged = Case { selinux: Some(labels), ..Case::default() };
    privileged.context().privileged = true;
    privileged.pod_context().privileged = true;
    for (kind, want) in [("", None), ("spc_t", Some("system_u:system_r:container_t:s0:c1,c2"))] {
        privileged.context().selinux_options = Some(v1::SeLinuxOption { r#type: kind.into(), ..Default::default() });
        let spec = privileged.spec().unwrap().spec;
        assert_eq!(spec.process().as_ref().unwrap().selinux_label().as_deref(), want);
        assert!(spec.linux().as_ref().unwrap().mount_label().is_some());
    }

    let mut bare = Case::default();
    bare.context().apparmor = Some(v1::SecurityProfile::default());
    bare.context().selinux_options = Some(v1::SeLinuxOption::default());
    let process = bare.spec().unwrap().spec.process().clone().unwrap();
    assert_eq!((process.apparmor_profile(), process.selinux_label()), (&None, &None));
    assert_eq!(process.no_new_privileges(), None);
}

#[test]
fn the_default_profile_is_for_whoever_names_none() {
    let mut case = Case::default();
    (case.host.apparmor_enabled, case.host.apparmor_default) = (true, Some("d".into()));
    let profile = |case: &Case| case.spec().unwrap().spec.process().clone().unwrap().apparmor_profile().clone();
    let of = |kind| Some(v1::SecurityProfile { profile_type: kind, ..Default::default() });
    assert_eq!(profile(&case).as_deref(), Some("d"));
    case.context().apparmor = of(0);
    assert_eq!(profile(&case).as_deref(), Some("d"));
    case.context().apparmor = of(1);
    assert_eq!(profile(&case), None);
    case.context().apparmor = of(0);
    case.context().privileged = true;
    case.sandbox.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
    assert_eq!(profile(&case), None);
    case.context().apparmor = Some(v1::SecurityProfile { profile_type: 2, localhost_ref: "localhost/mine".into() });
    assert_eq!(profile(&case).as_deref(), Some("mine"));
}

#[test]
fn execs_have_what_the_container_has() {
    let mut case = Case::default();
    case.context().run_as_user = Some(v1::Int64Value { value: 1000 });
    case.config.tty = true;
    case.config.envs = vec![v1::KeyValue { key: "TERM".into(), value: b"dumb".to_vec() }];
    let spec = case.spec().unwrap().spec;
    let own = spec.process().clone().unwrap();
    let exec = exec_process(&spec, &strings(&["sh", "-c", "true"]), false).unwrap();
    assert_eq!(exec.args().clone().unwrap(), ["sh", "-c", "true"]);
    assert_eq!(exec.terminal(), Some(false));
    assert_eq!((exec.user(), exec.capabilities(), exec.env()), (own.user(), own.capabilities(), own.env()));
    assert_eq!((exec.cwd(), exec.rlimits()), (own.cwd(), own.rlimits()));

    let plain = Case::default().spec().unwrap().spec;
    let terms = |tty| {
        let env = exec_process(&plain, &strings(&["sh"]), tty).unwrap().env().clone().unwrap();
        env.into_iter().filter(|entry| entry.starts_with("TERM=")).collect::<Vec<_>>()
    };
    assert_eq!(terms(true), ["TERM=xterm"]);
    assert!(terms(false).is_empty());
    assert!(exec_process(&plain, &[], false).is_err());
    assert!(exec_process(&plain, &strings(&["a\0b"]), false).is_err());
}

#[test]
fn the_base_specification_is_below_the_request() {
    let mut case = Case::default();
    let base = r#"{"ociVersion":"1.0.0","hostname":"base","hooks":{"createRuntime":[{"path":"/bin/hook"}]},
        "process":{"user":{"uid":9},"cwd":"/base","env":["BASE=1","PATH=/base"],
                   "rlimits":[{"type":"RLIMIT_NOFILE","soft":10,"hard":20}]},
        "linux":{"resources":{"pids":{"limit":77}}}}"#;
    case.handler.base_spec = Some(serde_json::from_str(base).unwrap());
    case.image.env = strings(&["PATH=/image"]);
    let spec = case.spec().unwrap().spec;
    let process = spec.process().clone().unwrap();
    assert_eq!((process.user().uid(), process.cwd().as_path()), (0, Path::new("/")));
    let env = process.env().clone().unwrap();
    assert!(env.contains(&"BASE=1".to_owned()) && env.contains(&"PATH=/image".to_owned()));
    let nofile = process.rlimits().clone().unwrap()[0];
    assert_eq!((nofile.soft(), nofile.hard()), (10, 20));
    assert_eq!(spec.linux().as_ref().unwrap().resources().as_ref().unwrap().pids().unwrap().limit(), 77);
    assert!(spec.hooks().is_some() && spec.hostname().is_none());
    assert!(has(&spec, "/proc"), "a base without mounts keeps the defaults");
}

#[test]
fn annotations_of_pods_do_not_pass_for_the_runtimes_own() {
    let mut case = Case::default();
    case.handler.pod_annotations = strings(&["*"]);
    case.sandbox.annotations.insert("io.kubernetes.cri.sandbox-id".into(), "forged".into());
    case.sandbox.annotations.insert("kata".into(), "1".into());
    let annotations = case.spec().unwrap().spec.annotations().clone().unwrap();
    assert_eq!(annotations["io.kubernetes.cri.sandbox-id"], "5".repeat(64));
    assert_eq!(annotations["kata"], "1");
}
