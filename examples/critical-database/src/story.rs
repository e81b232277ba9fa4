//! The acts, in order. Each does something real, measures it, and fails the demo if it is not as promised.

use anyhow::{Result, ensure};
use ringfence_example_stage::{Finale, Mark, Screen, dimmed, milliseconds};
use ringfence_lab::{Lab, Reach};

use crate::attack;
use crate::cast::{Cast, PAYMENTS, database, folder};
use crate::matrix::Matrix;
use crate::revocation::Sessions;
use crate::visit;

/// Plays it all.
pub(crate) fn play(lab: &Lab, finale: &Finale<'_>) -> Result<()> {
    let screen = Screen::start();
    screen.title(
        "Ringfence: a critical database on a network that nobody trusts",
        "Six namespaces on one flat LAN; real WireGuard through TUN devices; PostgreSQL from Debian.",
    )?;
    let cast = machines(&screen, lab)?;
    perimeters(&screen, &cast)?;
    let _servers = cast.serve()?;
    reach(&screen, &cast)?;
    query(&screen, &cast)?;
    intruder(&screen, &cast)?;
    revocation(&screen, &cast)?;
    look_around(&screen, &cast, lab)?;
    finale.linger(&screen)
}

fn machines(screen: &Screen, lab: &Lab) -> Result<Cast> {
    screen.act(1, "A controller and five machines")?;
    let cast = Cast::enter(lab)?;
    screen.say(&format!(
        "{:<11} {:<12} {}",
        "controller",
        cast.mesh.address().ip(),
        dimmed("hands out keys and rules; no traffic passes through it")
    ))?;
    for node in cast.nodes() {
        let label = dimmed(format!(
            "enrolled with a one-time token for {}",
            Cast::label(node)
        ));
        screen.say(&format!(
            "{:<11} {:<12} {label}",
            node.name(),
            node.host().address()
        ))?;
    }
    Ok(cast)
}

fn perimeters(screen: &Screen, cast: &Cast) -> Result<()> {
    screen.act(2, "Two perimeters, from two files")?;
    screen.say(&dimmed(format!("in {}", folder().display())))?;
    run(screen, cast, &["perimeter", "apply", "-f", "perimeters/"])?;
    run(screen, cast, &["wait", "--revision", "latest"])
}

fn reach(screen: &Screen, cast: &Cast) -> Result<()> {
    screen.act(3, "Who reaches what")?;
    screen.say("Everyone tries every port at every address of it: overlay and LAN, IPv4 and IPv6.")?;
    let matrix = Matrix::measure(cast)?;
    screen.output(&matrix.table(&cast.nodes()))?;
    let (mark, summary) = matrix.summary();
    screen.finding(mark, &summary)?;
    ensure!(
        matrix.is_as_expected(),
        "the network does not do what policy says"
    );
    Ok(())
}

fn query(screen: &Screen, cast: &Cast) -> Result<()> {
    screen.act(4, "A query through the tunnel")?;
    let server = database(cast)?;
    let sql = "SELECT sum(amount) AS total, inet_client_addr() AS asked_by FROM ledger";
    screen.command("api", &format!("psql -h {server} -U postgres -c \"{sql}\""))?;
    let before = received(cast)?;
    let answer = ringfence_e2e::Postgres::query(cast.api.host(), server, sql)?;
    let bytes = received(cast)? - before;
    let mut columns = answer.split('|');
    let (total, asked_by) = (
        columns.next().unwrap_or_default(),
        columns.next().unwrap_or_default(),
    );
    screen.output(&format!("total {total}, asked by {asked_by}"))?;
    let own = cast.api.overlay(PAYMENTS)?.v4.to_string();
    let is_tunnelled = asked_by == own && bytes > 0;
    screen.finding(
        if is_tunnelled { Mark::Good } else { Mark::Bad },
        &format!("the database saw api's key-bound address; {bytes} bytes of it came in by WireGuard"),
    )?;
    ensure!(is_tunnelled, "the query did not go through the tunnel");
    Ok(())
}

/// Bytes of datagrams that the database's node took from api.
fn received(cast: &Cast) -> Result<u64> {
    let peer = cast.db.peer(PAYMENTS, "api")?;
    Ok(peer.and_then(|peer| peer["rx_bytes"].as_u64()).unwrap_or(0))
}

