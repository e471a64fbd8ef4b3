//! A profile as the OCI runtime specification has it (`linux.seccomp`).

use serde::{Deserialize, Serialize};

/// `linux.seccomp`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to calls that no rule names, `SCMP_ACT_ERRNO` for example.
    pub default_action: String,
    /// The error number of a default `SCMP_ACT_ERRNO`; `EPERM` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// Architectures beside the native one: `SCMP_ARCH_X86` …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_LOG` …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Where notifications would go; not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// The rules; of several that match, the stricter action counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<Syscalls>,
}

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Syscalls {
    /// The calls.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: String,
    /// The error number of `SCMP_ACT_ERRNO`, or the value of `SCMP_ACT_TRACE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions; all have to hold, except that those on the same argument are alternatives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Arg>,
}

/// A condition on an argument of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Which argument, from 0.
    pub index: u32,
    /// What it is compared with; with `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// What the masked argument is compared with.
    #[serde(default)]
    pub value_two: u64,
    /// `SCMP_CMP_EQ` …
    pub op: String,
}
