//! The acts, in order. Each does something real, measures it, and fails the example if it is not as promised.

use std::time::Duration;

use anyhow::{Result, ensure};
use ringfence_e2e::{Live, Postgres};
use ringfence_example_stage::{Finale, Mark, Screen, dimmed, milliseconds};
use ringfence_lab::{Lab, Reach, wait_until};
use serde_json::Value;

use crate::cast::{Cast, FOLDER};
use crate::endings::Ending;

/// Plays it all.
pub(crate) fn play(lab: &Lab, finale: &Finale<'_>) -> Result<()> {
    let screen = Screen::start();
    screen.title(
        "Ringfence: people on laptops, verified all the time",
        "Namespaces on one LAN; oidc-provider as the identity provider; a headless Chromium; PostgreSQL from Debian.",
    )?;
    let cast = machines(&screen, lab)?;
    policies(&screen, &cast)?;
    let _servers = cast.serve()?;
    login(&screen, &cast)?;
    for (number, ending) in (4..).zip(Ending::ALL) {
        end(&screen, &cast, number, ending)?;
    }
    finale.linger(&screen)
}

fn machines(screen: &Screen, lab: &Lab) -> Result<Cast> {
    screen.act(1, "A database, a laptop, an identity provider")?;
    let cast = Cast::enter(lab)?;
    for (name, what) in [
        ("db", "a database; its node is enrolled with a token for role=db"),
        ("laptop", "ada's; enrolled too, which alone opens nothing"),
        ("provider", "OpenID Connect, with a second factor"),
        ("directory", "who works here, told by SCIM: ada, in the group dba"),
    ] {
        screen.say(&format!("{name:<11} {}", dimmed(what)))?;
    }
    Ok(cast)
}

fn policies(screen: &Screen, cast: &Cast) -> Result<()> {
    screen.act(2, "Who may reach the database, and in what condition")?;
    screen.say(&dimmed(format!("in {FOLDER}")))?;
    run(screen, cast, &["posture", "apply", "-f", "posture.toml"])?;
    run(screen, cast, &["perimeter", "apply", "-f", "perimeters/"])?;
    run(screen, cast, &["wait", "--revision", "latest"])
}

fn login(screen: &Screen, cast: &Cast) -> Result<()> {
    screen.act(3, "A login, and a second factor")?;
    finding(
        screen,
        !reaches_database(cast)?,
        "before the login: the database is not there",
    )?;
    screen.command("laptop", "ringfence login")?;
    let session = cast.office.log_in(&[], None)?;
    screen.output(&who(&session))?;
    let metrics = cast.metrics()?;
    let opened = wait_until(SOON, "the metrics to be reached", || {
        cast.laptop().try_tcp(metrics, BRIEFLY) == Reach::Open
    });
    finding(
        screen,
        opened.is_ok(),
        "its metrics are reached: for them a login will do",
    )?;
    finding(screen, !reaches_database(cast)?, "the database itself is not")?;
    screen.command("laptop", "ringfence why db:5432")?;
    screen.output(&cast.office.ringfence(&["why", "db:5432"])?.run()?.stdout)?;
    screen.command("laptop", "ringfence login --mfa")?;
    let stepped_up = step_up(cast)?;
    screen.output(&who(&stepped_up))?;
    let answer = Postgres::query(cast.laptop(), cast.database()?, "SELECT sum(amount) FROM ledger")?;
    finding(
        screen,
        answer == "42",
        "psql gets its answer; nothing was restarted, nothing reconnected",
    )
}

/// One ending, while `psql` has a query running and a connection that asks for less goes on.
fn end(screen: &Screen, cast: &Cast, number: u32, ending: Ending) -> Result<()> {
    screen.act(number, ending.title())?;
    let stepped_up = step_up(cast)?;
    let other = Other::open(cast)?;
    let ended = ending.happen(cast, &stepped_up)?;
    screen.output(ended.output.trim_end())?;
    finding(
        screen,
        ended.after <= ending.bound(),
        &format!(
            "the live psql session ended {} after {}",
            milliseconds(ended.after),
            ending.counted_from()
        ),
    )?;
    if matches!(
        ending,
        Ending::FactorAges | Ending::FirewallDown | Ending::RuleExpires
    ) {
        finding(
            screen,
            other.lives(),
            "the connection to its metrics, which asks for less, goes on",
        )?;
    }
    Ok(())
}

/// A connection to the database's metrics.
struct Other(Live);

impl Other {
    fn open(cast: &Cast) -> Result<Self> {
        let at = cast.metrics()?;
        Live::open(cast.laptop(), cast.db.host(), at.ip(), OTHER_PORT).map(Self)
    }

    fn lives(&self) -> bool {
        self.0.exchange(SOON).is_ok()
    }
}

/// Logs in with a second factor, and waits until the database is reached.
fn step_up(cast: &Cast) -> Result<Value> {
    let session = cast.office.log_in(&["--mfa"], Some("123456"))?;
    wait_until(SOON, "the database to be reached", || {
        reaches_database(cast).unwrap_or(false)
    })?;
    Ok(session)
}

fn reaches_database(cast: &Cast) -> Result<bool> {
    let at = (cast.database()?, 5432).into();
    Ok(cast.laptop().try_tcp(at, BRIEFLY) == Reach::Open)
}

fn who(session: &Value) -> String {
    let factor = if session["mfa_at_ms"].is_null() {
        "no second factor"
    } else {
        "with a second factor"
    };
    format!(
        "logged in as {}, groups {}, {factor}",
        session["name"].as_str().unwrap_or_default(),
        session["groups"]
    )
}

fn finding(screen: &Screen, is_as_promised: bool, text: &str) -> Result<()> {
    let mark = if is_as_promised { Mark::Good } else { Mark::Bad };
    screen.finding(mark, text)?;
    ensure!(is_as_promised, "not as promised: {text}");
    Ok(())
}

/// Runs `ringfence` for all to see.
fn run(screen: &Screen, cast: &Cast, args: &[&str]) -> Result<()> {
    screen.command("controller", &format!("ringfence {}", args.join(" ")))?;
    let output = cast.administrator(args)?;
    screen.output(&output)
}

const SOON: Duration = Duration::from_secs(20);
const BRIEFLY: Duration = Duration::from_millis(700);
const OTHER_PORT: u16 = 9101;