fn intruder(screen: &Screen, cast: &Cast) -> Result<()> {
    screen.act(5, "The intruder")?;
    screen.say(
        "A member of the mesh, but of the shop alone; root on its machine; it has learnt db's public key.",
    )?;
    screen.command("intruder", &format!("psql -h {} -U postgres", database(cast)?))?;
    screen.output(&attack::psql(cast)?)?;

    let clear = attack::around_the_tunnel(cast)?;
    let is_closed = clear.iter().all(|(_, reach)| *reach != Reach::Open);
    let sentence = if is_closed {
        "packets for db's overlay addresses sent in clear over the LAN: dropped"
    } else {
        "packets for db's overlay addresses sent in clear over the LAN get in"
    };
    screen.finding(if is_closed { Mark::Good } else { Mark::Bad }, sentence)?;

    let knocks = attack::knock(cast)?;
    let is_silent = knocks.answers == 0 && knocks.counted == knocks.sent;
    screen.finding(
        if is_silent { Mark::Good } else { Mark::Bad },
        &format!(
            "{} WireGuard initiations to {} with its own key: {} answered in {}",
            knocks.sent,
            knocks.to,
            knocks.answers,
            milliseconds(knocks.listened)
        ),
    )?;
    screen.say(&dimmed(format!(
        "  db's node counted {} well-formed handshakes from a key it does not know",
        knocks.counted
    )))?;
    let has_peer = cast.intruder.peer(PAYMENTS, "db").is_ok();
    let control = cast.api.local(["ping", "db", "-c", "1"])?.text()?;
    screen.finding(
        if has_peer { Mark::Bad } else { Mark::Good },
        "it was given no key, no address and no peer of payments-db; api meanwhile:",
    )?;
    screen.command("api", "ringfence ping db -c 1")?;
    screen.output(&control)?;
    ensure!(
        is_closed && is_silent && !has_peer,
        "the intruder got further than it may"
    );
    Ok(())
}

fn revocation(screen: &Screen, cast: &Cast) -> Result<()> {
    screen.act(6, "A right taken away in mid-session")?;
    screen.say(
        "dba and api each hold a psql session with a query running. dba's laptop falls under suspicion:",
    )?;
    let sessions = Sessions::open(cast)?;
    let args = ["perimeter", "apply", "-f", "incident/payments-db.toml"];
    screen.command("controller", &format!("ringfence {}", args.join(" ")))?;
    let cut = sessions.cut(cast, &args)?;
    screen.output(&cut.output)?;
    screen.finding(
        Mark::Good,
        &format!(
            "dba's session ended {} after `apply` was started; `apply` itself took {}",
            milliseconds(cut.ended),
            milliseconds(cut.applied)
        ),
    )?;
    screen.say(&dimmed(format!("  psql: {}", cut.said)))?;
    screen.finding(
        if cut.other_lives { Mark::Good } else { Mark::Bad },
        "api's session goes on",
    )?;
    run(screen, cast, &["wait", "--revision", "latest"])?;
    let forgotten = cast.db.peer(PAYMENTS, "dba")?.is_none();
    screen.finding(
        if forgotten { Mark::Good } else { Mark::Bad },
        "db's node holds no key of dba any more",
    )?;
    let matrix = Matrix::measure(cast)?;
    screen.output(&matrix.table(&[&cast.api, &cast.dba]))?;
    let (mark, summary) = matrix.summary();
    screen.finding(mark, &summary)?;
    ensure!(
        cut.other_lives && forgotten && matrix.is_as_expected(),
        "the revocation cut too much or too little"
    );
    Ok(())
}

fn look_around(screen: &Screen, cast: &Cast, lab: &Lab) -> Result<()> {
    let visit = visit::prepare(lab, cast)?;
    screen.act(7, "Look around")?;
    screen.say(&format!("cd {}", visit.display()))?;
    screen.say(&visit::suggestions(cast)?)?;
    let prefix = cast.db.host().shell_prefix();
    screen.say(&dimmed(format!("`./on db` is short for `{prefix}`")))
}

/// Runs `ringfence` for all to see.
fn run(screen: &Screen, cast: &Cast, args: &[&str]) -> Result<()> {
    screen.command("controller", &format!("ringfence {}", args.join(" ")))?;
    screen.output(&cast.administrator(args)?)
}
