//! What time itself ends and opens: tokens, devices, sessions, locks, access on request, drills, rules and what they require; and
//! the terms in which the controller speaks.

use ringfence_model::{RuleId, UnixMillis};
use ringfence_policy::Compiled;

use super::{api_tokens, drills, locks, people, requests};
use crate::compile::{Touched, compile_perimeter};
use crate::draft::Draft;
use crate::perimeter::Perimeter;
use crate::state::State;
use crate::{Controller, Event, SessionEnd, TokenState};

/// Ends every token, API token, device, session, lock, drill and access on request that is due.
pub(super) fn tick(draft: &mut Draft) {
    let wall = draft.wall;
    let tokens = draft.state.tokens.values();
    let due = tokens.filter(|token| token.state == TokenState::Active && token.expires <= wall);
    let mut events: Vec<Event> = due
        .map(|token| Event::TokenExpired {
            token: token.id,
            before: token.uses_left,
        })
        .collect();
    let devices = draft.state.devices.values();
    let due = devices.filter(|device| device.expires.is_some_and(|expires| expires <= wall));
    events.extend(due.map(|device| Event::DeviceExpired {
        before: device.as_ref().clone(),
    }));
    for event in events {
        draft.record(event);
    }
    requests::end_due(draft);
    drills::end_where(draft, |drill| drill.until <= wall);
    locks::end_due(draft);
    api_tokens::end_due(draft);
    people::end_where(draft, SessionEnd::Expired, |session| session.expires <= wall);
}

/// That the clock is looked at in every perimeter, and not only where a change looks at facts.
#[derive(Clone, Copy)]
pub(super) struct Everywhere;

/// Judges again the rules for which the clock has changed something since they were last judged: by a tick all of them,
/// and with any other change those of the perimeters whose members or facts it changes. Those are compiled anew at the
/// moment they were last judged for, so nothing may have come due since.
pub(super) fn judge_again(draft: &mut Draft, before: &Controller, everywhere: Option<Everywhere>) {
    let touched = Touched::by(draft.events(), before.state());
    let touched = touched.recompiled();
    let mut events = Vec::new();
    for (name, perimeter) in &draft.state.perimeters {
        let is_touched = touched.contains(name);
        if !is_touched && everywhere.is_none() {
            continue;
        }
        let changed = if is_touched {
            let compiled = is_timed(&draft.state, perimeter).then(|| compile_perimeter(&draft.state, name));
            due(compiled.flatten().as_ref(), draft.wall)
        } else {
            due(before.views().perimeter(name), draft.wall)
        };
        if changed.is_empty() && everywhere.is_none() {
            continue;
        }
        let expired = expired_rules(perimeter, draft.wall);
        let perimeter = name.clone();
        if !expired.is_empty() {
            let perimeter = perimeter.clone();
            events.push(Event::RulesExpired {
                perimeter,
                rules: expired,
            });
        }
        if !changed.is_empty() {
            events.push(Event::ConditionsChanged {
                perimeter,
                rules: changed,
            });
        }
    }
    for event in events {
        draft.record(event);
    }
}

fn is_timed(state: &State, perimeter: &Perimeter) -> bool {
    let policy = state.policy_in_force(perimeter);
    policy.rules.iter().any(|rule| policy.is_timed(rule))
}

/// The rules that the clock has changed for someone by `wall`.
fn due(compiled: Option<&Compiled>, wall: UnixMillis) -> Vec<RuleId> {
    let compiled = compiled.filter(|compiled| compiled.next_change.is_some_and(|next| next <= wall));
    compiled
        .map(|compiled| compiled.changed_by(wall))
        .unwrap_or_default()
}

/// Rules of the file that ended since their perimeter was last judged.
fn expired_rules(perimeter: &Perimeter, wall: UnixMillis) -> Vec<RuleId> {
    let rules = perimeter.policy().rules.iter();
    let ended = rules.filter(|rule| rule.is_live(perimeter.judged_at) && !rule.is_live(wall));
    ended.map(|rule| rule.id).collect()
}

/// Starts a term that no other restore of the same backup starts: one more than the backup's would come twice, with
/// other contents, and nodes would take the second for what they have. So it is the time, which does not come twice.
pub(super) fn start_term(draft: &mut Draft) {
    let before = draft.state.revision.term;
    let time = draft.wall.0.min(TERM_TIME_MAX);
    draft.record(Event::TermStarted {
        before,
        after: time.max(before + 1),
    });
}

/// However wrong the clock, there is room for terms after this one: numbers up to 2^53 are exact in JSON everywhere.
const TERM_TIME_MAX: u64 = 1 << 52;
