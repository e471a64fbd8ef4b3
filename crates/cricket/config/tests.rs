use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

struct Node(tempfile::TempDir);

impl Node {
    fn new(main: &str) -> Self {
        let node = Self(tempfile::tempdir().expect("tempdir"));
        node.file("config.toml", main);
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        fs::write(path, text).expect("write");
    }

    fn load(&self) -> Result<Config> {
        Config::load(Some(&self.path("config.toml")), &Flags::default())
    }

    fn error(&self) -> String {
        self.load().expect_err("wrong").to_string()
    }
}

fn keys(config: &Config) -> Vec<&str> {
    config.unsupported.iter().map(|u| u.place.key.as_str()).collect()
}

const V2: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.9"
  max_container_log_line_size = 4096
  max_concurrent_downloads = 5
  image_pull_progress_timeout = "2m0s"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/bin"
    conf_dir = "/etc/net"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      sandbox_mode = "podsandbox"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "/usr/sbin/runc"
        NoPivotRoot = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/a:/etc/b"
    [plugins."io.containerd.grpc.v1.cri".registry.configs."registry.example".auth]
      username = "u"
      password = "hunter2"
    [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
      endpoint = ["https://mirror.example"]
"#;

const V3: &str = r#"
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  max_concurrent_downloads = 5
  image_pull_progress_timeout = "2m0s"
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "registry.example/pause:3.9"
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = "/etc/a:/etc/b"
    configs."registry.example".auth = { username = "u", password = "hunter2" }
    mirrors."docker.io".endpoint = ["https://mirror.example"]
[plugins.'io.containerd.cri.v1.runtime']
  max_container_log_line_size = 4096
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/opt/bin"]
    conf_dir = "/etc/net"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      sandboxer = "podsandbox"
      options.BinaryName = "/usr/sbin/runc"
      options.NoPivotRoot = true
[plugins.'io.containerd.grpc.v1.cri']
  stream_server_port = "0"
"#;

#[test]
fn both_layouts_say_the_same() {
    for text in [V2, V3, &V3.replace("version = 3", "version = 4"), &V2.replace("version = 2", "")] {
        let config = Node::new(text).load().expect("valid");
        assert_eq!(config.cni.bin_dirs, [PathBuf::from("/opt/bin")]);
        assert_eq!(config.cni.conf_dir, PathBuf::from("/etc/net"));
        assert_eq!(config.runtime.max_log_line, 4096);
        assert_eq!(config.images.max_concurrent_downloads, Some(5));
        assert_eq!(config.images.pinned, ["registry.example/pause:3.9"]);
        let registry = &config.images.registry;
        assert_eq!(registry.config_path, [PathBuf::from("/etc/a"), PathBuf::from("/etc/b")]);
        assert_eq!(registry.progress_timeout, Duration::from_secs(120));
        assert_eq!(registry.auths["registry.example"].password, "hunter2");
        assert_eq!(registry.mirrors["docker.io"], ["https://mirror.example"]);
        let handler = &config.handlers[0];
        assert_eq!((handler.name.as_str(), handler.runtime_type.as_str()), ("runc", "io.containerd.runc.v2"));
        assert_eq!(
            (handler.options.binary_name.as_str(), handler.sandboxer.as_str()),
            ("/usr/sbin/runc", "podsandbox")
        );
    }
}

#[test]
fn containerds_places_are_never_used_but_listed() {
    for text in [V2, V3] {
        let config = Node::new(text).load().expect("valid");
        assert_eq!(config.own.root, PathBuf::from("/var/lib/cricket"));
        assert_eq!(config.own.address, PathBuf::from("/run/cricket/cricket.sock"));
        assert_eq!(config.own.default_handler, "");
        let listed = keys(&config);
        assert_eq!(listed[..3], ["root", "state", "grpc.address"]);
        assert!(listed.iter().any(|k| k.ends_with("containerd.default_runtime_name")), "{listed:?}");
        assert!(listed.iter().any(|k| k.ends_with("options.NoPivotRoot")), "{listed:?}");
        assert_eq!(listed.len(), 5, "{listed:?}");
    }
}

#[test]
fn what_is_printed_says_where_it_came_from_and_hides_secrets() {
    let node = Node::new(V2);
    let flags = Flags { root: Some("/r".into()), ..Flags::default() };
    let text = Config::load(Some(&node.path("config.toml")), &flags).expect("valid").to_toml();
    let line = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
    assert!(line("root = \"/r\"").ends_with("# --root"));
    assert!(line("state =").ends_with("# default"));
    assert!(line("conf_dir = \"/etc/net\"").ends_with("config.toml:15"), "{text}");
    assert!(line("#   root = \"/var/lib/containerd\"").contains("config.toml:3"), "{text}");
    assert!(text.contains("password = \"(hidden)\"") && !text.contains("hunter2"));
    // It is a configuration itself.
    let again = Node::new(&text).load().expect("valid");
    assert_eq!((again.own.root, again.unsupported.len()), (PathBuf::from("/r"), 0));
    let json = Node::new(V2).load().expect("valid").to_json();
    assert_eq!(json["containerd"]["runtimes"]["runc"]["runtime_type"], "io.containerd.runc.v2");
    assert!(!json.to_string().contains("hunter2"));
}

#[test]
fn a_typo_in_crickets_table_names_line_and_key() {
    let node = Node::new("version = 3\n[plugins.\"io.cricket.v1\"]\nroot = \"/r\"\nlog_levle = \"/x\"\n");
    let text = node.error();
    assert!(text.contains("config.toml:4: unknown key plugins.\"io.cricket.v1\".log_levle"), "{text}");
    // All that there are, those without a value included.
    let (_, known) = text.split_once("has: ").expect("a list");
    let known: Vec<_> = known.trim().split(", ").collect();
    for key in ["log_level", "root", "helpers_dir", "netns_dir", "max_parallel_layers"] {
        assert!(known.contains(&key), "{key}: {text}");
    }
    assert!(known.is_sorted() && !known.contains(&"log_levle"), "{text}");
}

#[test]
fn wrong_values_name_line_and_key() {
    for (text, line, key) in [
        ("a = 1\nb = [\n", ":2", ""),
        ("version = 9\n", ":1", "version"),
        ("version = 1\n", ":1", "version"),
        ("[plugins.'io.cricket.v1']\nroot = 7\n", ":2", "root"),
        ("[plugins.'io.cricket.v1']\nstate = 'run'\n", ":2", "state"),
        ("[plugins.'io.cricket.v1']\n\nlog_format = 'xml'\n", ":3", "log_format"),
        ("[plugins.'io.cricket.v1']\ncgroup_driver = 'Systemd'\n", ":2", "cgroup_driver"),
        ("[plugins.'io.cricket.v1']\ncni_plugin_timeout = '1 fortnight'\n", ":2", "cni_plugin_timeout"),
        ("[plugins.'io.cricket.v1']\ncredential_files = ['/a', 'b']\n", ":2", "credential_files"),
        ("[plugins.'io.containerd.cri.v1.runtime']\nunset_seccomp_profile = 'x'\n", ":2", "unset_seccomp_profile"),
        ("[plugins.'io.containerd.cri.v1.runtime']\ncdi_spec_dirs = ['/a', 'b']\n", ":2", "cdi_spec_dirs"),
        ("[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = '/x'\n", ":2", "bin_dirs"),
        ("imports = 'x'\n", ":1", "imports"),
    ] {
        let error = Node::new(text).error();
        assert!(error.contains(&format!("config.toml{line}")) && error.contains(key), "{text}: {error}");
    }
}

#[test]
fn credentials_files_are_the_kubelets_unless_others_are_named() {
    let files = |text: &str| Node::new(text).load().expect("valid").images.registry.credential_files;
    assert_eq!(files("")[0], PathBuf::from("/var/lib/kubelet/config.json"));
    assert_eq!(files("[plugins.'io.cricket.v1']\ncredential_files = ['/a/b']\n"), [PathBuf::from("/a/b")]);
    assert!(files("[plugins.'io.cricket.v1']\ncredential_files = []\n").is_empty());
}

#[test]
fn imports_are_followed_and_later_files_count() {
    let node = Node::new(
        "version = 3\nimports = ['conf.d/*.toml', 'none.d/*.toml']\n\
         [plugins.'io.containerd.cri.v1.runtime']\nmax_container_log_line_size = 100\n\
         [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
    );
    // The second in the older layout, which imports the first file again.
    node.file(
        "conf.d/10.toml",
        "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nmax_container_log_line_size = 200\n\
         [plugins.'io.cricket.v1']\ndefault_handler = 'runc'\n",
    );
    node.file(
        "conf.d/20.toml",
        "version = 2\nimports = ['../config.toml']\n[plugins.'io.containerd.grpc.v1.cri']\n\
         max_container_log_line_size = 300\n\
         [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.gpu]\nruntime_type = 'io.cricket.oci.v1'\n\
         [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\npod_annotations = ['a.*']\n",
    );
    node.file("conf.d/not.txt", "= not TOML");
    let config = node.load().expect("valid");
    assert_eq!(config.runtime.max_log_line, 300);
    assert_eq!(config.own.default_handler, "runc");
    let names: Vec<_> = config.handlers.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names, ["gpu", "runc"]);
    assert_eq!(config.handlers[1].runtime_type, "io.containerd.runc.v2");
    assert_eq!(config.handlers[1].pod_annotations, ["a.*"]);
    assert!(config.to_toml().contains("20.toml:4"));
    node.file("conf.d/30.toml", "imports = ['gone.toml']");
    assert!(node.error().contains("conf.d/gone.toml"));
}

