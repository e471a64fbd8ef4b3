//! What comes over the CRI socket: trusted to ask, not to be well-formed.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_integration::BUSYBOX;
use cricket_testkit::cri;
use tonic::Code;

use crate::support::{Scene, assert_unharmed, idle, node};

const BAD_NAMES: [&str; 7] = ["", "..", "../../etc", "a/b", "a\0b", "a\nb", "\x1b[2J"];

fn linux(config: &mut v1::PodSandboxConfig) -> &mut v1::LinuxPodSandboxConfig {
    config.linux.get_or_insert_default()
}

fn context(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

#[tokio::test]
async fn sandboxes_with_bad_fields_are_refused() -> Result<()> {
    type Change = Box<dyn Fn(&mut v1::PodSandboxConfig)>;
    let node = node().await?;
    let cri = node.daemon.cri().await?;
    let mut cases: Vec<(String, Change)> = vec![
        ("metadata".into(), Box::new(|pod| pod.metadata = None)),
        ("hostname".into(), Box::new(|pod| pod.hostname = "a\nnameserver 6.6.6.6".into())),
        ("hostname".into(), Box::new(|pod| pod.hostname = "x".repeat(65))),
        ("log_directory".into(), Box::new(|pod| pod.log_directory = "/var/log/../../etc".into())),
        ("log_directory".into(), Box::new(|pod| pod.log_directory = "relative".into())),
        ("cgroup_parent".into(), Box::new(|pod| linux(pod).cgroup_parent = "/kubepods/../../system.slice".into())),
        (
            "dns_config".into(),
            Box::new(|pod| {
                pod.dns_config = Some(v1::DnsConfig { searches: vec!["a\nb".into()], ..Default::default() });
            }),
        ),
        (
            "port_mappings".into(),
            Box::new(|pod| pod.port_mappings = vec![v1::PortMapping { host_port: 65536, ..Default::default() }]),
        ),
        (
            "port_mappings".into(),
            Box::new(|pod| pod.port_mappings = vec![v1::PortMapping { protocol: 99, ..Default::default() }]),
        ),
        (
            "pid".into(),
            Box::new(|pod| {
                let context = linux(pod).security_context.get_or_insert_default();
                context.namespace_options.get_or_insert_default().pid = 99;
            }),
        ),
        ("annotations".into(), Box::new(|pod| pod.annotations = HashMap::from([("key".into(), "x".repeat(5 << 20))]))),
    ];
    for name in BAD_NAMES {
        cases.push((
            "metadata.name".into(),
            Box::new(move |pod| {
                pod.metadata.get_or_insert_default().name = name.into();
            }),
        ));
        cases.push((
            "metadata.namespace".into(),
            Box::new(move |pod| {
                pod.metadata.get_or_insert_default().namespace = name.into();
            }),
        ));
    }
    for (key, value) in [
        ("kernel.shm_rmid_forced", "1\nkernel.core_pattern=|/evil"),
        ("kernel.shm_rmid_forced+x", "1"),
        ("net.ipv4.conf/../../../kernel/core_pattern", "|/evil"),
        ("net/../kernel/core_pattern", "|/evil"),
        ("kernel.core_pattern", "|/evil"),
    ] {
        cases.push((
            "sysctl".into(),
            Box::new(move |pod| {
                linux(pod).sysctls = HashMap::from([(key.into(), value.into())]);
            }),
        ));
    }
    let core_pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    for (n, (field, change)) in cases.iter().enumerate() {
        let mut pod = node.daemon.pod(&format!("bad-{n}"));
        change(&mut pod);
        let error = cri.run_pod(&pod).await.expect_err(field);
        assert_eq!(error.code(), Code::InvalidArgument, "case {n}, {field}: {error}");
        assert!(error.message().contains(field.as_str()), "case {n}, {field}: {error}");
        assert!(!error.message().contains(char::is_control), "case {n}, {field}: {error:?}");
    }
    // A value of one line is the kernel's to refuse: it is written to the one file that the name means.
    let mut pod = node.daemon.pod("bad-value");
    let value = "1+kernel.core_pattern=|/evil".to_owned();
    linux(&mut pod).sysctls = HashMap::from([("kernel.shm_rmid_forced".to_owned(), value)]);
    assert!(cri.run_pod(&pod).await.is_err());
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern")?, core_pattern);
    let error = cri.runtime().run_pod_sandbox(v1::RunPodSandboxRequest::default()).await.expect_err("no config");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert_unharmed(&node).await
}

#[tokio::test]
async fn containers_with_bad_fields_are_refused() -> Result<()> {
    type Change = Box<dyn Fn(&mut v1::ContainerConfig)>;
    let scene = Scene::new("bad-containers").await?;
    let variable = |name: &str| v1::KeyValue { key: name.into(), value: "v".into() };
    let mount = |host: &str, container: &str| v1::Mount {
        host_path: host.into(),
        container_path: container.into(),
        ..Default::default()
    };
    let propagation = v1::Mount { propagation: 99, ..mount("/tmp", "/tmp") };
    let relative = mount("tmp", "/tmp");
    let nowhere = mount("/tmp", "");
    let zero = mount("/tmp", "/a\0b");
    let mut cases: Vec<(&str, Change)> = vec![
        ("metadata", Box::new(|config| config.metadata = None)),
        ("image", Box::new(|config| config.image = None)),
        ("envs", Box::new(move |config| config.envs = vec![variable("k"); 1_000_000])),
        ("envs", Box::new(|config| config.envs = vec![v1::KeyValue { key: "a=b".into(), value: "c".into() }])),
        ("envs", Box::new(|config| config.envs = vec![v1::KeyValue { key: "a".into(), value: "b\0c".into() }])),
        ("NUL", Box::new(|config| config.args = vec!["a\0b".into()])),
        ("working_dir", Box::new(|config| config.working_dir = "../..".into())),
        ("propagation", Box::new(move |config| config.mounts = vec![propagation.clone()])),
        ("mounts", Box::new(move |config| config.mounts = vec![relative.clone()])),
        ("mounts", Box::new(move |config| config.mounts = vec![nowhere.clone()])),
        ("mounts", Box::new(move |config| config.mounts = vec![zero.clone()])),
        ("stop_signal", Box::new(|config| config.stop_signal = 9999)),
        ("run_as_user", Box::new(|config| context(config).run_as_user = Some(v1::Int64Value { value: -1 }))),
        ("run_as_user", Box::new(|config| context(config).run_as_user = Some(v1::Int64Value { value: 1 << 32 }))),
        ("supplemental_groups", Box::new(|config| context(config).supplemental_groups = vec![i64::MAX])),
        // What the definition of CRI calls an error.
        (
            "run_as_username",
            Box::new(|config| {
                context(config).run_as_user = Some(v1::Int64Value { value: 1 });
                context(config).run_as_username = "nobody".into();
            }),
        ),
        ("run_as_username", Box::new(|config| context(config).run_as_username = "nobody-here".into())),
        ("run_as_group", Box::new(|config| context(config).run_as_group = Some(v1::Int64Value { value: 1 }))),
        ("privileged", Box::new(|config| context(config).privileged = true)),
        (
            "host_path",
            Box::new(move |config| {
                config.mounts = vec![v1::Mount { image: Some(Default::default()), ..mount("/tmp", "/tmp") }];
            }),
        ),
        (
            "image_sub_path",
            Box::new(move |config| {
                config.mounts = vec![v1::Mount { image_sub_path: "x".into(), ..mount("/tmp", "/tmp") }];
            }),
        ),
        (
            "recursive_read_only",
            Box::new(move |config| {
                config.mounts = vec![v1::Mount { recursive_read_only: true, ..mount("/tmp", "/tmp") }];
            }),
        ),
        (
            "recursive_read_only",
            Box::new(move |config| {
                let both = v1::Mount { recursive_read_only: true, readonly: true, ..mount("/tmp", "/tmp") };
                config.mounts = vec![v1::Mount { propagation: 1, ..both }];
            }),
        ),
        (
            "userns_options",
            Box::new(|config| {
                let ids = v1::IdMapping { host_id: 1 << 20, container_id: 0, length: 1 << 16 };
                let own = v1::UserNamespace { mode: v1::NamespaceMode::Pod.into(), uids: vec![ids], gids: vec![ids] };
                context(config).namespace_options.get_or_insert_default().userns_options = Some(own);
            }),
        ),
        (
            "target_id",
            Box::new(|config| {
                let options = context(config).namespace_options.get_or_insert_default();
                options.set_pid(v1::NamespaceMode::Target);
                options.target_id = "f".repeat(64);
            }),
        ),
        ("namespace", Box::new(|config| context(config).namespace_options.get_or_insert_default().pid = 99)),
    ];
    for name in BAD_NAMES {
        cases.push((
            "metadata.name",
            Box::new(move |config| {
                config.metadata.get_or_insert_default().name = name.into();
            }),
        ));
    }
    for (n, (field, change)) in cases.iter().enumerate() {
        let mut config = idle(&format!("bad-{n}"), BUSYBOX);
        change(&mut config);
        let error = scene.create(&config).await.expect_err(field);
        assert_eq!(error.code(), Code::InvalidArgument, "case {n}, {field}: {error}");
        assert!(error.message().contains(field), "case {n}, {field}: {error}");
    }
    assert!(scene.cri.containers().await?.iter().all(|c| c.pod_sandbox_id != scene.id));
    let bare = v1::CreateContainerRequest { pod_sandbox_id: scene.id.clone(), ..Default::default() };
    let error = scene.cri.runtime().create_container(bare).await.expect_err("no config");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    scene.end().await
}

#[tokio::test]
async fn ids_and_times_are_checked() -> Result<()> {
    let scene = Scene::new("bad-calls").await?;
    let id = scene.idle("main").await?;
    for call in [scene.cri.stop(&id, -1).await.err(), scene.cri.exec(&id, &["true"], -1).await.err()] {
        let error = call.expect("a time before now");
        assert!(error.code() == Code::InvalidArgument && error.message().contains("-1"), "{error}");
    }
    let error = scene.cri.exec(&id, &[], 1).await.expect_err("no command");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let order = v1::ExecRequest { container_id: id.clone(), cmd: vec!["true".into()], ..Default::default() };
    let terminal = v1::ExecRequest { tty: true, stdout: true, stderr: true, ..order.clone() };
    for (request, field) in [(order, "std"), (terminal, "stderr")] {
        let attach = v1::AttachRequest {
            container_id: id.clone(),
            stdin: request.stdin,
            tty: request.tty,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        for error in [
            scene.cri.runtime().exec(request).await.expect_err(field),
            scene.cri.runtime().attach(attach).await.expect_err(field),
        ] {
            assert!(error.code() == Code::InvalidArgument && error.message().contains(field), "{field}: {error}");
        }
    }
    for id in ["../../../etc", "a\0b", "a\nb", &"x".repeat(1 << 20)] {
        for error in [
            scene.cri.start(id).await.err(),
            scene.cri.container(id).await.err(),
            scene.cri.exec(id, &["true"], 1).await.err(),
            scene.cri.pod(id).await.err(),
            scene.cri.create(id, &idle("main", BUSYBOX), &scene.pod).await.err(),
        ] {
            let error = error.expect("there is no such thing");
            assert!(matches!(error.code(), Code::NotFound | Code::InvalidArgument), "{id:?}: {error}");
        }
        // Removing what is not there succeeds (CRI), unless the name could not be anything's.
        for removed in [scene.cri.remove(id).await, scene.cri.remove_pod(id).await] {
            assert!(removed.is_ok() || removed.is_err_and(|e| e.code() == Code::InvalidArgument), "{id:?}");
        }
    }
    for name in
        ["", "../../etc", "a\0b", "registry.k8s.io/UPPER", "registry.k8s.io/x:../../y", "http://registry.k8s.io/x"]
    {
        let error = scene.cri.pull(name).await.expect_err("not a reference");
        assert_eq!(error.code(), Code::InvalidArgument, "{name:?}: {error}");
    }
    assert_eq!(scene.cri.container(&id).await?.state(), v1::ContainerState::ContainerRunning);
    scene.end().await
}

#[tokio::test]
async fn messages_up_to_the_limit_are_read_and_longer_ones_refused() -> Result<()> {
    let scene = Scene::new("big").await?;
    let sized = |bytes: usize| {
        let mut config = cri::container("big", BUSYBOX, &["true"]);
        config.envs = vec![v1::KeyValue { key: "BIG".into(), value: "x".repeat(bytes).into() }];
        config
    };
    // Understood, and refused for what it says: no kernel takes a string of this size (MAX_ARG_STRLEN).
    let error = scene.create(&sized((16 << 20) - (64 << 10))).await.expect_err("no such environment");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let error = scene.create(&sized(17 << 20)).await.expect_err("beyond the limit");
    assert!(matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted), "{error}");
    scene.end().await
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Random(u64);

impl Random {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
        };
        (0..count).map(|_| next()).collect()
    }
}

#[tokio::test]
async fn random_bytes_close_their_connection_and_nothing_else() -> Result<()> {
    let node = node().await?;
    let mut random = Random(0x5eed);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let before = node.daemon.open_fds()?;
    for round in 0..60 {
        let garbage = random.bytes(1 + round * 97);
        let sent = match round % 5 {
            0 => garbage,
            1 => [&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], &garbage].concat(),
            2 => [&preface[..], &garbage].concat(),
            3 => [&preface[..], &settings, &garbage].concat(),
            // A frame that announces the most that there is.
            _ => [&preface[..], &settings, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], &garbage].concat(),
        };
        let mut stream = UnixStream::connect(node.daemon.socket())?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        match stream.write_all(&sent) {
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                return Err(error.into());
            }
            _ => {}
        }
        // What is answered is the protocol's matter.
        let _ = stream.read(&mut [0; 1024]);
        drop(stream);
    }
    assert_unharmed(&node).await?;
    cricket_testkit::host::wait_for("the connections to be closed", Duration::from_secs(10), || {
        // Other tests on the same daemon have a few open.
        Ok((node.daemon.open_fds()? < before + 40).then_some(()))
    })
}
