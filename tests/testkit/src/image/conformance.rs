//! The images that Kubernetes' own end-to-end suite names (`registry.k8s.io/e2e-test-images`), made from the suite's
//! program agnhost and local files.
//!
//! What the specs look for decides their content: bash at `/bin/bash`, `nc` as OpenBSD's, `/agnhost-2` beside
//! `/agnhost`, the certificate of agnhost's server "porter" at the root, a user whose second group only the image
//! knows, an image that agnhost serves as a private registry (`fake-registry-server`), and texts of errors as
//! busybox' shell writes them.

use super::local::{compile, dynamic};
use super::suite::{EFFECTIVE_UID, Named, PATH, base_tree, httpd, nginx, pause, pause_layer};
use super::{Blob, Compression, Dialect, Image, ImageBuilder, Index, Layer, Platform, Tree};
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;

const REPOSITORY: &str = "e2e-test-images";

/// busybox' shell hands a program only those variables that it could set itself, and the suite prints with `sh -c env`
/// some that have dots and dashes in their names. Just that call goes to `env` without the shell.
const SHELL: &str = r#"
#include <string.h>
#include <unistd.h>
int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "-c") && !strcmp(words[2], "env"))
        execl("/bin/busybox", "env", (char *)0);
    execv("/bin/busybox", words);
    return 127;
}
"#;

/// Every image of the suite's specs that run on one node, but for `pause`, which [`suite`](super::suite()) has;
/// `programs` is the directory that `hack/tools/build e2e` made.
pub fn conformance(programs: &Path) -> Result<Vec<Named>> {
    let mut images = Vec::new();
    let mut add = |name: &str, tag: &str, image: ImageBuilder| -> Result<()> {
        // Names of one image ID would be counted as one image's.
        let image = image.env(&[PATH]).set("Labels", json!({ "name": name, "tag": tag })).build()?;
        images.push(Named { repository: format!("{REPOSITORY}/{name}"), tag: tag.to_owned(), image });
        Ok(())
    };
    let base = Layer::gzip(dynamic(base_tree(&[], &[])?, ["/usr/bin/pgrep"])?)?;
    let users = base_tree(
        &["user-defined-in-image:x:1000:1000::/home:/bin/sh"],
        &["user-defined-in-image:x:1000:", "group-defined-in-image:x:50000:user-defined-in-image"],
    )?;
    let users = Layer::gzip(users)?;
    let shell = Layer::gzip(shell()?)?;
    let agnhost = agnhost(programs)?;
    for tag in ["2.63.0", "2.55"] {
        let image =
            Image::of([users.clone(), shell.clone(), agnhost.clone()]).entrypoint(&["/agnhost"]).cmd(&["pause"]).set(
                "ExposedPorts",
                json!({ "80/tcp": {}, "5000/tcp": {}, "8080/tcp": {}, "8081/tcp": {}, "9376/tcp": {} }),
            );
        add("agnhost", tag, image)?;
    }
    let interactive = || Image::of([base.clone(), shell.clone()]).cmd(&["sh"]);
    add("busybox", "1.37.0-1", interactive())?;
    add("glibc-dns-testing", "2.0.0", interactive())?;
    add("ipc-utils", "1.4", interactive())?;
    add("nonroot", "1.5", interactive().user("1234"))?;
    let setuid = Layer::gzip(Tree::new().file("nnp", 0o4755, compile(EFFECTIVE_UID)?))?;
    add("nonewprivs", "1.4", Image::of([base.clone(), setuid]).cmd(&["/nnp"]))?;
    for tag in ["1.15-4", "1.27-0"] {
        add("nginx", tag, nginx(&base, 80)?)?;
    }
    add("httpd", "2.4.38-4", httpd(&base)?)?;
    Ok(images)
}

/// What lies over busybox in the images of the suite that have a shell.
fn shell() -> Result<Tree> {
    let programs = [
        "/usr/bin/bash",
        "/usr/bin/curl",
        "/usr/bin/dig",
        "/usr/bin/getent",
        "/usr/bin/ipcs",
        "/bin/hostname",
        "/bin/ss",
    ];
    let tree = dynamic(Tree::new(), programs.into_iter().chain(["/bin/nc.openbsd"]))?;
    // `/usr/bin` comes before busybox' `/bin` in `PATH`.
    let tree = tree.hard_link("usr/bin/nc", "bin/nc.openbsd").hard_link("bin/bash", "usr/bin/bash");
    Ok(tree.file("bin/sh", 0o755, compile(SHELL)?))
}

/// The layer with the suite's program. Not compressed: it is large and goes over loopback.
fn agnhost(programs: &Path) -> Result<Layer> {
    let read = |name: &str| {
        let path = programs.join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let tree = Tree::new().file("agnhost", 0o755, read("agnhost")?).hard_link("agnhost-2", "agnhost");
    let tree =
        tree.file("localhost.crt", 0o644, read("localhost.crt")?).file("localhost.key", 0o644, read("localhost.key")?);
    let image = pause(&pause_layer()?, "testing").env(&[PATH]).build()?;
    let tree = served(tree.dirs(["uploads"]), "pause", "testing", image)?;
    Layer::compressed(tree.tar(), Compression::None)
}

/// An image in the directory from which agnhost's registry serves: `NAME/manifests/TAG` has the digest of an index,
/// and all content is in `NAME/{manifests,blobs}/sha256/XX/HEX/data`.
fn served(tree: Tree, name: &str, tag: &str, image: Image) -> Result<Tree> {
    let index = Index::new(Dialect::Oci, vec![(Platform::here(), image)])?;
    let dir = format!("var/registry/{name}");
    let add = |tree: Tree, kind: &str, blob: &Blob| -> Result<Tree> {
        let hex = blob.digest.strip_prefix("sha256:").context("not a SHA-256 digest")?;
        let path = format!("{dir}/{kind}/sha256/{}/{hex}/data", &hex[..2]);
        Ok(tree.parents(&path).file(&path, 0o644, &blob.data))
    };
    let file = format!("{dir}/manifests/{tag}");
    let mut tree = tree.parents(&file).file(&file, 0o644, &index.blob.digest);
    tree = add(tree, "manifests", &index.blob)?;
    for image in &index.images {
        tree = add(add(tree, "manifests", &image.manifest)?, "blobs", &image.config)?;
        for layer in &image.layers {
            tree = add(tree, "blobs", &layer.blob)?;
        }
    }
    Ok(tree)
}
