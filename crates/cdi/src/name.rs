//! Names: `vendor/class` is a kind, `vendor/class=device` a device of it (SPEC.md, "Kind" and "CDI Devices").

use crate::error::shown;

/// A device's full name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QualifiedName<'a> {
    /// Vendor and class, as specifications say it.
    pub kind: &'a str,
    /// The device in it.
    pub device: &'a str,
}

/// What is no name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is no device (vendor/class=name): {reason}")]
pub struct NameError {
    name: String,
    reason: &'static str,
}

impl<'a> QualifiedName<'a> {
    /// Takes a name apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: &'a str) -> Result<Self, NameError> {
        let wrong = |reason| NameError { name: shown(name), reason };
        let (kind, device) = name.split_once('=').ok_or_else(|| wrong("it has no \"=\""))?;
        self::kind(kind).map_err(wrong)?;
        self::device(device).map_err(wrong)?;
        Ok(Self { kind, device })
    }
}

/// Checks a kind.
pub(crate) fn kind(kind: &str) -> Result<(), &'static str> {
    let (vendor, class) = kind.split_once('/').ok_or("vendor and class are separated by a slash")?;
    for part in [vendor, class] {
        let letter = part.starts_with(|c: char| c.is_ascii_alphabetic());
        if !letter || !ends_well(part) || !part.chars().all(|c| of_word(c, "_-.")) {
            return Err("vendor and class are letters, digits, \"_\", \"-\" and \".\", \
                        from a letter to a letter or digit");
        }
    }
    Ok(())
}

/// Checks a device's name within its kind.
pub(crate) fn device(name: &str) -> Result<(), &'static str> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins && ends_well(name) && name.chars().all(|c| of_word(c, "_-.:")) {
        true => Ok(()),
        false => Err("a device's name is letters, digits, \"_\", \"-\", \".\" and \":\", \
                      from a letter or digit to a letter or digit"),
    }
}

fn ends_well(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn of_word(c: char, others: &str) -> bool {
    c.is_ascii_alphanumeric() || others.contains(c)
}

#[cfg(test)]
mod tests {
    use super::QualifiedName;

    #[test]
    fn names_are_taken_apart() {
        for name in
            ["vendor.com/class=dev", "v/c=0", "nvidia.com/gpu=GPU-1:2.x_y", "a-b.c/d_e.f=x=".trim_end_matches('=')]
        {
            let parsed = QualifiedName::parse(name).unwrap();
            assert_eq!(format!("{}={}", parsed.kind, parsed.device), name);
        }
        for wrong in [
            "",
            "dev",
            "v/c",
            "v/c=",
            "/c=d",
            "v/=d",
            "v=d",
            "1v/c=d",
            "v/1c=d",
            "v./c=d",
            "v/c-=d",
            "v/c=-d",
            "v/c=d:",
            "v/c=d=e",
            "v/c/d=e",
            "v c/d=e",
            "v/c=d,e",
            "v/c=ü",
            " v/c=d",
            "/dev/null",
            "v/c=d\n",
        ] {
            assert!(QualifiedName::parse(wrong).is_err(), "{wrong:?}");
        }
        let long = format!("v/c={}!", "x".repeat(5000));
        assert!(QualifiedName::parse(&long).unwrap_err().to_string().len() < 400);
    }
}
