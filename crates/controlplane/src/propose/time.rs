//! What time itself ends: tokens, devices, sessions, rules; and the terms in which the controller speaks.

use ringfence_model::{Name, RuleId};

use super::people;
use crate::draft::Draft;
use crate::{Event, SessionEnd, TokenState};

/// Ends everything that is due.
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
    events.extend(expired_rules(draft).map(|(perimeter, rules)| Event::RulesExpired { perimeter, rules }));
    for event in events {
        draft.record(event);
    }
    people::end_where(draft, SessionEnd::Expired, |session| session.expires <= wall);
}

/// Rules that ended since their perimeter was last judged.
fn expired_rules(draft: &Draft) -> impl Iterator<Item = (Name, Vec<RuleId>)> {
    draft.state.perimeters.values().filter_map(|perimeter| {
        let rules = perimeter.policy().rules.iter();
        let ended = rules.filter(|rule| rule.is_live(perimeter.judged_at) && !rule.is_live(draft.wall));
        let ended: Vec<RuleId> = ended.map(|rule| rule.id).collect();
        (!ended.is_empty()).then(|| (perimeter.name.clone(), ended))
    })
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
