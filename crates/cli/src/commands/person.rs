//! The person at this machine, in words: who they are, and until when their second factor opens what.

use ringfence_control::{FactorAsk, SessionFacts};
use ringfence_model::UnixMillis;

use crate::output::list;
use crate::when;

/// A session, a line for each thing.
pub(super) fn text(session: &SessionFacts, now: UnixMillis) -> String {
    let factor = match session.mfa_at_ms {
        Some(at) => format!("proved {}", when::at(at)),
        None => "none".to_owned(),
    };
    let mut text = format!(
        "{} (by {})\n  groups: {}\n  second factor: {factor}\n",
        session.name,
        session.provider,
        list(&session.groups),
    );
    for ask in &session.factor_asks {
        text += &format!("    {}\n", ask_text(ask, now));
    }
    if session.factor_asks.iter().any(|ask| is_over(ask, now)) {
        text += &format!("    \x1b[33mstep up: {STEP_UP}\x1b[0m\n");
    }
    text + &format!("  until: {}", when::at(session.expires_ms))
}

/// What a rule opens, and until when.
pub(super) fn ask_text(ask: &FactorAsk, now: UnixMillis) -> String {
    let reached = reached(ask);
    match ask.ends_ms {
        Some(ends) if ends > now => {
            let left = ends.saturating_since(now).as_secs();
            format!("{reached}: {} left", when::seconds(left))
        }
        Some(ends) => format!("{reached}: closed since {}", when::at(ends)),
        None => format!("{reached}: closed without one"),
    }
}

/// `db tcp/5432 in payments-db`.
pub(super) fn reached(ask: &FactorAsk) -> String {
    format!("{} {} in {}", ask.to, list(&ask.services), ask.perimeter)
}

/// Whether a second factor has to be proved (again) for it.
pub(super) fn is_over(ask: &FactorAsk, now: UnixMillis) -> bool {
    ask.ends_ms.is_none_or(|ends| ends <= now)
}

/// What to do about it.
pub(super) const STEP_UP: &str = "ringfence login --mfa";
