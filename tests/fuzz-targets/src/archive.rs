//! Archives of images: OCI layouts and what `docker save` writes, as a tar, plain or gzip.

use std::fs;

use cricket_image::fuzzing::load;
use cricket_image::reference::Reference;

use crate::input;

/// Nothing is made but the staging directory, which is gone in the end; names are complete references; a layer's file is
/// one of the archive's own.
pub fn run(data: &[u8]) {
    let place = input::directory();
    let (file, staging) = (place.path().join("archive"), place.path().join("staging"));
    fs::write(&file, data).expect("write the archive");
    let outcome = load(&file, staging.clone(), |names, files, layers| {
        for name in names {
            assert_eq!(Reference::parse(&name).map(|n| n.canonical()), Ok(name));
        }
        assert!(files.len() <= layers.len(), "layers may be the same");
        for file in files {
            assert_eq!(file.parent(), Some(staging.as_path()), "{file:?} is elsewhere");
            assert!(fs::symlink_metadata(&file).expect("a layer's file").is_file(), "{file:?}");
        }
    });
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(input::names(place.path()), ["archive"], "something is left");
}
