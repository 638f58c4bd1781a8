//! When something is due that a cron expression and a time zone describe.
//!
//! Five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday, names of three letters also). A field
//! is `*`, a number, a range `1-5`, a list `1,3`, and each with a step `*/15`, `8-18/2`. Where both days are given one of them is
//! enough, as in every cron since Version 7 Unix.
//!
//! Where clocks are changed, as in Vixie's cron: what names its hours is due once a day, at the first moment after a gap if its
//! time is in it, and at the first of two times that are called alike. What goes by every hour, or every so many, is due by the
//! time that passes, so it is due in both hours that are called alike and not in one that is left out.
//!
//! Invariant: the next time is later than the given one, and asking again from there goes on without leaving any out.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use std::fmt;

/// A day on which a date like 29 February falls comes again within so many days.
const DAYS_AHEAD: u64 = 366 * 9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    zone: Tz,
    /// Bit by value.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
    /// Hours go by the time that passes.
    by_passing: bool,
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.zone)
    }
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// `zone`: a name of the IANA time zone database, for example `Europe/Berlin`.
    pub fn parse(text: &str, zone: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!(
                "'{text}' has {} fields and not five: minute, hour, day of the month, month, day of the week",
                fields.len()
            ));
        };
        let zone = zone.parse::<Tz>().map_err(|_| {
            let near = crate::text::nearest(zone, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
            let hint = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
            format!("'{zone}' is no time zone, which are called like Europe/Berlin or UTC{hint}")
        })?;
        let mut weekdays = field("day of the week", weekday, 0, 7, &WEEKDAYS, 0)?;
        // 7 is Sunday too.
        weekdays = (weekdays | weekdays >> 7) & 0x7f;
        let cron = Self {
            text: fields.join(" "),
            zone,
            minutes: field("minute", minute, 0, 59, &[], 0)?,
            hours: field("hour", hour, 0, 23, &[], 0)?,
            days: field("day of the month", day, 1, 31, &[], 0)?,
            months: field("month", month, 1, 12, &MONTHS, 1)?,
            weekdays,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
            by_passing: hour.starts_with('*'),
        };
        match cron.next_after(0) {
            Some(_) => Ok(cron),
            None => Err(format!("'{text}' is never due: no such day comes")),
        }
    }

    /// The first time after this one at which it is due; both in milliseconds since the epoch.
    pub fn next_after(&self, after_ms: i64) -> Option<i64> {
        let after = DateTime::from_timestamp_millis(after_ms)?;
        let today = after.with_timezone(&self.zone).date_naive();
        // The day before: its times may be moved behind its end by a gap.
        let mut day = today.checked_sub_days(Days::new(1))?;
        for _ in 0..DAYS_AHEAD {
            if self.is_on(day)
                && let Some(due) = self.times(day).into_iter().find(|due| *due > after)
            {
                return Some(due.timestamp_millis());
            }
            day = day.checked_add_days(Days::new(1))?;
        }
        None
    }

    fn is_on(&self, day: NaiveDate) -> bool {
        let has = |bits: u64, value: u32| bits >> value & 1 == 1;
        let of_month = has(self.days, day.day());
        let of_week = has(self.weekdays, day.weekday().num_days_from_sunday());
        let is_day = match (self.any_day, self.any_weekday) {
            (true, _) | (_, true) => of_month && of_week,
            (false, false) => of_month || of_week,
        };
        has(self.months, day.month()) && is_day
    }

    /// All times of a day, rising.
    fn times(&self, day: NaiveDate) -> Vec<DateTime<Utc>> {
        let has = |time: NaiveTime| self.hours >> time.hour() & 1 == 1 && self.minutes >> time.minute() & 1 == 1;
        let minutes = (0..24 * 60).filter_map(|at| NaiveTime::from_hms_opt(at / 60, at % 60, 0));
        let mut times: Vec<DateTime<Utc>> = Vec::new();
        for time in minutes.filter(|time| has(*time)) {
            let called = self.zone.from_local_datetime(&day.and_time(time));
            times.extend(called.earliest().map(|time| time.to_utc()));
            if self.by_passing {
                times.extend(called.latest().map(|time| time.to_utc()));
            } else if called.earliest().is_none() {
                times.extend(self.after_gap(day, time));
            }
        }
        times.sort_unstable();
        times.dedup();
        times
    }

    /// The first moment after the gap in which this time lies.
    fn after_gap(&self, day: NaiveDate, time: NaiveTime) -> Option<DateTime<Utc>> {
        // Gaps are of whole minutes, and the longest ones, where a zone changed sides, of a day.
        (1..=24 * 60).find_map(|minutes| {
            let later = day.and_time(time).checked_add_signed(TimeDelta::minutes(minutes))?;
            self.zone.from_local_datetime(&later).earliest().map(|time| time.to_utc())
        })
    }
}

