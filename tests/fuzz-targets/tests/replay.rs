//! Runs every kept input through its target, and holds targets, corpora and the fuzzing programs together.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use cricket_fuzz_targets::TARGETS;

/// Most bytes of all kept inputs: they are in every clone.
const MAX_CORPUS: u64 = 2 << 20;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(directory: &Path, suffix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.filter_map(|e| name(e.expect("an entry")).strip_suffix(suffix).map(str::to_owned)).collect()
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let directory = corpus().join(target);
    names(&directory, "").into_iter().map(|name| directory.join(name)).collect()
}

#[test]
fn every_kept_input_passes() {
    let mut failed = Vec::new();
    for (target, run) in TARGETS {
        for path in inputs(target) {
            let data = fs::read(&path).expect("an input");
            // The panic's own message is printed as it happens.
            if catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_takes_nothing_and_noise() {
    let noise: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for (target, run) in TARGETS {
        for data in [&[][..], &[0], &[255; 64], &noise] {
            assert!(catch_unwind(|| run(data)).is_ok(), "{target}: {} bytes", data.len());
        }
    }
}

#[test]
fn targets_corpora_and_programs_are_the_same() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "a name is used twice");
    assert_eq!(names(&corpus(), ""), targets, "directories of tests/fuzz-targets/corpus");
    for target in &targets {
        assert!(inputs(target).len() >= 5, "{target} has hardly a corpus");
    }
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    assert_eq!(names(&fuzz.join("fuzz_targets"), ".rs"), targets, "programs in fuzz/fuzz_targets");
    let manifest: toml::Table = fs::read_to_string(fuzz.join("Cargo.toml")).expect("read").parse().expect("TOML");
    let programs = manifest["bin"].as_array().expect("programs").iter();
    let programs: BTreeSet<_> = programs.map(|bin| bin["name"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(programs, targets, "[[bin]] in fuzz/Cargo.toml");
}

#[test]
fn the_corpus_is_small() {
    let size = |path: &PathBuf| fs::metadata(path).expect("an input").len();
    let all: u64 = TARGETS.iter().flat_map(|(target, _)| inputs(target)).map(|path| size(&path)).sum();
    assert!(all < MAX_CORPUS, "{all} bytes");
}
