//! What is refused, each by the name of its field and with the right kind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use cricket_cri_api::v1;
use cricket_model::{ErrorKind, Kinded};
use cricket_oci::{PathKind, Propagation, validate_container, validate_sandbox};
use support::{Case, ids, strings};

/// A change to a good case, what the refusal begins with, and its kind.
type Row = (fn(&mut Case), &'static str, ErrorKind);

fn profile(kind: i32, reference: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind, localhost_ref: reference.into() })
}

#[test]
fn each_names_its_field() {
    use ErrorKind::{FailedPrecondition as Host, InvalidArgument as Bad, Unimplemented as No};
    let rows: Vec<Row> = vec![
        (|c| c.config.metadata = None, "metadata", Bad),
        (|c| c.config.image = None, "image", Bad),
        (|c| c.config.log_path = "../x".into(), "log_path", Bad),
        (|c| c.config.working_dir = "rel".into(), "working_dir", Bad),
        (|c| c.config.stop_signal = 900, "stop_signal", Bad),
        (|c| c.context().run_as_group = Some(v1::Int64Value { value: 1 }), "linux.security_context.run_as_group", Bad),
        (
            |c| {
                c.context().run_as_user = Some(v1::Int64Value { value: 1 });
                c.context().run_as_username = "web".into();
            },
            "linux.security_context.run_as_username",
            Bad,
        ),
        (|c| c.context().run_as_username = "nobody".into(), "linux.security_context.run_as_username", Bad),
        (|c| c.context().supplemental_groups = vec![1 << 31], "linux.security_context.supplemental_groups", Bad),
        (|c| c.context().supplemental_groups_policy = 7, "linux.security_context.supplemental_groups_policy", Bad),
        (|c| c.context().privileged = true, "linux.security_context.privileged", Bad),
        (|c| c.context().seccomp = profile(9, ""), "linux.security_context.seccomp", Bad),
        (|c| c.context().seccomp = profile(2, "rel.json"), "linux.security_context.seccomp", Bad),
        (|c| c.context().apparmor = profile(9, ""), "linux.security_context.apparmor", Bad),
        (|c| c.context().apparmor = profile(2, "mine"), "linux.security_context.apparmor: this host", Host),
        (
            |c| c.context().selinux_options = Some(v1::SeLinuxOption { level: "s0:c1".into(), ..Default::default() }),
            "linux.security_context.selinux_options: this host",
            Host,
        ),
        (
            |c| {
                c.host.seccomp_supported = false;
                c.context().seccomp = profile(0, "");
            },
            "linux.security_context.seccomp: this host",
            Host,
        ),
        (|c| c.context().masked_paths = strings(&["proc"]), "linux.security_context.masked_paths", Bad),
        (
            |c| c.context().namespace_options.get_or_insert_default().network = 9,
            "linux.security_context.namespace_options.network",
            Bad,
        ),
        (
            |c| c.context().namespace_options.get_or_insert_default().network = v1::NamespaceMode::Node as i32,
            "linux.security_context.namespace_options.network",
            Bad,
        ),
        (
            |c| c.context().namespace_options.get_or_insert_default().ipc = v1::NamespaceMode::Target as i32,
            "linux.security_context.namespace_options.ipc",
            Bad,
        ),
        (
            |c| c.context().namespace_options.get_or_insert_default().pid = v1::NamespaceMode::Target as i32,
            "linux.security_context.namespace_options.target_id",
            Bad,
        ),
        (|c| c.mount("rel", "/x").readonly = true, "mounts[0].container_path", Bad),
        (|c| c.mount("/a/..", "/x").readonly = true, "mounts[0].container_path: is the root", Bad),
        (|c| c.mount("/a", "").readonly = true, "mounts[0].host_path", Bad),
        (|c| c.mount("/a", "/x").propagation = 5, "mounts.propagation", Bad),
        (|c| c.mount("/a", "/x").mount_options = strings(&["bind,ro"]), "mounts[0].mount_options", Bad),
        (|c| c.mount("/a", "/x").recursive_read_only = true, "mounts[0].recursive_read_only: needs readonly", Bad),
        (
            |c| {
                let mount = c.mount("/a", "/x");
                (mount.readonly, mount.recursive_read_only) = (true, true);
            },
            "mounts[0].recursive_read_only: not supported",
            No,
        ),
        (|c| c.mount("/a", "/x").image = Some(Default::default()), "mounts[0].host_path", Bad),
        (|c| c.mount("/a", "").image = Some(Default::default()), "mounts[0].image: has no name", Bad),
        (|c| c.mount("/a", "/x").image_sub_path = "x".into(), "mounts[0].image_sub_path: is given without", Bad),
        (|c| c.image_mount("/a", "../x").readonly = true, "mounts[0].image_sub_path", Bad),
        (|c| c.image_mount("/a", "/x").readonly = true, "mounts[0].image_sub_path", Bad),
        (|c| c.image_mount("/a", "").propagation = 1, "mounts[0].propagation: of an image", Bad),
        (|c| c.image_mount("/a", "").recursive_read_only = true, "mounts[0].recursive_read_only: needs readonly", Bad),
        (|c| c.image_mount("/a", "").mount_options = strings(&["rw"]), "mounts[0].mount_options", Bad),
        (
            |c| {
                let mount = c.mount("/a", "/x");
                (mount.readonly, mount.recursive_read_only, mount.propagation) = (true, true, 1);
            },
            "mounts[0].recursive_read_only: needs private",
            Bad,
        ),
        (|c| c.mount("/a", "/x").uid_mappings = vec![ids(0, 1, 1)], "mounts[0].gid_mappings: has 0", Bad),
        (
            |c| {
                let mount = c.mount("/a", "/x");
                (mount.uid_mappings, mount.gid_mappings) = (vec![ids(0, 1, 1)], vec![ids(0, 1, 1)]);
            },
            "mounts[0].uid_mappings: not supported",
            No,
        ),
        (
            |c| {
                c.handler.mapped_mounts = true;
                let mount = c.mount("/a", "/x");
                (mount.uid_mappings, mount.gid_mappings) = (vec![ids(0, 1, 1)], vec![ids(0, 1, 1)]);
            },
            "mounts[0].uid_mappings: this host",
            Host,
        ),
        (
            |c| {
                c.paths.propagations.insert("/x".into(), Propagation::Slave);
                c.mount("/a", "/x").propagation = v1::MountPropagation::PropagationBidirectional as i32;
            },
            "mounts[0].propagation: this host",
            Host,
        ),
        (
            |c| {
                c.paths.kinds.insert("/etc/hostname".into(), PathKind::Missing);
                c.mount("/etc/hostname", "/etc/hostname");
            },
            "mounts[0].host_path",
            Bad,
        ),
        (
            |c| {
                c.config.devices = vec![v1::Device {
                    container_path: "/dev/x".into(),
                    host_path: "/dev/x".into(),
                    permissions: "rx".into(),
                }];
            },
            "devices[0].permissions",
            Bad,
        ),
        (
            |c| {
                c.config.devices = vec![v1::Device {
                    container_path: "/dev/x".into(),
                    host_path: "/dev/x".into(),
                    permissions: "r".into(),
                }];
            },
            "devices[0].host_path",
            Bad,
        ),
        (|c| c.image.user = "2147483648".into(), "image: USER", Bad),
        (|c| c.image.working_dir = "a\0b".into(), "image: WORKDIR", Bad),
        (|c| c.image.entrypoint.clear(), "image: neither", Bad),
    ];
    for (change, begins, kind) in rows {
        let mut case = Case::default();
        change(&mut case);
        let error = match case.spec() {
            Ok(_) => panic!("{begins}: was accepted"),
            Err(error) => error,
        };
        assert!(error.to_string().starts_with(begins), "{begins}: {error}");
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert!(Case::default().spec().is_ok());
}

#[test]
fn resources_outside_their_ranges() {
    type Change = fn(&mut v1::LinuxContainerResources);
    let rows: [(Change, &str); 9] = [
        (|r| r.cpu_shares = -1, "linux.resources.cpu_shares"),
        (|r| r.cpu_quota = -2, "linux.resources.cpu_quota"),
        (|r| r.cpu_period = -5, "linux.resources.cpu_period"),
        (|r| r.memory_limit_in_bytes = -2, "linux.resources.memory_limit_in_bytes"),
        (|r| (r.memory_limit_in_bytes, r.memory_swap_limit_in_bytes) = (10, 5), "linux.resources.memory_swap_limit"),
        (|r| r.cpuset_cpus = "0-\n1".into(), "linux.resources.cpuset_cpus"),
        (|r| r.oom_score_adj = 1001, "linux.resources.oom_score_adj"),
        (
            |r| r.hugepage_limits = vec![v1::HugepageLimit { page_size: "1GB".into(), limit: 1 }],
            "linux.resources.hugepage_limits",
        ),
        (|r| r.unified = [("../memory.max".into(), "1".into())].into(), "linux.resources.unified"),
    ];
    for (change, begins) in rows {
        let mut case = Case::default();
        change(case.config.linux.as_mut().unwrap().resources.get_or_insert_default());
        assert!(case.refusal().starts_with(begins), "{begins}: {}", case.refusal());
    }
}

#[test]
fn names_that_are_not_names() {
    let good = Case::default();
    for bad in ["", ".", "..", "../x", "a/b", "a\0b", "a\nb", &"x".repeat(5000)] {
        let mut config = good.config.clone();
        config.metadata.as_mut().unwrap().name = bad.into();
        assert!(validate_container(&config, &good.sandbox).is_err(), "{bad:?}");
        for part in 0..2 {
            let mut sandbox = good.sandbox.clone();
            let metadata = sandbox.metadata.as_mut().unwrap();
            *(if part == 0 { &mut metadata.name } else { &mut metadata.namespace }) = bad.into();
            assert!(validate_sandbox(&sandbox).is_err(), "{bad:?}");
        }
    }
    for bad in ["/abs", "a/../../b", "a\nb", "a\0", "dir/", ".."] {
        let mut config = good.config.clone();
        config.log_path = bad.into();
        assert!(validate_container(&config, &good.sandbox).is_err(), "{bad:?}");
    }
}

#[test]
fn sandboxes_that_would_corrupt_files_or_leave_their_place() {
    type Change = fn(&mut v1::PodSandboxConfig);
    let rows: [(Change, &str); 9] = [
        (
            |s| {
                let context = s.linux.as_mut().unwrap().security_context.as_mut().unwrap();
                context.run_as_group = Some(v1::Int64Value { value: 1 });
            },
            "linux.security_context.run_as_group",
        ),
        (|s| s.hostname = "a\nb".into(), "hostname"),
        (|s| s.hostname = "x".repeat(65), "hostname"),
        (|s| s.log_directory = "relative".into(), "log_directory"),
        (|s| s.log_directory = "/var/log/../../etc".into(), "log_directory"),
        (
            |s| s.dns_config = Some(v1::DnsConfig { servers: strings(&["1.1.1.1\noptions x"]), ..Default::default() }),
            "dns_config.servers",
        ),
        (
            |s| s.port_mappings = vec![v1::PortMapping { container_port: 70_000, ..Default::default() }],
            "port_mappings.container_port",
        ),
        (|s| s.linux.as_mut().unwrap().cgroup_parent = "/a/../..".into(), "linux.cgroup_parent"),
        (|s| s.linux.as_mut().unwrap().sysctls = [("kernel.core_pattern".into(), "|x".into())].into(), "linux.sysctls"),
    ];
    assert!(validate_sandbox(&Case::default().sandbox).is_ok());
    for (change, begins) in rows {
        let mut sandbox = Case::default().sandbox;
        change(&mut sandbox);
        let error = validate_sandbox(&sandbox).unwrap_err();
        assert!(error.to_string().starts_with(begins), "{begins}: {error}");
    }
}

#[test]
fn a_mounted_image_is_read_only_whatever_was_asked() {
    let mut case = Case::default();
    case.mount("/host", "/x");
    case.image_mount("/a", "./some//dir/").mount_options = strings(&["noexec"]);
    let images = cricket_oci::mounted_images(&case.config).unwrap();
    assert_eq!((images.len(), images[0].index), (1, 1));
    assert_eq!(images[0].sub_path, std::path::Path::new("some/dir"));
    let spec = case.spec().unwrap().spec;
    let mounts = spec.mounts().as_ref().unwrap();
    let mount = mounts.iter().find(|mount| mount.destination() == std::path::Path::new("/a")).unwrap();
    assert_eq!(mount.source().as_deref(), Some(std::path::Path::new("/run/s/images/0")));
    assert_eq!(mount.options().as_deref(), Some(&strings(&["rbind", "rprivate", "ro", "noexec"])[..]));
    assert!(mount.uid_mappings().is_none());
}

#[test]
fn files_of_the_host_are_never_made_as_directories() {
    for path in [
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/localtime",
        "/etc/machine-id",
        "/etc/passwd",
        "/etc/group",
    ] {
        let mut case = Case::default();
        case.paths.kinds.insert(path.into(), PathKind::Missing);
        case.mount("/inside", path);
        let error = case.spec().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{path}");
        assert_eq!(error.to_string(), format!("mounts[0].host_path: {path} does not exist"));
    }
    let mut case = Case::default();
    case.paths.kinds.insert("/etc/hostname.d".into(), PathKind::Missing);
    case.mount("/inside", "/etc/hostname.d");
    assert_eq!(case.spec().unwrap().mounts_to_create, [std::path::PathBuf::from("/etc/hostname.d")]);
}
