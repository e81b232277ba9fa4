//! Safeguards that a test switches off, one at a time, to see that the simulation finds it.

pub use ringfence_model::sabotage::{Safeguard, is_off, switch_off};