/// The values of a field, as bits. `names`: for values from `first_name` on.
fn field(what: &str, text: &str, low: u32, high: u32, names: &[&str], first_name: u32) -> Result<u64, String> {
    let wrong = |why: &str| format!("'{text}' is no {what}: {why}");
    let value = |text: &str| -> Result<u32, String> {
        let lower = text.to_lowercase();
        if let Some(at) = names.iter().position(|name| *name == lower) {
            return Ok(first_name + at as u32);
        }
        let number =
            text.parse().map_err(|_| wrong("it is '*', numbers, ranges like 1-5, lists like 1,3, steps like */15"))?;
        if (low..=high).contains(&number) { Ok(number) } else { Err(wrong(&format!("it goes from {low} to {high}"))) }
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                (range, step.parse().ok().filter(|step| *step > 0).ok_or_else(|| wrong("a step is at least 1"))?)
            }
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (value(from)?, value(to)?),
            None if part.contains('/') => (value(range)?, high),
            None => (value(range)?, value(range)?),
        };
        if from > to {
            return Err(wrong("a range rises"));
        }
        (from..=to).step_by(step).for_each(|value| bits |= 1 << value);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The next times from this one on, as they are called there.
    fn due(cron: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
        let cron = Cron::parse(cron, zone).unwrap();
        let mut at = from.parse::<DateTime<Utc>>().unwrap().timestamp_millis();
        let mut due = Vec::new();
        for _ in 0..n {
            at = cron.next_after(at).unwrap();
            let local = DateTime::from_timestamp_millis(at).unwrap().with_timezone(&cron.zone);
            due.push(local.format("%m-%d %H:%M %z").to_string());
        }
        due
    }

    #[test]
    fn fields_mean_what_they_mean_everywhere() {
        let from = "2026-11-25T12:07:30Z"; // a Wednesday
        assert_eq!(
            due("*/20 * * * *", "UTC", from, 3),
            ["11-25 12:20 +0000", "11-25 12:40 +0000", "11-25 13:00 +0000"]
        );
        assert_eq!(due("5,30-32 8-9/1 * * mon-fri", "UTC", from, 2), ["11-26 08:05 +0000", "11-26 08:30 +0000"]);
        assert_eq!(due("0 0 1 * sun", "UTC", from, 2), ["11-29 00:00 +0000", "12-01 00:00 +0000"], "either day");
        assert_eq!(due("0 0 29 feb *", "UTC", from, 1), ["02-29 00:00 +0000"]);
        assert_eq!(due("0 0 * * 7", "UTC", from, 1), due("0 0 * * 0", "UTC", from, 1));
        assert_eq!(
            due("7 12 * * *", "UTC", "2026-11-25T12:07:00Z", 1),
            ["11-26 12:07 +0000"],
            "later than the given time"
        );
    }

    #[test]
    fn what_names_its_hour_is_due_once_where_clocks_are_changed() {
        // In Berlin 02:00 to 03:00 is left out on 29 March 2026 and comes twice on 25 October.
        let night = due("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3);
        assert_eq!(night, ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]);
        let night = due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(night, ["10-25 02:30 +0200", "10-26 02:30 +0100"]);
    }

    #[test]
    fn what_goes_by_the_hour_is_due_by_the_time_that_passes() {
        let hourly = due("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3);
        assert_eq!(hourly, ["03-29 01:30 +0100", "03-29 03:30 +0200", "03-29 04:30 +0200"]);
        let hourly = due("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3);
        assert_eq!(hourly, ["10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 03:30 +0100"]);
        // A zone that moves by half an hour, and one whose midnight is left out.
        let lord_howe = due("15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", 3);
        assert_eq!(lord_howe, ["04-05 01:15 +1100", "04-05 02:15 +1030", "04-05 03:15 +1030"]);
        let beirut = due("0 0 * * *", "Asia/Beirut", "2026-03-28T00:00:00Z", 2);
        assert_eq!(beirut, ["03-29 01:00 +0300", "03-30 00:00 +0300"]);
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |cron: &str, zone: &str| Cron::parse(cron, zone).unwrap_err();
        assert!(wrong("* * * *", "UTC").contains("has 4 fields"));
        assert!(wrong("61 * * * *", "UTC").contains("'61' is no minute: it goes from 0 to 59"));
        assert!(wrong("* 5-3 * * *", "UTC").contains("a range rises"));
        assert!(wrong("*/0 * * * *", "UTC").contains("a step is at least 1"));
        assert!(wrong("* * * foo *", "UTC").contains("'foo' is no month"));
        assert!(wrong("0 0 30 2 *", "UTC").contains("never due"));
        assert!(wrong("* * * * *", "Europe/Berln").contains("did you mean 'Europe/Berlin'?"));
    }

    proptest! {
        /// Against looking at each minute in turn, in a zone whose clocks never change.
        #[test]
        fn no_time_is_left_out(minute in 0u32..60, hour in 0u32..24, step in 1u32..30, from in 0i64..1_000_000) {
            let cron = Cron::parse(&format!("{minute},*/{step} {hour} * * 1,4"), "UTC").unwrap();
            let from_ms = 1_700_000_000_000 + from * 1_000;
            let found = cron.next_after(from_ms).unwrap();
            let first_minute = from_ms / 60_000 + 1;
            let wanted = (first_minute..).map(|minute| minute * 60_000).find(|at| {
                let time = DateTime::from_timestamp_millis(*at).unwrap();
                let weekday = time.weekday().num_days_from_sunday();
                (time.minute() == minute || time.minute() % step == 0) && time.hour() == hour && [1, 4].contains(&weekday)
            });
            prop_assert_eq!(Some(found), wanted);
        }
    }
}
