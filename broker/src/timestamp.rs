//! Points in time as text: milliseconds since 1970, or RFC 3339.

const MS_PER_DAY: i64 = 24 * 60 * 60 * 1000;

/// Reads milliseconds since 1970, or a date (`2013-01-01`), or a time in RFC 3339 (`2013-01-01T05:00:00Z`,
/// `2013-01-01T00:00:00.5-05:00`; without a zone it is UTC).
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return (ms >= 0).then_some(ms);
    }
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let day = parse_date(date)?;
    let in_day = time.map_or(Some(0), parse_time)?;
    day.checked_mul(MS_PER_DAY)?.checked_add(in_day)
}

/// A time as people read it, `2013-01-01T05:00:00.000Z`; -1, which is no time, is a dash.
pub(crate) fn format_timestamp(ms: i64) -> String {
    if ms < 0 {
        return "-".to_owned();
    }
    let (days, in_day) = (ms / MS_PER_DAY, ms % MS_PER_DAY);
    // Years that begin in March end with the day that only some have; 719,468 days lie between the first of them and 1970.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, ms) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Days since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let year = number(parts.next()?, 4)?;
    let month = number(parts.next()?, 2)?;
    let day = number(parts.next()?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let month_index = usize::try_from(month.checked_sub(1)?).ok()?;
    if !(1..=*lengths.get(month_index)?).contains(&day) || year < 1970 {
        return None;
    }
    let before = year - 1;
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let days_of_years = (year - 1970) * 365 + leap_days(before) - leap_days(1969);
    Some(days_of_years + lengths[..month_index].iter().sum::<i64>() + day - 1)
}

/// Milliseconds since midnight UTC; negative or more than a day where the zone shifts it so.
fn parse_time(text: &str) -> Option<i64> {
    let zone_at = text.find(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':');
    let hour = number(parts.next()?, 2)?;
    let minute = number(parts.next()?, 2)?;
    let second = parts.next().map_or(Some(0), |text| number(text, 2))?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms = number(&format!("{fraction:0<3}")[..3], 3)?;
    Some(((hour * 60 + minute) * 60 + second) * 1000 + ms - zone_ms(zone)?)
}

fn zone_ms(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first() {
        None | Some(b'Z' | b'z') => return (zone.len() <= 1).then_some(0),
        Some(b'-') => -1,
        Some(_) => 1,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60_000)
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let all_digits = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (text, ms) in [
            ("0", 0),
            ("1357016400000", 1_357_016_400_000),
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400_000),
            ("2000-03-01T00:00:00Z", 951_868_800_000),
            ("2013-01-01T05:00:00Z", 1_357_016_400_000),
            ("2013-01-01 05:00", 1_357_016_400_000),
            ("2013-01-01T00:00:00-05:00", 1_357_016_400_000),
            ("2013-01-01T10:30:00.25+05:30", 1_357_016_400_250),
            ("2100-03-01", 4_107_542_400_000),
        ] {
            assert_eq!(parse_timestamp(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_357_016_400_250, "2013-01-01T05:00:00.250Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(format_timestamp(ms), text);
            assert_eq!(parse_timestamp(text), Some(ms));
        }
        assert_eq!(format_timestamp(-1), "-");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "now",
            "2013-13-01",
            "2013-02-29",
            "2100-02-29",
            "2013-1-1",
            "1969-12-31",
            "2013-01-01T24:00:00Z",
            "2013-01-01T05:60:00Z",
            "2013-01-01T05:00:00.Z",
            "2013-01-01T05:00:00Zjunk",
            "2013-01-01T05:00:00+5",
            "2013-01-01Tééé",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
