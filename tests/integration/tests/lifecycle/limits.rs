//! Swap, huge pages, files of cgroup v2 by name, scores, and what is said of a pod as a whole.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cricket_cri_api::v1;
use cricket_integration::Node;
use cricket_testkit::cri;
use cricket_testkit::daemon::Options;
use cricket_testkit::host;
use serde_json::json;
use tonic::Code;

use crate::support::{Scene, idle, node, security, shell};

const MIB: i64 = 1 << 20;

fn is_v1() -> bool {
    Path::new("/sys/fs/cgroup/memory").is_dir()
}

/// A file of a container's cgroup; on v1 in the hierarchy of this controller.
async fn file(scene: &Scene, id: &str, controller: &str, name: &str) -> Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", scene.pid(id).await?))?;
    let ours = |names: &str| if is_v1() { names.split(',').any(|n| n == controller) } else { names.is_empty() };
    let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let (_, path) = lines.find(|(names, _)| ours(names)).with_context(|| format!("no {controller} in {text}"))?;
    let root = PathBuf::from("/sys/fs/cgroup").join(if is_v1() { controller } else { "" });
    Ok(root.join(path.trim_start_matches('/')).join(name))
}

async fn read(scene: &Scene, id: &str, controller: &str, name: &str) -> Result<String> {
    let file = file(scene, id, controller, name).await?;
    Ok(std::fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().to_owned())
}

fn limited(name: &str, resources: v1::LinuxContainerResources) -> v1::ContainerConfig {
    let mut config = idle(name);
    config.linux.get_or_insert_default().resources = Some(resources);
    config
}

fn memory(limit: i64, swap: i64) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources { memory_limit_in_bytes: limit, memory_swap_limit_in_bytes: swap, ..Default::default() }
}

async fn update(scene: &Scene, id: &str, change: v1::LinuxContainerResources) -> cri::Answer<()> {
    let request =
        v1::UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(change), ..Default::default() };
    scene.cri.runtime().update_container_resources(request).await.map(drop)
}

/// What the kernel shows for a limit of swap: v1 has it of both together, v2 of swap alone.
async fn swap(scene: &Scene, id: &str) -> Result<Option<i64>> {
    let name = if is_v1() { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" };
    if !file(scene, id, "memory", name).await?.exists() {
        return Ok(None);
    }
    let text = read(scene, id, "memory", name).await?;
    Ok(Some(text.parse().ok().filter(|bytes| *bytes < 1 << 60).unwrap_or(-1)))
}

#[tokio::test]
async fn containers_swap_no_more_than_they_are_told() -> Result<()> {
    let scene = Scene::host("limits-swap").await?;
    let shown = |limit: i64, both: i64| if is_v1() { both } else { both - limit };
    for (name, limit, asked, want) in [
        ("none", 64, 0, shown(64, 64)),
        ("equal", 64, 64, shown(64, 64)),
        ("some", 64, 96, shown(64, 96)),
        ("any", 64, -1, -1),
    ] {
        let bytes = |n: i64| if n > 0 { n * MIB } else { n };
        let id = scene.run(&limited(name, memory(bytes(limit), bytes(asked)))).await?;
        let Some(found) = swap(&scene, &id).await? else {
            // A limit of it is as if it was not asked for.
            host::skip("the kernel counts no swap");
            return scene.end().await;
        };
        assert_eq!(found, bytes(want), "{name}");
    }
    let less = scene.cri.create(&scene.id, &limited("less", memory(64 * MIB, 32 * MIB)), &scene.pod).await;
    let error = less.expect_err("both together are less than the one");
    assert!(error.code() == Code::InvalidArgument && error.message().contains("memory_swap_limit"), "{error}");

    // Updates: a memory limit alone is one of both, as in a create; swap alone leaves memory as it is.
    let main = scene.run(&limited("main", memory(64 * MIB, 96 * MIB))).await?;
    update(&scene, &main, memory(0, 128 * MIB)).await?;
    assert_eq!(swap(&scene, &main).await?, Some(shown(64, 128) * MIB));
    update(&scene, &main, memory(96 * MIB, 0)).await?;
    assert_eq!(swap(&scene, &main).await?, Some(shown(96, 96) * MIB));
    let applied = scene.cri.container(&main).await?.resources.and_then(|r| r.linux).unwrap_or_default();
    assert_eq!(applied.memory_limit_in_bytes, 96 * MIB);
    let error = update(&scene, &main, memory(64 * MIB, 32 * MIB)).await.expect_err("less than the limit");
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert_eq!(swap(&scene, &main).await?, Some(shown(96, 96) * MIB), "all or nothing");
    scene.end().await
}

/// The hierarchy that can limit huge pages, if one can: version 1's, the only one, or a hybrid host's second one. With
/// the end of its files' names.
fn hugetlb() -> Option<(&'static Path, &'static str)> {
    let able = |root: &&Path| {
        let controllers = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        controllers.split_whitespace().any(|c| c == "hugetlb")
    };
    let v1 = Path::new("/sys/fs/cgroup/hugetlb");
    if v1.is_dir() {
        return Some((v1, "limit_in_bytes"));
    }
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new).into_iter().find(able).map(|root| (root, "max"))
}