#[test]
fn a_handlers_networks_are_its_own_with_the_nodes_number_unless_it_has_one() {
    let handlers = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes";
    let node = Node::new(&format!(
        "[plugins.'io.containerd.cri.v1.runtime'.cni]\nmax_conf_num = 3\n\
         [{handlers}.a]\ncni_conf_dir = '/a'\n[{handlers}.b]\ncni_conf_dir = '/b'\ncni_max_conf_num = 7\n\
         [{handlers}.c]\ncni_max_conf_num = 9\n"
    ));
    let config = node.load().expect("valid");
    assert_eq!(keys(&config), Vec::<&str>::new());
    let own = crate::serve::cni_config(&config).handlers;
    let own: Vec<_> = own.iter().map(|(name, n)| (name.as_str(), n.conf_dir.to_str(), n.max_conf_num)).collect();
    assert_eq!(own, [("a", Some("/a"), 3), ("b", Some("/b"), 7)]);
}

#[test]
fn bounds() {
    let node = Node::new(&format!("# {}\n", "x".repeat(1 << 20)));
    assert!(node.error().contains("larger than"));
    let node = Node::new("imports = ['d/*']");
    (0..201).for_each(|n| node.file(&format!("d/{n}"), ""));
    assert!(node.error().contains("more than 200 files"));
    assert!(Config::load(Some(Path::new("/dev/zero")), &Flags::default()).is_err());
}

