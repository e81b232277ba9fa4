//! What one run is like: how large, how lively, and which faults with which odds. All of it drawn from the seed.
//!
//! Every fault everywhere all the time would hide what only shows when one of them is absent (swarm testing, Groce et
//! al. 2012): so each run leaves some out altogether.

use std::time::Duration;

use crate::dice::Dice;
use crate::sabotage::Safeguard;

/// What the command line asks of every run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// How long faults go on, in simulated time. Healing and the proof of liveness come on top.
    pub seconds: u64,
    /// How many machines; drawn from the seed if not given.
    pub machines: Option<usize>,
    /// What the run does without, to see that it is missed.
    pub without: Option<Safeguard>,
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    /// How long faults go on.
    pub length: Duration,
    /// Machines.
    pub machines: usize,
    /// Perimeters that may exist at once.
    pub perimeters: usize,
    /// Between two administrator's actions.
    pub admin_every: Duration,
    /// Between two packets that one machine's applications begin something with.
    pub traffic_every: Duration,
    /// Between two faults of the network, a machine or the controller.
    pub fault_every: Duration,
    /// Between two attacks.
    pub attack_every: Duration,
    /// Datagrams are read together and packets written together.
    pub runs: bool,
    /// The network.
    pub wire: Wire,
    /// Odds of each kind of fault, relative to each other; zero leaves it out.
    pub faults: Faults,
    /// Odds of each kind of attacker.
    pub attacks: Attacks,
}

/// How datagrams fare.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// One way, at least.
    pub latency: Duration,
    /// On top, drawn for each datagram: what makes them overtake each other.
    pub jitter: Duration,
    /// Lost.
    pub loss: f64,
    /// Delivered twice.
    pub duplication: f64,
    /// Share of machines behind a NAT.
    pub nat: f64,
    /// Share of machines on a link with a small MTU: what is too large for either end is dropped without a word.
    pub narrow: f64,
    /// Share of machines with an IPv6 address, some of which have no other.
    pub ipv6: f64,
}

/// Weights of faults.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Two machines, or a machine and the controller, cannot reach each other.
    pub partition: u64,
    /// The same in one direction.
    pub partition_one_way: u64,
    /// A machine dies and starts again.
    pub crash: u64,
    /// At a step between two writes, when a netmap is enforced.
    pub crash_at_step: f64,
    /// A machine stands still for a while.
    pub stall: u64,
    /// A machine's wall clock jumps.
    pub clock_jump: u64,
    /// The controller's wall clock is set.
    pub controller_clock: u64,
    /// The controller dies and starts again.
    pub controller_crash: u64,
    /// The controller comes back from a backup, in a new term.
    pub controller_restore: u64,
    /// The controller's log takes no entry.
    pub log_full: f64,
    /// A machine's disk takes no file.
    pub disk_full: f64,
    /// A machine's disk says that a netmap is safe, and it is not: a power cut may lose or tear it.
    pub disk_lies: f64,
}

/// Weights of attacks.
#[derive(Clone, Debug)]
pub(crate) struct Attacks {
    /// A captured datagram once more.
    pub replay: u64,
    /// A captured datagram with other bits.
    pub corrupt: u64,
    /// A handshake by a key that nobody knows.
    pub stranger: u64,
    /// A member that runs something else than our agent.
    pub rogue: u64,
    /// A word of the controller once more, or out of order.
    pub stale_word: u64,
    /// An enrolment with a token that is used up, or a wrong secret.
    pub token: u64,
}

impl Swarm {
    /// Draws a run.
    pub(crate) fn draw(seed: u64, scale: Scale) -> Self {
        let mut dice = Dice::new(seed, "swarm");
        let machines = scale.machines.unwrap_or_else(|| dice.number(3..9) as usize);
        // Days are long and quiet: as much happens in one as in five minutes, so that some nodes live through it.
        let quiet = if scale.seconds > LIVELY_S_MAX {
            (scale.seconds / 300) as u32
        } else {
            1
        };
        Self {
            length: Duration::from_secs(scale.seconds),
            machines,
            perimeters: dice.number(1..4) as usize,
            admin_every: Duration::from_millis(dice.number(2_000..30_000)) * quiet,
            traffic_every: Duration::from_millis(dice.number(300..4_000)) * quiet,
            fault_every: Duration::from_millis(dice.number(4_000..60_000)) * quiet,
            attack_every: Duration::from_millis(dice.number(200..5_000)) * quiet,
            wire: Wire::draw(&mut dice),
            faults: Faults::draw(&mut dice),
            attacks: Attacks::draw(&mut dice),
            runs: dice.chance(0.4),
        }
    }
}

impl Wire {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            latency: Duration::from_micros(dice.number(100..60_000)),
            jitter: Duration::from_micros(dice.pick(&[10, 1_000, 30_000, 200_000])),
            loss: dice.pick(&[0.0, 0.0, 0.01, 0.05, 0.2]),
            duplication: dice.pick(&[0.0, 0.0, 0.02, 0.1]),
            nat: dice.pick(&[0.0, 0.0, 0.3, 0.6]),
            narrow: dice.pick(&[0.0, 0.0, 0.4]),
            ipv6: dice.pick(&[0.0, 0.0, 0.4, 1.0]),
        }
    }
}

/// The longest run that is not a quiet one.
const LIVELY_S_MAX: u64 = 3_600;

/// A weight, or nothing in about a third of the runs.
fn weight(dice: &mut Dice) -> u64 {
    if dice.chance(0.35) { 0 } else { dice.number(1..10) }
}

fn odds(dice: &mut Dice, most: f64) -> f64 {
    if dice.chance(0.5) {
        0.0
    } else {
        dice.fraction() * most
    }
}

impl Faults {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            partition: weight(dice),
            partition_one_way: weight(dice),
            crash: weight(dice),
            crash_at_step: odds(dice, 0.1),
            stall: weight(dice),
            clock_jump: weight(dice),
            controller_clock: weight(dice) / 2,
            controller_crash: weight(dice),
            controller_restore: weight(dice) / 4,
            log_full: odds(dice, 0.2),
            disk_full: odds(dice, 0.1),
            disk_lies: odds(dice, 0.5),
        }
    }
}

impl Attacks {
    fn draw(dice: &mut Dice) -> Self {
        Self {
            replay: weight(dice),
            corrupt: weight(dice),
            stranger: weight(dice),
            rogue: 2 * weight(dice),
            stale_word: weight(dice),
            token: weight(dice),
        }
    }
}
