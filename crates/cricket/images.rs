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
    };
    let loading = matches!(operation, Operation::LoadImages { .. });
    match client::ask(config, operation)? {
        Answer::Images(images) if loading => {
            for image in &images {
                println!("loaded {} {}", short(&image.id), image.names.join(" "));
            }
        }
        Answer::Images(images) => print!("{}", table(&images)),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
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
    fn sizes_for_people() {
        for (bytes, text) in [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123_000_000, "123 MB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
