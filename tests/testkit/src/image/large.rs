//! Large images for measurements: many files of many sizes that compress
//! about as well as programs do, different for each seed.

use super::{Blob, Compression, Dialect, Image, Layer, Tree, digest};
use anyhow::{Result, anyhow};
use bytes::Bytes;
use std::io::Write;

/// An image of so many gzip layers with about so many bytes of files in each.
/// Layers are made in parallel; their archives are not kept.
pub fn large(seed: u64, layers: usize, layer_bytes: usize) -> Result<Image> {
    let made: Result<Vec<Layer>> = std::thread::scope(|scope| {
        let make = |number: usize| scope.spawn(move || layer(seed.wrapping_add(number as u64), number, layer_bytes));
        let threads: Vec<_> = (0..layers).map(make).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a layer's thread panicked"))?).collect()
    });
    Image::of(made?).cmd(&["/none"]).build()
}

fn layer(seed: u64, number: usize, bytes: usize) -> Result<Layer> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut tree = Tree::new().dirs(["opt", &format!("opt/layer-{number}")]);
    let mut written = 0;
    for file in 0.. {
        if written >= bytes {
            break;
        }
        if file % 100 == 0 {
            tree = tree.dir(&format!("opt/layer-{number}/{}", file / 100), 0o755);
        }
        // Sizes from 1 KiB to 1 MiB, small ones as often as large ones.
        let size = (1024 << (random.next() % 11)).min(bytes - written).max(1);
        tree = tree.file(&format!("opt/layer-{number}/{}/{file}", file / 100), 0o644, random.content(size));
        written += size;
    }
    let archive = tree.tar();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&archive)?;
    let blob = Blob::new(Compression::Gzip.media_type(Dialect::Oci), encoder.finish()?);
    Ok(Layer { blob, diff_id: digest(&archive), archive: Bytes::new() })
}

/// xorshift64*: fast, and the same everywhere for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One part in three is noise, the rest repeats what came shortly before.
    fn content(&mut self, size: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(size + 64);
        while data.len() < size {
            if data.len() < 256 || self.next().is_multiple_of(3) {
                for _ in 0..4 {
                    data.extend_from_slice(&self.next().to_le_bytes());
                }
            } else {
                let back = 32 + (self.next() % 224) as usize;
                let start = data.len() - back;
                data.extend_from_within(start..start + 32);
            }
        }
        data.truncate(size);
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_it_compresses() {
        let (one, again, other) = (large(1, 2, 1 << 20), large(1, 2, 1 << 20), large(9, 2, 1 << 20));
        let (one, again, other) = (one.expect("one"), again.expect("again"), other.expect("other"));
        assert_eq!(one.digest(), again.digest());
        for layer in &one.layers {
            assert!(other.layers.iter().all(|l| l.diff_id != layer.diff_id));
        }
        assert_ne!(one.layers[0].diff_id, one.layers[1].diff_id);
        let size = one.transfer_size();
        assert!((500_000..1_400_000).contains(&size), "{size}");
    }
}
