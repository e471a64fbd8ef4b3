//! What needs root: overlay mounts of what was pulled, and volumes.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod support;

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cricket_image::{Image, ImageStore};
use cricket_model::{ContainerId, ErrorKind, IdMaps, IdRange, Kinded};
use support::{Registry, eventually, image, layer, names};

/// A container whose mount goes when the test ends, however it ends.
struct Mounted {
    store: ImageStore,
    id: ContainerId,
    target: PathBuf,
}

impl Mounted {
    async fn new(store: &ImageStore, dir: &Path, image: &Image) -> Self {
        Self::with(store, dir, image, None).await
    }

    async fn with(store: &ImageStore, dir: &Path, image: &Image, maps: Option<IdMaps>) -> Self {
        let id = ContainerId::generate();
        let target = dir.join("state").join(id.short());
        store.create_rootfs(&id, image, maps).await.unwrap();
        let mounted = Self { store: store.clone(), id, target };
        mounted.mount().await;
        mounted
    }

    async fn mount(&self) {
        self.store.mount_rootfs(&self.id, &self.target, None).await.unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.target.join(path)
    }

    async fn remove(&self) {
        self.store.remove_rootfs(&self.id, Some(&self.target)).await.unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        while rustix::mount::unmount(&self.target, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    }
}

async fn pulled(dir: &Path, registry: &Registry, layers: &[Vec<u8>]) -> (ImageStore, Arc<Image>) {
    registry.push("v1", &image("one", layers));
    let store = registry.store(dir).await;
    let image = store.pull("r.test/repo:v1", None).await.unwrap();
    (store, image)
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_stacked_as_the_image_means() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let layers = [
        layer(&[
            ("./", "711"),
            ("tmp/", "1777"),
            ("tmp/low", "low"),
            ("etc/", "750"),
            ("etc/passwd", "root"),
            ("etc/gone", "x"),
            ("opt/", "755"),
            ("opt/old", "x"),
            ("var/", "755"),
            ("var/old", "x"),
            ("bin/", "700"),
            ("bin/tool", "tool"),
        ]),
        // Implies tmp, etc and usr/bin; links to files that only the layer below has.
        layer(&[
            ("tmp/high", "high"),
            ("etc/.wh.gone", ""),
            ("opt/.wh..wh..opq", ""),
            ("opt/new", "y"),
            (".wh.var", ""),
            ("var/", "755"),
            ("usr/bin/alias", "hard:bin/tool"),
            ("bin/alias", "hard:bin/tool"),
        ]),
        layer(&[("tmp/highest", "h")]),
    ];
    let (store, image) = pulled(dir.path(), &registry, &layers).await;
    let c = Mounted::new(&store, dir.path(), &image).await;
    let mode = |path: &str| c.at(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("tmp"), mode("etc"), mode("bin")), (0o711, 0o1777, 0o750, 0o700));
    for path in ["tmp/low", "tmp/high", "tmp/highest", "etc/passwd", "opt/new"] {
        assert!(c.at(path).is_file(), "{path}");
    }
    for path in ["etc/gone", "opt/old", "var/old"] {
        assert!(c.at(path).symlink_metadata().is_err(), "{path}");
    }
    assert!(c.at("var").is_dir());
    let inode = |path: &str| c.at(path).metadata().unwrap().ino();
    assert_eq!(std::fs::read(c.at("usr/bin/alias")).unwrap(), b"tool");
    assert_eq!((inode("usr/bin/alias"), inode("bin/alias")), (inode("bin/tool"), inode("bin/tool")));

