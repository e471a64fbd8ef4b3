//! Digests and bounds.

use std::io::Read;

use cricket_model::{ErrorKind, Kinded};
use tar::EntryType;

use super::{Case, Tar, gzip, sha};
use crate::Error;
use crate::unpack::{Expected, Fault, Limits, each_member, unpack};

#[test]
fn another_digest_or_size_is_no_layer() {
    let tar = Tar::default().file("a", b"1").done();
    let blob = gzip(&tar);
    let good = Expected { blob: Some(sha(&blob)), size: Some(blob.len() as u64), diff_id: sha(&tar) };
    let run = |blob: &[u8], expected: &Expected| {
        let case = Case::new();
        unpack(blob, &case.layer(), expected, &Limits::default()).map(drop)
    };
    run(&blob, &good).unwrap();
    let wrong = [
        Expected { blob: Some(sha(b"other")), ..good.clone() },
        Expected { diff_id: sha(b"other"), ..good.clone() },
        Expected { size: Some(3), ..good.clone() },
        Expected { size: Some(blob.len() as u64 + 1), ..good.clone() },
    ];
    for expected in wrong {
        assert!(matches!(run(&blob, &expected), Err(Error::Mismatch { .. })), "{expected:?}");
    }
    // A damaged byte or a lost end is told as what it is, wherever it breaks the inflating.
    for at in [3, 12, blob.len() / 2, blob.len() - 1] {
        let mut damaged = blob.clone();
        damaged[at] ^= 0x55;
        let error = run(&damaged, &good).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "byte {at}: {error}");
        assert_eq!(run(&blob[..at], &good).unwrap_err().kind(), ErrorKind::DataLoss, "cut at {at}");
    }
    // Further bytes behind the end: too long.
    let longer = [blob.as_slice(), b"trailing"].concat();
    assert_eq!(run(&longer, &good).unwrap_err().kind(), ErrorKind::DataLoss);
}

#[test]
fn what_fails_in_the_download_is_told() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            let cause = Error::Cancelled { what: "download".to_owned() };
            Err(crate::unpack::Fault::Failed(cause).carry())
        }
    }
    let tar = Tar::default().file("a", &vec![1; 200_000]).done();
    let blob = gzip(&tar);
    let expected = Expected { blob: Some(sha(&blob)), size: Some(blob.len() as u64), diff_id: sha(&tar) };
    let case = Case::new();
    let half = blob[..blob.len() / 2].chain(Broken);
    let error = unpack(half, &case.layer(), &expected, &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
}

#[test]
fn archives_that_are_cut_or_garbage() {
    let tar = Tar::default().file("a", &[1; 3000]).file("b", b"2").done();
    for cut in [100, 512, 700, 2000, 4000] {
        let case = Case::new();
        let part = &tar[..cut];
        let done = case.unpack(part);
        // Between two entries an archive may just end.
        assert_eq!(done.is_err(), !cut.is_multiple_of(512) || cut == 512, "{cut}: {done:?}");
    }
    let case = Case::new();
    assert!(case.unpack(&[b'x'; 4096]).is_err());
    let mut bad_sum = tar.clone();
    bad_sum[0] = b'z';
    assert!(Case::new().unpack(&bad_sum).is_err());
}

fn too_large(tar: &[u8], blob: &[u8], limits: &Limits) {
    let case = Case::new();
    let error = case.unpack_blob(blob, tar, limits).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

#[test]
fn bombs_stop_at_the_bound() {
    let zeros = vec![0u8; 32 << 20];
    let tar = Tar::default().file("zeros", &zeros).done();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    for blob in [tar.clone(), gzip(&tar), zstd::encode_all(&tar[..], 1).unwrap()] {
        too_large(&tar, &blob, &limits);
    }
    // Zeros behind the end of the archive count as well.
    let tail = [Tar::default().done(), zeros].concat();
    too_large(&tail, &gzip(&tail), &limits);
}

#[test]
fn a_zstd_window_is_bounded() {
    let tar = Tar::default().file("a", &vec![1u8; 9 << 20]).done();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(23).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut encoder, &tar).unwrap();
    let blob = encoder.finish().unwrap();
    let case = Case::new();
    let limits = Limits { zstd_window_log: 20, ..Limits::default() };
    assert!(case.unpack_blob(&blob, &tar, &limits).is_err());
    let case = Case::new();
    case.unpack_blob(&blob, &tar, &Limits::default()).unwrap();
}

