//! The ways in which a live session ends, and how long each takes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use ringfence_e2e::Session;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cast::{Cast, FOLDER, firewall_down, firewall_up};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The second factor was proved too long ago.
    FactorAges,
    /// The person switches the laptop's firewall off.
    FirewallDown,
    /// An administrator quarantines the laptop.
    Quarantine,
    /// The rule's time is over.
    RuleExpires,
    /// The person leaves the company: their directory says so by SCIM.
    Deactivated,
}

/// How a session ended.
pub(crate) struct Ended {
    /// How long after it should have.
    pub(crate) after: Duration,
    /// What was printed for whoever did it.
    pub(crate) output: String,
}

impl Ending {
    pub(crate) const ALL: [Self; 5] = [
        Self::FactorAges,
        Self::FirewallDown,
        Self::Quarantine,
        Self::RuleExpires,
        Self::Deactivated,
    ];

    /// What happens.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::FactorAges => "The second factor gets too old: a minute after it was proved",
            Self::FirewallDown => "The person switches the laptop's firewall off",
            Self::Quarantine => "The laptop is quarantined",
            Self::RuleExpires => "The rule ends at a moment that its file names",
            Self::Deactivated => "The person leaves the company: the directory deactivates them by SCIM",
        }
    }

    /// From when its delay is counted.
    pub(crate) fn counted_from(self) -> &'static str {
        match self {
            Self::FactorAges => "the second at which the factor was too old",
            Self::FirewallDown => "`nft delete table` was started",
            Self::Quarantine => "`ringfence quarantine` was started",
            Self::RuleExpires => "the second that the file names",
            Self::Deactivated => "the directory's request was sent",
        }
    }

    /// How long it may take: what the clock or an administrator ends, the blink of an eye, slow machines included; what
    /// the machine itself must be looked at for, five seconds.
    pub(crate) fn bound(self) -> Duration {
        match self {
            Self::FirewallDown => Duration::from_secs(5),
            _ => Duration::from_secs(2),
        }
    }

    /// Opens a session, ends it, and puts everything back.
    pub(crate) fn happen(self, cast: &Cast, stepped_up: &Value) -> Result<Ended> {
        let session = Session::open(cast.laptop(), cast.database()?, &format!("psql-{self:?}"))?;
        let (due, output) = self.begin(cast, stepped_up)?;
        let patience = due.saturating_duration_since(Instant::now()) + PATIENCE;
        let at = session
            .wait_cut(patience)
            .context("the session should have ended")?;
        let after = at.checked_duration_since(due);
        let after = after.with_context(|| format!("it ended {:?} too early", due - at))?;
        self.put_back(cast)?;
        Ok(Ended { after, output })
    }

    /// Does it; gives the moment from which on the session should be gone.
    fn begin(self, cast: &Cast, stepped_up: &Value) -> Result<(Instant, String)> {
        let now = Instant::now();
        match self {
            Self::FactorAges => {
                let proved = stepped_up["mfa_at_ms"]
                    .as_u64()
                    .context("there is a second factor")?;
                let end = Duration::from_millis(proved) + FACTOR_AGE;
                Ok((instant_of(Duration::from_secs(end.as_secs()))?, String::new()))
            }
            Self::FirewallDown => firewall_down(cast.laptop()).map(|()| (now, String::new())),
            Self::Quarantine => {
                let output = cast.administrator(&QUARANTINE)?;
                Ok((now, output))
            }
            Self::RuleExpires => {
                let end = Duration::from_secs(since_epoch()?.as_secs()) + RULE_LASTS;
                let output = apply(cast, &ending_at(end)?)?;
                Ok((instant_of(end)?, output))
            }
            Self::Deactivated => {
                cast.directory.set_active(&cast.office.mesh, false)?;
                Ok((now, String::new()))
            }
        }
    }

    fn put_back(self, cast: &Cast) -> Result<()> {
        match self {
            Self::FactorAges => Ok(()),
            Self::FirewallDown => firewall_up(cast.laptop()),
            Self::Quarantine => cast.administrator(&["release", "node:laptop"]).map(drop),
            Self::RuleExpires => cast
                .administrator(&["perimeter", "apply", "-f", "perimeters/"])
                .map(drop),
            Self::Deactivated => cast.directory.set_active(&cast.office.mesh, true),
        }
    }
}

/// The policy, its first rule with an end.
fn ending_at(end: Duration) -> Result<String> {
    let end = OffsetDateTime::from_unix_timestamp(i64::try_from(end.as_secs())?)?.format(&Rfc3339)?;
    let path = format!("{FOLDER}/perimeters/payments-db.toml");
    let text = std::fs::read_to_string(&path).context(path)?;
    let reason = "reason  = \"Maintenance\"\n";
    ensure!(text.contains(reason), "the file has the rule");
    Ok(text.replace(reason, &format!("{reason}expires = {end}\n")))
}

fn apply(cast: &Cast, policy: &str) -> Result<String> {
    let apply = cast.office.mesh.cli(["perimeter", "apply", "-f", "-"])?;
    apply.input(policy).text()
}

fn since_epoch() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// A moment of the wall clock on the clock that measures.
fn instant_of(moment: Duration) -> Result<Instant> {
    let (now, wall) = (Instant::now(), since_epoch()?);
    match moment.checked_sub(wall) {
        Some(ahead) => Ok(now + ahead),
        None => now
            .checked_sub(wall.saturating_sub(moment))
            .context("that is long ago"),
    }
}

const QUARANTINE: [&str; 6] = [
    "quarantine",
    "node:laptop",
    "--ttl",
    "4h",
    "--reason",
    "it talks to nobody's server",
];
/// As the policy has it.
const FACTOR_AGE: Duration = Duration::from_mins(1);
/// Long enough for a session to be opened, and to see that it works.
const RULE_LASTS: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(20);
