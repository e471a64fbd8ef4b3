//! Timestamps of log entries: RFC 3339 in UTC with all nine digits of nanoseconds.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970, by the wall clock.
pub(crate) fn unix_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// `2026-01-31T23:59:59.123456789Z`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp([u8; 30]);

impl Timestamp {
    /// The present.
    pub(crate) fn now() -> Self {
        Self::at(unix_nanos().unsigned_abs())
    }

    /// A time in nanoseconds since 1970.
    pub(crate) fn at(nanos: u64) -> Self {
        let seconds = nanos / 1_000_000_000;
        let (year, month, day) = civil(seconds / 86_400);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], seconds / 3600 % 24);
        digits(&mut text[14..16], seconds / 60 % 60);
        digits(&mut text[17..19], seconds % 60);
        digits(&mut text[20..29], nanos % 1_000_000_000);
        Self(text)
    }

    /// Its text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.0
    }
}

fn digits(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // Whole cycles of 400 years first, so that no clock makes the loop long.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (951_868_799, 999_999_999, "2000-02-29T23:59:59.999999999Z"),
            (1_709_251_199, 5_000_000, "2024-02-29T23:59:59.005000000Z"),
            (1_735_689_599, 0, "2024-12-31T23:59:59.000000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (13_574_563_200, 0, "2400-02-29T00:00:00.000000000Z"),
        ] {
            let made = Timestamp::at(seconds * 1_000_000_000 + nanos);
            assert_eq!(std::str::from_utf8(made.text()), Ok(text));
        }
    }
}
