#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

use proptest::prelude::*;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn canonical(text: &str) -> String {
    Reference::parse(text).unwrap().canonical()
}

#[test]
fn completes_what_users_write() {
    let at = format!("@sha256:{HEX}");
    for (written, want) in [
        ("pause", "docker.io/library/pause:latest"),
        ("pause:3.10", "docker.io/library/pause:3.10"),
        ("example/x", "docker.io/example/x:latest"),
        ("docker.io/pause", "docker.io/library/pause:latest"),
        ("index.docker.io/pause", "docker.io/library/pause:latest"),
        ("host:5000/x:tag", "host:5000/x:tag"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/a/b/c:v1_2.3-4", "localhost:5000/a/b/c:v1_2.3-4"),
        ("registry.k8s.io/e2e-test-images/agnhost:2.55", "registry.k8s.io/e2e-test-images/agnhost:2.55"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("192.0.2.1/x", "192.0.2.1/x:latest"),
        ("Host/x", "Host/x:latest"),
        ("a--b/c__d/e.f:_", "docker.io/a--b/c__d/e.f:_"),
        (&format!("x{at}"), &format!("docker.io/library/x{at}")),
        (&format!("quay.io/x/y:tag{at}"), &format!("quay.io/x/y{at}")),
    ] {
        assert_eq!(canonical(written), want, "{written}");
    }
}

#[test]
fn a_digest_beats_a_tag() {
    let reference = Reference::parse(&format!("x:tag@sha256:{HEX}")).unwrap();
    assert_eq!(reference.tag(), None);
    assert_eq!(reference.digest().map(|d| d.hex()), Some(HEX));
    assert_eq!(reference.name(), "docker.io/library/x");
}

#[test]
fn refuses_what_is_no_reference() {
    let long_tag = format!("x:{}", "t".repeat(129));
    let long_path = "p".repeat(256);
    let library_path = "p".repeat(250);
    let long_text = format!("x@{}", "y".repeat(2000));
    for text in [
        "",
        ":",
        "/",
        "@",
        "x:",
        "x@",
        "/x",
        "x/",
        "a//b",
        "x:tag:tag",
        "UPPER",
        "host.io/UPPER",
        "x:ta g",
        "x y",
        "x\n",
        "-x",
        "x-",
        "a..b",
        "a___b",
        "a._b",
        "host:port/x",
        "host:0/x",
        "host:65536/x",
        "host:+80/x",
        "ho_st.io/x",
        "a..b.io/x",
        "-a.io/x",
        "[::1/x",
        "[zz]:5/x",
        "[::1]x/y",
        "../etc",
        "x/../y",
        "x@sha256:00",
        "x@sha512:00",
        "https://host/x",
        "x:.tag",
        "ü",
        HEX,
        &long_tag,
        &long_path,
        &library_path,
        &long_text,
    ] {
        let error = Reference::parse(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.text.len() <= 300);
    }
    assert!(Reference::parse("host.io/UPPER").unwrap_err().to_string().contains("lower case"));
    assert!(Reference::parse(&format!("x:{}", "t".repeat(128))).is_ok());
    assert!(Reference::parse(&format!("host.io/{}", "p".repeat(255))).is_ok());
}

#[test]
fn familiar_is_short_and_means_the_same() {
    for (written, want) in [
        ("pause", "pause:latest"),
        ("docker.io/example/x:1", "example/x:1"),
        ("quay.io/x/y", "quay.io/x/y:latest"),
        ("docker.io/library/a/b", "library/a/b:latest"),
        ("docker.io/localhost/b", "docker.io/localhost/b:latest"),
    ] {
        assert_eq!(Reference::parse(written).unwrap().familiar(), want);
    }
}

fn component() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,8}((\\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}"
}

fn registry() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("localhost".to_owned()),
        "[a-z0-9]{1,8}(-[a-z0-9]{1,5})?\\.[a-z]{2,5}(:[1-9][0-9]{0,3})?",
        "[a-zA-Z0-9]{1,8}:[1-9][0-9]{0,3}",
    ]
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof!["", ":[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}", "(:[a-z]{1,5})?@sha256:[0-9a-f]{64}"]
}

proptest! {
    #[test]
    fn every_good_text_survives_a_round_trip(
        host in proptest::option::of(registry()),
        path in proptest::collection::vec(component(), 1..4),
        version in version(),
    ) {
        let host = host.map(|h| h + "/").unwrap_or_default();
        let text = format!("{host}{}{version}", path.join("/"));
        // A bare image ID is the one text of this grammar that is refused, and a dot makes a host of a first word.
        prop_assume!(text.len() != 64 && !(text.starts_with(&path[0]) && path.len() > 1 && path[0].contains('.')));
        let reference = Reference::parse(&text).unwrap();
        prop_assert_eq!(&Reference::parse(&reference.canonical()).unwrap(), &reference);
        prop_assert_eq!(&Reference::parse(&reference.familiar()).unwrap(), &reference);
        prop_assert!(reference.familiar().len() <= reference.canonical().len());
        prop_assert!(reference.tag().is_some() != reference.digest().is_some());
        prop_assert!(reference.canonical().ends_with(reference.version()));
    }

    #[test]
    fn nothing_panics_and_what_parses_is_clean(text in "\\PC{0,60}|[a-z0-9.:@/_-]{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.canonical()).unwrap(), &reference);
            prop_assert!(!reference.repository().split('/').any(|c| c.is_empty() || c.starts_with('.')));
            prop_assert!(!reference.registry().contains('/') && !reference.registry().starts_with('.'));
        }
    }
}
