//! Hours of the week in a time zone, by the clock on the wall there: `Mon-Fri 08:00-19:00 Europe/Berlin`.
//!
//! **Invariant:** whether it is one of these hours is asked of the local date and time alone. A minute that a change of
//! clocks leaves out never comes, and one that comes twice counts both times.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use ringfence_model::UnixMillis;

use crate::reader::nearest;
use crate::require::Standing;

/// Hours of the week in a time zone: `Mon-Fri 08:00-19:00 Europe/Berlin`.
///
/// Hours that end before they start run into the next day and belong to the day they start on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hours {
    /// Whether they start on a day, Monday first. On one at least.
    pub days: [bool; 7],
    /// Minutes from midnight at which they start.
    pub start_minute: u16,
    /// Minutes from midnight at which they end; 1440 is the end of the day.
    pub end_minute: u16,
    /// The zone's IANA name, known to the time zone database.
    pub zone: String,
}

/// Why a text is not [`Hours`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// Not days, times and zone.
    #[error("{0:?} is not hours of the week: write \"Mon-Fri 08:00-19:00 Europe/Berlin\"")]
    Shape(String),
    /// Not a day.
    #[error("{0:?} is not a day: use Mon, Tue, Wed, Thu, Fri, Sat or Sun, as in Mon-Fri or Sat,Sun")]
    Day(String),
    /// Not a time.
    #[error("{0:?} is not a time of day: write it as 08:00 (24:00 is the end of the day)")]
    Time(String),
    /// Nothing between start and end.
    #[error("hours that end when they start are empty: for the whole day write 00:00-24:00")]
    Empty,
    /// Not a zone.
    #[error("{name:?} is not a time zone: use an IANA name such as Europe/Berlin or UTC")]
    Zone {
        /// As written.
        name: String,
        /// One that is spelt alike.
        nearest: Option<String>,
    },
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [days, times, zone] = words[..] else {
            return Err(HoursError::Shape(text.to_owned()));
        };
        let Some((start, end)) = times.split_once('-') else {
            return Err(HoursError::Shape(text.to_owned()));
        };
        let (start_minute, end_minute) = (parse_minute(start)?, parse_minute(end)?);
        if start_minute == MINUTES_PER_DAY {
            return Err(HoursError::Time(start.to_owned()));
        }
        if start_minute == end_minute {
            return Err(HoursError::Empty);
        }
        Ok(Self {
            days: parse_days(days)?,
            start_minute,
            end_minute,
            zone: parse_zone(zone)?,
        })
    }
}

impl Hours {
    /// Whether `wall` is one of these hours, and when that changes next; `None` if never.
    pub fn standing(&self, wall: UnixMillis) -> Standing {
        // A moment that no calendar has, or a zone that is known no more, is none of these hours.
        let Some((zone, now)) = self.zone().zip(timestamp(wall)) else {
            return Standing::NEVER;
        };
        let holds = self.shows(&zone, now);
        // Nearly always it is today or tomorrow.
        let horizons = [1, TURNS_DAYS].into_iter();
        let until = horizons
            .flat_map(|days| self.turns(&zone, now, days))
            .find(|turn| self.shows(&zone, *turn) != holds);
        Standing {
            holds,
            until: until.and_then(|turn| Some(UnixMillis(u64::try_from(turn.as_millisecond()).ok()?))),
        }
    }

    /// A moment as the clocks of the zone show it.
    pub(crate) fn local(&self, wall: UnixMillis) -> Option<String> {
        let shown = self.zone()?.to_datetime(timestamp(wall)?);
        Some(format!("{} {}", shown.strftime("%a %Y-%m-%d %H:%M"), self.zone))
    }

    fn zone(&self) -> Option<TimeZone> {
        TimeZoneDatabase::bundled().get(&self.zone).ok()
    }

    /// Whether the clock on the wall shows one of these hours.
    fn shows(&self, zone: &TimeZone, at: Timestamp) -> bool {
        let shown = zone.to_datetime(at);
        let minute = minute_of_day(shown);
        let today = day_index_of(shown.weekday());
        let yesterday = (today + DAYS.len() - 1) % DAYS.len();
        if self.start_minute < self.end_minute {
            return self.days[today] && (self.start_minute..self.end_minute).contains(&minute);
        }
        (self.days[today] && minute >= self.start_minute)
            || (self.days[yesterday] && minute < self.end_minute)
    }

