//! All randomness of a run, drawn from its seed.

use std::ops::Range;
use std::time::Duration;

use rand::{Rng as _, RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A seeded generator.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The generator of one seed and one purpose: draws for one purpose leave those for another alone.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        for (place, letter) in bytes[8..].iter_mut().zip(purpose.bytes()) {
            *place = letter;
        }
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.0.random::<f64>() < p
    }

    /// A number of `range`.
    pub(crate) fn number(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A place in something of `len`, which is not zero.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.place(choices.len())]
    }

    /// A number from 0 to 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.0.random()
    }

    /// A time of `range`.
    pub(crate) fn time(&mut self, range: Range<Duration>) -> Duration {
        let (from, to) = (range.start.as_micros() as u64, range.end.as_micros() as u64);
        Duration::from_micros(self.number(from..to.max(from + 1)))
    }

    /// About `mean`, as between two events of a Poisson process; at most ten times as long.
    pub(crate) fn about(&mut self, mean: Duration) -> Duration {
        let draw = -(1.0 - self.fraction()).max(1e-5).ln();
        mean.mul_f64(draw.min(10.0))
    }

    /// Thirty-two bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
