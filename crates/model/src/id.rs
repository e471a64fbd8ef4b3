//! Container and sandbox IDs: 64 lowercase hexadecimal digits, as every CRI runtime gives them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A string that is not a full ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: want 64 lowercase hexadecimal digits")]
pub struct InvalidId(pub String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A fresh random ID (256 bits from the kernel).
            ///
            /// # Panics
            /// When the kernel has no random source, which Linux ≥ 5.14 always has.
            pub fn generate() -> Self {
                let mut bytes = [0u8; 32];
                getrandom::fill(&mut bytes).expect("getrandom(2) cannot fail without flags");
                Self(hex::encode(bytes))
            }

            /// The 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 13 digits, as tools print them.
            pub fn short(&self) -> &str {
                &self.0[..13]
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                let digits = s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                if s.len() == 64 && digits { Ok(Self(s.to_owned())) } else { Err(InvalidId(s.chars().take(80).collect())) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }
    };
}

id! {
    /// The ID of a container.
    ContainerId
}
id! {
    /// The ID of a pod sandbox.
    SandboxId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_parse_and_differ() {
        let (a, b) = (ContainerId::generate(), ContainerId::generate());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<ContainerId>().as_ref(), Ok(&a));
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for bad in ["", "abc", &"G".repeat(64), &"A".repeat(64), &"a".repeat(65), &"../".repeat(22)] {
            assert!(bad.parse::<SandboxId>().is_err(), "{bad}");
        }
    }
}
