//! TCP over a network that loses, doubles and reorders: through the tunnel, and plain.
//!
//! A fault should cost TCP in the tunnel what it costs TCP without one. So both get the same cable with the same round
//! trip, both send frame by frame, and both want the same, well below what either carries: what is missing then is the
//! fault's doing, and not that of a slower machine.

use std::time::Duration;

use anyhow::Result;
use ringfence_e2e::Faults;
use serde::{Deserialize, Serialize};

use crate::contender::{Cabled, Kind};
use crate::measure::{Seconds, iperf};
use crate::run::Run;
use crate::summary::Spread;

/// What the cable does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nothing but to delay.
    None,
    /// It loses one packet of a hundred.
    Loss,
    /// It sends one of a hundred twice.
    Doubles,
    /// It lets one of a hundred be overtaken by twenty.
    Reordering,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoughReading {
    /// Of whom: [`Kind::Ringfence`], or [`Kind::Veth`] for plain TCP.
    pub kind: Kind,
    /// Over what.
    pub fault: Fault,
    /// Payload that arrived, in 10^6 bits a second.
    pub megabits: f64,
}

impl Fault {
    /// All, the one that is none first.
    pub const ALL: [Self; 4] = [Self::None, Self::Loss, Self::Doubles, Self::Reordering];

    /// Its name on the page.
    pub fn title(self) -> &'static str {
        match self {
            Self::None => "no fault",
            Self::Loss => "1 % lost",
            Self::Doubles => "1 % doubled",
            Self::Reordering => "1 % overtaken by 20",
        }
    }

    fn faults(self) -> Faults {
        let delay_us = ROUND_TRIP_MS * 1000 / 2;
        let none = Faults {
            delay_us,
            ..Faults::default()
        };
        match self {
            Self::None => none,
            Self::Loss => Faults { lost: 10, ..none },
            Self::Doubles => Faults { doubled: 10, ..none },
            Self::Reordering => Faults {
                held: 10,
                overtaken_by: 20,
                ..none
            },
        }
    }
}

/// Measures both in turns.
///
/// # Errors
/// When one of them does not come up, or carries nothing.
pub fn readings(faults: &[Fault], rounds: u32, seconds: Seconds) -> Result<Vec<RoughReading>> {
    let mut both = [Cabled::bring_up(Kind::Ringfence)?, Cabled::bring_up(Kind::Veth)?];
    // Under loss a stream's rate swings from second to second.
    let lasting = Duration::from_secs(u64::from(seconds.iperf) * 2);
    let mut readings = Vec::new();
    for _ in 0..rounds {
        for &fault in faults {
            for one in &mut both {
                one.relay(fault.faults())?;
                one.contender.wait_ping()?;
                let gigabits = iperf::run_bounded(&one.contender, STREAMS, STREAM_MEGABITS_MAX, lasting)?;
                readings.push(RoughReading {
                    kind: one.contender.kind,
                    fault,
                    megabits: (gigabits * 1e4).round() / 10.0,
                });
            }
        }
    }
    Ok(readings)
}

impl Run {
    /// What all readings of one fault say together; `None` if there is none.
    pub fn rough_spread(&self, kind: Kind, fault: Fault) -> Option<Spread> {
        let same = |reading: &&RoughReading| reading.kind == kind && reading.fault == fault;
        let values: Vec<f64> = self.rough.iter().filter(same).map(|r| r.megabits).collect();
        Spread::of(&values)
    }

    /// What is left under a fault of what arrives without one: 1 is all.
    pub fn rough_share(&self, kind: Kind, fault: Fault) -> Option<f64> {
        let clean = self.rough_spread(kind, Fault::None)?.median;
        Some(self.rough_spread(kind, fault)?.median / clean)
    }
}

pub(crate) const ROUND_TRIP_MS: u32 = 10;
pub(crate) const STREAMS: u32 = 4;
/// At 10 ms and with one packet of a hundred lost, TCP reaches no more than a third of this.
pub(crate) const STREAM_MEGABITS_MAX: u32 = 50;
