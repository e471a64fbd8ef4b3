use super::*;
use cricket_cgroup::{Hierarchies, Hierarchy, Kind, Version};
use cricket_wire::launch_config::{LaunchConfig, OciAction, ShimAction, ShimOptions};

fn entry(name: &str, runtime_type: &str) -> HandlerConfig {
    HandlerConfig { name: name.into(), runtime_type: runtime_type.into(), ..Default::default() }
}

fn handlers(list: &[HandlerConfig], default: &str) -> Handlers {
    Handlers::from_config(list, default, CgroupDriver::Cgroupfs).expect("valid handlers")
}

#[test]
fn nothing_configured_means_youki() {
    let handlers = handlers(&[], "");
    assert_eq!(handlers.get("").expect("default").name(), "youki");
    let names: Vec<_> = handlers.statuses().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["", "youki"]);
}

#[test]
fn the_default_is_what_an_empty_name_means() {
    let handlers = handlers(&[entry("runc", RUNC_TYPE), entry("b", YOUKI_TYPE)], "runc");
    assert_eq!(handlers.get("").expect("default").name(), "runc");
    assert_eq!(handlers.default_name(), "runc");
    let names: Vec<_> = handlers.statuses().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["", "b", "runc", "youki"]);
    let error = Handlers::from_config(&[], "kata", CgroupDriver::Cgroupfs).expect_err("no such default");
    assert_eq!(error.to_string(), "the default runtime handler \"kata\" is not configured; there are: youki");
}