#[test]
fn counts_and_headers_are_bounded() {
    let mut tar = Tar::default();
    for i in 0..11 {
        tar = tar.dir(&format!("d{i}/e"), 0o755);
    }
    let tar = tar.done();
    too_large(&tar, &tar, &Limits { entries: 10, ..Limits::default() });
    too_large(&tar, &tar, &Limits { noted: 5, ..Limits::default() });

    let big = vec![b'x'; 2 << 20];
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        let header = Tar::header(kind, b"ext", big.len() as u64);
        let tar = Tar::default().raw(header, &big).file("f", b"").done();
        too_large(&tar, &tar, &Limits::default());
    }
    let attribute = vec![b'v'; 65 << 10];
    let tar = Tar::default().pax(&[("SCHILY.xattr.user.big", &attribute)]).file("f", b"").done();
    too_large(&tar, &tar, &Limits::default());

    // A size that the header only claims is refused before a byte of it is read.
    let header = Tar::header(EntryType::Regular, b"huge", 1 << 40);
    let tar = Tar::default().raw(header, b"").done();
    too_large(&tar, &tar, &Limits::default());
}

#[test]
fn impossible_owners_and_sparse_maps() {
    for uid in [&b"4294967295"[..], b"4294967296", b"-1", b"99999999999999999999999999999999"] {
        let tar = Tar::default().pax(&[("uid", uid)]).file("f", b"").done();
        assert!(Case::new().unpack(&tar).is_err(), "{}", uid.escape_ascii());
    }
    for map in [&b"0,10"[..], b"5,1,0,4", b"0,99999999999999999999", b"0", b"0,5,18446744073709551615,1"] {
        let records: [(&str, &[u8]); 3] =
            [("GNU.sparse.map", map), ("GNU.sparse.size", b"100"), ("GNU.sparse.name", b"s")];
        let tar = Tar::default().pax(&records).file("f", b"12345").done();
        assert!(Case::new().unpack(&tar).is_err(), "{}", map.escape_ascii());
    }
}

#[test]
fn deep_trees_come_and_go() {
    let case = Case::new();
    let deep = vec!["d"; 1500].join("/");
    let tar = Tar::default().pax(&[("path", deep.as_bytes())]).dir("x", 0o755).done();
    case.unpack(&tar).unwrap();
    let dir = std::fs::File::open(case.layer()).unwrap();
    crate::unpack::remove_tree(&dir, "fs".as_ref()).unwrap();
    assert!(!case.at("").exists());
}

#[test]
fn an_archive_of_images_is_bounded_as_a_whole() {
    let tar = Tar::default().file("a", &[1; 3000]).file("b", &[2; 3000]).done();
    let walk = |bytes: u64| {
        let mut read = 0;
        let walked = each_member(tar.as_slice(), bytes, |_, _, _, content| {
            let copied = std::io::copy(content, &mut std::io::sink());
            read += copied.map_err(|e| Fault::copying(std::path::Path::new("/copy"), e))?;
            Ok(())
        });
        (walked, read)
    };
    let (walked, read) = walk(tar.len() as u64);
    walked.unwrap();
    assert_eq!(read, 6000);
    // Each member fits, both together do not; then one that does not.
    for (bytes, what) in [(5000, "inflated archive"), (2000, "size of an entry")] {
        let error = walk(bytes).0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
        let text = error.to_string();
        assert!(text.contains("archive of images") && text.contains(what), "{text}");
        assert!(text.contains(&format!("{bytes} bytes")), "{text}");
    }
}
