//! What a rule may ask of the one who opens a conversation: a recent second factor, a device posture, hours of the
//! week. Nothing verifies these, so a rule that has any opens nothing (fail closed).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Weekday;
use jiff::tz::TimeZoneDatabase;
use ringfence_model::Name;

use crate::reader::{nearest, short_duration};

/// The `require` of a rule. Never empty in a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The second factor is at most this old.
    pub mfa: Option<Duration>,
    /// The device has all of these.
    pub posture: Vec<Name>,
    /// It is one of these hours.
    pub hours: Option<Hours>,
}

/// Hours of the week in a time zone: `Mon-Fri 08:00-19:00 Europe/Berlin`.
///
/// Hours that end before they start run into the next day and belong to the day they start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The days they start on, Monday first. Never empty.
    pub days: Vec<Weekday>,
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

fn parse_days(text: &str) -> Result<Vec<Weekday>, HoursError> {
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
    let days = DAYS.iter().zip(on).filter(|(_, on)| *on);
    Ok(days.map(|((_, day), _)| *day).collect())
}

fn day_index(text: &str) -> Result<usize, HoursError> {
    let index = DAYS.iter().position(|(name, _)| *name == text);
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

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mfa = self.mfa.map(|age| format!("mfa within {}", short_duration(age)));
        let posture = self.posture.iter().map(|posture| format!("posture {posture}"));
        let hours = self.hours.as_ref().map(|hours| format!("hours {hours}"));
        let parts: Vec<String> = mfa.into_iter().chain(posture).chain(hours).collect();
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<usize> = (0..DAYS.len())
            .filter(|&at| self.days.contains(&DAYS[at].1))
            .collect();
        let runs = on.chunk_by(|day, next| day + 1 == *next);
        let runs = runs.map(|run| match *run {
            [first, .., last] if run.len() > 2 => format!("{}-{}", DAYS[first].0, DAYS[last].0),
            _ => run.iter().map(|&at| DAYS[at].0).collect::<Vec<_>>().join(","),
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

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

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

    proptest! {
        #[test]
        fn any_text_is_refused_or_read_without_panic(text in "[A-Za-z0-9:,/ -]{0,40}") {
            let _ = text.parse::<Hours>();
        }
    }
}
