//! Layers: a tar, plain, gzip or zstd, into a directory.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use cricket_image::Error;
use cricket_image::fuzzing::{MAX_BYTES, MAX_ENTRIES, MAX_NOTED, Made, unpack};

use crate::input;

/// What an archive would have to change to show that it got out, by `..` and by an absolute name.
const CANARY: &str = "cricket-fuzz-canary";

/// Nothing is made or changed outside of the layer's directory, the bounds hold, and the files are those that the
/// manifest says.
pub fn run(data: &[u8]) {
    let place = input::directory();
    let (canary, layer) = (place.path().join(CANARY), place.path().join("layer"));
    fs::create_dir(&canary).and_then(|()| fs::write(canary.join("file"), "whole")).expect("make the canary");
    fs::create_dir(&layer).expect("make the layer's directory");

    let outcome = unpack(data, &layer);

    assert_eq!(input::names(place.path()), [CANARY, "layer"], "something was made beside the layer");
    assert_eq!(input::names(&canary), ["file"], "something was made outside");
    let whole = fs::symlink_metadata(canary.join("file")).is_ok_and(|m| m.is_file() && m.len() == 5);
    assert!(whole && fs::read(canary.join("file")).ok().as_deref() == Some(b"whole"), "the canary was changed");
    assert!(fs::symlink_metadata(Path::new("/").join(CANARY)).is_err(), "an absolute name got out");
    let beside = input::names(&layer);
    assert!(beside.iter().all(|n| ["fs", "manifest", "meta.json", "times"].contains(&n.as_str())), "{beside:?}");
    let (files, size) = if layer.join("fs").exists() { measure(&layer.join("fs")) } else { (0, 0) };
    assert!(files <= MAX_ENTRIES + MAX_NOTED as u64 + 1 && size <= MAX_BYTES + MAX_ENTRIES * 4096, "{files} {size}");
    match outcome {
        Ok((bytes, made)) => {
            assert!(bytes <= MAX_BYTES);
            made.iter().for_each(|(path, made)| check(&layer.join("fs"), path, made));
        }
        Err(Error::Mismatch { what, .. }) => panic!("the digests are its own: {what}"),
        Err(error) => assert!(error.to_string().len() < 64 << 10),
    }
}

fn check(fs: &Path, path: &[u8], made: &Made) {
    let place = fs.join(std::ffi::OsStr::from_bytes(path));
    let kind = made.kind.as_str();
    let Ok(meta) = fs::symlink_metadata(&place) else {
        // The path may lead through a link of the layer, whose target this process would look for outside.
        return assert!(through_link(fs, path), "{kind} {} is not there", path.escape_ascii());
    };
    if through_link(fs, path) {
        return;
    }
    let right = match kind {
        "file" => meta.is_file() && made.size == Some(meta.len()),
        "dir" => meta.is_dir(),
        "symlink" => fs::read_link(&place).is_ok_and(|l| Some(l.as_os_str().as_bytes()) == made.link.as_deref()),
        "char" | "whiteout" => meta.file_type().is_char_device(),
        "block" => meta.file_type().is_block_device(),
        "fifo" => meta.file_type().is_fifo(),
        "hardlink" => !meta.is_dir(),
        other => panic!("the manifest says {other}"),
    };
    assert!(right, "{} is no {made:?}, but {:?} of {} bytes", path.escape_ascii(), meta.file_type(), meta.len());
}

/// Whether a parent in the path is a link.
fn through_link(fs: &Path, path: &[u8]) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let mut parents = path.ancestors().skip(1);
    parents.any(|p| p != Path::new("") && fs::symlink_metadata(fs.join(p)).is_ok_and(|m| m.is_symlink()))
}

/// Files below a directory, itself included, and the bytes that they take on the disk.
fn measure(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let (mut pending, mut files, mut size) = (vec![path.to_owned()], 0, 0);
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).expect("an entry");
        files += 1;
        size += if meta.is_file() { meta.blocks() * 512 } else { 0 };
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).expect("a directory").map(|e| e.expect("an entry").path()));
        }
    }
    (files, size)
}
