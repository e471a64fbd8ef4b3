//! What registries answer: manifests, indexes and configs.

use cricket_image::ImageConfiguration;
use cricket_image::fuzzing::{Shape, document, image_config};

const KINDS: [&str; 4] = [
    "",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
    "text/plain",
];

/// A document is an index or an image, never both; sizes are bounded; both readers of configs agree.
pub fn run(data: &[u8]) {
    let read: Vec<_> = KINDS.iter().map(|said| document(data, &[said])).collect();
    for (said, shape) in KINDS.iter().zip(&read) {
        match shape {
            Ok(Shape::Index(children)) => {
                assert!(children.len() <= 10_000 && !said.contains("manifest.v2"), "{said}");
                assert!(children.iter().all(|(_, size)| size.is_none_or(|s| s <= 4 << 20)));
                let short = |text: &str| text.chars().count() <= 40 && !text.chars().any(char::is_control);
                let platforms = children.iter().filter_map(|(platform, _)| platform.as_ref());
                assert!(platforms.into_iter().all(|p| short(&p.os) && short(&p.architecture) && short(&p.variant)));
            }
            Ok(Shape::Image(config, layers)) => {
                assert!(!said.contains("index"), "{said}");
                assert!(config.is_none_or(|s| s <= 4 << 20));
                assert!(layers.iter().flatten().all(|(size, _)| *size <= 64 << 30));
            }
            Err(text) => assert!(!text.is_empty()),
        }
    }
    assert!(read[0].is_err() || read[0] == read[3], "an unknown type says nothing");
    let (full, counted) = (ImageConfiguration::parse(data, "image"), (0..3).map(|n| image_config(data, n)));
    for (n, config) in counted.enumerate() {
        let Ok((ids, _)) = config else { continue };
        assert_eq!(ids, n);
        if let Ok((_, diff_ids)) = &full {
            assert_eq!(diff_ids.len(), n, "the two readers disagree");
        }
    }
}
