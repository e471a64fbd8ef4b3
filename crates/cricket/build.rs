//! How the daemon is linked for a release.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=crates/cricket/build.rs");
    let is = |name, wanted: &str| var(name).is_ok_and(|value| value == wanted);
    let native = var("TARGET").is_ok_and(|target| is("HOST", &target));
    if native && is("PROFILE", "release") && is("CARGO_CFG_TARGET_ENV", "gnu") && loader_unpacks() {
        // The addresses that the loader has to adjust: 1.2 MiB as a table, 12 KiB as a bitmap. It reads all of them, and
        // they stay in the daemon's memory. Old versions of mold do not tell the loader, which then refuses.
        println!("cargo::rustc-link-arg-bins=-fuse-ld=bfd");
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// glibc can do it since 2.36.
fn loader_unpacks() -> bool {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = asked.ok().and_then(|answer| String::from_utf8(answer.stdout).ok());
    let minor = version.as_deref().and_then(|text| text.trim().strip_prefix("glibc 2."));
    minor.and_then(|minor| minor.split('.').next()?.parse().ok()).is_some_and(|minor: u32| minor >= 36)
}
