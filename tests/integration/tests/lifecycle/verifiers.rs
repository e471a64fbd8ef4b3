//! Image verifiers, as a kubelet sees them: a refused pull is one that the kubelet knows by its words.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Result;
use cricket_integration::{BUSYBOX, Node, busybox};
use cricket_testkit::daemon::Options;
use cricket_testkit::image::Named;

#[tokio::test]
async fn a_refusal_has_the_words_that_kubelets_know() -> Result<()> {
    let verifiers = tempfile::tempdir()?;
    let tables = format!("[plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = {:?}\n", verifiers.path());
    let node = Node::with(Options { tables, ..Options::default() }).await?;
    let image = busybox()?.build()?;
    node.registry.fill(&[Named { repository: "lifecycle/unsigned".into(), tag: "1".into(), image }]).await?;
    let cri = node.daemon.cri().await?;
    let verifier = verifiers.path().join("policy");
    std::fs::write(&verifier, "#!/bin/sh\ncase \"$2\" in */unsigned:*) echo 'nobody signed it'; exit 1;; esac\n")?;
    std::fs::set_permissions(&verifier, std::fs::Permissions::from_mode(0o755))?;
    let error = cri.pull("registry.k8s.io/lifecycle/unsigned:1").await.expect_err("not signed");
    assert_eq!(error.code(), tonic::Code::Unknown, "{error}");
    assert!(error.message().starts_with("SignatureValidationFailed: "), "{error}");
    assert!(error.message().ends_with("image verifier policy refused (status 1): nobody signed it"), "{error}");
    assert!(cri.image("registry.k8s.io/lifecycle/unsigned:1").await?.is_none());
    // Others pass, by the same verifier.
    cri.pull(BUSYBOX).await?;
    Ok(())
}
