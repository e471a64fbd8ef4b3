//! Content for images out of this machine's own programs: no registry is
//! needed to have something that runs.

use super::Tree;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's dynamically linked busybox, as `hack/deps` unpacks it into the
/// cache, or the one that `CRICKET_BUSYBOX` names. (A static one runs `ls`
/// inside its shell, so that a masked `/bin/ls` could not be noticed.)
pub fn find_busybox() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CRICKET_BUSYBOX") {
        return Ok(path.into());
    }
    let path = crate::host::cache_dir()?.join("busybox/bin/busybox");
    if !path.exists() {
        bail!("{}: not there, run hack/deps", path.display());
    }
    Ok(path)
}

/// Adds busybox at `/bin/busybox` with its libraries, and a hard link for each
/// of its applets.
pub(super) fn busybox(tree: Tree) -> Result<Tree> {
    let path = find_busybox()?;
    let list = Command::new(&path).arg("--list").output().with_context(|| path.display().to_string())?;
    let applets = String::from_utf8(list.stdout)?;
    let program = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let mut tree = tree.parents("bin/busybox").file("bin/busybox", 0o755, program);
    for applet in applets.split_whitespace().filter(|&name| name != "busybox") {
        tree = tree.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    libraries(tree, [path.as_path()])
}

/// Adds dynamically linked programs of this machine under their own paths, and
/// the libraries that `ldd` names.
pub fn dynamic<'a>(mut tree: Tree, programs: impl IntoIterator<Item = &'a str>) -> Result<Tree> {
    let programs: Vec<&Path> = programs.into_iter().map(Path::new).collect();
    for program in &programs {
        tree = copy(tree, program)?;
    }
    libraries(tree, programs)
}

/// The bytes of a static program made from C source by this machine's compiler.
pub fn compile(source: &str) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let (input, output) = (dir.path().join("program.c"), dir.path().join("program"));
    std::fs::write(&input, source)?;
    let result = Command::new("cc").args(["-O1", "-static", "-s", "-o"]).arg(&output).arg(&input).output()?;
    if !result.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&result.stderr));
    }
    Ok(std::fs::read(output)?)
}

fn libraries<'a>(mut tree: Tree, programs: impl IntoIterator<Item = &'a Path>) -> Result<Tree> {
    let mut found = BTreeSet::new();
    for program in programs {
        let output = Command::new("ldd").arg(program).output()?;
        if !output.status.success() {
            bail!("ldd {}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        found.extend(String::from_utf8(output.stdout)?.lines().filter_map(library));
    }
    for path in found {
        tree = copy(tree, Path::new(&path))?;
    }
    Ok(tree)
}

/// The path in a line of ldd: `libc.so.6 => /lib/libc.so.6 (0x…)`, or without
/// the arrow for the loader; the kernel's own `linux-vdso` has none.
fn library(line: &str) -> Option<String> {
    let path = line.rsplit("=>").next()?.split('(').next()?.trim();
    path.starts_with('/').then(|| path.to_owned())
}

fn copy(tree: Tree, path: &Path) -> Result<Tree> {
    let data = std::fs::read(path).with_context(|| path.display().to_string())?;
    let name = path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))?.trim_start_matches('/');
    Ok(tree.parents(name).file(name, 0o755, data))
}

#[cfg(test)]
mod tests {
    use super::library;

    #[test]
    fn lines_of_ldd() {
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007ffd)"), None);
        assert_eq!(library("\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)").as_deref(), Some("/lib/x/libc.so.6"));
        assert_eq!(library("\t/lib64/ld.so.2 (0x7f)").as_deref(), Some("/lib64/ld.so.2"));
        assert_eq!(library("\tlibgone.so => not found"), None);
    }
}
