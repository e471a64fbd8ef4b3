//! What a container finds around itself.

use crate::space::{Space, has};
use anyhow::{Context, Result, ensure};
use cricket_testkit::host;

pub(crate) async fn environment(space: Space) -> Result<()> {
    let manifest = include_str!("../../manifests/environment.yaml");
    // Clusters share no addresses of services, so the one in the manifest is free.
    space.apply(manifest).await?;
    let pod = space.phase("environment", "Succeeded").await?;
    let log = space.kubectl.run(&["logs", "environment"]).await?;
    let node = space.node("environment").await?;
    let lines = [
        "POD=environment".to_owned(),
        format!("NAMESPACE={}", space.kubectl.namespace),
        format!("POD_UID={}", pod.uid),
        format!("POD_IP={}", pod.ip),
        format!("NODE={}", node.kubelet.node()),
        format!("HOST_IP={}", node.kubelet.ip()),
        format!("hosts {} front.inside.{}.svc. front", pod.ip, space.kubectl.namespace),
    ];
    let own: Vec<_> = lines.iter().map(String::as_str).collect();
    has(&log, &own)?;
    has(
        &log,
        &[
            "TIER=front\n",
            "NOTE=one \"note\"\n",
            "ACCOUNT=default\n",
            "CPU=150\n",
            "MEMORY=50331648\n",
            "PASSWORD=hunter2\n",
            "GREETING=hello from environment, $(POD) stays\n",
            "SET_colour=blue\n",
            // Services of the namespace, and the API server's.
            "BACK_END_SERVICE_HOST=10.96.200.200\n",
            "BACK_END_SERVICE_PORT=8080\n",
            "BACK_END_SERVICE_PORT_ADMIN=9090\n",
            "BACK_END_PORT_9090_UDP_PROTO=udp\n",
            "KUBERNETES_SERVICE_HOST=10.96.0.1\n",
            // The pod's environment is over the image's; HOSTNAME and HOME come from neither.
            "PATH=/bin:/opt/pod\n",
            "HOSTNAME=front\n",
            "HOME=/root\n",
            "hostname front\n",
            "file good morning hunter2 400\n",
            "label app=\"environment\"\n",
            "label tier=\"front\"",
            "account ca.crt\n",
            "account namespace\n",
            "account token\n",
        ],
    )
}

const NAMESPACES: &str = "for name in net pid ipc uts; do readlink /proc/self/ns/$name; done";

pub(crate) async fn host_namespaces(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/host-namespaces.yaml")).await?;
    let mut inodes = Vec::new();
    for (pod, container) in
        [("host", "main"), ("own", "main"), ("own", "other"), ("shared", "main"), ("shared", "other")]
    {
        space.ready(pod).await?;
        let links = space.sh(pod, container, NAMESPACES).await?;
        let links: Vec<_> = links.lines().map(str::to_owned).collect();
        ensure!(links.len() == 4, "{links:?}");
        inodes.push(links);
    }
    let host: Vec<String> = host::run("sh", ["-c", NAMESPACES])?.lines().map(str::to_owned).collect();
    let [of_host, main, other, shared_main, shared_other] = &inodes[..] else { unreachable!("five were asked") };
    // Network, PIDs, IPC and with the network the host's name.
    ensure!(*of_host == host, "{of_host:?}, the host's are {host:?}");
    for own in [main, other, shared_main] {
        ensure!(own.iter().zip(&host).all(|(own, host)| own != host), "{own:?}, the host's are {host:?}");
    }
    ensure!(main[0] == other[0] && main[1] != other[1] && main[2..] == other[2..], "{main:?} and {other:?}");
    ensure!(shared_main == shared_other, "{shared_main:?} and {shared_other:?}");
    ensure!(main[0] != shared_main[0] && main[2] != shared_main[2], "two pods share {main:?} and {shared_main:?}");

    let node = space.node("host").await?;
    let addresses = space.sh("host", "main", "ip address show lo").await?;
    has(&addresses, &[&node.kubelet.ip()])?;
    let pod = space.ready("host").await?;
    ensure!(pod.ip == node.kubelet.ip(), "{pod:#?}");
    // Processes of the other container are there, and are the first one's children to reap.
    let shared = space.sh("shared", "main", "ps -o pid,args").await?;
    has(&shared, &["sleep 600", "sleep 700"])?;
    let own = space.sh("own", "main", "ps -o pid,args").await?;
    ensure!(own.contains("1 sleep 600") && !own.contains("sleep 700"), "{own}");
    for pod in ["host", "own", "shared"] {
        space.delete(pod).await?;
    }
    Ok(())
}

pub(crate) async fn user_namespace(space: Space) -> Result<()> {
    space.apply(include_str!("../../manifests/user-namespace.yaml")).await?;
    space.ready("mapped").await?;
    let map = space.sh("mapped", "main", "cat /proc/self/uid_map").await?;
    let numbers: Vec<u64> =
        map.split_whitespace().map(str::parse).collect::<Result<_, _>>().with_context(|| map.clone())?;
    let [inside, outside, length] = numbers[..] else { anyhow::bail!("not one line: {map}") };
    ensure!(inside == 0 && outside >= 65536 && length == 65536, "{map}");
    // Root inside owns the root file system and volumes of the pod.
    let seen = space
        .sh(
            "mapped",
            "main",
            "id -u; stat -c %u /bin/busybox /work; touch /work/mine && stat -c %u /work/mine; cat /settings/name",
        )
        .await?;
    ensure!(seen == "0\n0\n0\n0\nmapped", "{seen:?}");
    space.delete("mapped").await
}
