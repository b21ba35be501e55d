//! Against what robfig/cron answers, by its own tests and documentation.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn schedules_are_due_when_the_controller_of_cron_jobs_says() {
    const NEW_YORK: &str = "America/New_York";
    for (now, schedule, zone, due) in [
        // Its own tests, without their seconds.
        ("2012-07-09T14:45:00Z", "*/15 * * * *", "Etc/UTC", "2012-07-09T15:00:00Z"),
        ("2012-07-09T14:59:59Z", "0/15 * * * *", "Etc/UTC", "2012-07-09T15:00:00Z"),
        ("2012-07-09T15:45:00Z", "20-35/15 * * * *", "Etc/UTC", "2012-07-09T16:20:00Z"),
        ("2012-07-09T23:35:51Z", "20-35/15 1/2 */2 * *", "Etc/UTC", "2012-07-11T01:20:00Z"),
        ("2012-07-09T23:35:51Z", "*/15 10-12 * * *", "Etc/UTC", "2012-07-10T10:00:00Z"),
        ("2012-07-09T23:35:51Z", "0 0 */5 Oct Mon", "Etc/UTC", "2012-10-01T00:00:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 * Feb Mon", "Etc/UTC", "2013-02-04T00:00:00Z"),
        ("2012-07-09T23:35:00Z", "0 0 29 Feb ?", "Etc/UTC", "2016-02-29T00:00:00Z"),
        ("2012-03-11T00:00:00-05", "30 2 11 Mar ?", NEW_YORK, "2013-03-11T02:30:00-04"),
        ("2012-03-11T00:00:00-05", "0 * * * *", NEW_YORK, "2012-03-11T01:00:00-05"),
        ("2012-03-11T01:00:00-05", "0 * * * *", NEW_YORK, "2012-03-11T03:00:00-04"),
        ("2012-03-11T00:00:00-05", "0 2 * * *", NEW_YORK, "2012-03-12T02:00:00-04"),
        ("2012-11-04T00:00:00-04", "30 2 04 Nov ?", NEW_YORK, "2012-11-04T02:30:00-05"),
        ("2012-11-04T01:45:00-04", "30 1 04 Nov ?", NEW_YORK, "2012-11-04T01:30:00-05"),
        ("2012-11-04T01:00:00-04", "0 * * * *", NEW_YORK, "2012-11-04T01:00:00-05"),
        ("2012-11-04T00:00:00-04", "0 1 * * *", NEW_YORK, "2012-11-04T01:00:00-04"),
        ("2012-11-04T01:00:00-04", "0 1 * * *", NEW_YORK, "2012-11-04T01:00:00-05"),
        ("2012-11-04T01:00:00-05", "0 1 * * *", NEW_YORK, "2012-11-05T01:00:00-05"),
        ("2018-11-03T05:09:57-03", "0 9 * * *", "America/Sao_Paulo", "2018-11-03T09:00:00-03"),
        // Midnight is left out there on that day.
        ("2018-11-03T12:00:00-03", "0 0 * * *", "America/Sao_Paulo", "2018-11-05T00:00:00-02"),
        // Ours.
        ("2026-03-28T03:00:00Z", "30 2 * * *", "Europe/Berlin", "2026-03-30T00:30:00Z"),
        ("2026-03-28T03:00:00Z", "17 3 * * *", "Europe/Berlin", "2026-03-29T01:17:00Z"),
        ("2026-10-25T00:30:00Z", "30 2 * * *", "Europe/Berlin", "2026-10-25T01:30:00Z"),
        ("2026-01-01T00:00:00Z", "@daily", "Asia/Kathmandu", "2026-01-01T18:15:00Z"),
        ("2026-01-01T00:00:00Z", "@weekly", "Etc/UTC", "2026-01-04T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "@monthly", "Etc/UTC", "2026-02-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "@annually", "Etc/UTC", "2027-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "@hourly", "Etc/UTC", "2026-01-01T01:00:00Z"),
        // Either day fits where neither is `*`, and both have to where one is.
        ("2026-01-01T00:00:00Z", "0 0 13 * fri", "Etc/UTC", "2026-01-02T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "0 0 13 * *", "Etc/UTC", "2026-01-13T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "0 0 */2 * MON-FRI", "Etc/UTC", "2026-01-02T00:00:00Z"),
    ] {
        assert_eq!(next(schedule, zone, at(now)), Some(at(due)), "{schedule} {zone} after {now}");
    }
}