#[test]
fn defaults_without_a_file() {
    let config = Node::new("").load().expect("valid");
    assert_eq!(config.netns_dir(), PathBuf::from("/run/netns"));
    assert!(config.runtime.unprivileged_ports && config.runtime.unprivileged_icmp);
    assert_eq!(config.own.admin_address, PathBuf::from("/run/cricket/admin.sock"));
    assert_eq!(config.own.log_level, "info");
    let config = Node::new(
        "[debug]\nlevel = 'debug'\n[plugins.'io.cricket.v1']\nstate = '/s'\n\
         [plugins.'io.containerd.cri.v1.runtime']\nnetns_mounts_under_state_dir = true\n",
    );
    let config = config.load().expect("valid");
    assert_eq!((config.netns_dir(), config.own.address), ("/s/netns".into(), "/s/cricket.sock".into()));
    assert_eq!(config.own.log_level, "debug");
}

#[test]
fn cdi_directories_of_every_version() {
    let dirs = |text: &str| Node::new(text).load().expect("valid").runtime.cdi_dirs;
    let paths = |list: &[&str]| Some(list.iter().map(PathBuf::from).collect::<Vec<_>>());
    assert_eq!(dirs(""), paths(&["/etc/cdi", "/var/run/cdi"]));
    let table = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\n";
    assert_eq!(dirs(&format!("{table}enable_cdi = true\ncdi_spec_dirs = ['/a', '/b']\n")), paths(&["/a", "/b"]));
    let table = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n";
    assert_eq!(dirs(&format!("{table}cdi_spec_dirs = []\n")), paths(&[]));
    assert_eq!(dirs(&format!("{table}enable_cdi = false\n")), None);
}

