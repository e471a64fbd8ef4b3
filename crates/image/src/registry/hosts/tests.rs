#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut unknown = Vec::new();
    let entries = file::parse(text, Path::new("/dir"), &mut unknown)?;
    assert_eq!(unknown, Vec::<String>::new());
    Ok(entries)
}

fn bases(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|e| e.base.as_ref().map(Url::to_string).unwrap_or_default()).collect()
}

#[test]
fn reads_every_field_in_the_order_of_the_file() {
    let text = r#"
        server = "https://upstream.test"
        ca = "/abs/ca.pem"

        [host."https://z.test:8443/prefix"]
          capabilities = ["pull"]
          ca = ["one.pem", "/two.pem"]
          client = [["c.pem", "k.pem"], "both.pem", ["single.pem", ""]]
          dial_timeout = "1m500ms"
          [host."https://z.test:8443/prefix".header]
            x-a = "1"
            X-B = ["2", "3"]

        [host."http://a.test"]
          capabilities = ["pull", "resolve", "push"]
          skip_verify = true

        [host."m.test/v2"]
        [host."https://o.test/custom/"]
          override_path = true
          client = "both.pem"
    "#;
    let entries = parse(text).unwrap();
    assert_eq!(
        bases(&entries),
        [
            "https://z.test:8443/prefix/v2",
            "http://a.test/v2",
            "https://m.test/v2",
            "https://o.test/custom",
            "https://upstream.test/v2",
        ]
    );
    let path = PathBuf::from;
    assert_eq!((entries[0].pull, entries[0].resolve, entries[0].skip_verify), (true, false, false));
    assert_eq!(entries[0].roots, [path("/dir/one.pem"), path("/two.pem")]);
    assert_eq!(
        entries[0].identities,
        [
            (path("/dir/c.pem"), Some(path("/dir/k.pem"))),
            (path("/dir/both.pem"), None),
            (path("/dir/single.pem"), None),
        ]
    );
    assert_eq!(entries[0].headers.get_all("x-b").iter().count(), 2);
    assert_eq!(entries[0].dial_timeout, Some(Duration::from_millis(60_500)));
    assert!(entries[1].skip_verify && entries[1].pull && entries[1].resolve);
    assert_eq!(entries[3].identities, [(path("/dir/both.pem"), None)]);
    assert_eq!(entries[4].roots, [path("/abs/ca.pem")]);
}

#[test]
fn the_registry_itself_is_last_even_unnamed() {
    let entries = parse("skip_verify = true\n[host.\"http://m\"]").unwrap();
    assert_eq!(bases(&entries), ["http://m/v2", ""]);
    assert!(entries[1].skip_verify && entries[1].pull);
    assert_eq!(parse("").unwrap(), [Entry::upstream()]);
}

