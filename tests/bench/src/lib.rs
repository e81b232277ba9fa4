//! Measures the data plane against other tunnels, in one interleaved run.
//!
//! Everything that is published is written from a stored [`Run`] by [`page`] and [`chart`], so no figure is typed by
//! hand. Load goes over interfaces of the lab's namespaces only.
#![expect(
    clippy::cast_precision_loss,
    reason = "byte and tick counts of a few seconds are far below 2^52"
)]
#![cfg_attr(test, allow(clippy::float_cmp, reason = "these figures are exact"))]

pub mod aead;
pub mod chart;
mod contender;
mod counters;
pub mod filter;
pub mod full;
mod goals;
mod machine;
mod measure;
mod metric;
pub mod page;
mod peers;
pub mod revoke;
pub mod rough;
mod run;
pub mod scale;
mod session;
mod summary;

pub use contender::{Contender, Kind, bring_up};
pub use machine::Machine;
pub use measure::{Measurement, Seconds, measure};
pub use metric::{Better, Metric, Unit};
pub use run::{Entry, Reading, Run};
pub use session::{Plan, carry_out};
pub use summary::Spread;
