//! Limits as properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)), in D-Bus's units.

use zbus::Variant;

use crate::resources::weight;
use crate::{Error, Resources, Result};

/// `infinity`.
const UNLIMITED: u64 = u64::MAX;
/// systemd keeps quotas as whole percents.
const PERCENT: u64 = 10_000;
const SECOND: u64 = 1_000_000;
/// The kernel's, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The properties that say what is set; v2's names, which systemd translates where it has to.
pub(super) fn of(r: &Resources) -> Result<Vec<(&'static str, Variant<'static>)>> {
    r.check()?;
    let mut all: Vec<(&'static str, Variant<'static>)> = Vec::new();
    let mut add = |name, value: u64| all.push((name, value.into()));
    if let Some(shares) = r.cpu_shares.filter(|s| *s > 0) {
        add("CPUWeight", weight(shares));
    }
    if let Some(period) = r.cpu_period.filter(|p| *p > 0) {
        add("CPUQuotaPeriodUSec", period);
    }
    if let Some(quota) = r.cpu_quota.filter(|q| *q != 0) {
        add("CPUQuotaPerSecUSec", per_second(quota, r.cpu_period.unwrap_or(0)));
    }
    if let Some(limit) = r.memory_limit.filter(|l| *l != 0) {
        add("MemoryMax", bytes(limit));
    }
    match (r.memory_swap, r.memory_limit) {
        (Some(swap), _) if swap < 0 => add("MemorySwapMax", UNLIMITED),
        (Some(both), Some(memory)) if both >= memory && memory > 0 => add("MemorySwapMax", (both - memory) as u64),
        // Without a limit of memory there is nothing to take away from the sum: the file is written, or refused, alone.
        _ => {}
    }
    if let Some(low) = r.memory_reservation.filter(|l| *l != 0) {
        add("MemoryLow", bytes(low));
    }
    if let Some(pids) = r.pids_limit.filter(|p| *p != 0) {
        add("TasksMax", bytes(pids));
    }
    for (name, list) in [("AllowedCPUs", &r.cpuset_cpus), ("AllowedMemoryNodes", &r.cpuset_mems)] {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
            all.push((name, mask(list)?.into()));
        }
    }
    for (file, value) in &r.unified {
        all.extend(unified(file, value.trim())?);
    }
    Ok(all)
}

fn bytes(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(UNLIMITED)
}

/// Microseconds a second, rounded up to what systemd can keep: a container may have a little more, never less.
fn per_second(quota: i64, period: u64) -> u64 {
    let Ok(quota) = u64::try_from(quota) else { return UNLIMITED };
    let period = if period == 0 { DEFAULT_PERIOD } else { period };
    let exact = u128::from(quota) * u128::from(SECOND) / u128::from(period);
    u64::try_from(exact).unwrap_or(UNLIMITED).div_ceil(PERCENT).saturating_mul(PERCENT)
}

/// A list of CPUs or nodes as bits, the lowest in the first byte.
fn mask(list: &str) -> Result<Vec<u8>> {
    let invalid = || Error::resource("cpuset", format!("{list:?} is no list of numbers and ranges below 8192"));
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n < 8192).ok_or_else(invalid);
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(invalid());
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        (first..=last).for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    Ok(mask)
}

/// What systemd has a property for; other files are only written.
fn unified(file: &str, value: &str) -> Result<Vec<(&'static str, Variant<'static>)>> {
    let invalid = || Error::resource("unified", format!("{file}: {value:?} is no number"));
    let number = || match value {
        "max" => Ok(UNLIMITED),
        text => text.parse::<u64>().map_err(|_| invalid()),
    };
    let one = |name, value: u64| Ok(vec![(name, Variant::from(value))]);
    match file {
        "cpu.weight" => one("CPUWeight", number()?),
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
            let period = period.trim().parse::<u64>().ok().filter(|p| *p > 0).ok_or_else(invalid)?;
            let quota = if quota == "max" { -1 } else { quota.parse::<i64>().map_err(|_| invalid())? };
            Ok(vec![("CPUQuotaPeriodUSec", period.into()), ("CPUQuotaPerSecUSec", per_second(quota, period).into())])
        }
        "cpuset.cpus" => Ok(vec![("AllowedCPUs", mask(value)?.into())]),
        "cpuset.mems" => Ok(vec![("AllowedMemoryNodes", mask(value)?.into())]),
        "memory.max" => one("MemoryMax", number()?),
        "memory.high" => one("MemoryHigh", number()?),
        "memory.low" => one("MemoryLow", number()?),
        "memory.min" => one("MemoryMin", number()?),
        "memory.swap.max" => one("MemorySwapMax", number()?),
        "pids.max" => one("TasksMax", number()?),
        // Of one device: systemd has the default's only, and leaves that file's other lines alone.
        "io.weight" => match value.strip_prefix("default ").unwrap_or(value).trim().parse() {
            Ok(weight) => one("IOWeight", weight),
            Err(_) => Ok(Vec::new()),
        },
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(r: &Resources) -> Vec<String> {
        of(r).expect("properties").iter().map(|(name, value)| format!("{name}={value:?}")).collect()
    }

    #[test]
    fn units_are_systemds() {
        let r = Resources {
            cpu_shares: Some(1024),
            cpu_quota: Some(25_500),
            cpu_period: Some(100_000),
            memory_limit: Some(1 << 20),
            memory_swap: Some(3 << 20),
            pids_limit: Some(-1),
            cpuset_cpus: Some("0-1,9".into()),
            unified: [("memory.high", "max"), ("io.weight", "default 5"), ("io.max", "8:16 rbps=1")]
                .map(|(file, value)| (file.into(), value.into()))
                .into(),
            ..Default::default()
        };
        let want = [
            "CPUWeight=U64(100)",
            "CPUQuotaPeriodUSec=U64(100000)",
            // 25.5 % of a CPU becomes 26 %.
            "CPUQuotaPerSecUSec=U64(260000)",
            "MemoryMax=U64(1048576)",
            "MemorySwapMax=U64(2097152)",
            "TasksMax=U64(18446744073709551615)",
        ];
        let got = shown(&r);
        assert_eq!(got[..6], want);
        assert!(got[6].starts_with("AllowedCPUs="), "{got:?}");
        assert_eq!(got[7..], ["IOWeight=U64(5)", "MemoryHigh=U64(18446744073709551615)"]);
        assert_eq!(mask("0-1,9").expect("mask"), [0b11, 0b10]);
        assert!(shown(&Resources::default()).is_empty());
    }

    #[test]
    fn no_limit_and_zero() {
        let r = Resources { cpu_quota: Some(-1), memory_swap: Some(-1), memory_limit: Some(0), ..Default::default() };
        let max = u64::MAX;
        assert_eq!(shown(&r), [format!("CPUQuotaPerSecUSec=U64({max})"), format!("MemorySwapMax=U64({max})")]);
        for list in ["3-1", "8192", "a"] {
            assert!(mask(list).is_err(), "{list}");
        }
    }
}