#[test]
fn the_sample_is_the_default() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("containerd-config.toml");
    let config = Config::load(Some(&sample), &Flags::default()).expect("valid");
    assert_eq!(keys(&config), Vec::<&str>::new());
    let plain = Node::new("").load().expect("valid");
    // Depends on the machine.
    for shown in plain.shown.iter().filter(|s| s.key != "worker_threads") {
        let same = config.shown.iter().find(|s| s.table == shown.table && s.key == shown.key);
        let same = same.unwrap_or_else(|| panic!("{shown:?}"));
        assert_eq!(same.value, shown.value, "{}", shown.key);
        assert!(matches!(same.origin, reader::Origin::File(_)), "{} is not in the sample", shown.key);
    }
}

#[test]
fn the_streaming_servers_table_is_read_in_every_layout() {
    use cricket_streaming::Tls;

    let table = |text: &str| {
        Node::new(&format!("version = 3\n[plugins.'io.containerd.grpc.v1.cri']\n{text}")).load().map(|c| c.streaming)
    };
    let default = table("").expect("valid");
    assert_eq!(default, cricket_streaming::Config::default());
    assert!(default.address.ip().is_loopback());
    let set = "stream_server_address = '10.0.0.1'\nstream_server_port = '10010'\nstream_idle_timeout = '1h'\n\
               enable_tls_streaming = true";
    let streaming = table(set).expect("valid");
    assert_eq!(streaming.address.to_string(), "10.0.0.1:10010");
    assert_eq!((streaming.idle_timeout, streaming.tls), (Duration::from_secs(3600), Some(Tls::SelfSigned)));
    let pair = "[plugins.'io.containerd.grpc.v1.cri'.x509_key_pair_streaming]\n\
                tls_cert_file = '/c.pem'\ntls_key_file = '/k.pem'";
    let files = table(&format!("enable_tls_streaming = true\n{pair}")).expect("valid").tls;
    assert_eq!(files, Some(Tls::Files { certificate: "/c.pem".into(), key: "/k.pem".into() }));
    for wrong in [
        "stream_server_address = 'example.org'",
        "stream_server_port = '65536'",
        "stream_idle_timeout = '1'",
        pair,
        "enable_tls_streaming = true\nx509_key_pair_streaming = { tls_key_file = '/k.pem' }",
    ] {
        let error = table(wrong).expect_err(wrong).to_string();
        assert!(error.contains("config.toml:"), "{error}");
    }
}

#[test]
fn the_table_of_nri_is_containerds() {
    let table = |text: &str| {
        Node::new(&format!("version = 3\n[plugins.'io.containerd.nri.v1.nri']\n{text}")).load().map(|c| c.nri)
    };
    let default = cricket_nri::Config::default();
    assert_eq!(table("").expect("valid"), default);
    // What stands for the default in containerd.
    assert_eq!(table("socket_path = ''\nplugin_request_timeout = '0s'").expect("valid"), default);
    let set = "disable = true\nsocket_path = '/s'\nplugin_path = '/p'\nplugin_config_path = '/c'\n\
               plugin_registration_timeout = '7s'\nplugin_request_timeout = '250ms'\ndisable_connections = true\n\
               [plugins.'io.containerd.nri.v1.nri'.default_validator]\nenable = true\n\
               reject_sysctl_adjustment = true\nrequired_plugins = ['a']";
    let nri = table(set).expect("valid");
    assert!(nri.disable && nri.disable_connections && nri.validator.enable && nri.validator.reject_sysctl_adjustment);
    assert_eq!([nri.socket_path, nri.plugin_path, nri.plugin_config_path], ["/s", "/p", "/c"].map(PathBuf::from));
    let timeouts = (nri.plugin_registration_timeout, nri.plugin_request_timeout);
    assert_eq!(timeouts, (Duration::from_secs(7), Duration::from_millis(250)));
    assert_eq!(nri.validator.required_plugins, ["a"]);
    assert!(table("plugin_request_timeout = 2").is_err());
}

#[test]
fn what_is_printed_is_toml_whatever_the_keys_are() {
    let text = "version = 3\ndisabled_plugins = []\n\
                [plugins.\"io.containerd.cri.v1.images\".pinned_images]\n\"a b\\n\\u0007\\\"\" = \"x # y\"\n";
    let printed = Config::of_text(text).expect("valid").to_toml();
    let table: toml::Table = printed.parse().expect(&printed);
    assert_eq!(table["disabled_plugins"], toml::Value::Array(Vec::new()));
    let images = &table["plugins"]["io.containerd.cri.v1.images"]["pinned_images"];
    assert_eq!(images["a b\n\u{7}\""].as_str(), Some("x # y"));
}
