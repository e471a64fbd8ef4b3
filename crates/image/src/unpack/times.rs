//! Times of directories are set last: making something in a directory changes its time.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::attrs;
use super::limits::Fault;
use super::manifest::{escape, unescape};
use super::tree::Tree;

/// The times, put aside in a file: their number is the archive's choice.
pub(crate) struct Times {
    out: BufWriter<File>,
    path: PathBuf,
}

impl Times {
    pub(crate) fn create(path: &Path) -> Result<Self, Fault> {
        let file = File::create_new(path).map_err(|e| Fault::io("create", path, e))?;
        Ok(Self { out: BufWriter::new(file), path: path.to_owned() })
    }

    pub(crate) fn add(&mut self, path: &[u8], (seconds, nanos): (i64, u32)) -> Result<(), Fault> {
        writeln!(self.out, "{seconds} {nanos} {}", escape(path)).map_err(|e| Fault::io("write", &self.path, e))
    }

    pub(crate) fn replay(&mut self, tree: &Tree) -> Result<(), Fault> {
        let failed = |e| Fault::io("read", &self.path, e);
        self.out.flush().map_err(failed)?;
        for line in BufReader::new(File::open(&self.path).map_err(failed)?).lines() {
            let line = line.map_err(failed)?;
            let mut words = line.splitn(3, ' ');
            let (Some(seconds), Some(nanos), Some(path)) = (words.next(), words.next(), words.next()) else { continue };
            let (Ok(seconds), Ok(nanos)) = (seconds.parse(), nanos.parse()) else { continue };
            // One that was replaced later is no longer there, or no longer a directory.
            if let Ok(fd) = tree.lookup(&unescape(path), false) {
                rustix::fs::futimens(&fd, &attrs::times((seconds, nanos)))
                    .map_err(|e| Fault::io("set the time of", &self.path, e))?;
            }
        }
        std::fs::remove_file(&self.path).map_err(failed)
    }
}
