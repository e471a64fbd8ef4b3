//! Names of slices and scopes as paths (systemd.slice(5), "Description": a dash is a level).

use crate::{CgroupPath, Error, Result};

/// Where a slice is: `a-b.slice` is `/a.slice/a-b.slice`. `parent` may be its name, or a path that ends with it, as the
/// kubelet gives it.
///
/// # Errors
/// When it is no slice's name.
pub fn slice_path(parent: &str) -> Result<CgroupPath> {
    let invalid = |why| Error::InvalidPath { path: parent.chars().take(200).collect(), why };
    let name = parent.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let stem = name.strip_suffix(".slice").ok_or_else(|| invalid("the systemd driver wants a slice"))?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"_.:\\-@".contains(&b);
    if stem.split('-').any(str::is_empty) || !stem.bytes().all(valid) {
        return Err(invalid("no name of a slice"));
    }
    let mut path = String::new();
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path.push_str(&format!("/{}.slice", &stem[..at]));
    }
    path.parse()
}

/// Where a scope of that name is below the slice `parent`.
///
/// # Errors
/// As [`slice_path`].
pub fn scope_path(parent: &str, scope: &str) -> Result<CgroupPath> {
    slice_path(parent)?.child(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_are_levels() {
        let path = |parent: &str| slice_path(parent).map(|p| p.as_str().to_owned());
        assert_eq!(path("kubepods.slice").expect("one"), "/kubepods.slice");
        let deep = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        assert_eq!(path("kubepods-burstable-pod1_2.slice").expect("three"), deep);
        assert_eq!(path(deep).expect("a path"), deep);
        assert_eq!(scope_path("a.slice", "cricket-x.scope").expect("scope").as_str(), "/a.slice/cricket-x.scope");
        for bad in ["", "/", "a", ".slice", "-.slice", "a-.slice", "-a.slice", "a--b.slice", "a b.slice", "a/b"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }
}