/// The sizes there are.
fn page_sizes() -> Result<Vec<String>> {
    let mut sizes = Vec::new();
    for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let kib: u64 = name.trim_start_matches("hugepages-").trim_end_matches("kB").parse()?;
        sizes.push(if kib >= 1 << 20 { format!("{}GB", kib >> 20) } else { format!("{}MB", kib >> 10) });
    }
    Ok(sizes)
}

/// A container's limit of pages of this size; `None` where nothing limits them.
async fn pages_limit(scene: &Scene, id: &str, size: &str) -> Result<Option<String>> {
    let Some((root, end)) = hugetlb() else { return Ok(None) };
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", scene.pid(id).await?))?;
    let names = |line: &str| line.split(':').nth(1).is_some_and(|n| n == "hugetlb" || (end == "max" && n.is_empty()));
    let line = text.lines().find(|line| names(line)).with_context(|| text.clone())?;
    let path = line.splitn(3, ':').nth(2).context("a path")?.trim_start_matches('/');
    let file = root.join(path).join(format!("hugetlb.{size}.{end}"));
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| file.display().to_string()),
    }
}

fn pages(limits: impl IntoIterator<Item = (String, u64)>) -> v1::LinuxContainerResources {
    let limits = limits.into_iter().map(|(page_size, limit)| v1::HugepageLimit { page_size, limit });
    v1::LinuxContainerResources { hugepage_limits: limits.collect(), ..Default::default() }
}

