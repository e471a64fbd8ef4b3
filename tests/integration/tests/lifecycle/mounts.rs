//! Volumes: what kubelets mount into containers.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use anyhow::Result;
use cricket_cri_api::v1;
use cricket_testkit::cri;
use cricket_testkit::image::{Layer, Tree};

use crate::support::{Scene, idle, mount, security};

/// A directory of the test's own.
fn dir(scene: &Scene, name: &str) -> Result<PathBuf> {
    let dir = scene.node.daemon.home().join("volumes").join(name);
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

#[tokio::test]
async fn a_missing_host_path_becomes_a_directory() -> Result<()> {
    let scene = Scene::host("mounts-missing").await?;
    let path = dir(&scene, "missing")?.join("not/yet");
    let mut config = idle("main");
    config.mounts = vec![mount(&path, "/data")];
    let main = scene.run(&config).await?;
    let meta = path.metadata()?;
    assert!(meta.is_dir());
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o755, 0));
    scene.sh(&main, "echo there > /data/file").await?;
    assert_eq!(std::fs::read_to_string(path.join("file"))?, "there\n");
    // It is the user's now. The daemon's files are there as long as somebody holds it.
    let _node = scene.node.clone();
    scene.end().await?;
    assert!(path.join("file").exists());
    Ok(())
}

#[tokio::test]
async fn shallow_mounts_come_first() -> Result<()> {
    let scene = Scene::host("mounts-sorted").await?;
    let (outer, inner, file) = (dir(&scene, "outer")?, dir(&scene, "inner")?, dir(&scene, "file")?.join("f"));
    std::fs::write(inner.join("in"), "")?;
    std::fs::write(&file, "one file")?;
    let mut config = idle("main");
    // The deeper ones are named first.
    config.mounts = vec![mount(&file, "/a/b/single"), mount(&inner, "/a/b"), mount(&outer, "/a")];
    // The file's mount point has to be in the volume that comes before it.
    std::fs::write(inner.join("single"), "")?;
    std::fs::create_dir(outer.join("b"))?;
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "ls /a/b; cat /a/b/single").await?, "in\nsingle\none file");
    scene.end().await
}

#[tokio::test]
async fn read_only_is_enforced() -> Result<()> {
    let scene = Scene::host("mounts-read-only").await?;
    let volume = dir(&scene, "read-only")?;
    std::fs::write(volume.join("file"), "content")?;
    let mut config = idle("main");
    config.mounts = vec![v1::Mount { readonly: true, ..mount(&volume, "/data") }, mount(&volume, "/writable")];
    let main = scene.run(&config).await?;
    let done = scene.cri.exec(&main, &["sh", "-c", "cat /data/file; echo x > /data/file"], 5).await?;
    assert_eq!(done.stdout, b"content");
    assert!(done.exit_code != 0 && String::from_utf8_lossy(&done.stderr).contains("Read-only file system"));
    scene.sh(&main, "echo new > /writable/file").await?;
    assert_eq!(std::fs::read_to_string(volume.join("file"))?, "new\n");
    scene.end().await
}

#[tokio::test]
async fn a_read_only_root_takes_volumes() -> Result<()> {
    let scene = Scene::host("mounts-ro-root").await?;
    let volume = dir(&scene, "ro-root")?;
    let mut config = idle("main");
    config.mounts = vec![mount(&volume, "/made/for/it")];
    security(&mut config).readonly_rootfs = true;
    let main = scene.run(&config).await?;
    assert_ne!(scene.cri.exec(&main, &["touch", "/file"], 5).await?.exit_code, 0);
    scene.sh(&main, "touch /made/for/it/file").await?;
    scene.end().await
}

#[tokio::test]
async fn destinations_follow_links_inside_the_root_only() -> Result<()> {
    let scene = Scene::host("mounts-links").await?;
    // As on Debian: /var/run is a link to /run; and one that would lead out of the root.
    let layer = Layer::gzip(Tree::new().whiteout("var/run").dirs(["run"]))?;
    let links = Layer::gzip(Tree::new().symlink("var/run", "/run").symlink("outside", "../../../../../../tmp"))?;
    let image = scene.image("links", |image| image.layer(layer).layer(links)).await?;
    let secret = dir(&scene, "secret")?;
    std::fs::write(secret.join("token"), "s3cret")?;
    let name = format!("cricket-{}", scene.id);
    let mut config = cri::container("main", &image, &[]);
    config.command = idle("x").command;
    config.mounts = vec![
        mount(&secret, "/var/run/secrets/kubernetes.io/serviceaccount"),
        mount(&secret, &format!("/outside/{name}")),
    ];
    let main = scene.run(&config).await?;
    let read = format!("cat /run/secrets/kubernetes.io/serviceaccount/token; readlink /var/run; cat /tmp/{name}/token");
    assert_eq!(scene.sh(&main, &read).await?, "s3cret/run\ns3cret");
    assert!(!std::path::Path::new("/tmp").join(&name).exists(), "a mount point was made on the host");
    scene.end().await
}

