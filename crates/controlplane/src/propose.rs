//! Turns a command into a change, or says why not.
//!
//! **Invariant:** proposing changes nothing, and what it answers depends on its arguments, the state, how fast nodes have
//! asked and where they connect from alone.

mod accounts;
mod api_tokens;
mod devices;
mod directories;
mod drills;
mod keys;
mod locks;
mod nodes;
mod people;
mod perimeters;
mod posture;
mod providers;
mod requests;
mod sources;
mod time;
mod tokens;
mod workloads;

use ringfence_model::UnixMillis;

use crate::draft::Draft;
use crate::limit::{REFUSAL_TEXT_BYTES_MAX, REFUSALS_PER_HOUR_MAX};
use crate::{Actor, Change, Command, Controller, Event, Refusal, access, membership, receipt, weight};

impl Controller {
    /// What `command` would change, ready to be stored and applied; or why it is refused.
    ///
    /// `entropy` is drawn afresh by the caller for each call: ids come out of it.
    ///
    /// # Errors
    /// [`Refusal`]. [`Refusal::Unchanged`] if everything is as asked already. One that [`Refusal::is_auditable`]
    /// belongs in the log: propose [`Refusal::record`] then.
    pub fn propose(
        &self,
        actor: &Actor,
        command: Command,
        wall: UnixMillis,
        entropy: [u8; 32],
    ) -> Result<Change, Refusal> {
        access::permit(self.state(), (actor, wall), &command)?;
        let method = command.method();
        let mut draft = Draft::new(self.state(), actor, wall, entropy);
        let is_tick = matches!(command, Command::Tick);
        if is_tick {
            time::tick(&mut draft);
            posture::tick(&mut draft, &self.reports);
            for event in self.lapses_due(wall) {
                draft.record(event.into());
            }
        }
        if matches!(command, Command::StartTerm) {
            time::start_term(&mut draft);
        }
        dispatch(&mut draft, self, command)?;
        sources::settle(&mut draft, self);
        time::judge_again(&mut draft, self, is_tick.then_some(time::Everywhere));
        membership::check_segments(&draft)?;
        weight::check(self, &draft)?;
        self.pace.check(actor, draft.events(), wall)?;
        draft.seal(self.state(), method)
    }
}

fn dispatch(draft: &mut Draft, controller: &Controller, command: Command) -> Result<(), Refusal> {
    match command {
        Command::ApplyPerimeters { files, prune, base } => {
            perimeters::apply(draft, files, base, prune.then_some(perimeters::Prune))
        }
        Command::RemovePerimeter { name } => perimeters::remove(draft, &name),
        Command::CreateToken {
            labels,
            ttl,
            uses,
            secret_hash,
        } => tokens::create(draft, labels, ttl, uses, secret_hash),
        Command::RevokeToken { token } => tokens::revoke(draft, token),
        Command::Enroll {
            token,
            secret_hash,
            name,
            identity,
        } => nodes::enroll(draft, (token, &secret_hash), name, identity),
        Command::UpdateNode {
            node,
            name,
            set,
            remove,
        } => nodes::update(draft, node, name, &set, &remove),
        Command::RemoveNode { node } => nodes::remove(draft, node),
        Command::RegisterKey {
            node,
            perimeter,
            public_key,
        } => keys::register(draft, node, perimeter, public_key),
        Command::AddDevice {
            name,
            perimeter,
            public_key,
            labels,
            expires,
        } => devices::add(draft, name, (perimeter, public_key), (labels, expires)),
        Command::RemoveDevice { name } => devices::remove(draft, &name),
        Command::Access(command) => requests::dispatch(draft, command),
        Command::ApiTokens(command) => api_tokens::dispatch(draft, command),
        Command::Drill(command) => drills::dispatch(draft, controller, command),
        Command::Locks(command) => locks::dispatch(draft, command),
        Command::People(command) => people::dispatch(draft, command),
        Command::NoteSource { node, source } => sources::note(draft, node, source),
        Command::Posture(command) => posture::dispatch(draft, controller, command),
        Command::Provider(command) => providers::dispatch(draft, command),
        Command::Directory(command) => directories::dispatch(draft, command),
        Command::Workloads(command) => workloads::dispatch(draft, command),
        Command::Accounts(command) => accounts::dispatch(draft, command),
        Command::RecordCertificate {
            node,
            serial,
            not_after,
        } => nodes::record_certificate(draft, node, serial, not_after),
        Command::RecordRefusal {
            method,
            subject,
            reason,
        } => record_refusal(draft, [method, subject, reason]),
        Command::RecordReceipts => receipt::record(draft, controller),
        // They ask for nothing that is not done before: see `Controller::propose`.
        Command::StartTerm | Command::Tick => Ok(()),
    }
}

/// Notes an attempt that was refused, within [`REFUSALS_PER_HOUR_MAX`]: whoever guesses tokens must not fill the disk.
fn record_refusal(draft: &mut Draft, texts: [String; 3]) -> Result<(), Refusal> {
    if draft.state.refusals.at(draft.wall).count >= REFUSALS_PER_HOUR_MAX {
        return Err(Refusal::Limit {
            what: "refusals recorded in an hour",
            max: REFUSALS_PER_HOUR_MAX as usize,
        });
    }
    let [method, subject, reason] = texts.map(|text| cut(text, REFUSAL_TEXT_BYTES_MAX));
    draft.record(Event::Refused {
        method,
        subject,
        reason,
    });
    Ok(())
}

/// At most `bytes_max` bytes of a text, whole characters.
fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}