#[tokio::test]
async fn huge_pages_are_limited_or_pass_as_the_node_says() -> Result<()> {
    let (controller, sizes) = (hugetlb().is_some(), page_sizes()?);
    if !controller || sizes.is_empty() {
        host::skip("the kernel limits no huge pages: only which requests pass is seen");
    }
    // What kubelets send for a container that asks for none, and for one that asks for some.
    let zero = || pages(sizes.iter().map(|size| (size.clone(), 0)));
    let some = || pages(sizes.iter().map(|size| (size.clone(), 4 << 30)));
    let scene = Scene::host("limits-pages").await?;
    for (name, first, bytes, second, then) in
        [("zero", zero(), "0", some(), "4294967296"), ("some", some(), "4294967296", zero(), "0")]
    {
        let id = scene.run(&limited(name, first)).await?;
        for size in sizes.iter().filter(|_| controller) {
            assert_eq!(pages_limit(&scene, &id, size).await?.as_deref(), Some(bytes), "{name} {size}");
        }
        update(&scene, &id, second).await?;
        for size in sizes.iter().filter(|_| controller) {
            assert_eq!(pages_limit(&scene, &id, size).await?.as_deref(), Some(then), "{name} {size}, updated");
        }
    }
    scene.end().await?;

    let keys = [("tolerate_missing_hugetlb_controller = false", false), ("disable_hugetlb_controller = true", true)];
    for (key, disabled) in keys {
        let node = Node::with(Options { runtime_keys: key.to_owned(), ..Options::default() }).await?;
        let pod = cri::host_network(node.daemon.pod("limits-pages"));
        let scene = Scene::with(node.into(), pod).await?;
        let id = scene.run(&limited("zero", zero())).await?;
        let answer = scene.cri.create(&scene.id, &limited("some", some()), &scene.pod).await;
        let updated = update(&scene, &id, some()).await;
        if disabled || controller || sizes.is_empty() {
            assert!(answer.is_ok() && updated.is_ok(), "{key}: {answer:?} {updated:?}");
        } else {
            for error in [answer.expect_err(key), updated.expect_err(key)] {
                assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
                assert!(error.message().contains("hugetlb cgroup controller"), "{error}");
            }
        }
        for size in sizes.iter().filter(|_| controller) {
            let limit = pages_limit(&scene, &id, size).await?;
            let set = limit.as_deref() == Some("4294967296");
            assert_eq!(set, !disabled, "{key}: {size} {limit:?}");
        }
        scene.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn files_of_version_2_are_written_or_refused() -> Result<()> {
    let scene = Scene::host("limits-unified").await?;
    let unified = |key: &str, value: &str| v1::LinuxContainerResources {
        unified: [(key.to_owned(), value.to_owned())].into(),
        ..Default::default()
    };
    let main = scene.run(&limited("main", memory(64 * MIB, 0))).await?;
    let asked = unified("memory.high", "33554432");
    if is_v1() {
        let create = scene.cri.create(&scene.id, &limited("v1", asked.clone()), &scene.pod).await;
        for error in [create.expect_err("no such hierarchy"), update(&scene, &main, asked).await.expect_err("neither")]
        {
            assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
            assert!(error.message().contains("unified cgroup hierarchy"), "{error}");
        }
        return scene.end().await;
    }
    let created = scene.run(&limited("v2", asked)).await?;
    assert_eq!(read(&scene, &created, "", "memory.high").await?, "33554432");
    update(&scene, &main, unified("memory.high", "16777216")).await?;
    assert_eq!(read(&scene, &main, "", "memory.high").await?, "16777216");
    for key in ["../memory.high", "a/memory.high", "..", "cgroup.procs", "memory"] {
        let create = scene.cri.create(&scene.id, &limited("bad", unified(key, "1")), &scene.pod).await;
        for error in [create.expect_err(key), update(&scene, &main, unified(key, "1")).await.expect_err(key)] {
            assert_eq!(error.code(), Code::InvalidArgument, "{key}: {error}");
        }
    }
    assert_eq!(read(&scene, &main, "", "memory.high").await?, "16777216");
    scene.end().await
}

#[tokio::test]
async fn scores_are_what_the_host_permits() -> Result<()> {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let scene = Scene::host("limits-score").await?;
    let daemon = scene.node.daemon.pid().context("the daemon runs")?;
    let status = std::fs::read_to_string(format!("/proc/{daemon}/status"))?;
    let caps = status.lines().find_map(|l| l.strip_prefix("CapEff:")).context("CapEff")?;
    let any = u64::from_str_radix(caps.trim(), 16)? & CAP_SYS_RESOURCE != 0;
    let own: i64 = std::fs::read_to_string(format!("/proc/{daemon}/oom_score_adj"))?.trim().parse()?;
    let scored =
        |name: &str, score| limited(name, v1::LinuxContainerResources { oom_score_adj: score, ..Default::default() });
    for (name, asked) in [("guaranteed", -997), ("burstable", 500), ("best-effort", 1000), ("unset", 0)] {
        let id = scene.run(&scored(name, asked)).await?;
        let want = if any { asked } else { asked.max(own) };
        assert_eq!(
            scene.sh(&id, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj").await?,
            format!("{want}\n{want}")
        );
    }
    for (name, asked) in [("above", 1001), ("below", -1001)] {
        let error = scene.cri.create(&scene.id, &scored(name, asked), &scene.pod).await.expect_err(name);
        assert!(error.code() == Code::InvalidArgument && error.message().contains("oom_score_adj"), "{error}");
    }
    scene.end().await
}

#[tokio::test]
async fn all_capabilities_may_be_added_dropped_and_both() -> Result<()> {
    let scene = Scene::host("limits-caps").await?;
    let daemon = scene.node.daemon.pid().context("the daemon runs")?;
    let status = std::fs::read_to_string(format!("/proc/{daemon}/status"))?;
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).context("CapBnd")?.trim().to_owned();
    let all = u64::from_str_radix(&bounding, 16)?;
    let (chown, bind) = (1_u64, 1_u64 << 10);
    let strings = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
    // Added, dropped, ambient; what root has, what a user has in effect.
    type Case = (&'static [&'static str], &'static [&'static str], &'static [&'static str], u64, u64);
    let cases: [Case; 7] = [
        (&["ALL"], &[], &[], all, 0),
        (&["all"], &["CHOWN"], &[], all & !chown, 0),
        (&[], &["ALL"], &[], 0, 0),
        (&["CHOWN"], &["ALL"], &[], chown, 0),
        (&["ALL"], &["ALL"], &[], 0, 0),
        (&[], &["ALL"], &["NET_BIND_SERVICE"], bind, bind),
        (&["CHOWN"], &["ALL"], &["CAP_NET_BIND_SERVICE"], chown | bind, bind),
    ];
    for (number, (add, drop, ambient, held, users)) in cases.into_iter().enumerate() {
        for (user, effective) in [(0, held), (1000, users)] {
            let mut config =
                shell(&format!("{number}-{user}"), "grep -E '^Cap(Eff|Bnd|Inh|Amb):' /proc/self/status | cut -f 2");
            let context = security(&mut config);
            context.run_as_user = Some(v1::Int64Value { value: user });
            context.capabilities = Some(v1::Capability {
                add_capabilities: strings(add),
                drop_capabilities: strings(drop),
                add_ambient_capabilities: strings(ambient),
            });
            let hex = |n: u64| format!("{n:016x}");
            // In the order of the file: inheritable, effective, bounding, ambient.
            let want = [hex(users), hex(effective), hex(held), hex(users)];
            assert_eq!(scene.output(&config).await?, want, "{add:?} {drop:?} {ambient:?} as {user}");
        }
    }
    scene.end().await
}

