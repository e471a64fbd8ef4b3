//! `cricket image`.

use std::path::Path;
use std::process::ExitCode;

use crate::admin::{Answer, ImageLine, Operation, client};
use crate::cli::{ImageCommand, Outcome};
use crate::config::Config;

/// Runs the command.
pub(crate) fn run(config: &Config, command: ImageCommand) -> Outcome {
    let operation = match command {
        ImageCommand::Load { path } => Operation::LoadImages { path: absolute(&path)? },
        ImageCommand::Pin { image } => Operation::PinImage { image },
        ImageCommand::Unpin { image } => Operation::UnpinImage { image },
        ImageCommand::List => Operation::ListImages,
        ImageCommand::Prune { all, dry_run } => Operation::PruneImages { all, dry_run },
    };
    let dry = matches!(operation, Operation::PruneImages { dry_run: true, .. });
    let loading = matches!(operation, Operation::LoadImages { .. });
    match client::ask(config, operation)? {
        Answer::Images(images) if loading => {
            for image in &images {
                println!("loaded {} {}", short(&image.id), image.names.join(" "));
            }
        }
        Answer::Images(images) => print!("{}", table(&images)),
        Answer::Pruned { images, layers, bytes } => print!("{}", pruned(&images, layers, bytes, dry)),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// What pruning did, or with `dry` would do.
fn pruned(images: &[ImageLine], layers: usize, bytes: u64, dry: bool) -> String {
    let (each, all) = if dry { ("would remove", "would be freed") } else { ("removed", "freed") };
    let mut out = String::new();
    for image in images {
        out += &format!("{each} {} {}\n", short(&image.id), image.names.join(" "));
    }
    out + &format!("{} images, {layers} layers, {} {all}\n", images.len(), size(bytes))
}

/// The daemon has another working directory.
fn absolute(path: &Path) -> Result<String, String> {
    let full = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
    let text = full.to_str().ok_or_else(|| format!("{}: the path is not UTF-8", full.display()))?;
    Ok(text.to_owned())
}

fn table(images: &[ImageLine]) -> String {
    let name = |image: &ImageLine| if image.names.is_empty() { "<none>".to_owned() } else { image.names.join(" ") };
    let width = images.iter().map(|i| name(i).chars().count()).max().unwrap_or(0).max(5);
    let mut out = format!("{:width$}  {:13}  {:>9}  PINNED\n", "IMAGE", "ID", "SIZE");
    for image in images {
        let pinned = if image.pinned { "yes" } else { "no" };
        out += &format!("{:width$}  {:13}  {:>9}  {pinned}\n", name(image), short(&image.id), size(image.size));
    }
    out
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..13).unwrap_or(hex)
}

fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            let digits = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up() {
        let image = |names: &[&str], size, pinned| ImageLine {
            id: format!("sha256:{}", "ab".repeat(32)),
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            size,
            pinned,
        };
        let text = table(&[image(&["registry.example/a:1"], 1_234_567, true), image(&[], 12, false)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "registry.example/a:1  ababababababa     1.2 MB  yes");
        assert_eq!(lines[2], "<none>                ababababababa       12 B  no");
    }

    #[test]
    fn pruning_says_what_was_freed() {
        let image =
            ImageLine { id: "sha256:0123456789abcdef".into(), names: vec!["r/x:1".into()], size: 9, pinned: false };
        let text = pruned(std::slice::from_ref(&image), 2, 1_500_000, false);
        assert_eq!(text, "removed 0123456789abc r/x:1\n1 images, 2 layers, 1.5 MB freed\n");
        let text = pruned(&[image], 2, 1_500_000, true);
        assert_eq!(text, "would remove 0123456789abc r/x:1\n1 images, 2 layers, 1.5 MB would be freed\n");
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123_000_000, "123 MB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