#[tokio::test]
async fn a_mount_of_the_cri_replaces_a_default_one() -> Result<()> {
    let scene = Scene::host("mounts-default").await?;
    let (names, sys) = (dir(&scene, "names")?, dir(&scene, "sys")?);
    std::fs::write(names.join("resolv.conf"), "nameserver 1.1.1.1\n")?;
    std::fs::write(sys.join("mine"), "")?;
    let mut config = idle("main");
    config.mounts = vec![mount(names.join("resolv.conf"), "/etc/resolv.conf"), mount(&sys, "/sys")];
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "cat /etc/resolv.conf; ls /sys").await?, "nameserver 1.1.1.1\nmine");
    scene.end().await
}

#[tokio::test]
async fn one_on_dev_replaces_all_below_it() -> Result<()> {
    let scene = Scene::privileged("mounts-dev").await?;
    let mut config = idle("main");
    config.mounts = vec![mount("/dev", "/dev")];
    security(&mut config).privileged = true;
    let before = std::fs::symlink_metadata("/dev/null")?.mode();
    let main = scene.run(&config).await?;
    let host: Vec<_> = std::fs::read_dir("/dev")?.map(|e| e.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    let seen = scene.sh(&main, "ls -A /dev").await?;
    assert!(host.iter().all(|name| seen.lines().any(|l| l == name.to_string_lossy())), "{seen}");
    scene.end().await?;
    assert_eq!(std::fs::symlink_metadata("/dev/null")?.mode(), before, "the host's devices are as they were");
    Ok(())
}

#[tokio::test]
async fn single_files_links_and_sockets_are_sources() -> Result<()> {
    let scene = Scene::host("mounts-files").await?;
    let volume = dir(&scene, "files")?;
    std::fs::write(volume.join("file"), "a file")?;
    symlink(volume.join("file"), volume.join("link"))?;
    let _socket = std::os::unix::net::UnixListener::bind(volume.join("socket"))?;
    let mut config = idle("main");
    config.mounts = vec![
        mount(volume.join("file"), "/etc/one"),
        mount(volume.join("link"), "/etc/two"),
        mount(volume.join("socket"), "/run/socket"),
    ];
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "cat /etc/one; echo; cat /etc/two; test -S /run/socket").await?, "a file\na file");
    let status = scene.cri.container(&main).await?;
    assert_eq!(status.mounts.len(), 3);
    assert!(status.mounts.iter().any(|m| m.container_path == "/etc/one" && m.host_path.ends_with("/files/file")));
    scene.end().await
}

#[tokio::test]
async fn a_volume_is_shared_by_the_pods_containers() -> Result<()> {
    let scene = Scene::host("mounts-shared").await?;
    let volume = dir(&scene, "shared")?;
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o777))?;
    let with = |name: &str, user: i64| {
        let mut config = idle(name);
        config.mounts = vec![mount(&volume, "/shared")];
        security(&mut config).run_as_user = Some(v1::Int64Value { value: user });
        config
    };
    let (one, two) = (scene.run(&with("one", 1001)).await?, scene.run(&with("two", 1002)).await?);
    scene.sh(&one, "echo hello > /shared/file").await?;
    assert_eq!(scene.sh(&two, "cat /shared/file; stat -c %u /shared/file").await?, "hello\n1001");
    scene.end().await
}

#[tokio::test]
async fn paths_that_make_no_sense_are_refused() -> Result<()> {
    let scene = Scene::host("mounts-refused").await?;
    let volume = dir(&scene, "refused")?;
    for (what, bad) in [
        ("no container path", mount(&volume, "")),
        ("a relative host path", mount("volumes/refused", "/data")),
        ("a newline", mount(&volume, "/da\nta\0")),
    ] {
        let mut config = idle("main");
        config.mounts = vec![bad];
        let error = scene.cri.create(&scene.id, &config, &scene.pod).await.expect_err(what);
        assert_eq!(error.code(), tonic::Code::InvalidArgument, "{what}: {error}");
    }
    scene.end().await
}

