//! What a person may type next.

use anyhow::Result;
use cricket_kubelet_tests::Node;
use cricket_testkit::host;
use std::path::Path;

/// How static pods are made.
pub(crate) fn pods(dir: &Path, node: &Node) -> String {
    let (dir, kubelet) = (dir.display(), node.kubelet.url());
    format!(
        "A pod, by a static manifest:\n  \
           cp {dir}/example.yaml {dir}/manifests/\n  \
           curl -s {kubelet}/pods | jq '.items[].status'\n  \
           tail {dir}/pod-logs/*/*/*.log\n  \
           rm {dir}/manifests/example.yaml\n\n"
    )
}

/// How the cluster is used.
pub(crate) fn cluster(dir: &Path, node: &Node) -> Result<String> {
    let kubectl = host::tool_dir("kubernetes")?.join("kubectl");
    let (dir, kubectl, name) = (dir.display(), kubectl.display(), node.kubelet.node());
    Ok(format!(
        "The cluster, whose node is {name}; the logs of its programs are in {dir}/control-plane:\n  \
           export KUBECONFIG={dir}/kubeconfig\n  \
           alias kubectl={kubectl}\n  \
           kubectl get nodes,runtimeclasses\n  \
           kubectl apply -f {dir}/example.yaml\n  \
           kubectl wait --for=condition=Ready pod/example\n  \
           kubectl logs -f example\n  \
           kubectl exec -it example -- sh\n  \
           kubectl delete pod example\n\n"
    ))
}

/// All of it, with how pods are made.
pub(crate) fn text(dir: &Path, node: &Node, pods: &str) -> Result<String> {
    let dir = dir.display();
    let crictl = format!("{} -c {dir}/crictl.yaml", host::tool_dir("cri")?.join("crictl").display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/node").canonicalize()?;
    let script = script.display();
    let (subnet, kubelet, socket) = (node.daemon.network().subnet(), node.kubelet.url(), node.daemon.socket());
    Ok(format!(
        "The node is up: runtime at {}, kubelet at {kubelet}, pods in {subnet}.\n\
         Images of registry.k8s.io and docker.io come from {}.\n\n\
         {pods}\
         What the runtime says:\n  \
           alias crictl='{crictl}'\n  \
           crictl info; crictl images; crictl pods; crictl ps -a; crictl stats\n  \
           crictl exec -s $(crictl ps -q --name main) hostname\n\n\
         Logs and configuration:\n  \
           tail -f {dir}/runtime.log\n  \
           jq -c 'select(.msg == \"Event occurred\") | [.reason, .message]' {dir}/kubelet.log\n  \
           less {dir}/config.toml\n\n\
         Kill the runtime and start it again, pods run on:\n  \
           {script} restart\n\
         Remove everything:\n  \
           {script} down\n",
        socket.display(),
        node.registry.url(),
    ))
}