    /// The moments in the days after `now`, in order, at which what the clock shows may come into these hours or go out of them:
    /// their starts and ends, each time the clock shows them, midnight, and every change of the clocks.
    fn turns(&self, zone: &TimeZone, now: Timestamp, days_ahead: i32) -> Vec<Timestamp> {
        let today = zone.to_datetime(now).date();
        let mut turns = Vec::new();
        for days in -1..=days_ahead {
            let Ok(date) = today.checked_add(days.days()) else {
                continue;
            };
            for minute in [0, self.start_minute, self.end_minute % MINUTES_PER_DAY] {
                let time = SignedDuration::from_mins(minute.into());
                let Ok(shown) = date.at(0, 0, 0, 0).checked_add(time) else {
                    continue;
                };
                let moments = zone.to_ambiguous_timestamp(shown);
                turns.extend([moments.earlier(), moments.later()].into_iter().flatten());
            }
        }
        let last = turns.iter().max().copied();
        let changes = zone.following(now).map(|change| change.timestamp());
        turns.extend(changes.take_while(|change| last.is_some_and(|last| *change <= last)));
        turns.retain(|turn| *turn > now);
        turns.sort_unstable();
        turns
    }
}

fn timestamp(wall: UnixMillis) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(wall.0).ok()?).ok()
}

fn minute_of_day(shown: DateTime) -> u16 {
    let minute = i32::from(shown.hour()) * 60 + i32::from(shown.minute());
    u16::try_from(minute).expect("a day has 1440 minutes")
}

fn day_index_of(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).expect("the days of a week are numbered from zero")
}

fn parse_days(text: &str) -> Result<[bool; 7], HoursError> {
    let mut on = [false; DAYS.len()];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (day_index(first)?, day_index(last)?);
        // Sat-Mon runs over the end of the week.
        on[day] = true;
        while day != last {
            day = (day + 1) % DAYS.len();
            on[day] = true;
        }
    }
    Ok(on)
}

fn day_index(text: &str) -> Result<usize, HoursError> {
    let index = DAYS.iter().position(|name| *name == text);
    index.ok_or_else(|| HoursError::Day(text.to_owned()))
}

fn parse_minute(text: &str) -> Result<u16, HoursError> {
    let error = || HoursError::Time(text.to_owned());
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let (hour, minute) = text.split_once(':').ok_or_else(error)?;
    if !digits(hour) || !digits(minute) {
        return Err(error());
    }
    let hour: u16 = hour.parse().map_err(|_| error())?;
    let minute: u16 = minute.parse().map_err(|_| error())?;
    let total = hour * 60 + minute;
    if minute > 59 || total > MINUTES_PER_DAY {
        return Err(error());
    }
    Ok(total)
}

/// Looks the zone up in the compiled-in database: the one on disk would make the answer depend on the machine.
fn parse_zone(text: &str) -> Result<String, HoursError> {
    let database = TimeZoneDatabase::bundled();
    let known = database.available().find(|zone| zone.as_str() == text);
    if let Some(zone) = known {
        return Ok(zone.as_str().to_owned());
    }
    let names: Vec<String> = database
        .available()
        .map(|zone| zone.as_str().to_owned())
        .collect();
    let nearest = nearest(text, names.iter().map(String::as_str));
    Err(HoursError::Zone {
        name: text.to_owned(),
        nearest: nearest.map(str::to_owned),
    })
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<usize> = (0..DAYS.len()).filter(|&at| self.days[at]).collect();
        let runs = on.chunk_by(|day, next| day + 1 == *next);
        let runs = runs.map(|run| match *run {
            [first, .., last] if run.len() > 2 => format!("{}-{}", DAYS[first], DAYS[last]),
            _ => run.iter().map(|&at| DAYS[at]).collect::<Vec<_>>().join(","),
        });
        let days = runs.collect::<Vec<_>>().join(",");
        let (start, end) = (self.start_minute, self.end_minute);
        write!(f, "{days} ")?;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02} ",
            start / 60,
            start % 60,
            end / 60,
            end % 60
        )?;
        f.write_str(&self.zone)
    }
}

