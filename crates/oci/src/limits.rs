//! Resource limits and the OOM score: what the process may have, clamped to what the daemon may give.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::error::{Error, Result};
use crate::input::HostFacts;

/// Soft NOFILE: select(2) breaks above it, and programs that need more raise it themselves.
const NOFILE_SOFT: u64 = 1024;
/// Hard NOFILE: enough for servers, little enough for programs that walk all of them.
const NOFILE_HARD: u64 = 524_288;

/// The daemon's own limits, NOFILE as above, all overridden by `base`; sorted, one of each kind.
pub(crate) fn rlimits(host: &HostFacts, base: &[PosixRlimit]) -> Vec<PosixRlimit> {
    let own = |kind: PosixRlimitType| host.rlimits.iter().find(|limit| limit.typ() == kind);
    let nofile = rlimit(PosixRlimitType::RlimitNofile, NOFILE_SOFT, NOFILE_HARD);
    let mut limits: Vec<PosixRlimit> = Vec::new();
    for limit in host.rlimits.iter().chain([&nofile]).chain(base) {
        let (kind, mut hard) = (limit.typ(), limit.hard());
        if let Some(own) = own(kind).filter(|_| !host.may_raise_rlimits) {
            hard = hard.min(own.hard());
        }
        if kind == PosixRlimitType::RlimitNofile && host.nr_open > 0 {
            hard = hard.min(host.nr_open);
        }
        let limit = rlimit(kind, limit.soft().min(hard), hard);
        limits.retain(|known| known.typ() != limit.typ());
        limits.push(limit);
    }
    limits.sort_by_key(|limit| limit.typ() as u32);
    limits
}

fn rlimit(kind: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build().expect("every field has a default")
}

/// The `oom_score_adj` to set (proc(5): −1000 to 1000): never below the daemon's own unless it may go there.
pub(crate) fn oom_score_adj(asked: i64, host: &HostFacts) -> Result<i32> {
    let asked = i32::try_from(asked).ok().filter(|score| (-1000..=1000).contains(score)).ok_or_else(|| {
        Error::invalid("linux.resources.oom_score_adj", format!("{asked} is not between -1000 and 1000"))
    })?;
    Ok(if host.may_lower_oom_score { asked } else { asked.max(host.oom_score_adj) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nofile_is_clamped_to_what_may_be_given() {
        use super::rlimit as limit;
        use PosixRlimitType::{RlimitCore, RlimitNofile};
        let mut host = HostFacts {
            rlimits: vec![limit(RlimitNofile, 512, 4096), limit(RlimitCore, 0, u64::MAX)],
            ..Default::default()
        };
        assert_eq!(rlimits(&host, &[]), [limit(RlimitCore, 0, u64::MAX), limit(RlimitNofile, 1024, 4096)]);
        host.may_raise_rlimits = true;
        assert_eq!(rlimits(&host, &[])[1], limit(RlimitNofile, 1024, 524_288));
        host.nr_open = 1000;
        assert_eq!(rlimits(&host, &[])[1], limit(RlimitNofile, 1000, 1000));
        host.nr_open = 0;
        assert_eq!(rlimits(&host, &[limit(RlimitNofile, 7, 8)])[1], limit(RlimitNofile, 7, 8));
    }

    #[test]
    fn oom_score_is_clamped_to_what_may_be_given() {
        let mut host = HostFacts { oom_score_adj: -500, ..Default::default() };
        assert_eq!(oom_score_adj(-998, &host).unwrap(), -500);
        assert_eq!(oom_score_adj(1000, &host).unwrap(), 1000);
        host.may_lower_oom_score = true;
        assert_eq!(oom_score_adj(-998, &host).unwrap(), -998);
        assert!(oom_score_adj(1001, &host).is_err() && oom_score_adj(i64::MIN, &host).is_err());
    }
}
