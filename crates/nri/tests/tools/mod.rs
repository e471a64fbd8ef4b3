//! Finds the programs of `hack/tools/nri`.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// The directory of the built programs: `CRICKET_NRI`, which `hack/test` sets, or what `hack/tools/build` makes here.
/// None only where `CRICKET_TEST_MAY_SKIP` is set, for machines without Go: then a test says that it was skipped.
pub(crate) fn nri() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CRICKET_NRI") {
        return Some(dir.into());
    }
    let build = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/tools/build");
    let output = Command::new(build).arg("nri").output().expect("run hack/tools/build");
    if output.status.success() {
        return Some(String::from_utf8(output.stdout).expect("a path").trim().into());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let may = std::env::var_os("CRICKET_TEST_MAY_SKIP").is_some();
    assert!(may, "NRI's own packages are missing (CRICKET_TEST_MAY_SKIP=1 goes on without them): {why}");
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    // Past the test's captured output.
    let _ = std::io::stderr().write_fmt(format_args!("skipped: {name}: not compared with NRI's own packages: {why}\n"));
    None
}