async fn information(scene: &Scene, cri: &cri::Cri) -> Result<serde_json::Value> {
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: scene.id.clone(), verbose: true };
    let answer = cri.runtime().pod_sandbox_status(request).await?.into_inner();
    Ok(serde_json::from_str(answer.info.get("info").context("no key `info`")?)?)
}

#[tokio::test]
async fn what_a_pod_is_to_have_is_kept() -> Result<()> {
    let node = node().await?;
    let mut pod = cri::host_network(node.daemon.pod("limits-pod"));
    let shares = |cpu_shares| v1::LinuxContainerResources { cpu_shares, ..Default::default() };
    pod.linux.get_or_insert_default().overhead = Some(shares(100));
    let scene = Scene::with(node, pod).await?;
    scene.idle("main").await?;
    let info = information(&scene, &scene.cri).await?;
    assert_eq!(info["overhead"]["linux"], json!({ "cpu_shares": 100 }));
    assert_eq!(info.get("resources"), None, "{info}");
    let request = |id: &str| v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: id.to_owned(),
        overhead: Some(shares(200)),
        resources: Some(memory(512 * MIB, 0)),
    };
    scene.cri.runtime().update_pod_sandbox_resources(request(&scene.id)).await?;
    let info = information(&scene, &scene.cri).await?;
    assert_eq!(info["overhead"]["linux"], json!({ "cpu_shares": 200 }));
    assert_eq!(info["resources"]["linux"], json!({ "memory_limit_in_bytes": 512 * MIB }));
    // The pod's cgroup is the kubelet's: nothing is written there.
    let parent = scene.pod.linux.as_ref().map(|l| l.cgroup_parent.clone()).unwrap_or_default();
    let root = if is_v1() { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
    let limit = PathBuf::from(root).join(parent.trim_start_matches('/')).join(if is_v1() {
        "memory.limit_in_bytes"
    } else {
        "memory.max"
    });
    if let Ok(text) = std::fs::read_to_string(limit) {
        assert!(text.trim() == "max" || text.trim().parse::<u64>()? > 1 << 60, "{text}");
    }
    let unknown = scene.cri.runtime().update_pod_sandbox_resources(request(&"e".repeat(64))).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
    scene.end().await
}
