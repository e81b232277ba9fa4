//! What goes wrong, and who makes it worse.

use std::net::SocketAddr;
use std::time::Duration;

use ringfence_dataplane::initiation_to;
use ringfence_model::PrivateKey;

use crate::dice::Dice;
use crate::network::{CONTROLLER, PORT, Place, REPLAYERS, STRANGERS, of_family};
use crate::schedule::Happening;
use crate::violation::Violation;
use crate::world::World;

#[derive(Clone, Copy)]
enum Fault {
    Partition,
    PartitionOneWay,
    Crash,
    Stall,
    ClockJump,
    ControllerClock,
    Roam,
    ControllerCrash,
    ControllerRestore,
}

#[derive(Clone, Copy)]
enum Attack {
    Replay,
    Corrupt,
    Stranger,
    Rogue,
    StaleWord,
    Token,
}

/// One of the choices, by weight; nothing if no choice has any.
fn draw<T: Copy>(dice: &mut Dice, choices: &[(u64, T)]) -> Option<T> {
    let total: u64 = choices.iter().map(|(weight, _)| weight).sum();
    if total == 0 {
        return None;
    }
    let mut at = dice.number(0..total);
    for (weight, choice) in choices {
        if at < *weight {
            return Some(*choice);
        }
        at -= weight;
    }
    None
}

impl World {
    /// Something goes wrong.
    pub(crate) fn strike(&mut self) -> Result<(), Violation> {
        let faults = self.swarm.faults.clone();
        let fault = draw(
            &mut self.dice,
            &[
                (faults.partition, Fault::Partition),
                (faults.partition_one_way, Fault::PartitionOneWay),
                (faults.crash, Fault::Crash),
                (faults.stall, Fault::Stall),
                (faults.clock_jump, Fault::ClockJump),
                (faults.controller_clock, Fault::ControllerClock),
                (1, Fault::Roam),
                (faults.controller_crash, Fault::ControllerCrash),
                (faults.controller_restore, Fault::ControllerRestore),
            ],
        );
        let machine = self.dice.place(self.machines.len());
        match fault {
            Some(Fault::Partition) => self.partition(machine, [true, true]),
            Some(Fault::PartitionOneWay) => {
                let outbound = self.dice.chance(0.5);
                self.partition(machine, [outbound, !outbound]);
            }
            Some(Fault::Crash) => self.crash(machine, "killed"),
            Some(Fault::Stall) => {
                let wait = self.dice.time(Duration::from_millis(100)..STALL_MAX);
                self.say(format!("m{machine} stands still for {wait:?}"));
                self.machines[machine].stalled_until = self.now + wait;
            }
            Some(Fault::ClockJump) => {
                let most = self
                    .dice
                    .pick(&[MINUTES_MS, MINUTES_MS, MINUTES_MS, HALF_A_DAY_MS]);
                let jump = self.dice.number(0..2 * most).cast_signed() - most.cast_signed();
                self.say(format!("m{machine} has its clock set by {jump} ms"));
                self.machines[machine].wall_offset_ms += jump;
            }
            Some(Fault::ControllerClock) => {
                let offset_ms = self.dice.number(0..2 * CLOCK_OFF_MAX_MS).cast_signed();
                self.set_controller_clock(offset_ms - CLOCK_OFF_MAX_MS.cast_signed());
            }
            Some(Fault::Roam) => {
                self.network.roam(machine);
                self.say(format!(
                    "m{machine} moves to {}",
                    self.network.host_address(machine)
                ));
                self.tell_candidates(machine);
            }
            Some(Fault::ControllerCrash) => self.crash_controller("killed"),
            Some(Fault::ControllerRestore) => self.restore_controller()?,
            None => {}
        }
        Ok(())
    }

    /// Cuts a machine from another, or from the controller, for a while.
    fn partition(&mut self, machine: usize, directions: [bool; 2]) {
        let other = if self.dice.chance(0.6) {
            CONTROLLER
        } else {
            self.dice.place(self.machines.len())
        };
        if other == machine {
            return;
        }
        let until = self.now + self.dice.time(Duration::from_secs(1)..Duration::from_secs(90));
        let label = if other == CONTROLLER {
            "the controller".to_owned()
        } else {
            format!("m{other}")
        };
        self.say(format!(
            "m{machine} and {label} are cut until {:.1} s, each way: {directions:?}",
            until.as_secs_f64()
        ));
        for (from, to) in [(machine, other), (other, machine)]
            .into_iter()
            .zip(directions)
            .filter_map(|(way, is_cut)| is_cut.then_some(way))
        {
            self.network.cut(from, to);
            self.queue.at(until, Happening::Heal { from, to });
        }
    }

