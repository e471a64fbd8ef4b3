//! Options of mounts, as the runtime specification spells them (runtime-spec, config.md, "Linux mount options").

use cricket_process::detached::{Change, Flags};
use cricket_process::mounts::Propagation;

/// What an option turns on and off.
struct Attribute {
    name: &'static str,
    set: Flags,
    clear: Flags,
}

const fn on(name: &'static str, set: Flags) -> Attribute {
    Attribute { name, set, clear: Flags::NONE }
}

const fn off(name: &'static str, clear: Flags) -> Attribute {
    Attribute { name, set: Flags::NONE, clear }
}

/// Those with an `r` before them hold for all mounts below as well. `rw` clears nothing: a volume of a read-only mount
/// of the host stays read-only.
const ATTRIBUTES: [Attribute; 17] = [
    on("ro", Flags::READ_ONLY),
    on("rw", Flags::NONE),
    on("nosuid", Flags::NO_SUID),
    off("suid", Flags::NO_SUID),
    on("nodev", Flags::NO_DEV),
    off("dev", Flags::NO_DEV),
    on("noexec", Flags::NO_EXEC),
    off("exec", Flags::NO_EXEC),
    on("noatime", Flags::NO_ATIME),
    off("atime", Flags::NO_ATIME),
    on("nodiratime", Flags::NO_DIR_ATIME),
    off("diratime", Flags::NO_DIR_ATIME),
    off("relatime", Flags::ATIME),
    on("strictatime", Flags::STRICT_ATIME),
    off("nostrictatime", Flags::STRICT_ATIME),
    on("nosymfollow", Flags::NO_SYMFOLLOW),
    off("symfollow", Flags::NO_SYMFOLLOW),
];

/// Names that mean nothing to a mount on its own.
const IGNORED: [&str; 8] = ["defaults", "norelatime", "rrw", "nomand", "loud", "silent", "async", "auto"];

/// The options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// It is a bind mount; with those below (`rbind`).
    pub(super) bind: Option<bool>,
    /// For the mount itself.
    pub(super) set: Flags,
    pub(super) clear: Flags,
    /// For it and all below.
    pub(super) set_all: Flags,
    pub(super) clear_all: Flags,
    /// How mount events travel; for all below too.
    pub(super) propagation: Option<(Propagation, bool)>,
    /// IDs are mapped; for all below too.
    pub(super) id_map: Option<bool>,
    /// The file system's own.
    pub(super) data: Vec<(String, Option<String>)>,
}

impl Options {
    pub(super) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.take(option);
        }
        parsed
    }

    fn take(&mut self, option: &str) {
        let known = |name: &str| ATTRIBUTES.iter().find(|a| a.name == name);
        if let Some(attribute) = known(option) {
            // The last one wins, as for mount(8).
            self.set = self.set.without(attribute.clear).with(attribute.set);
            self.clear = self.clear.without(attribute.set).with(attribute.clear);
            return;
        }
        if let Some(attribute) = option.strip_prefix('r').and_then(known) {
            self.set_all = self.set_all.without(attribute.clear).with(attribute.set);
            self.clear_all = self.clear_all.without(attribute.set).with(attribute.clear);
            return;
        }
        let propagation = |kind, recursive| Some((kind, recursive));
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "private" => self.propagation = propagation(Propagation::Private, false),
            "rprivate" => self.propagation = propagation(Propagation::Private, true),
            "slave" => self.propagation = propagation(Propagation::Slave, false),
            "rslave" => self.propagation = propagation(Propagation::Slave, true),
            "shared" => self.propagation = propagation(Propagation::Shared, false),
            "rshared" => self.propagation = propagation(Propagation::Shared, true),
            "unbindable" => self.propagation = propagation(Propagation::Unbindable, false),
            "runbindable" => self.propagation = propagation(Propagation::Unbindable, true),
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            _ if IGNORED.contains(&option) => {}
            _ => self.data.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            }),
        }
    }

    /// The attributes of a mount of a new file system.
    pub(super) fn flags(&self) -> Flags {
        self.set.with(self.set_all)
    }

    /// What changes for the mount itself.
    pub(super) fn own(&self) -> Change<'static> {
        Change { set: self.set, clear: self.clear, ..Default::default() }
    }

    /// What changes for all mounts below as well.
    pub(super) fn all(&self) -> Change<'static> {
        Change { set: self.set_all, clear: self.clear_all, ..Default::default() }
    }

    /// Whether it, and all below it, cannot be written to.
    pub(super) fn is_read_only(&self) -> bool {
        self.flags().contains(Flags::READ_ONLY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_volume() {
        let volume = parse(&["rbind", "rslave", "ro", "rro", "noexec", "ridmap"]);
        assert_eq!((volume.bind, volume.propagation), (Some(true), Some((Propagation::Slave, true))));
        assert_eq!(volume.set, Flags::READ_ONLY.with(Flags::NO_EXEC));
        assert_eq!((volume.set_all, volume.id_map), (Flags::READ_ONLY, Some(true)));
        assert!(volume.data.is_empty() && volume.is_read_only());
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(true));
    }

    #[test]
    fn a_file_system() {
        let pts = parse(&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "relatime", "mode=0620"]);
        assert_eq!(pts.flags(), Flags::NO_SUID.with(Flags::NO_EXEC));
        let data: Vec<_> = pts.data.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(data, [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620"))]);
        assert_eq!(pts.clear, Flags::ATIME);
    }

    #[test]
    fn the_last_one_wins() {
        let twice = parse(&["noexec", "exec", "dev", "nodev"]);
        assert_eq!((twice.set, twice.clear), (Flags::NO_DEV, Flags::NO_EXEC));
        assert_eq!(parse(&["ro", "rw"]).set, Flags::READ_ONLY);
    }
}