const MINUTES_PER_DAY: u16 = 24 * 60;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A change of clocks may leave out what a week has once: so two weeks, and what two changes may move.
const TURNS_DAYS: i32 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hours_read_as_written_and_read_back() {
        let hours: Hours = "Fri-Mon,Wed 22:00-06:30 Europe/Berlin".parse().unwrap();

        assert_eq!(hours.to_string(), "Mon,Wed,Fri-Sun 22:00-06:30 Europe/Berlin");
        assert_eq!(hours.to_string().parse(), Ok(hours));
        assert!("Mon 00:00-24:00 UTC".parse::<Hours>().is_ok());
    }

    #[test]
    fn odd_hours_say_why() {
        let error = |text: &str| text.parse::<Hours>().unwrap_err();

        assert!(matches!(error("always"), HoursError::Shape(_)));
        assert!(matches!(error("Mon 08:00 UTC"), HoursError::Shape(_)));
        assert!(matches!(error("mon 08:00-09:00 UTC"), HoursError::Day(_)));
        assert!(matches!(error("Mon 8:00-09:00 UTC"), HoursError::Time(_)));
        assert!(matches!(error("Mon 08:60-09:00 UTC"), HoursError::Time(_)));
        assert!(matches!(error("Mon 24:00-09:00 UTC"), HoursError::Time(_)));
        assert!(matches!(error("Mon 08:00-24:01 UTC"), HoursError::Time(_)));
        assert_eq!(error("Mon 08:00-08:00 UTC"), HoursError::Empty);
        let nearest = Some("Europe/Berlin".to_owned());
        let name = "Europe/Berlni".to_owned();
        assert_eq!(
            error("Mon 08:00-09:00 Europe/Berlni"),
            HoursError::Zone { name, nearest }
        );
    }

    fn at(text: &str) -> UnixMillis {
        let at: Timestamp = text.parse().unwrap();
        UnixMillis(at.as_millisecond().try_into().unwrap())
    }

    fn ask(hours: &str, when: &str) -> (bool, Option<String>) {
        let standing = hours.parse::<Hours>().unwrap().standing(at(when));
        let until = standing.until.map(|until| timestamp(until).unwrap().to_string());
        (standing.holds, until)
    }

    fn told(holds: bool, until: &str) -> (bool, Option<String>) {
        (holds, Some(until.to_owned()))
    }

    #[test]
    fn office_hours_open_and_close_by_the_local_clock() {
        let office = "Mon-Fri 08:00-19:00 Europe/Berlin";

        assert_eq!(
            ask(office, "2026-11-24T06:59:59.999Z"),
            told(false, "2026-11-24T07:00:00Z")
        );
        assert_eq!(
            ask(office, "2026-11-24T07:00:00Z"),
            told(true, "2026-11-24T18:00:00Z")
        );
        assert_eq!(
            ask(office, "2026-11-27T18:00:00Z"),
            told(false, "2026-11-30T07:00:00Z")
        );
        assert_eq!(
            ask(office, "2026-07-01T12:00:00Z"),
            told(true, "2026-07-01T17:00:00Z")
        );
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_they_start_on() {
        let night = "Fri 22:00-06:00 UTC";

        assert_eq!(
            ask(night, "2026-11-27T05:00:00Z"),
            told(false, "2026-11-27T22:00:00Z")
        );
        assert_eq!(
            ask(night, "2026-11-28T00:00:00Z"),
            told(true, "2026-11-28T06:00:00Z")
        );
        assert_eq!(
            ask(night, "2026-11-29T00:00:00Z"),
            told(false, "2026-12-04T22:00:00Z")
        );
    }

    #[test]
    fn hours_that_meet_are_one_and_a_whole_week_never_ends() {
        assert_eq!(
            ask("Mon-Sat 00:00-24:00 UTC", "2026-11-24T12:00:00Z"),
            told(true, "2026-11-29T00:00:00Z")
        );
        assert_eq!(
            ask("Mon-Sun 00:00-24:00 Europe/Berlin", "2026-11-24T12:00:00Z"),
            (true, None)
        );
    }

    #[test]
    fn a_clock_that_is_set_shows_what_it_shows() {
        // On 29 March 2026 the clocks of Berlin go from 02:00 to 03:00, on 25 October from 03:00 to 02:00.
        let (gap, fold) = ("Sun 02:30-04:00 Europe/Berlin", "Sun 02:15-02:45 Europe/Berlin");

        assert_eq!(
            ask(gap, "2026-03-29T00:00:00Z"),
            told(false, "2026-03-29T01:00:00Z")
        );
        assert_eq!(
            ask(gap, "2026-03-29T01:00:00Z"),
            told(true, "2026-03-29T02:00:00Z")
        );
        assert_eq!(
            ask(fold, "2026-03-29T00:00:00Z"),
            told(false, "2026-04-05T00:15:00Z"),
            "never shown that day"
        );
        assert_eq!(
            ask(fold, "2026-10-25T00:15:00Z"),
            told(true, "2026-10-25T00:45:00Z")
        );
        assert_eq!(
            ask(fold, "2026-10-25T00:45:00Z"),
            told(false, "2026-10-25T01:15:00Z"),
            "shown again"
        );
        assert_eq!(
            ask(fold, "2026-10-25T01:45:00Z"),
            told(false, "2026-11-01T01:15:00Z")
        );
    }

    #[test]
    fn a_moment_past_every_calendar_is_none_of_these_hours() {
        let always: Hours = "Mon-Sun 00:00-24:00 UTC".parse().unwrap();

        assert_eq!(always.standing(UnixMillis(u64::MAX)), Standing::NEVER);
    }

    /// Which minutes of the week are on, by walking each of the hours from its start.
    fn table(hours: &Hours) -> Vec<bool> {
        let mut on = vec![false; 7 * 1_440];
        for day in (0..7).filter(|day| hours.days[*day]) {
            let start = day * 1_440 + usize::from(hours.start_minute);
            let length = (1_440 + hours.end_minute - hours.start_minute - 1) % 1_440 + 1;
            for minute in start..start + usize::from(length) {
                on[minute % (7 * 1_440)] = true;
            }
        }
        on
    }

    /// The clock is read anew each minute.
    fn is_on(on: &[bool], zone: &TimeZone, at: Timestamp) -> bool {
        let shown = zone.to_datetime(at);
        let day = usize::try_from(shown.weekday().to_monday_zero_offset()).unwrap();
        on[day * 1_440
            + usize::try_from(shown.hour()).unwrap() * 60
            + usize::try_from(shown.minute()).unwrap()]
    }

    fn hours() -> impl Strategy<Value = Hours> {
        const ZONES: [&str; 6] = [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
            "Africa/Casablanca",
        ];
        // Quarters of an hour, thick where clocks are set.
        let minute = || prop_oneof![(0..16_u16).prop_map(|n| n * 15), (0..96_u16).prop_map(|n| n * 15)];
        let days = prop::array::uniform7(any::<bool>()).prop_filter("none", |days| days.contains(&true));
        let parts = (days, minute(), minute(), prop::sample::select(&ZONES[..]));
        parts.prop_filter_map("empty", |(days, start_minute, end_minute, zone)| {
            let end_minute = if end_minute == 0 { 1_440 } else { end_minute };
            let zone = zone.to_owned();
            (start_minute != end_minute).then_some(Hours {
                days,
                start_minute,
                end_minute,
                zone,
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Over the days in which clocks are set, and others.
        #[test]
        fn hours_are_what_the_clock_shows_minute_by_minute(
            hours in hours(),
            start in prop::sample::select(&["2026-03-07T10:07:30Z", "2026-03-28T10:07:30Z", "2026-04-04T07:07:30Z", "2026-10-24T10:07:30Z", "2026-10-31T10:07:30Z", "2026-02-14T10:07:30Z", "2026-06-10T10:07:30Z"][..]),
        ) {
            let (on, zone) = (table(&hours), hours.zone().unwrap());
            let start: Timestamp = start.parse().unwrap();
            let minutes: Vec<Timestamp> = (0..4 * 1_440_i64).map(|n| {
                Timestamp::from_second(start.as_second().div_euclid(60) * 60 + n * 60).unwrap()
            }).collect();
            let shown: Vec<bool> = minutes.iter().map(|at| is_on(&on, &zone, *at)).collect();
            let mut next = None;
            for place in (0..minutes.len()).rev() {
                if place + 1 < shown.len() && shown[place + 1] != shown[place] {
                    next = Some(minutes[place + 1]);
                }
                let asked = UnixMillis(u64::try_from(minutes[place].as_millisecond()).unwrap() + 30_000);
                if place % 61 != 0 {
                    continue;
                }
                let standing = hours.standing(asked);
                prop_assert_eq!(standing.holds, shown[place], "{} at {}", &hours, minutes[place]);
                let until = standing.until.map(|until| timestamp(until).unwrap());
                match next {
                    Some(next) => prop_assert_eq!(until, Some(next), "{} at {}", &hours, minutes[place]),
                    None => prop_assert!(until.is_none_or(|until| until > *minutes.last().unwrap())),
                }
            }
        }

        #[test]
        fn any_text_is_refused_or_read_without_panic(text in "[A-Za-z0-9:,/ -]{0,40}") {
            let _ = text.parse::<Hours>();
        }
    }
}