#[tokio::test]
async fn additional_options_count_for_their_mount_alone() -> Result<()> {
    let scene = Scene::host("mounts-options").await?;
    let status = scene.cri.runtime().status(v1::StatusRequest::default()).await?.into_inner();
    assert!(status.features.is_some_and(|f| f.mount_options), "advertised");
    let path = dir(&scene, "options")?;
    std::fs::write(path.join("tool"), "#!/bin/sh\necho ran\n")?;
    std::fs::set_permissions(path.join("tool"), std::fs::Permissions::from_mode(0o755))?;
    let mut config = idle("main");
    let options = ["noexec", "nodev", "nosuid"].map(str::to_owned).to_vec();
    config.mounts = vec![v1::Mount { mount_options: options, ..mount(&path, "/strict") }, mount(&path, "/plain")];
    let main = scene.run(&config).await?;
    assert_eq!(scene.sh(&main, "/plain/tool").await?, "ran");
    assert_eq!(scene.sh(&main, "/strict/tool 2>/dev/null || echo refused").await?, "refused");
    let shown = |path: &str| format!("grep ' {path} ' /proc/self/mountinfo | cut -d ' ' -f 6");
    let strict = scene.sh(&main, &shown("/strict")).await?;
    for option in ["rw", "noexec", "nodev", "nosuid"] {
        assert!(strict.split(',').any(|o| o == option), "{option} is not in {strict}");
    }
    let plain = scene.sh(&main, &shown("/plain")).await?;
    assert!(!plain.contains("noexec"), "{plain}");
    let mut wrong = idle("wrong");
    wrong.mounts = vec![v1::Mount { mount_options: vec!["loop".into()], ..mount(&path, "/data") }];
    let error = scene.cri.create(&scene.id, &wrong, &scene.pod).await.expect_err("no option of a bind mount");
    assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
    assert!(error.message().contains("loop"), "{error}");
    scene.end().await
}

#[tokio::test]
async fn recursively_read_only_reaches_the_mounts_below() -> Result<()> {
    let scene = Scene::host("mounts-rro").await?;
    let status = scene.cri.runtime().status(v1::StatusRequest { verbose: false }).await?.into_inner();
    let handler = status.runtime_handlers.iter().find(|h| h.name.is_empty());
    assert!(handler.and_then(|h| h.features).is_some_and(|f| f.recursive_read_only_mounts), "this host can do it");
    let volume = dir(&scene, "rro")?;
    let below = volume.join("below");
    std::fs::create_dir(&below)?;
    cricket_testkit::host::run("mount", ["-t", "tmpfs", "below", &below.display().to_string()])?;
    let read_only = v1::Mount { readonly: true, ..mount(&volume, "/top-only") };
    let recursive = v1::Mount { readonly: true, recursive_read_only: true, ..mount(&volume, "/all") };
    let mut config = idle("main");
    config.mounts = vec![read_only, recursive];
    let started = scene.run(&config).await;
    cricket_testkit::host::run("umount", ["-l", &below.display().to_string()])?;
    let main = started?;
    for (path, writable) in [("/top-only", false), ("/top-only/below", true), ("/all", false), ("/all/below", false)] {
        let done = scene.cri.exec(&main, &["touch", &format!("{path}/file")], 5).await?;
        assert_eq!(done.exit_code == 0, writable, "{path}: {}", String::from_utf8_lossy(&done.stderr));
    }
    scene.end().await
}

/// A mount that is shared, as `/` is on real nodes, and unmounted when this goes.
struct Shared(PathBuf);

impl Shared {
    fn new(path: PathBuf) -> Result<Self> {
        let text = path.display().to_string();
        cricket_testkit::host::run("mount", ["-t", "tmpfs", "shared", &text])?;
        let shared = Self(path);
        cricket_testkit::host::run("mount", ["--make-shared", &text])?;
        Ok(shared)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = cricket_testkit::host::run("umount", ["-R", "-l", &self.0.display().to_string()]) {
            eprintln!("{error:#}");
        }
    }
}

#[tokio::test]
async fn mounts_propagate_as_far_as_asked() -> Result<()> {
    let scene = Scene::privileged("mounts-propagation").await?;
    let volume = Shared::new(dir(&scene, "propagation")?)?;
    for name in ["before", "from-host", "from-container"] {
        std::fs::create_dir(volume.0.join(name))?;
    }
    let with =
        |mode: v1::MountPropagation, path: &str| v1::Mount { propagation: mode.into(), ..mount(&volume.0, path) };
    let mut config = idle("main");
    security(&mut config).privileged = true;
    config.mounts = vec![
        with(v1::MountPropagation::PropagationPrivate, "/private"),
        with(v1::MountPropagation::PropagationHostToContainer, "/slave"),
        with(v1::MountPropagation::PropagationBidirectional, "/both"),
    ];
    let main = scene.run(&config).await?;
    let late = volume.0.join("from-host").display().to_string();
    cricket_testkit::host::run("mount", ["-t", "tmpfs", "late", &late])?;
    std::fs::write(volume.0.join("from-host/file"), "")?;
    let seen = scene.sh(&main, "for m in private slave both; do ls /$m/from-host | wc -l; done | xargs").await?;
    assert_eq!(seen, "0 1 1");
    scene.sh(&main, "mount -t tmpfs inner /both/from-container && touch /both/from-container/file").await?;
    assert!(volume.0.join("from-container/file").exists());
    scene.sh(&main, "mount -t tmpfs inner /slave/before && touch /slave/before/file").await?;
    assert!(!volume.0.join("before/file").exists());
    scene.end().await
}