    /// Someone attacks.
    pub(crate) fn attack(&mut self) -> Result<(), Violation> {
        let attacks = self.swarm.attacks.clone();
        let attack = draw(
            &mut self.dice,
            &[
                (attacks.replay, Attack::Replay),
                (attacks.corrupt, Attack::Corrupt),
                (attacks.stranger, Attack::Stranger),
                (attacks.rogue, Attack::Rogue),
                (attacks.stale_word, Attack::StaleWord),
                (attacks.token, Attack::Token),
            ],
        );
        match attack {
            Some(Attack::Replay) => self.replay(false),
            Some(Attack::Corrupt) => self.replay(true),
            Some(Attack::Stranger) => self.knock(),
            Some(Attack::Rogue) => {
                let rogues = self
                    .machines
                    .iter()
                    .filter(|machine| machine.rogue.is_some())
                    .count();
                if rogues * 3 < self.machines.len() && self.dice.chance(0.1) {
                    let machine = self.dice.place(self.machines.len());
                    self.turn_rogue(machine);
                }
                self.rogue_acts();
            }
            Some(Attack::StaleWord) => self.stale_word()?,
            Some(Attack::Token) if self.dice.chance(0.5) => self.steal_key(),
            Some(Attack::Token) => self.abuse_token()?,
            None => {}
        }
        Ok(())
    }

    /// A captured datagram comes again, from its own source or another, whole or not.
    fn replay(&mut self, corrupt: bool) {
        if self.network.captured.is_empty() {
            return;
        }
        let place = self.dice.place(self.network.captured.len());
        let (dst, src, mut bytes) = self.network.captured[place].clone();
        if corrupt {
            for _ in 0..self.dice.number(1..4) {
                let at = self.dice.place(bytes.len());
                bytes[at] ^= 1 << self.dice.number(0..8);
            }
            if self.dice.chance(0.2) {
                let length = self.dice.place(bytes.len());
                bytes.truncate(length);
            }
        }
        let src = if self.dice.chance(0.5) {
            src
        } else {
            SocketAddr::new(of_family(REPLAYERS, dst), 666)
        };
        self.inject(src, dst, &bytes);
    }

    /// Handshakes by a key that nobody knows, to a key that is right.
    fn knock(&mut self) {
        let keys: Vec<_> = self
            .current
            .keys
            .iter()
            .map(|((_, node), key)| (*node, *key))
            .collect();
        if keys.is_empty() {
            return;
        }
        let (node, public_key) = self.dice.pick(&keys);
        let Some(machine) = self.machine_of(node) else {
            return;
        };
        let stranger = PrivateKey::from_random(self.dice.bytes());
        let Ok(datagram) = std::panic::catch_unwind(|| initiation_to(&stranger, public_key)) else {
            return;
        };
        let addresses = self.network.host_addresses(machine);
        let dst = self.dice.pick(&addresses);
        for _ in 0..self.dice.number(1..20) {
            self.inject(SocketAddr::new(of_family(STRANGERS, dst), PORT), dst, &datagram);
        }
    }

    fn inject(&mut self, src: SocketAddr, dst: SocketAddr, bytes: &[u8]) {
        self.stats.attacks += 1;
        for passage in self.network.inject(src, dst, bytes.len(), self.now) {
            if let Place::Machine(to) = passage.place {
                let when = self.now + passage.takes;
                self.queue.at(
                    when,
                    Happening::Datagram {
                        to,
                        src: passage.src,
                        bytes: bytes.to_vec(),
                    },
                );
            }
        }
    }
}

/// How far a machine's clock jumps, mostly.
const MINUTES_MS: u64 = 300_000;
/// How far it jumps at times: further than the third of a certificate's life that is left to renew it.
const HALF_A_DAY_MS: u64 = 12 * 3_600_000;
/// How far the controller's clock is off at most.
const CLOCK_OFF_MAX_MS: u64 = 3_600_000;
/// The longest that a machine stands still.
const STALL_MAX: Duration = Duration::from_secs(12);