#[test]
fn what_cannot_be_used_is_named() {
    for (text, want) in [
        ("server = 1", "server"),
        ("server = \"ftp://x\"", "ftp"),
        ("server = \"https://u:p@x\"", "scheme, host, port and path only"),
        ("server = \"https://x?y\"", "scheme, host, port and path only"),
        ("host = 1", "host"),
        ("[host]\n\"http://x\" = 1", "http://x"),
        ("[host.\"http://x\"]\nskip_verify = \"yes\"", "skip_verify: want true or false"),
        ("[host.\"http://x\"]\ncapabilities = [\"fly\"]", "unknown capability \"fly\""),
        ("[host.\"http://x\"]\nca = 3", "ca"),
        ("[host.\"http://x\"]\nclient = [[\"a\", \"b\", \"c\"]]", "client"),
        ("[host.\"http://x\"]\nheader = { \"a b\" = \"x\" }", "header"),
        ("[host.\"http://x\"]\nheader = { a = \"secret\\n\" }", "a has a value that cannot be sent"),
        ("[host.\"http://x\"]\nheader = { Host = \"y\" }", "host cannot be set"),
        ("dial_timeout = \"soon\"", "dial_timeout"),
        ("[host", "TOML parse error"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(want), "{want}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let many: String = (0..64).map(|i| format!("[host.\"http://h{i}\"]\n")).collect();
    assert!(parse(&many).unwrap_err().contains("more than 64"));
    let mut unknown = Vec::new();
    file::parse("a = 1\n[host.\"http://x\"]\nb = 2", Path::new("/"), &mut unknown).unwrap();
    assert_eq!(unknown, ["host.\"http://x\".b", "a"]);
}

#[test]
fn the_own_address_of_a_registry_is_as_containerd_has_it() {
    for (registry, want) in [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("quay.io", "https://quay.io/v2"),
        ("quay.io:5000", "https://quay.io:5000/v2"),
        ("localhost", "https://localhost/v2"),
        ("localhost:443", "https://localhost/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1:80", "http://127.0.0.1/v2"),
        ("127.8.8.8:5000", "http://127.8.8.8:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
    ] {
        assert_eq!(upstream(registry, false).unwrap().as_str(), want);
    }
    assert_eq!(upstream("localhost:5000", true).unwrap().as_str(), "https://localhost:5000/v2");
}

#[test]
fn the_old_table_ends_with_the_registry() {
    let mut config = RegistryConfig::default();
    config.mirrors.insert("quay.io".into(), vec!["http://m.test".into(), "https://n.test/p".into()]);
    config.mirrors.insert("own.test".into(), vec!["http://own.test:80".into(), "https://own.test".into()]);
    config.mirrors.insert("*".into(), vec!["any.test".into()]);
    for (registry, want) in [
        ("quay.io", vec!["http://m.test/v2", "https://n.test/p/v2", ""]),
        ("else.test", vec!["https://any.test/v2", ""]),
        ("own.test", vec!["http://own.test/v2", "https://own.test/v2"]),
    ] {
        assert_eq!(bases(&mirrors(&config, registry).unwrap()), want);
    }
}

#[test]
fn the_first_tree_with_a_directory_wins() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |root: &Path, name: &str, server: &str| {
        std::fs::create_dir_all(root.join(name)).unwrap();
        std::fs::write(root.join(name).join("hosts.toml"), format!("server = \"http://{server}\"")).unwrap();
    };
    write(one.path(), "a.test", "one-a");
    write(one.path(), "port.test_5000_", "one-port");
    write(two.path(), "a.test", "two-a");
    write(two.path(), "b.test:1", "two-b");
    write(two.path(), "_default", "two-default");
    let roots = [one.path().to_owned(), two.path().to_owned()];
    for (registry, want) in [
        ("a.test", "http://one-a/v2"),
        ("port.test:5000", "http://one-port/v2"),
        ("b.test:1", "http://two-b/v2"),
        ("c.test", "http://two-default/v2"),
    ] {
        let (entries, _) = tree::find(&roots, registry).unwrap().unwrap();
        assert_eq!(bases(&entries), [want]);
    }
    assert!(tree::find(&roots[..1], "c.test").unwrap().is_none());

    let docker = one.path().join("docker.test");
    std::fs::create_dir(&docker).unwrap();
    for file in ["b.crt", "a.crt", "me.cert", "me.key", "notes.txt"] {
        std::fs::write(docker.join(file), "").unwrap();
    }
    let (entries, _) = tree::find(&roots, "docker.test").unwrap().unwrap();
    assert_eq!(entries[0].roots, [docker.join("a.crt"), docker.join("b.crt")]);
    assert_eq!(entries[0].identities, [(docker.join("me.cert"), Some(docker.join("me.key")))]);
    assert_eq!(entries[0].base, None);

    let big = one.path().join("big.test");
    std::fs::create_dir(&big).unwrap();
    std::fs::File::create(big.join("hosts.toml")).unwrap().set_len(5 << 20).unwrap();
    assert!(tree::find(&roots, "big.test").unwrap_err().to_string().contains("larger than"));
}

#[test]
fn durations_are_read_as_go_writes_them() {
    assert_eq!(file::duration("1.5s"), Some(Duration::from_millis(1500)));
    assert_eq!(file::duration("1h2m3s"), Some(Duration::from_secs(3723)));
    for bad in ["5", "s", "1d", "-1s", "1..2s", "99999999999999999999h"] {
        assert_eq!(file::duration(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn the_order_is_the_files(names in proptest::collection::hash_set("[a-z]{1,8}", 0..20)) {
        let names: Vec<_> = names.into_iter().collect();
        let text: String = names.iter().map(|n| format!("[host.\"http://{n}.test\"]\n")).collect();
        let mut want: Vec<_> = names.iter().map(|n| format!("http://{n}.test/v2")).collect();
        want.push(String::new());
        prop_assert_eq!(bases(&parse(&text).unwrap()), want);
    }

    #[test]
    fn nothing_panics(
        text in "\\PC{0,100}",
        address in "[a-z:/.@?#%0-9\\[\\]]{0,30}",
        field in "(capabilities|ca|client|header|skip_verify|override_path|dial_timeout|other)",
        value in "(true|1|\"[a-z0-9.]{0,6}\"|\\[\\]|\\[\"a\", \\[\"b\"\\]\\]|\\{ a = \"b\" \\})",
    ) {
        let mut unknown = Vec::new();
        let _ = file::parse(&text, Path::new("/"), &mut unknown);
        let text = format!("{field} = {value}\n[host.\"{address}\"]\n{field} = {value}\n");
        if let Ok(entries) = file::parse(&text, Path::new("/"), &mut unknown) {
            prop_assert_eq!(entries.len(), 2);
            let base = entries[0].base.as_ref().unwrap();
            prop_assert!(base.host_str().is_some() && base.query().is_none() && base.username().is_empty());
        }
    }
}
