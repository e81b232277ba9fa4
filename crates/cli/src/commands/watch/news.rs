//! What there is to tell about a session: each thing once, before it ends and when it has.

use std::collections::BTreeSet;
use std::time::Duration;

use ringfence_control::{FactorAsk, SessionFacts};
use ringfence_model::UnixMillis;
use serde::Serialize;

use super::super::person::{self, STEP_UP};
use crate::when;

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Notice {
    /// When it was told.
    pub(super) at_ms: UnixMillis,
    /// What kind.
    pub(super) kind: NoticeKind,
    /// In words, with what to do about it.
    pub(super) text: String,
}

/// What may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum NoticeKind {
    /// A second factor will soon be too old for something.
    FactorEnds,
    /// It is.
    FactorEnded,
    /// The session ends soon.
    SessionEnds,
    /// Nobody is logged in any more.
    LoggedOut,
    /// Somebody is logged in.
    LoggedIn,
}

/// Remembers what was told.
pub(super) struct Watcher {
    before: Duration,
    /// By what it is about and when that ends: a factor that was proved anew ends at another time.
    told: BTreeSet<(NoticeKind, String, Option<UnixMillis>)>,
    person: Option<String>,
    /// The next moment at which there is something to tell.
    next: Option<UnixMillis>,
}

impl Watcher {
    /// One that tells of what ends so long before it does.
    pub(super) fn new(before: Duration) -> Self {
        Self {
            before,
            told: BTreeSet::new(),
            person: None,
            next: None,
        }
    }

    /// What there is to tell of what is so at `now`.
    pub(super) fn look(&mut self, session: Option<&SessionFacts>, now: UnixMillis) -> Vec<Notice> {
        self.next = None;
        let mut notices = self.person(session, now);
        let Some(session) = session else {
            self.told.clear();
            return notices;
        };
        // What is not said of this session again is forgotten: the memory is never larger than the session.
        let before = std::mem::take(&mut self.told);
        for ask in &session.factor_asks {
            notices.extend(self.factor(ask, now, &before));
        }
        let key = (NoticeKind::SessionEnds, String::new(), Some(session.expires_ms));
        if self.is_near(session.expires_ms, now) {
            if !before.contains(&key) {
                let text = format!(
                    "your session ends at {}: log in again with `ringfence login`",
                    when::at(session.expires_ms)
                );
                notices.push(notice(now, NoticeKind::SessionEnds, text));
            }
            self.told.insert(key);
        }
        self.wait_for(session.expires_ms, now);
        notices
    }

    /// How long until there may be something to tell.
    pub(super) fn next(&self, now: UnixMillis) -> Duration {
        self.next.map_or(Duration::MAX, |next| next.saturating_since(now))
    }

    fn person(&mut self, session: Option<&SessionFacts>, now: UnixMillis) -> Vec<Notice> {
        let name = session.map(|session| session.name.clone());
        if name == self.person {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.person, name);
        let told = match (&self.person, before) {
            (Some(name), _) => (NoticeKind::LoggedIn, format!("{name} is logged in at this node")),
            (None, before) => {
                let name = before.unwrap_or_default();
                let text = format!("{name} is not logged in any more: `ringfence login`");
                (NoticeKind::LoggedOut, text)
            }
        };
        vec![notice(now, told.0, told.1)]
    }

    fn factor(
        &mut self,
        ask: &FactorAsk,
        now: UnixMillis,
        before: &BTreeSet<(NoticeKind, String, Option<UnixMillis>)>,
    ) -> Option<Notice> {
        let reached = person::reached(ask);
        // What no factor was ever proved for did not end.
        let ends = ask.ends_ms?;
        self.wait_for(ends, now);
        let (kind, text) = if person::is_over(ask, now) {
            let text =
                format!("your second factor is too old for {reached}: prove it again with `{STEP_UP}`");
            (NoticeKind::FactorEnded, text)
        } else if self.is_near(ends, now) {
            let left = when::seconds(ends.saturating_since(now).as_secs());
            let text = format!("your second factor opens {reached} for {left} more: `{STEP_UP}` renews it");
            (NoticeKind::FactorEnds, text)
        } else {
            return None;
        };
        let key = (kind, reached, Some(ends));
        let is_new = !before.contains(&key);
        self.told.insert(key);
        is_new.then(|| notice(now, kind, text))
    }

