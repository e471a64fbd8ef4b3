//! Finds the programs of `hack/tools/nri`.

use std::path::PathBuf;
use std::process::Command;

/// The directory of the built programs: `CRICKET_NRI`, which `hack/test` sets, or what `hack/tools/build` makes here.
/// None on a machine without Go that has not built them before.
pub(crate) fn nri() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CRICKET_NRI") {
        return Some(dir.into());
    }
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/tools/build");
    let output = Command::new(build).arg("nri").output().expect("run hack/tools/build");
    if output.status.success() {
        return Some(String::from_utf8(output.stdout).expect("a path").trim().into());
    }
    eprintln!("not compared with NRI's own packages: {}", String::from_utf8_lossy(&output.stderr));
    None
}