#[test]
fn an_unknown_handler_names_those_that_exist() {
    let handlers = handlers(&[entry("zed", RUNC_TYPE), entry("abc", OCI_TYPE)], "");
    let error = handlers.get("gvisor").expect_err("unknown");
    assert_eq!(error.to_string(), "unknown runtime handler \"gvisor\"; this node has: abc, youki, zed");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_shim_is_asked_for_everything() {
    let mut kata = entry("kata", "io.containerd.kata.v2");
    kata.options.config_path = "/etc/kata.toml".into();
    let by_path = HandlerConfig { runtime_path: "/opt/shim".into(), ..entry("r", RUNC_TYPE) };
    let handlers = handlers(&[kata, by_path, entry("gvisor", "io.containerd.runsc.v1")], "");
    let missing = handlers.get("gvisor").expect("gvisor").check().expect_err("not on this node").to_string();
    assert!(missing.contains("containerd-shim-runsc-v1 is in none of"), "{missing}");
    let (kata, runc) = (handlers.get("kata").expect("kata"), handlers.get("r").expect("r"));
    assert!(kata.needs_sandbox_container() && runc.needs_sandbox_container());
    assert_eq!(kata.features(), Features::default());
    let missing = kata.check().expect_err("not on this node").to_string();
    assert!(missing.contains("containerd-shim-kata-v2 is in none of"), "{missing}");
    assert!(runc.check().expect_err("not on this node").to_string().contains("/opt/shim is not there"));
    let order = |handler: &Arc<dyn Handler>, bundle: &str| match handler.signal_config(
        "c1",
        Path::new(bundle),
        Path::new("/state"),
        15,
    ) {
        Some(LaunchConfig::Shim(order)) => *order,
        other => panic!("{other:?}"),
    };
    let first = order(kata, "/state/pods/p1/sandbox");
    let second = order(kata, "/state/pods/p1/c/c1");
    assert_eq!((&first.sandbox, &second.sandbox), (&first.bundle, &first.bundle));
    assert_eq!(second.action, ShimAction::Kill { signal: 15 });
    let options = ShimOptions::Runtime { type_url: String::new(), path: "/etc/kata.toml".into(), body: String::new() };
    assert_eq!(first.options, options);
    let root = PathBuf::from("/p/runtime");
    assert_eq!(order(runc, "/p/sandbox").options, ShimOptions::Runc { binary: String::new(), root });
}

#[test]
fn what_is_no_shim_is_refused_with_the_reason() {
    let youki = HandlerConfig { runtime_path: "/opt/shim".into(), ..entry("y", "") };
    let relative = HandlerConfig { runtime_path: "shim".into(), ..entry("r", RUNC_TYPE) };
    let list = [entry("odd", "io.containerd.kata.latest"), entry("up", "io.containerd.../x.v2"), youki, relative];
    let handlers = handlers(&list, "");
    let error = handlers.get("odd").expect_err("version");
    assert!(error.to_string().contains("io.containerd.NAME.v2"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert_eq!(handlers.refused().map(|(name, _)| name).collect::<Vec<_>>(), ["odd", "r", "up", "y"]);
    assert!(handlers.statuses().iter().all(|(name, _)| !["odd", "up"].contains(name)));
    let as_default = Handlers::from_config(&list[..1], "odd", CgroupDriver::Cgroupfs);
    assert!(matches!(as_default, Err(HandlerError::Unsupported { .. })));
}

#[test]
fn one_cgroup_driver_a_node() {
    let mut config = entry("runc", RUNC_TYPE);
    config.options.systemd_cgroup = Some(true);
    let error = Handlers::from_config(std::slice::from_ref(&config), "", CgroupDriver::Cgroupfs).expect_err("driver");
    assert!(error.to_string().contains("SystemdCgroup = true"), "{error}");
    assert!(Handlers::from_config(std::slice::from_ref(&config), "", CgroupDriver::Systemd).is_ok());
    config.options.systemd_cgroup = None;
    assert!(Handlers::from_config(&[config], "", CgroupDriver::Systemd).is_ok());
}

#[test]
fn what_is_not_supported_is_refused() {
    let odd = HandlerConfig { snapshotter: "stargz".into(), ..entry("a", "") };
    let shim = HandlerConfig { sandboxer: "shim".into(), ..entry("b", "") };
    let handlers = handlers(&[odd, shim], "");
    assert!(handlers.get("a").expect_err("snapshotter").to_string().contains("stargz"));
    assert!(handlers.get("b").expect_err("sandboxer").to_string().contains("sandboxer"));
    for bad in ["", "UP", "a/b", "-a", &"a".repeat(64)] {
        let result = Handlers::from_config(&[entry(bad, "")], "", CgroupDriver::Cgroupfs);
        assert!(matches!(result, Err(HandlerError::Name(_))), "{bad:?}");
    }
}

#[test]
fn base_runtime_spec_is_read() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("base.json");
    std::fs::write(&path, r#"{"ociVersion":"1.2.0","hostname":"base"}"#).expect("write");
    let config = HandlerConfig { base_runtime_spec: path.display().to_string(), ..entry("a", "") };
    let base = handlers(std::slice::from_ref(&config), "").get("a").expect("a").spec_options().base_spec.clone();
    assert_eq!(base.expect("read").hostname().as_deref(), Some("base"));
    std::fs::write(&path, "{").expect("write");
    let refused = Handlers::from_config(std::slice::from_ref(&config), "", CgroupDriver::Cgroupfs);
    let error = refused.expect_err("no JSON").to_string();
    assert!(error.contains("base.json") && error.contains("EOF"), "{error}");
}

#[test]
fn orders() {
    let hierarchies = Hierarchies::new(
        Version::V1,
        vec![
            Hierarchy { mount: "/cg/memory".into(), kind: Kind::V1(vec!["memory".into()]) },
            Hierarchy { mount: "/cg/systemd".into(), kind: Kind::V1(vec![]) },
        ],
    );
    let cgroup = Cgroup::open(&hierarchies, &"/pod/c".parse().expect("path"));
    let input = LaunchInput {
        id: "abc",
        bundle: Path::new("/b"),
        state: Path::new("/run/cricket"),
        terminal: true,
        cgroup: &cgroup,
        seccomp: None,
        sandbox: false,
    };
    let mut crun = entry("crun", OCI_TYPE);
    crun.options.binary_name = "/opt/crun".into();
    let handlers = handlers(&[crun, entry("runc", RUNC_TYPE)], "");
    let LaunchConfig::Youki(youki) = handlers.get("").expect("default").launch_config(&input) else { panic!("kind") };
    assert_eq!(youki.cgroup.v1_directories[0].directory, Path::new("/cg/memory/pod/c"));
    assert_eq!(youki.cgroup.v1_directories[1].directory, Path::new("/cg/systemd/pod/c"));
    assert_eq!(youki.cgroup.unified_directory, None);
    assert!(handlers.get("").expect("default").delete_config("abc", input.bundle, input.state).is_none());
    let after = handlers.get("").expect("default").poststop_config("abc", input.bundle, input.state);
    let Some(LaunchConfig::Poststop(after)) = after else { panic!("kind") };
    assert_eq!((after.id.as_str(), after.bundle.as_path()), ("abc", input.bundle));
    let LaunchConfig::OciCli(cli) = handlers.get("crun").expect("crun").launch_config(&input) else { panic!("kind") };
    assert_eq!((cli.binary.as_str(), cli.root.as_path()), ("/opt/crun", Path::new("/run/cricket/oci/crun")));
    assert_eq!(cli.action, OciAction::Run { terminal: true, keeper: false });
    let error = handlers.get("crun").expect("crun").check().expect_err("missing");
    assert_eq!(error.to_string(), "runtime handler \"crun\": /opt/crun is not there");
    let delete = handlers.get("runc").expect("runc").delete_config("abc", input.bundle, input.state);
    let Some(LaunchConfig::OciCli(delete)) = delete else { panic!("kind") };
    assert_eq!((delete.binary.as_str(), delete.action), ("runc", OciAction::Delete));
}

#[test]
fn gvisor_is_known_by_its_name() {
    let mut config = entry("sandboxed", RUNC_TYPE);
    for (binary, want) in [("/opt/runsc", true), ("runsc-kvm", true), ("runscx", false), ("runc", false)] {
        config.options.binary_name = binary.into();
        let handlers = handlers(std::slice::from_ref(&config), "");
        let handler = handlers.get("sandboxed").expect("configured");
        assert_eq!(handler.needs_sandbox_container(), want, "{binary}");
        let exec = ExecInput { process: "{}".into(), terminal: false };
        let (bundle, state) = (Path::new("/b"), Path::new("/s"));
        assert_eq!((handler.executes(), handler.exec_config("a", bundle, state, &exec).is_some()), (want, want));
        assert_eq!(handler.signal_config("a", bundle, state, 15).is_some(), want);
    }
}