    fn is_near(&self, ends: UnixMillis, now: UnixMillis) -> bool {
        ends.saturating_since(now) <= self.before
    }

    /// Something is to be told shortly before `ends`, and when it has come.
    fn wait_for(&mut self, ends: UnixMillis, now: UnixMillis) {
        let before = u64::try_from(self.before.as_millis()).unwrap_or(u64::MAX);
        let moments = [UnixMillis(ends.0.saturating_sub(before)), ends];
        let coming = moments.into_iter().filter(|moment| *moment > now);
        self.next = self.next.into_iter().chain(coming).min();
    }
}

fn notice(at_ms: UnixMillis, kind: NoticeKind, text: String) -> Notice {
    Notice { at_ms, kind, text }
}

#[cfg(test)]
mod tests {
    use ringfence_model::Name;

    use super::*;

    const HOUR: u64 = 3_600_000;

    fn session(ends: Option<u64>) -> SessionFacts {
        let name = |text| Name::parse(text).unwrap();
        SessionFacts {
            provider: name("corp"),
            name: "ada".into(),
            email: None,
            groups: Vec::new(),
            mfa_at_ms: None,
            expires_ms: UnixMillis(8 * HOUR),
            factor_asks: vec![FactorAsk {
                perimeter: name("ledger"),
                to: name("db"),
                services: vec!["tcp/22".parse().unwrap()],
                within_s: 3600,
                ends_ms: ends.map(UnixMillis),
            }],
        }
    }

    fn kinds(notices: &[Notice]) -> Vec<NoticeKind> {
        notices.iter().map(|notice| notice.kind).collect()
    }

    #[test]
    fn each_thing_is_told_once_before_it_ends_and_when_it_has() {
        use NoticeKind::{FactorEnded, FactorEnds, LoggedIn, LoggedOut, SessionEnds};
        let mut watcher = Watcher::new(Duration::from_mins(5));
        let minute = HOUR / 60;
        let looks = [
            (Some(session(Some(HOUR))), 0, vec![LoggedIn]),
            (Some(session(Some(HOUR))), HOUR - 5 * minute, vec![FactorEnds]),
            (Some(session(Some(HOUR))), HOUR - minute, vec![]),
            (Some(session(Some(HOUR))), HOUR, vec![FactorEnded]),
            (Some(session(Some(HOUR))), HOUR + minute, vec![]),
            (Some(session(Some(2 * HOUR))), HOUR + 2 * minute, vec![]),
            (Some(session(Some(2 * HOUR))), 2 * HOUR, vec![FactorEnded]),
            (
                Some(session(Some(9 * HOUR))),
                8 * HOUR - minute,
                vec![SessionEnds],
            ),
            (None, 8 * HOUR, vec![LoggedOut]),
            (None, 8 * HOUR + 1, vec![]),
            (Some(session(None)), 8 * HOUR - 1, vec![LoggedIn, SessionEnds]),
        ];
        for (session, now, told) in looks {
            let notices = watcher.look(session.as_ref(), UnixMillis(now));
            assert_eq!(kinds(&notices), told, "at {now}: {notices:?}");
        }
    }

    #[test]
    fn it_looks_again_just_when_something_ends() {
        let mut watcher = Watcher::new(Duration::from_mins(5));
        let next = |watcher: &mut Watcher, now: u64| {
            watcher.look(Some(&session(Some(HOUR))), UnixMillis(now));
            watcher.next(UnixMillis(now))
        };

        assert_eq!(next(&mut watcher, 0), Duration::from_mins(55));
        assert_eq!(next(&mut watcher, HOUR - 1000), Duration::from_secs(1));
        assert_eq!(next(&mut watcher, HOUR), Duration::from_mins(7 * 60 - 5));
        watcher.look(None, UnixMillis(0));
        assert_eq!(watcher.next(UnixMillis(0)), Duration::MAX);
    }
}
