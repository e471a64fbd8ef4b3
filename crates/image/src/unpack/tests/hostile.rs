//! Archives that try to leave their directory.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};

use cricket_model::{ErrorKind, Kinded};
use tar::EntryType;

use super::{Case, Tar};

#[test]
fn names_that_lead_upwards_are_refused() {
    for name in ["../outside/evil", "a/../../outside/evil", "a/../b", "..", "x/.."] {
        let case = Case::new();
        let tar = Tar::default().dir("a", 0o755).file(name, b"evil").done();
        let error = case.unpack(&tar).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{name}: {error}");
        case.assert_outside_untouched();
    }
}

#[test]
fn absolute_names_stay_inside() {
    let case = Case::new();
    let name = format!("{}/evil", case.outside().display());
    case.unpack(&Tar::default().file(&name, b"evil").done()).unwrap();
    assert!(case.at(name.trim_start_matches('/')).is_file());
    case.assert_outside_untouched();
}

#[test]
fn links_are_followed_inside_only() {
    let case = Case::new();
    let outside = case.outside().display().to_string();
    let tar = Tar::default()
        .symlink("abs", &outside)
        .file("abs/evil", b"evil")
        .symlink("rel", "../outside")
        .file("rel/evil", b"evil")
        .symlink("deep", "../../../../../../../../../../tmp")
        .file("deep/evil", b"evil")
        .dir("real", 0o755)
        .symlink("alias", "/real")
        .file("alias/inside", b"good")
        .done();
    case.unpack(&tar).unwrap();
    case.assert_outside_untouched();
    assert!(!std::path::Path::new("/tmp/evil").exists());
    assert_eq!(std::fs::read(case.at("real/inside")).unwrap(), b"good");
    assert!(case.at("outside/evil").is_file());
    assert!(case.at("alias").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn writing_through_a_link_replaces_the_link() {
    let case = Case::new();
    let witness = case.outside().join("witness").display().to_string();
    let tar = Tar::default().symlink("f", &witness).file("f", b"evil").done();
    case.unpack(&tar).unwrap();
    assert_eq!(std::fs::read(case.at("f")).unwrap(), b"evil");
    assert!(case.at("f").symlink_metadata().unwrap().is_file());
    case.assert_outside_untouched();
}

/// RUSTSEC-2026-0067: a directory's metadata must not be set through a link of its name.
#[test]
fn a_directory_in_place_of_a_link_leaves_the_links_target_alone() {
    let case = Case::new();
    let outside = case.outside().display().to_string();
    let mut owned = Tar::header(EntryType::Directory, b"owned", 0);
    owned.set_mode(0o4777);
    owned.set_uid(4321);
    let tar = Tar::default()
        .symlink("abs", &outside)
        .dir("abs", 0o777)
        .symlink("rel", "../../outside")
        .dir("rel/", 0o4777)
        .symlink("owned", &outside)
        .raw(owned, b"")
        .done();
    // Refused or replaced; whichever, it is this layer's own.
    if case.unpack(&tar).is_ok() {
        assert!(["abs", "rel", "owned"].iter().all(|name| case.at(name).symlink_metadata().unwrap().is_dir()));
    }
    case.assert_outside_untouched();
}

/// RUSTSEC-2026-0068: the extended header's size counts, whatever the header itself says; what an entry holds is never
/// taken for the next one.
#[test]
fn what_a_file_holds_is_never_an_entry() {
    let smuggled = Tar::default().file("smuggled", b"evil").done();
    let size = smuggled.len().to_string();
    for claimed in [0, 1, 512, smuggled.len() as u64] {
        let case = Case::new();
        let header = Tar::header(EntryType::Regular, b"carrier", claimed);
        let tar = Tar::default().pax(&[("size", size.as_bytes())]).raw(header, &smuggled).file("after", b"a").done();
        case.unpack(&tar).unwrap();
        assert_eq!(case.names(), ["after", "carrier"], "{claimed}");
        assert_eq!(std::fs::read(case.at("carrier")).unwrap(), smuggled);
    }
}

#[test]
fn hard_links_cannot_reach_out() {
    let case = Case::new();
    let witness = case.outside().join("witness").display().to_string();
    let error = case.unpack(&Tar::default().hardlink("h", "../outside/witness").done()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    case.assert_outside_untouched();

    // Absolute: a path of the layer, which a lower one may have. Through a link: the link is not followed outside.
    let case = Case::new();
    let tar = Tar::default()
        .hardlink("abs", &witness)
        .symlink("l", &case.outside().display().to_string())
        .hardlink("through", "l/witness")
        .symlink("w", &witness)
        .hardlink("to-link", "w")
        .done();
    let meta = case.unpack(&tar).unwrap();
    assert_eq!(meta.lower_links.len(), 2);
    assert!(case.at("to-link").symlink_metadata().unwrap().is_symlink());
    case.assert_outside_untouched();
}

#[test]
fn whiteouts_through_links_and_of_nothing() {
    let case = Case::new();
    let outside = case.outside().display().to_string();
    let tar = Tar::default().symlink("l", &outside).file("l/.wh.witness", b"").file("l/.wh..wh..opq", b"").done();
    case.unpack(&tar).unwrap();
    case.assert_outside_untouched();
    for name in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        let case = Case::new();
        assert!(case.unpack(&Tar::default().file(name, b"").done()).is_err(), "{name}");
        case.assert_outside_untouched();
    }
    // aufs' own files hide nothing and are not made.
    let case = Case::new();
    case.unpack(&Tar::default().dir(".wh..wh.plnk", 0o755).file(".wh..wh.aufs", b"").done()).unwrap();
    assert!(case.names().is_empty());
}

#[test]
fn the_root_is_not_replaced() {
    for kind in [EntryType::Regular, EntryType::Symlink, EntryType::Link] {
        let case = Case::new();
        let tar = Tar::default().link(kind, "./", "x").done();
        // A regular entry whose name ends in a slash is a directory.
        assert_eq!(case.unpack(&tar).is_ok(), kind == EntryType::Regular);
    }
}

#[test]
fn odd_names_are_kept() {
    let case = Case::new();
    let name = b"caf\xe9\xff\n%".as_slice();
    let header = Tar::header(EntryType::Regular, name, 1);
    case.unpack(&Tar::default().raw(header, b"x").pax(&[("path", b"a\0b")]).file("f", b"").done()).unwrap_err();
    let case = Case::new();
    let header = Tar::header(EntryType::Regular, name, 1);
    case.unpack(&Tar::default().raw(header, b"x").done()).unwrap();
    let found = std::fs::read_dir(case.at("")).unwrap().next().unwrap().unwrap().file_name();
    assert_eq!(found.as_bytes(), name);
}

#[test]
fn overlay_marks_of_the_archive_do_not_count() {
    let case = Case::new();
    let mut device = Tar::header(EntryType::Char, b"whiteout", 0);
    device.set_device_major(0).unwrap();
    device.set_device_minor(0).unwrap();
    let mut null = Tar::header(EntryType::Char, b"null", 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    let tar = Tar::default()
        .raw(device, b"")
        .raw(null, b"")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"system_u:object_r:bin_t:s0"),
            ("SCHILY.xattr.user.kept", b"yes"),
        ])
        .dir("d", 0o755)
        .done();
    case.unpack(&tar).unwrap();
    assert_eq!(case.names(), ["d", "null"]);
    let null = case.at("null").symlink_metadata().unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    let mut names = [0u8; 1024];
    let n = rustix::fs::llistxattr(case.at("d"), &mut names[..]).unwrap();
    let names = String::from_utf8_lossy(&names[..n]);
    assert!(!names.contains("overlay") && !names.contains("selinux"), "{names}");
}

/// Someone swaps a directory of the layer with a link to the outside all the time.
#[test]
fn a_swapper_does_not_lead_out() {
    let case = Case::new();
    let (fs, outside) = (case.layer().join("fs"), case.outside());
    let stop = AtomicBool::new(false);
    let mut tar = Tar::default();
    for i in 0..3000 {
        tar = tar.file(&format!("a/b/f{i}"), b"x").file(&format!("c/g{i}"), b"y").symlink(&format!("a/b/s{i}"), "t");
        tar = tar.hardlink(&format!("a/h{i}"), &format!("a/b/f{i}"));
    }
    let tar = tar.done();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = std::fs::rename(fs.join("a"), fs.join("aside"));
                let _ = std::os::unix::fs::symlink(&outside, fs.join("a"));
                let _ = std::fs::remove_file(fs.join("a"));
                let _ = std::fs::rename(fs.join("aside"), fs.join("a"));
            }
        });
        // It may fail, or succeed with a strange tree: it may not write elsewhere.
        let _ = case.unpack(&tar);
        stop.store(true, Ordering::Relaxed);
    });
    case.assert_outside_untouched();
}
