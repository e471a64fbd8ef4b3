//! The images that critest and our own tests name, made from local files.
//!
//! What critest looks for decides their content: it runs nginx and reads
//! `/var/run/nginx.pid`, greps with `pgrep`, lists shared memory with `ipcs`,
//! masks `/bin/ls`, and counts tags, so that tags which are to be different
//! images have different bytes, and tags which are to be one have the same.

use super::build::architecture;
use super::local::{busybox, compile, dynamic};
use super::{Image, ImageBuilder, Layer, Tree};
use anyhow::Result;
use serde_json::json;

/// An image and where a registry has it.
#[derive(Clone, Debug)]
pub struct Named {
    /// Path below the registry, such as `e2e-test-images/busybox`.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// The image.
    pub image: Image,
}

pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const STAGING: &str = "k8s-staging-cri-tools";

/// Prints what critest's spec about no_new_privs reads.
pub(super) const EFFECTIVE_UID: &str = r#"
#include <stdio.h>
#include <unistd.h>
int main(void) { return printf("Effective uid: %d\n", (int)geteuid()) < 0; }
"#;

/// Sleeps, reaps what it inherits, and ends when it is asked to.
const PAUSE: &str = r"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) {
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
";

/// Every image of the suites; made anew at each call (about a second in a debug build).
pub fn suite() -> Result<Vec<Named>> {
    let base = Layer::gzip(dynamic(base_tree(&[], &[])?, ["/usr/bin/pgrep", "/usr/bin/ipcs"])?)?;
    let mut images = Vec::new();
    let mut add = |repository: &str, tag: &str, image: ImageBuilder| -> Result<()> {
        let image = image.env(&[PATH]).build()?;
        images.push(Named { repository: repository.to_owned(), tag: tag.to_owned(), image });
        Ok(())
    };
    let shell = || Image::of([base.clone()]).cmd(&["sh"]);
    let marked = |mark: &str| -> Result<ImageBuilder> {
        let layer = Layer::gzip(Tree::new().file(&format!("test-{mark}"), 0o644, mark))?;
        Ok(Image::of([base.clone(), layer]).cmd(&["sh"]))
    };

    add("e2e-test-images/busybox", "1.29-2", shell())?;
    add("library/busybox", "latest", shell())?;

    for (repository, tag, port) in [
        ("e2e-test-images/nginx".to_owned(), "1.14-2", 80),
        (format!("{STAGING}/hostnet-nginx-{}", architecture()), "latest", 12003),
    ] {
        add(&repository, tag, nginx(&base, port)?)?;
    }
    add("e2e-test-images/httpd", "2.4.39-4", httpd(&base)?)?;

    let setuid = Layer::gzip(Tree::new().file("nnp", 0o4755, compile(EFFECTIVE_UID)?))?;
    add("e2e-test-images/nonewprivs", "1.3", Image::of([base.clone(), setuid]).cmd(&["/nnp"]))?;

    for (repository, tag, mark) in [
        ("test-image-latest", "latest", "latest"),
        ("test-image-digest", "latest", "digest"),
        ("test-image-tag", "test", "tag"),
        ("test-image-tag", "all", "all"),
        ("test-image-1", "latest", "1"),
        ("test-image-2", "latest", "2"),
        ("test-image-3", "latest", "3"),
        ("test-image-tags", "1", "tags"),
        ("test-image-tags", "2", "tags"),
        ("test-image-tags", "3", "tags"),
    ] {
        add(&format!("{STAGING}/{repository}"), tag, marked(mark)?)?;
    }

    for (name, user) in
        [("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:users"), ("username-group", "www-data:100")]
    {
        add(&format!("{STAGING}/test-image-user-{name}"), "latest", shell().user(user))?;
    }
    let groups = base_tree(
        &["default-user:x:1000:1000::/home:/bin/sh"],
        &["default-user:x:1000:", "group-defined-in-image:x:50000:default-user"],
    )?;
    let groups = Image::of([Layer::gzip(groups)?]).cmd(&["sh"]).user("1000");
    add(&format!("{STAGING}/test-image-predefined-group"), "latest", groups)?;

    let layer = pause_layer()?;
    for tag in ["3.9", "3.10", "3.10.1", "3.10.2"] {
        add("pause", tag, pause(&layer, tag))?;
    }
    Ok(images)
}

/// The layer of every `pause` image.
pub(super) fn pause_layer() -> Result<Layer> {
    Layer::gzip(Tree::new().file("pause", 0o755, compile(PAUSE)?))
}

/// A `pause` image that no other tag's is equal to.
pub(super) fn pause(layer: &Layer, tag: &str) -> ImageBuilder {
    let image = Image::of([layer.clone()]).entrypoint(&["/pause"]).user("65535:65535");
    image.set("Labels", json!({ "tag": tag }))
}

/// A root file system around busybox, with these lines more in its passwd and group files.
pub(super) fn base_tree(users: &[&str], groups: &[&str]) -> Result<Tree> {
    let lines = |fixed: &[&str], more: &[&str]| [fixed, more].concat().join("\n") + "\n";
    let passwd = lines(
        &[
            "root:x:0:0:root:/root:/bin/sh",
            "daemon:x:1:1:daemon:/usr/sbin:/bin/false",
            "www-data:x:33:33:www-data:/var/www:/bin/false",
            "nobody:x:65534:65534:nobody:/home:/bin/false",
        ],
        users,
    );
    let group = lines(&["root:x:0:", "daemon:x:1:", "www-data:x:33:", "nogroup:x:65534:"], groups);
    let tree = Tree::new()
        .dirs(["bin", "dev", "etc", "home", "proc", "root", "sbin", "sys"])
        .dirs(["usr", "usr/bin", "usr/sbin", "var", "var/run", "www"])
        .dir("tmp", 0o1777)
        .file("etc/passwd", 0o644, passwd)
        .file("etc/group", 0o644, group)
        .file("www/index.html", 0o644, "<html><body><h1>It works!</h1></body></html>\n");
    busybox(tree)
}

/// nginx on a port, in front.
pub(super) fn nginx(base: &Layer, port: u16) -> Result<ImageBuilder> {
    let config = format!(
        "user root;\npid /var/run/nginx.pid;\nerror_log /dev/stderr;\nworker_processes 1;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n  access_log /dev/stdout;\n  server {{ listen {port}; root /www; index index.html; }}\n}}\n"
    );
    let tree = dynamic(Tree::new(), ["/usr/sbin/nginx"])?
        .dirs(["etc", "etc/nginx", "var", "var/lib", "var/lib/nginx", "var/log", "var/log/nginx"])
        .file("etc/nginx/nginx.conf", 0o644, config);
    Ok(Image::of([base.clone(), Layer::gzip(tree)?])
        .cmd(&["/usr/sbin/nginx", "-g", "daemon off;"])
        .set("ExposedPorts", json!({ format!("{port}/tcp"): {} }))
        .set("StopSignal", "SIGQUIT"))
}

/// busybox's web server under the name that the suite expects, and with the
/// line on standard error that its log specs wait for.
pub(super) fn httpd(base: &Layer) -> Result<ImageBuilder> {
    let script = "#!/bin/sh\necho httpd started >&2\nexec httpd -f -vv -h /www -p 80\n";
    let tree = Tree::new().dirs(["usr", "usr/local", "usr/local/bin"]).file("usr/local/bin/start", 0o755, script);
    Ok(Image::of([base.clone(), Layer::gzip(tree)?]).cmd(&["/usr/local/bin/start"]))
}
