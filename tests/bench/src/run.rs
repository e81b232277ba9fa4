//! One run as it is stored: who took part, on what machine, and every single reading.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::aead::AeadSpeed;
use crate::contender::Kind;
use crate::filter::FilterSpeed;
use crate::full::FullReading;
use crate::machine::Machine;
use crate::metric::Metric;
use crate::revoke::Revocation;
use crate::rough::RoughReading;
use crate::scale::Scale;
use crate::summary::Spread;

/// Everything that a run found out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// When it began, RFC 3339, UTC.
    pub began: String,
    /// How long it took, in seconds.
    pub took_s: u64,
    /// Where it ran.
    pub machine: Machine,
    /// How often each measurement was taken.
    pub rounds: u32,
    /// How long iperf3 ran each time, in seconds.
    pub seconds: u32,
    /// What the reader has to know besides.
    #[serde(default)]
    pub note: String,
    /// Who took part, in the order of the page.
    pub entries: Vec<Entry>,
    /// Every reading, in the order taken.
    pub readings: Vec<Reading>,
    /// Measurements that gave no reading, and why.
    #[serde(default)]
    pub failures: Vec<String>,
    /// The ciphers by themselves.
    #[serde(default)]
    pub aead: Vec<AeadSpeed>,
    /// The filter by itself: empty first, then full.
    #[serde(default)]
    pub filter: Vec<FilterSpeed>,
    /// Nodes with one rule and one flow, and with very many, in turns.
    #[serde(default)]
    pub full: Vec<FullReading>,
    /// Idle nodes with one peer or perimeter, and with very many.
    #[serde(default)]
    pub scale: Scale,
    /// Access taken away while it is used.
    #[serde(default)]
    pub revocations: Vec<Revocation>,
    /// TCP over a network with faults, ours and plain.
    #[serde(default)]
    pub rough: Vec<RoughReading>,
}

/// Who takes part, or was to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The version it gives.
    pub version: String,
    /// The largest packet that its tunnel takes.
    pub mtu_bytes: u16,
    /// Why it does not take part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Of whom.
    pub kind: Kind,
    /// Of what.
    pub metric: Metric,
    /// In the metric's unit.
    pub value: f64,
}

impl Run {
    /// What all readings of one thing say together; `None` if there is none.
    pub fn spread(&self, kind: Kind, metric: Metric) -> Option<Spread> {
        let same = |reading: &&Reading| reading.kind == kind && reading.metric == metric;
        let values: Vec<f64> = self.readings.iter().filter(same).map(|r| r.value).collect();
        Spread::of(&values)
    }

    /// Those who took part and `fits` holds for, with their medians.
    pub fn medians(&self, metric: Metric, fits: impl Fn(Kind) -> bool) -> BTreeMap<Kind, f64> {
        let kinds = self
            .entries
            .iter()
            .map(|entry| entry.kind)
            .filter(|&kind| fits(kind));
        kinds
            .filter_map(|kind| Some((kind, self.spread(kind, metric)?.median)))
            .collect()
    }

    /// Who of those that `fits` holds for has the best median.
    pub fn best(&self, metric: Metric, fits: impl Fn(Kind) -> bool) -> Option<(Kind, f64)> {
        let better = |a: &(Kind, f64), b: &(Kind, f64)| metric.better().of(a.1, b.1).total_cmp(&a.1).is_eq();
        let medians = self.medians(metric, fits).into_iter();
        medians.reduce(|a, b| if better(&a, &b) { a } else { b })
    }
}
