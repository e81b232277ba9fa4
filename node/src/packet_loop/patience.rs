//! Whether the loop stays awake for this machine's answer to the one small packet that it has just handed to it.
//!
//! To fall asleep and be woken takes longer than a program that answers at once: where answers have come that fast
//! several times in a row, asking again for a moment is quicker for both.
//!
//! **Invariant:** the loop stays awake for [`STAY_AWAKE`] a wait at most, only where the last [`STREAK`] answers were
//! prompt, and not again once one was late: a node that is idle, or moves packets by the batch, sleeps as ever.

use std::time::Duration;

/// What the loop handed over since its last wait, and how prompt the answers before were.
#[derive(Debug, Default)]
pub(super) struct Patience {
    to_this_machine: u32,
    to_others: u32,
    bytes: usize,
    prompt_answers: u32,
}

/// How to begin a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Asleep; nothing in particular is expected.
    Asleep,
    /// Asleep, and [`Patience::ended`] wants to be told how long it took.
    Timed,
    /// Awake for [`STAY_AWAKE`], then asleep; told as well.
    Awake,
}

impl Patience {
    /// A packet, or several in one, went to this machine.
    pub(super) fn gave_to_this_machine(&mut self, bytes: usize) {
        self.to_this_machine += 1;
        self.bytes += bytes;
    }

    /// Datagrams went to a peer.
    pub(super) fn gave_to_others(&mut self) {
        self.to_others += 1;
    }

    /// A packet, or several in one, came from this machine.
    pub(super) fn took_from_this_machine(&mut self, bytes: usize) {
        if bytes >= QUESTION_BYTES_MAX {
            // A transfer, whose acknowledgements look like questions; it fills the cores without our waiting awake.
            self.prompt_answers = 0;
        }
    }

    /// A wait begins.
    pub(super) fn begin(&mut self) -> Wait {
        let Self {
            to_this_machine,
            to_others,
            bytes,
            prompt_answers,
        } = std::mem::take(self);
        self.prompt_answers = prompt_answers;
        let asks = to_this_machine == 1 && to_others == 0 && bytes < QUESTION_BYTES_MAX;
        match asks {
            true if prompt_answers >= STREAK => Wait::Awake,
            true => Wait::Timed,
            false => Wait::Asleep,
        }
    }

    /// A wait that was not [`Wait::Asleep`] ended after `took`; `is_answered` if it was this machine that ended it.
    pub(super) fn ended(&mut self, took: Duration, is_answered: bool) {
        self.prompt_answers = if is_answered && took <= PROMPT {
            self.prompt_answers.saturating_add(1)
        } else {
            0
        };
    }
}

/// How long a wait is awake: several times what a program here takes that answers at once, and short against a
/// scheduler's slice, so that whoever else wants the core loses nothing that shows.
pub(super) const STAY_AWAKE: Duration = Duration::from_micros(25);

/// What counts as prompt: [`STAY_AWAKE`] and what falling asleep and being woken take besides.
const PROMPT: Duration = Duration::from_micros(60);

/// So many prompt answers in a row tell of a program that goes on asking and answering.
const STREAK: u32 = 8;

/// More is a transfer, not a question.
const QUESTION_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(10);
    const LATE: Duration = Duration::from_millis(1);

    /// One question, answered after `took`.
    fn exchange(patience: &mut Patience, took: Duration) -> Wait {
        patience.gave_to_this_machine(66);
        let wait = patience.begin();
        patience.ended(took, true);
        wait
    }

    #[test]
    fn the_loop_stays_awake_once_answers_have_been_prompt_for_a_while() {
        let mut patience = Patience::default();

        for _ in 0..STREAK {
            assert_eq!(exchange(&mut patience, SOON), Wait::Timed);
        }

        assert_eq!(exchange(&mut patience, SOON), Wait::Awake);
    }

    #[test]
    fn one_late_answer_puts_it_to_sleep_again() {
        let mut patience = Patience::default();
        for _ in 0..=STREAK {
            exchange(&mut patience, SOON);
        }

        assert_eq!(exchange(&mut patience, LATE), Wait::Awake);

        assert_eq!(exchange(&mut patience, SOON), Wait::Timed);
    }

    #[test]
    fn what_a_peer_ends_is_no_answer() {
        let mut patience = Patience::default();
        for _ in 0..=STREAK {
            exchange(&mut patience, SOON);
        }

        patience.gave_to_this_machine(66);
        assert_eq!(patience.begin(), Wait::Awake);
        patience.ended(SOON, false);

        assert_eq!(exchange(&mut patience, SOON), Wait::Timed);
    }

    #[test]
    fn acknowledgements_of_a_transfer_are_no_questions() {
        let mut patience = Patience::default();

        for _ in 0..2 * STREAK {
            assert_eq!(exchange(&mut patience, SOON), Wait::Timed);
            patience.took_from_this_machine(QUESTION_BYTES_MAX);
        }
    }

    #[test]
    fn transfers_and_idle_waits_are_slept_through() {
        let mut patience = Patience::default();
        for _ in 0..=STREAK {
            exchange(&mut patience, SOON);
        }

        assert_eq!(patience.begin(), Wait::Asleep, "nothing was handed over");
        patience.gave_to_this_machine(QUESTION_BYTES_MAX);
        assert_eq!(patience.begin(), Wait::Asleep, "that is a transfer");
        patience.gave_to_this_machine(66);
        patience.gave_to_this_machine(66);
        assert_eq!(patience.begin(), Wait::Asleep, "several at once");
        patience.gave_to_this_machine(66);
        patience.gave_to_others();
        assert_eq!(patience.begin(), Wait::Asleep, "a peer's answer is expected too");
    }
}