    // A second container of the image sees nothing of the first one's writes.
    std::fs::write(c.at("tmp/mine"), vec![1u8; 100_000]).unwrap();
    let other = Mounted::new(&store, dir.path(), &image).await;
    assert!(!other.at("tmp/mine").exists());
    let usage = store.rootfs_usage(&c.id).unwrap();
    assert!((100_000..200_000).contains(&usage.used_bytes) && usage.inodes_used == 3, "{usage:?}");
    assert!(usage.mountpoint.is_dir());
    c.remove().await;
    other.remove().await;
    assert!(std::fs::read_dir(&c.target).unwrap().next().is_none());
    assert_eq!(store.rootfs_usage(&c.id).unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_mounted_once_and_removal_is_idempotent() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let (store, image) = pulled(dir.path(), &registry, &[layer(&[("a", "a")])]).await;
    let c = Mounted::new(&store, dir.path(), &image).await;
    store.create_rootfs(&c.id, &image, None).await.unwrap();
    std::fs::write(c.at("written"), "x").unwrap();
    rustix::mount::unmount(&c.target, rustix::mount::UnmountFlags::empty()).unwrap();
    c.mount().await;
    assert!(!c.at("written").exists() && c.at("a").exists());
    // Busy: something is open in it.
    let busy = std::fs::File::create(c.at("open")).unwrap();
    c.remove().await;
    c.remove().await;
    drop(busy);
    assert!(!c.at("a").exists());
    eventually("its directories to go", || {
        names(dir.path(), "containers").is_empty() && names(dir.path(), "trash").is_empty()
    })
    .await;
    let error = store.mount_rootfs(&c.id, &c.target, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_namespaces_root_file_system_has_its_ids() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let layers = [layer(&[("./", "755"), ("a", "a"), ("data/", "1777"), ("data/b", "b")])];
    let (store, image) = pulled(dir.path(), &registry, &layers).await;
    store.try_mapping().await.unwrap();
    eventually("the try to leave nothing", || names(dir.path(), "staging").is_empty()).await;
    let range = |outside| IdRange { inside: 0, outside, length: 65_536 };
    let maps = Some(IdMaps { users: range(200_000), groups: range(300_000) });
    let mapped = Mounted::with(&store, dir.path(), &image, maps).await;
    let plain = Mounted::new(&store, dir.path(), &image).await;
    let owner = |c: &Mounted, path: &str| c.at(path).metadata().map(|m| (m.uid(), m.gid())).unwrap();
    for path in ["", "a", "data", "data/b"] {
        assert_eq!((owner(&mapped, path), owner(&plain, path)), ((200_000, 300_000), (0, 0)), "{path}");
    }
    let volume = dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    store.copy_up_volume(&mapped.target, "/data", &volume).await.unwrap();
    let copied = |path: &str| volume.join(path).metadata().map(|m| (m.uid(), m.gid(), m.mode() & 0o7777)).unwrap();
    assert_eq!((copied("").0, copied("").2, copied("b").1), (200_000, 0o1777, 300_000));
    // Mounted again after a restart of the store, its IDs are the same.
    rustix::mount::unmount(&mapped.target, rustix::mount::UnmountFlags::empty()).unwrap();
    mapped.mount().await;
    assert_eq!(owner(&mapped, "data/b"), (200_000, 300_000));
    mapped.remove().await;
    plain.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_use_keeps_its_layers_over_a_restart() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let (store, image) = pulled(dir.path(), &registry, &[layer(&[("a", "a")]), layer(&[("t/b", "b")])]).await;
    let c = Mounted::new(&store, dir.path(), &image).await;
    store.remove(image.id.as_str()).await.unwrap();
    assert!(store.list().is_empty());
    let (id, target) = (c.id.clone(), c.target.clone());
    drop(c);
    drop(store);
    // A broken record of another container is discarded.
    let broken = dir.path().join("root/images/containers").join(ContainerId::generate().as_str());
    std::fs::create_dir_all(broken.join("0/upper")).unwrap();
    std::fs::write(broken.join("rootfs.json"), "{\"image").unwrap();
    let store = registry.store(dir.path()).await;
    eventually("the broken record to go", || !broken.exists()).await;
    let c = Mounted { store: store.clone(), id, target };
    c.mount().await;
    assert_eq!(std::fs::read(c.at("t/b")).unwrap(), b"b");
    assert_eq!(names(dir.path(), "layers").len(), 2);
    c.remove().await;
    eventually("the layers to go", || names(dir.path(), "layers").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_layer_stays_as_long_as_a_container_has_it() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let (store, image) = pulled(dir.path(), &registry, &[layer(&[("a", "good"), ("b", "b")])]).await;
    let c = Mounted::new(&store, dir.path(), &image).await;
    let other = Mounted::new(&store, dir.path(), &image).await;
    let file = dir.path().join("root/images/layers").join(image.diff_ids[0].hex()).join("fs/a");
    std::fs::write(&file, "evil").unwrap();
    let damage = store.verify().await.unwrap();
    store.heal(&damage).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"good", "healed");
    let trash = || names(dir.path(), "trash");
    eventually("what nobody reads to go", || trash().len() == 1).await;
    let old = dir.path().join("root/images/trash").join(&trash()[0]).join("fs/a");
    assert_eq!((std::fs::read(c.at("a")).unwrap(), std::fs::read(&old).unwrap()), (b"evil".to_vec(), b"evil".to_vec()));
    assert_eq!(std::fs::read(c.at("b")).unwrap(), b"b");
    // One of two containers goes, then the daemon.
    other.remove().await;
    let (id, target) = (c.id.clone(), c.target.clone());
    drop((c, other, store));
    let store = registry.store(dir.path()).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(old.exists(), "deleted while a container has it");
    store.remove_rootfs(&id, Some(&target)).await.unwrap();
    eventually("the replaced layer to go", || trash().is_empty()).await;
    // The image has the good one.
    let c = Mounted::new(&store, dir.path(), &image).await;
    assert_eq!(std::fs::read(c.at("a")).unwrap(), b"good");
    c.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_layer_is_fetched_at_the_next_create() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let tars = [layer(&[("tmp/", "1777")]), layer(&[("tmp/b", "b")])];
    let (store, image) = pulled(dir.path(), &registry, &tars).await;
    let layers = dir.path().join("root/images/layers");
    std::fs::remove_dir_all(layers.join(image.diff_ids[0].hex()).join("fs")).unwrap();
    std::fs::remove_file(layers.join(image.diff_ids[1].hex()).join("manifest")).unwrap();
    std::fs::remove_dir_all(dir.path().join("root/images/chains")).unwrap();
    std::fs::create_dir(dir.path().join("root/images/chains")).unwrap();
    let c = Mounted::new(&store, dir.path(), &image).await;
    assert_eq!(c.at("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
    assert!(c.at("tmp/b").is_file());
    c.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_layers_and_none() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let many: Vec<_> = (0..127).map(|i| layer(&[(&format!("f{i}"), "x"), ("last", &i.to_string())])).collect();
    let (store, image) = pulled(dir.path(), &registry, &many).await;
    let c = Mounted::new(&store, dir.path(), &image).await;
    assert_eq!(std::fs::read_dir(&c.target).unwrap().count(), 128);
    assert_eq!(std::fs::read(c.at("last")).unwrap(), b"126");
    c.remove().await;
    registry.push("empty", &support::image("empty", &[]));
    let image = store.pull("r.test/repo:empty", None).await.unwrap();
    let c = Mounted::new(&store, dir.path(), &image).await;
    assert_eq!(std::fs::read_dir(&c.target).unwrap().count(), 0);
    assert_eq!(c.target.metadata().unwrap().mode() & 0o7777, 0o755);
    c.remove().await;
    let too_many: Vec<_> = (0..201).map(|i| layer(&[("f", &i.to_string())])).collect();
    registry.push("many", &support::image("many", &too_many));
    assert!(store.pull("r.test/repo:many", None).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_take_the_images_content_and_stay_inside() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let tar = layer(&[
        ("data/", "1770"),
        ("data/file", "content"),
        ("data/owned", "mine"),
        ("data/sub/", "700"),
        ("data/sub/hard", "hard:data/file"),
        ("data/out", "link:/etc/passwd"),
        ("way", "link:/data/sub/.."),
        ("escape", "link:../../../../../etc"),
        ("file", "x"),
    ]);
    let (store, image) = pulled(dir.path(), &registry, &[tar]).await;
    let c = Mounted::new(&store, dir.path(), &image).await;
    std::os::unix::fs::chown(c.at("data/owned"), Some(12), Some(34)).unwrap();
    std::fs::set_permissions(c.at("data/owned"), std::fs::Permissions::from_mode(0o4640)).unwrap();
    let mut count = 0;
    let mut volume = || {
        count += 1;
        let path = dir.path().join(format!("volume{count}"));
        std::fs::create_dir(&path).unwrap();
        path
    };
    for path in ["/data", "data", "way", "/../../data", "/data/sub/../."] {
        let to = volume();
        store.copy_up_volume(&c.target, path, &to).await.unwrap();
        let owned = to.join("owned").metadata().unwrap();
        assert_eq!((owned.mode() & 0o7777, owned.uid(), owned.gid()), (0o4640, 12, 34), "{path}");
        let file = to.join("file").metadata().unwrap();
        assert_eq!((file.nlink(), file.ino()), (2, to.join("sub/hard").metadata().unwrap().ino()));
        assert_eq!(to.metadata().unwrap().mode() & 0o7777, 0o1770);
        assert_eq!(to.metadata().unwrap().mtime(), 1_000_000_000);
        assert!(to.join("out").symlink_metadata().unwrap().is_symlink());
    }
    // The image has no /etc: nothing of the host's is copied. A file is no content either.
    for path in ["/../../etc", "escape", "/none", "/file", "/data/out"] {
        let to = volume();
        store.copy_up_volume(&c.target, path, &to).await.unwrap();
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0, "{path}");
    }
    c.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_in_a_layer_is_one_in_the_container() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Block);
    header.set_device_major(7).unwrap();
    header.set_device_minor(9).unwrap();
    header.set_mode(0o620);
    header.set_uid(3);
    header.set_gid(4);
    header.set_mtime(1);
    header.set_size(0);
    tar.append_data(&mut header, "dev/loop9", &[][..]).unwrap();
    let (store, image) = pulled(dir.path(), &registry, &[tar.into_inner().unwrap()]).await;
    let c = Mounted::new(&store, dir.path(), &image).await;
    let meta = c.at("dev/loop9").symlink_metadata().unwrap();
    assert!(meta.file_type().is_block_device());
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()), (0o620, 3, 4, 1));
    assert_eq!(meta.rdev(), rustix::fs::makedev(7, 9));
    c.remove().await;
}

/// Pulls, removals and containers of two images that share a layer, all at once: what is acknowledged works.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pulls_removals_and_creates_race() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let shared = layer(&[("tmp/", "1777"), ("shared", "s")]);
    registry.push("a", &support::image("a", &[shared.clone(), layer(&[("tmp/own", "a")])]));
    registry.push("b", &support::image("b", &[shared, layer(&[("tmp/own", "b")])]));
    let mut config = registry.config(dir.path());
    config.keep_unfinished = std::time::Duration::ZERO;
    let store = ImageStore::open(config, support::records(dir.path()).await).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..16 {
        let (store, dir, tag) = (store.clone(), dir.path().to_owned(), if i % 2 == 0 { "a" } else { "b" });
        tasks.spawn(async move {
            let name = format!("r.test/repo:{tag}");
            for _ in 0..6 {
                let image = store.pull(&name, None).await.unwrap();
                let c = Mounted::new(&store, &dir, &image).await;
                store.remove(&name).await.unwrap();
                assert_eq!(std::fs::read_to_string(c.at("tmp/own")).unwrap(), tag);
                assert_eq!(std::fs::read_to_string(c.at("shared")).unwrap(), "s");
                assert_eq!(c.at("tmp").metadata().unwrap().mode() & 0o7777, 0o1777);
                c.remove().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    eventually("everything to go", || {
        ["layers", "chains", "containers", "staging", "trash"].iter().all(|d| names(dir.path(), d).is_empty())
    })
    .await;
}
