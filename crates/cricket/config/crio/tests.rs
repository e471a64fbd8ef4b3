use std::fs;

use super::*;

const FILE: &str = include_str!("testdata/crio.conf");

fn of(texts: &[&str]) -> Result<Import> {
    let name = |n: usize| PathBuf::from(format!("/etc/crio/{n}.conf"));
    convert(texts.iter().enumerate().map(|(n, text)| ((*text).to_owned(), name(n))).collect())
}

/// What the daemon would read.
fn read(import: &Import) -> Config {
    Config::of_text(&import.toml).expect("valid")
}

#[test]
fn a_whole_file() {
    let import = of(&[FILE]).expect("imported");
    assert_eq!(import.toml, include_str!("testdata/imported.toml"));
}

#[test]
fn the_daemon_reads_what_was_imported() {
    let config = read(&of(&[FILE]).expect("imported"));
    assert_eq!(config.own.default_handler, "crun");
    let names: Vec<_> = config.handlers.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["crun", "kata", "perf", "runc"]);
    let crun = &config.handlers[0];
    assert_eq!((crun.runtime_type.as_str(), crun.options.root.as_str()), ("io.containerd.runc.v2", "/run/crun"));
    assert_eq!(crun.options.binary_name, "/usr/libexec/crio/crun");
    assert_eq!(config.handlers[2].options.binary_name, crun.options.binary_name, "inherited");
    assert_eq!(config.handlers[2].pod_annotations[0], "example.com/a\\*b*");
    assert_eq!(config.handlers[3].options.binary_name, "runc", "looked up by its name");
    assert!(config.handlers[1].privileged_without_host_devices);
}

#[test]
fn every_setting_is_taken_over_or_listed() {
    let import = of(&[FILE]).expect("imported");
    let table = node::parse(&Arc::from(Path::new("/etc/crio/0.conf")), FILE).expect("valid");
    let silent = [
        "default_runtime",
        "cgroup_manager",
        "runtime_path",
        "runtime_type",
        "runtime_root",
        "runtime_config_path",
        "privileged_without_host_devices",
        "inherit_default_runtime",
    ];
    for (place, _) in node::leaves(&table) {
        let key = place.key.rsplit('.').next().expect("a key");
        let listed = import.toml.contains(&format!("(/etc/crio/0.conf:{})", place.line));
        assert!(listed || silent.contains(&key) || key == "allowed_annotations", "{place}: {key}");
    }
}

#[test]
fn a_later_file_replaces_a_handler_and_nothing_else() {
    let first = "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n[crio.runtime.runtimes.a]\nruntime_path = \"/a\"\n\
                 runtime_root = \"/run/a\"\n[crio.runtime.runtimes.b]\nruntime_path = \"/b\"\n";
    let second = "[crio.runtime.runtimes.a]\nruntime_path = \"/other\"\n";
    let config = read(&of(&[first, second]).expect("imported"));
    assert_eq!(
        (config.handlers[0].options.binary_name.as_str(), config.handlers[0].options.root.as_str()),
        ("/other", "")
    );
    assert_eq!(config.handlers[1].options.binary_name, "/b");
    assert_eq!(config.own.cgroup_driver, cricket_runtime::handlers::CgroupDriver::Cgroupfs);
}

#[test]
fn a_handler_inherits_which_binary_it_is() {
    let text = "[crio.runtime]\ndefault_runtime = \"crun\"\n[crio.runtime.runtimes.crun]\n\
                [crio.runtime.runtimes.own]\ninherit_default_runtime = true\nruntime_root = \"/own\"\n";
    let import = of(&[text]).expect("imported");
    let own = &read(&import).handlers[1];
    assert_eq!((own.options.binary_name.as_str(), own.options.root.as_str()), ("crun", ""));
    assert!(import.toml.contains("replaced by what is inherited"), "{}", import.toml);
}

#[test]
fn what_is_not_set_is_crios_default() {
    let import = of(&[""]).expect("imported");
    assert_eq!(read(&import).own.cgroup_driver, cricket_runtime::handlers::CgroupDriver::Systemd);
    assert!(import.toml.contains("default_runtime is not set"), "{}", import.toml);
    assert_eq!(import.left, 0);
}

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    for (text, want) in [
        (
            "[crio.runtime.runtimes.a]\nruntime_path = 1\n",
            "/etc/crio/0.conf:2: crio.runtime.runtimes.a.runtime_path: want a string",
        ),
        ("[crio.runtime.runtimes.a]\nruntime_type = \"x\"\n", "want \"oci\", \"vm\" or \"pod\""),
        ("[crio.runtime.runtimes.a]\nruntime_type = \"vm\"\nruntime_path = \"/kata\"\n", ":3: "),
        ("[crio.runtime.runtimes.a]\nallowed_annotations = [1]\n", "want a list of strings"),
        ("[crio.runtime.runtimes]\na = 1\n", "want a table"),
        ("[crio.runtime]\ncgroup_manager = \"x\"\n", "want \"systemd\" or \"cgroupfs\""),
        ("[crio\n", "/etc/crio/0.conf:1"),
    ] {
        let error = of(&[text]).expect_err(text).to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn a_name_breaks_no_line_of_the_result() {
    let import = of(&["[crio.runtime.runtimes.\"a\\n[x]\"]\nruntime_path = \"/a\\n[y]\"\n"]).expect("imported");
    assert!(import.toml.lines().all(|line| !line.starts_with("[x]") && !line.starts_with("[y]")), "{}", import.toml);
    assert!(read(&import).handlers.is_empty());
    assert_eq!(import.left, 1);
}

#[test]
fn files_are_bounded_and_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (main, drop) = (dir.path().join("crio.conf"), dir.path().join("d"));
    fs::create_dir_all(drop.join("directory")).expect("mkdir");
    fs::write(&main, "").expect("write");
    for (name, path) in [("20-b", "/second"), ("10-a", "/first")] {
        fs::write(drop.join(name), format!("[crio.runtime.runtimes.a]\nruntime_path = \"{path}\"\n")).expect("write");
    }
    let config = read(&import(&main, Some(&drop)).expect("imported"));
    assert_eq!(config.handlers[0].options.binary_name, "/second");
    assert!(read(&import(&main, None).expect("imported")).handlers.is_empty());
    fs::write(&main, "#".repeat(2 << 20)).expect("write");
    assert!(import(&main, None).expect_err("too large").to_string().contains("larger"));
    assert!(import(Path::new("/dev/zero"), None).expect_err("no file").to_string().contains("regular"));
    for n in 0..=MAX_FILES {
        fs::write(drop.join(format!("x{n}")), "").expect("write");
    }
    fs::write(&main, "").expect("write");
    assert!(import(&main, Some(&drop)).expect_err("too many").to_string().contains("more than"));
}
