//! User namespaces: whose IDs a pod has, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::path::Path;

use cricket_cri_api::v1;
use cricket_model::{ErrorKind, IdMaps, IdRange, Kinded};
use cricket_oci::oci_spec::runtime::LinuxNamespaceType;
use cricket_oci::{sandbox_sysctls, sandbox_user_namespace, validate_container, validate_sandbox};
use support::{Case, ids};
use v1::NamespaceMode::{Container, Node, Pod, Target};

fn pod() -> Case {
    Case::default().with_ids(ids(0, 100_000, 65_536))
}

fn sandbox_user(case: &mut Case) -> &mut v1::UserNamespace {
    case.pod_context().namespace_options.get_or_insert_default().userns_options.get_or_insert_default()
}

fn container_user(case: &mut Case) -> &mut v1::UserNamespace {
    case.context().namespace_options.get_or_insert_default().userns_options.get_or_insert_default()
}

#[test]
fn sandboxes() {
    let range = IdRange { inside: 0, outside: 100_000, length: 65_536 };
    let mut case = pod();
    assert_eq!(sandbox_user_namespace(&case.sandbox).unwrap(), Some(IdMaps { users: range, groups: range }));
    *sandbox_user(&mut case) = v1::UserNamespace { mode: Node as i32, ..Default::default() };
    assert_eq!(sandbox_user_namespace(&case.sandbox).unwrap(), None);
    assert_eq!(sandbox_user_namespace(&Default::default()).unwrap(), None);

    type Row = (fn(&mut Case), &'static str);
    let rows: Vec<Row> = vec![
        (|c| sandbox_user(c).uids = vec![], "userns_options.uids: has 0 mappings"),
        (|c| sandbox_user(c).gids = vec![], "userns_options.gids: has 0 mappings"),
        (|c| sandbox_user(c).uids = vec![ids(0, 1000, 10), ids(10, 2000, 10)], "uids: has 2 mappings"),
        (|c| sandbox_user(c).gids = vec![ids(0, 1000, 0)], "gids: has the length 0"),
        (|c| sandbox_user(c).uids = vec![ids(1, 1000, 100)], "uids: does not map ID 0"),
        (|c| sandbox_user(c).uids = vec![ids(0, 4_294_967_000, 1000)], "uids: goes beyond the highest ID"),
        (|c| sandbox_user(c).mode = Node as i32, "has mappings for the host's"),
        (|c| sandbox_user(c).mode = Container as i32, "is not a mode of user namespaces"),
        (|c| sandbox_user(c).mode = Target as i32, "is not a mode of user namespaces"),
        (|c| sandbox_user(c).mode = 9, "is not a mode of user namespaces"),
        (|c| c.pod_context().privileged = true, "privileged: cannot go with a user namespace"),
        (|c| c.pod_context().namespace_options.as_mut().unwrap().set_pid(Node), "pid: the host's cannot go"),
        (|c| c.pod_context().namespace_options.as_mut().unwrap().set_ipc(Node), "ipc: the host's cannot go"),
    ];
    for (change, words) in rows {
        let mut case = pod();
        change(&mut case);
        let error = validate_sandbox(&case.sandbox).expect_err(words);
        assert!(error.to_string().contains(words), "{error} is not about {words}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    let mut case = pod();
    case.pod_context().namespace_options.as_mut().unwrap().set_network(Node);
    validate_sandbox(&case.sandbox).unwrap();
    case.context().namespace_options.as_mut().unwrap().set_network(Node);
    let spec = case.spec().unwrap().spec;
    let kinds: Vec<_> = spec.linux().as_ref().unwrap().namespaces().iter().flatten().map(|n| n.typ()).collect();
    assert!(kinds.contains(&LinuxNamespaceType::User) && kinds.contains(&LinuxNamespaceType::Ipc));
    assert!(!kinds.contains(&LinuxNamespaceType::Network) && !kinds.contains(&LinuxNamespaceType::Uts));
    // Nobody but the owner of a network namespace may mount a sysfs of it.
    let sys = spec.mounts().iter().flatten().find(|m| m.destination() == Path::new("/sys")).unwrap();
    assert_eq!((sys.typ().as_deref(), sys.source().as_deref()), (Some("bind"), Some(Path::new("/sys"))));
    assert!(sys.options().iter().flatten().any(|o| o == "rro"));
}

#[test]
fn containers_have_their_sandboxes_ids() {
    validate_container(&pod().config, &pod().sandbox).unwrap();
    type Row = (fn(&mut Case), &'static str);
    let rows: Vec<Row> = vec![
        (|c| container_user(c).uids = vec![ids(0, 200_000, 65_536)], "is not the same as the sandbox's"),
        (|c| *container_user(c) = v1::UserNamespace { mode: Node as i32, ..Default::default() }, "is not the same"),
        (|c| c.context().namespace_options = None, "is not the same as the sandbox's"),
        (|c| c.pod_context().namespace_options = None, "is not the same as the sandbox's"),
        (|c| container_user(c).gids = vec![], "gids: has 0 mappings"),
        (|c| c.context().privileged = true, "privileged"),
    ];
    for (change, words) in rows {
        let mut case = pod();
        change(&mut case);
        let error = validate_container(&case.config, &case.sandbox).expect_err(words);
        assert!(error.to_string().contains(words), "{error} is not about {words}");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn nobody_without_an_id() {
    let mut case = pod();
    case.context().run_as_user = Some(v1::Int64Value { value: 65_536 });
    assert!(case.refusal().contains("has no user 65536"), "{}", case.refusal());
    let mut case = pod();
    case.context().supplemental_groups = vec![70_000];
    assert!(case.refusal().contains("has no group 70000"), "{}", case.refusal());
}

#[test]
fn terminals_belong_to_a_group_that_there_is() {
    let group = |length| {
        let spec = Case::default().with_ids(ids(0, 100_000, length)).spec().unwrap().spec;
        let pts = spec.mounts().iter().flatten().find(|m| m.destination().ends_with("dev/pts")).unwrap().clone();
        pts.options().iter().flatten().any(|option| option == "gid=5")
    };
    assert_eq!((group(6), group(5)), (true, false));
}

#[test]
fn pings_are_not_opened_to_groups_that_there_are_not() {
    let sysctls = sandbox_sysctls(&pod().sandbox).unwrap();
    assert_eq!(sysctls, [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]);
    assert_eq!(Pod as i32, 0, "the default of a mode");
}

#[test]
fn a_device_with_another_path_is_the_hosts_node() {
    let device = |host: &str, container: &str| v1::Device {
        host_path: host.into(),
        container_path: container.into(),
        permissions: "rw".into(),
    };
    for (mut case, bound) in [(Case::default(), false), (pod(), true)] {
        case.paths.devices.insert("/dev/fuse".into(), vec![support::char_device("/dev/fuse", 10, 229)]);
        case.config.devices = vec![device("/dev/fuse", "/dev/fuse"), device("/dev/fuse", "/dev/other/fuse")];
        let spec = case.spec().unwrap().spec;
        let linux = spec.linux().as_ref().unwrap();
        let nodes: Vec<_> = linux.devices().iter().flatten().map(|d| d.path().display().to_string()).collect();
        let mounted: Vec<_> =
            spec.mounts().iter().flatten().filter(|m| m.destination().ends_with("other/fuse")).collect();
        match bound {
            false => assert_eq!((nodes.len(), mounted.len()), (2, 0), "{nodes:?}"),
            true => {
                assert_eq!((nodes.as_slice(), mounted.len()), (&["/dev/fuse".to_owned()][..], 1));
                assert_eq!(mounted[0].source().as_deref(), Some(Path::new("/dev/fuse")));
            }
        }
        let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
        assert!(rules.iter().any(|r| (r.major(), r.minor(), r.allow()) == (Some(10), Some(229), true)));
    }
}
