//! The page is what the figures say, and the published page is what the published figures say.

use std::fs;
use std::path::Path;

use ringfence_bench::filter::FilterSpeed;
use ringfence_bench::revoke::{Revocation, Way};
use ringfence_bench::rough::{Fault, RoughReading};
use ringfence_bench::scale::{IdleReading, Scale};
use ringfence_bench::{Entry, Kind, Machine, Metric, Reading, Run, chart, page};

#[test]
fn a_row_shows_the_middle_the_spread_and_the_ratio_to_the_best_other() {
    let text = page::page(&run());

    let row = line(&text, "| ringfence | 6.00 ");
    assert!(
        row.starts_with("| ringfence | 6.00 (5.00–9.00) | 3.00 |"),
        "{row}"
    );
    let row = line(&text, "| boringtun-cli | 2.00 ");
    assert!(
        row.starts_with("| boringtun-cli | 2.00 (2.00–2.00) | 1.33 |"),
        "{row}"
    );
}

#[test]
fn a_goal_is_met_only_by_what_was_measured() {
    let goal = |run: &Run| {
        let text = page::page(run);
        line(&text, "| TCP, 1 stream, →: at least 3 ×").to_owned()
    };
    assert!(goal(&run()).ends_with("| 3.00 | met |"));

    let mut faster = run();
    faster
        .readings
        .push(reading(Kind::Gotatun, Metric::TcpOneForward, 9.0));

    let missed = goal(&faster);
    assert!(missed.ends_with("| 1.14 | **not met** |"), "{missed}");
    assert!(missed.contains("gotatun-cli"), "{missed}");
}

#[test]
fn a_goal_nobody_was_measured_for_is_not_claimed() {
    let text = page::page(&run());

    assert!(!text.contains("same cipher"), "nebula did not take part");
    assert!(!text.contains("without the cipher"));
}

#[test]
fn who_is_missing_and_what_failed_is_said() {
    let text = page::page(&run());

    assert!(line(&text, "| nebula, AES-256 |").contains("did not take part: nebula is not installed"));
    assert!(text.contains("- gotatun-cli, UdpSmall: no datagram arrived"));
    assert!(text.contains("> A first look."));
}

#[test]
fn a_peer_is_said_to_take_what_the_node_with_many_takes_more() {
    let idle = |(perimeters, peers, sessions), resident_kib| IdleReading {
        perimeters,
        peers,
        sessions,
        resident_kib,
        peak_kib: resident_kib,
        wakeups: 3.0,
        packet_wakeups: 0.05,
        cpu_ms: 0.5,
    };
    let mut run = run();
    assert!(!page::page(&run).contains("## Very many peers"));
    run.scale.idle = vec![
        idle((1, 1, 0), 10_240),
        idle((1, 1, 1), 10_300),
        idle((1, 1_001, 0), 12_240),
        idle((1, 1_001, 1_001), 22_250),
        idle((1, 1, 0), 11_264),
        idle((65, 65, 0), 17_664),
    ];

    let text = page::page(&run);

    for row in [
        "| 1 | 1 | 0 | 10.0 | – | 3.0 |",
        "| 1 | 1 | 1 | 10.1 | – | 3.0 |",
        "| 1 | 1001 | 0 | 12.0 | 2.0 | 3.0 |",
        "| 1 | 1001 | 1001 | 21.7 | 10.0 | 3.0 |",
        "| 65 | 65 | 0 | 17.2 | 100.0 | 3.0 |",
    ] {
        line(&text, row);
    }
}

#[test]
fn the_picture_says_its_figures_to_those_who_do_not_see_it() {
    let svg = chart::chart(&run());

    assert!(svg.contains("role=\"img\""));
    assert!(svg.contains("<desc id=\"description\">TCP, 1 stream, →, Gbit/s: ringfence 6.00; "));
    let opened = svg.matches("<text").count();
    assert_eq!(opened, svg.matches("</text>").count());
    assert_eq!(
        svg.matches("<rect").count(),
        1 + 4 + 1,
        "a background, four bars and one more"
    );
}

#[test]
fn a_ceiling_is_never_the_best_other() {
    let mut run = run();
    run.readings
        .push(reading(Kind::Veth, Metric::TcpOneForward, 43.0));

    assert!(line(&page::page(&run), "| ringfence | 6.00 ").contains("| 3.00 |"));
}

#[test]
fn the_published_page_is_written_from_the_published_figures() {
    // The example shows that the comparison compares; the published one exists from the first `make bench` on.
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut published = vec![serde_json::to_string(&run()).unwrap()];
    published.extend(fs::read_to_string(docs.join("performance.json")));
    for (index, stored) in published.iter().enumerate() {
        let run: Run = serde_json::from_str(stored).unwrap();
        let (text, svg) = (page::page(&run), chart::chart(&run));
        if index == 0 {
            assert_eq!(
                text,
                page::page(&self::run()),
                "what is stored is all that the page needs"
            );
            continue;
        }
        let same = |name: &str, fresh: &str| {
            let there = fs::read_to_string(docs.join(name)).unwrap();
            assert!(
                there == fresh,
                "docs/{name}: written by hand, or by an older program: ringfence-bench --page"
            );
        };
        same("performance.md", &text);
        same("performance.svg", &svg);
    }
}

