//! What a legal archive becomes.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use tar::EntryType;

use super::{Case, Tar, gzip};
use crate::unpack::{Limits, OPAQUE};

fn is_opaque(path: &std::path::Path) -> bool {
    let mut value = [0u8; 4];
    rustix::fs::lgetxattr(path, OPAQUE, &mut value[..]).is_ok_and(|n| &value[..n] == b"y")
}

fn is_whiteout(path: &std::path::Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

#[test]
fn whiteouts_in_either_order() {
    let case = Case::new();
    let tar = Tar::default()
        .dir("d", 0o750)
        .file(".wh.d", b"")
        .file(".wh.e", b"")
        .dir("e", 0o750)
        .file(".wh.f", b"")
        .file("f/below", b"x")
        .file(".wh.gone", b"")
        .file("p/.wh..wh..opq", b"")
        .file("p/q", b"")
        .file(".wh.file", b"")
        .file("file", b"new")
        .done();
    let meta = case.unpack(&tar).unwrap();
    for dir in ["d", "e", "f", "p"] {
        assert!(is_opaque(&case.at(dir)), "{dir}");
    }
    assert_eq!(case.at("d").metadata().unwrap().mode() & 0o777, 0o750);
    assert!(is_whiteout(&case.at("gone")));
    assert_eq!(std::fs::read(case.at("file")).unwrap(), b"new");
    assert!(!meta.opaque_root);
    let case = Case::new();
    assert!(case.unpack(&Tar::default().file(".wh..wh..opq", b"").done()).unwrap().opaque_root);
}

#[test]
fn implied_directories_are_noted_until_they_come() {
    let case = Case::new();
    let tar = Tar::default().file("tmp/x", b"").file("a/b/c", b"").dir("a", 0o700).done();
    let meta = case.unpack(&tar).unwrap();
    assert_eq!(meta.implied, ["", "a/b", "tmp"]);
    assert_eq!(case.at("a").metadata().unwrap().mode() & 0o777, 0o700);
    let case = Case::new();
    let meta = case.unpack(&Tar::default().dir("./", 0o711).file("x/y", b"").file("x", b"").done()).unwrap();
    assert_eq!(meta.implied, Vec::<String>::new());
    assert_eq!(case.at("").metadata().unwrap().mode() & 0o777, 0o711);
}

#[test]
fn later_entries_win() {
    let case = Case::new();
    let tar = Tar::default()
        .file("f", b"one")
        .file("f", b"two")
        .dir("d", 0o755)
        .file("d/deep", b"x")
        .file("d", b"now a file")
        .symlink("s", "nowhere")
        .dir("s", 0o700)
        .file("s/inside", b"x")
        .dir("k", 0o755)
        .file("k/kept", b"x")
        .dir("k", 0o711)
        .done();
    case.unpack(&tar).unwrap();
    assert_eq!(std::fs::read(case.at("f")).unwrap(), b"two");
    assert_eq!(std::fs::read(case.at("d")).unwrap(), b"now a file");
    assert!(case.at("s").symlink_metadata().unwrap().is_dir());
    assert!(case.at("s/inside").is_file());
    assert_eq!(case.at("k").metadata().unwrap().mode() & 0o777, 0o711);
    assert!(case.at("k/kept").is_file());
}

#[test]
fn owners_modes_capabilities_and_times() {
    let case = Case::new();
    // A revision 2 capability set, which has a newline in it: cap_net_raw and bits around 0x0a.
    let capability: &[u8] = &[1, 0, 0, 2, 0x0a, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut file = Tar::header(EntryType::Regular, b"bin/ping", 4);
    file.set_mode(0o4755);
    file.set_uid(7);
    file.set_gid(8);
    let tar = Tar::default()
        .dir("bin", 0o2775)
        .pax(&[("SCHILY.xattr.security.capability", capability), ("mtime", b"-1.5")])
        .raw(file, b"ping")
        .link(EntryType::Fifo, "pipe", "")
        .done();
    case.unpack(&tar).unwrap();
    let meta = case.at("bin/ping").metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o4755, 7, 8));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 500_000_000));
    let mut value = [0u8; 64];
    let n = rustix::fs::lgetxattr(case.at("bin/ping"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..n], capability);
    let bin = case.at("bin").metadata().unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime()), (0o2775, 1_000_000_000));
    assert!(case.at("pipe").symlink_metadata().unwrap().file_type().is_fifo());
}

#[test]
fn hard_links_and_what_is_counted() {
    let case = Case::new();
    let tar = Tar::default().file("a", b"12345").hardlink("b", "/a").hardlink("c", "lower/file").done();
    let meta = case.unpack(&tar).unwrap();
    assert_eq!(case.at("a").metadata().unwrap().nlink(), 2);
    assert_eq!(meta.lower_links, [("c".to_owned(), "lower/file".to_owned())]);
    assert_eq!((meta.bytes, meta.inodes), (5, 2));
}

#[test]
fn pax_overrides_what_ustar_cannot_say() {
    let case = Case::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let header = Tar::header(EntryType::Regular, b"short", 0);
    let tar = Tar::default()
        .pax(&[("path", long.as_bytes()), ("size", b"5"), ("uid", b"3000000")])
        .raw(header, b"12345")
        .file("next", b"n")
        .done();
    case.unpack(&tar).unwrap();
    assert_eq!(std::fs::read(case.at(&long)).unwrap(), b"12345");
    assert_eq!(case.at(&long).metadata().unwrap().uid(), 3_000_000);
    assert_eq!(std::fs::read(case.at("next")).unwrap(), b"n");
}

#[test]
fn every_packing() {
    let tar = Tar::default().file("a", &[7; 100_000]).done();
    let (one, two) = tar.split_at(60_000);
    let members = [gzip(one), gzip(two)].concat();
    let frames = [zstd::encode_all(one, 3).unwrap(), zstd::encode_all(two, 3).unwrap()].concat();
    for blob in [tar.clone(), gzip(&tar), members, zstd::encode_all(&tar[..], 3).unwrap(), frames] {
        let case = Case::new();
        case.unpack_blob(&blob, &tar, &Limits::default()).unwrap();
        assert_eq!(std::fs::read(case.at("a")).unwrap(), vec![7; 100_000]);
    }
    let case = Case::new();
    case.unpack(&[0; 1024]).unwrap();
    assert!(case.names().is_empty());
}
