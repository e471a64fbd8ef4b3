use super::*;
use crate::api::{
    CompoundFieldOwners, Container, FieldOwners, LinuxContainer, OwningPlugins, PluginInstance, SecurityProfile,
};

fn request(simple: &[Field], compound: &[Field], profile: Option<ProfileType>) -> ValidateContainerAdjustmentRequest {
    let entry = || CompoundFieldOwners { owners: BTreeMap::from([("entry".to_owned(), "10-p".to_owned())]) };
    let owners = FieldOwners {
        simple: simple.iter().map(|field| (i32::from(*field), "10-p".to_owned())).collect(),
        compound: compound.iter().map(|field| (i32::from(*field), entry())).collect(),
    };
    let seccomp_profile =
        profile.map(|kind| SecurityProfile { profile_type: kind.into(), localhost_ref: String::new() });
    let linux = Some(LinuxContainer { seccomp_profile, ..Default::default() });
    ValidateContainerAdjustmentRequest {
        pod: Some(PodSandbox::default()),
        container: Some(Container { id: "c".into(), name: "main".into(), linux, ..Default::default() }),
        owners: Some(OwningPlugins { owners: BTreeMap::from([("c".to_owned(), owners)]) }),
        plugins: vec![PluginInstance { name: "p".into(), index: "10".into() }],
        ..Default::default()
    }
}

#[test]
fn what_may_not_be_adjusted() {
    type Set = fn(&mut Validator);
    let rejected: [(Set, ValidateContainerAdjustmentRequest, &str); 6] = [
        (|v| v.reject_oci_hook_adjustment = true, request(&[Field::OciHooks], &[], None), "hooks"),
        (|v| v.reject_unconfined_seccomp_adjustment = true, request(&[Field::SeccompPolicy], &[], None), "unconfined"),
        (
            |v| v.reject_runtime_default_seccomp_adjustment = true,
            request(&[Field::SeccompPolicy], &[], Some(ProfileType::RuntimeDefault)),
            "the runtime's default",
        ),
        (
            |v| v.reject_custom_seccomp_adjustment = true,
            request(&[Field::SeccompPolicy], &[], Some(ProfileType::Localhost)),
            "the pod's own",
        ),
        (|v| v.reject_namespace_adjustment = true, request(&[], &[Field::Namespace], None), "entry by 10-p"),
        (|v| v.reject_sysctl_adjustment = true, request(&[], &[Field::Sysctl], None), "sysctls"),
    ];
    for (set, request, text) in &rejected {
        let mut config = Validator::default();
        assert_eq!(validate(&config, request), Ok(()), "{text}");
        set(&mut config);
        assert!(validate(&config, request).unwrap_err().contains(text), "{text}");
        // What the others adjusted is none of this one's business.
        for (_, other, other_text) in rejected.iter().filter(|(_, _, other)| other != text) {
            assert_eq!(validate(&config, other), Ok(()), "{text}, {other_text}");
        }
    }
}

#[test]
fn plugins_that_have_to_be_there() {
    let mut request = request(&[], &[], None);
    let annotate = |request: &mut ValidateContainerAdjustmentRequest, key: &str, value: &str| {
        request.pod.get_or_insert_default().annotations.insert(key.into(), value.into());
    };
    let mut config = Validator { required_plugins: vec!["10-p".into(), "p".into()], ..Validator::default() };
    assert_eq!(validate(&config, &request), Ok(()));
    config.required_plugins.push("q".into());
    assert!(validate(&config, &request).unwrap_err().ends_with("there: q"));
    config.tolerate_missing_plugins_annotation = "tolerate".into();
    annotate(&mut request, "tolerate/container.other", "true");
    assert!(validate(&config, &request).is_err());
    annotate(&mut request, "tolerate/container.main", "true");
    annotate(&mut request, "tolerate", "false");
    assert_eq!(validate(&config, &request), Ok(()));
    annotate(&mut request, "tolerate/container.main", "perhaps");
    assert!(validate(&config, &request).unwrap_err().contains("perhaps"));

    let config = Validator::default();
    annotate(&mut request, REQUIRED, "[ p ]");
    assert_eq!(validate(&config, &request), Ok(()));
    annotate(&mut request, &format!("{REQUIRED}/container.main"), "- p\n- r");
    assert!(validate(&config, &request).unwrap_err().ends_with("there: r"));
    annotate(&mut request, &format!("{REQUIRED}/container.main"), "{a: b}");
    assert!(validate(&config, &request).unwrap_err().contains("no list"));
}