#[test]
fn a_full_filter_is_weighed_against_the_time_of_a_packet() {
    let mut run = run();
    let filled = |flows, judge_ns| FilterSpeed {
        rules: flows,
        flows,
        judge_ns,
    };
    run.filter = vec![filled(1, 100.0), filled(10_000, 289.3)];

    // 1,420 bytes at 6 Gbit/s take 1,893 ns, and 189.3 ns are a tenth of that.
    let goal = line(&page::page(&run), "| 10000 rules and 10000 flows").to_owned();

    assert!(goal.ends_with("| 1.10 | **not met** |"), "{goal}");
}

#[test]
fn what_a_bad_network_costs_is_weighed_against_what_it_costs_plain_tcp() {
    let mut run = run();
    let figures = [
        (Kind::Ringfence, Fault::None, 180.0),
        (Kind::Ringfence, Fault::Loss, 45.0),
        (Kind::Veth, Fault::None, 200.0),
        (Kind::Veth, Fault::Loss, 80.0),
    ];
    run.rough = figures
        .map(|(kind, fault, megabits)| RoughReading {
            kind,
            fault,
            megabits,
        })
        .to_vec();

    let text = page::page(&run);

    // A quarter is left where plain TCP keeps two fifths.
    let goal = line(&text, "| a network with 1 % lost");
    assert!(
        goal.ends_with("| 25 % against 40 % | 0.62 | **not met** |"),
        "{goal}"
    );
    let row = line(&text, "| plain TCP |");
    assert!(
        row.starts_with("| plain TCP | 200 (200–200), 100 % | 80 (80–80), 40 % | – |"),
        "{row}"
    );
    assert!(!text.contains("1 % doubled: leaves"), "nobody measured that");
}

#[test]
fn a_run_on_a_busy_machine_says_so() {
    let mut run = run();
    assert!(!page::page(&run).contains("do not rely on"));

    run.machine.load_before = 1.5;

    assert!(page::page(&run).contains("do not rely on"));
}

#[test]
fn the_page_says_how_long_revoked_access_lived_on_and_whether_that_is_short_enough() {
    let cut = |way, cut_ms| Revocation {
        way,
        connected: 50,
        told: 50,
        cut_ms,
        enforced_ms: 30.0,
    };
    let mut run = run();
    assert!(!page::page(&run).contains("## Access taken away"));
    run.revocations = vec![cut(Way::Policy, 40.0), cut(Way::Quarantine, 251.0)];

    let text = page::page(&run);

    assert!(
        line(
            &text,
            "| a rule leaves the policy | 1 | 50 | 50 | 40 | 40 | 40 | 30 |"
        )
        .ends_with("30 |")
    );
    assert!(line(&text, "| a rule leaves the policy while").ends_with("| 40 ms | 0.16 | met |"));
    assert!(line(&text, "| a node is quarantined while").contains("**not met**"));
}

/// Two rounds and a half; gotatun's figures are short of some, nebula is absent.
fn run() -> Run {
    let tcp = Metric::TcpOneForward;
    let took_part = |kind| Entry {
        kind,
        version: "1.0".to_owned(),
        mtu_bytes: 1420,
        absent: None,
    };
    let mut entries = [Kind::Ringfence, Kind::Boringtun, Kind::Gotatun, Kind::Veth]
        .map(took_part)
        .to_vec();
    entries.push(Entry {
        absent: Some("nebula is not installed".to_owned()),
        ..took_part(Kind::NebulaAes)
    });
    Run {
        began: "2026-01-01T00:00:00Z".to_owned(),
        took_s: 61,
        machine: Machine {
            load_before: 0.1,
            ..Machine::here()
        },
        rounds: 3,
        seconds: 1,
        note: "A first look.".to_owned(),
        entries,
        readings: vec![
            reading(Kind::Ringfence, tcp, 9.0),
            reading(Kind::Ringfence, tcp, 5.0),
            reading(Kind::Ringfence, tcp, 6.0),
            reading(Kind::Boringtun, tcp, 2.0),
            reading(Kind::Gotatun, tcp, 1.5),
            reading(Kind::Veth, tcp, 40.0),
            reading(Kind::Ringfence, Metric::CpuBoth, 1.5),
        ],
        failures: vec!["gotatun-cli, UdpSmall: no datagram arrived".to_owned()],
        aead: Vec::new(),
        filter: Vec::new(),
        full: Vec::new(),
        scale: Scale::default(),
        revocations: Vec::new(),
        rough: Vec::new(),
    }
}

fn reading(kind: Kind, metric: Metric, value: f64) -> Reading {
    Reading { kind, metric, value }
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no {start}: {text}"))
}