#[test]
fn what_is_not_understood_or_never_comes_has_no_next_time() {
    let now = at("2026-01-01T00:00:00Z");
    for schedule in [
        "",
        "@every 1h",
        "@fortnightly",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 7",
        "5-1 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "1-2-3 * * * *",
        "1/2/3 * * * *",
        "* * L * *",
        "* * * * 1#2",
        "H * * * *",
        ", * * * *",
        "0 0 30 Feb *",
        "-1 * * * *",
    ] {
        assert_eq!(next(schedule, "Etc/UTC", now), None, "{schedule}");
    }
    assert_eq!(next("@daily", "Europe/Atlantis", now), None);
    for zone in ["Europe/Berlin", "Etc/UTC", "UTC", "US/Pacific", "Australia/Lord_Howe", "Asia/Kolkata"] {
        assert!(next("@daily", zone, now).is_some(), "{zone}");
    }
}

fn schedules() -> impl Strategy<Value = String> {
    let field = |first: u32, last: u32| {
        prop_oneof![
            Just("*".to_owned()),
            (first..=last).prop_map(|value| value.to_string()),
            (first..=last, 1..20_u32).prop_map(|(value, step)| format!("{value}/{step}")),
            (first..=last, first..=last).prop_map(|(a, b)| format!("{}-{},{a}", a.min(b), a.max(b))),
        ]
    };
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Minute by minute nothing lies between, and what was found fits.
    #[test]
    fn the_next_time_is_the_first_that_fits(
        schedule in schedules(),
        zone in prop::sample::select(vec![
            "Etc/UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]),
        second in 1_300_000_000_i64..1_900_000_000,
    ) {
        let now = Timestamp::from_second(second).unwrap();
        let (cron, zoned) = (parse(&schedule).unwrap(), time_zone(zone).unwrap());
        let fits = |at: Timestamp| {
            let shown = zoned.to_datetime(at);
            cron.is_on(shown.date()) && cron.hours.has(shown.hour()) && cron.minutes.has(shown.minute())
        };
        let due = next(&schedule, zone, now);
        if let Some(due) = due {
            prop_assert!(due > now && due.as_second() % 60 == 0 && fits(due), "{schedule} {due}");
        }
        // Two days of minutes; what comes later than that is not looked for one by one.
        let first = (second / 60 + 1) * 60;
        let found = (0..2 * 1440)
            .filter_map(|minute| Timestamp::from_second(first + minute * 60).ok())
            .find(|at| fits(*at));
        match found {
            Some(found) => prop_assert_eq!(due, Some(found), "{} {}", schedule, zone),
            None => prop_assert!(due.is_none_or(|due| due.as_second() >= first + 2 * 86_400), "{schedule}"),
        }
    }
}

#[test]
fn h_is_a_minute_or_hour_of_each_caches_own() {
    assert_eq!(spread("17 3 * * *", "a", "gc"), "17 3 * * *");
    assert_eq!(spread("@daily", "a", "gc"), "@daily");
    assert_eq!(
        spread("H/5 3 * * *", "a", "gc"),
        "H/5 3 * * *",
        "the API server says what is wrong with that"
    );
    let minutes: Vec<u32> = (0..600)
        .map(|cache| {
            let spread = spread("H H * * mon", &format!("uid-{cache}"), "gc");
            let fields: Vec<&str> = spread.split(' ').collect();
            assert_eq!(fields[2..], ["*", "*", "mon"]);
            let (minute, hour): (u32, u32) = (fields[0].parse().unwrap(), fields[1].parse().unwrap());
            assert!(minute < 60 && hour < 24, "{spread}");
            minute
        })
        .collect();
    for minute in 0..60 {
        let of_minute = minutes.iter().filter(|other| **other == minute).count();
        assert!((1..30).contains(&of_minute), "{of_minute} of 600 in minute {minute}");
    }
    assert_eq!(spread("H 3 * * *", "a", "gc"), spread("H 3 * * *", "a", "gc"));
    let tasks = (0..20).filter(|cache| {
        let of = |task: &str| spread("H 3 * * *", &cache.to_string(), task);
        of("gc") != of("fsck")
    });
    assert!(tasks.count() > 10, "what is done there has a minute of its own");
}
