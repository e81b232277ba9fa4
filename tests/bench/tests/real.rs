//! A run in small, so that `make bench` works on the day it is needed. Its figures mean nothing: the build is a debug
//! build and the machine is busy.

use ringfence_bench::rough::{self, Fault};
use ringfence_bench::{Kind, Measurement, Metric, Plan, Seconds, carry_out, page};

#[test]
fn a_short_run_measures_our_own_tunnel_beside_the_plain_network() {
    let plan = Plan {
        kinds: vec![Kind::Ringfence, Kind::Veth],
        measurements: vec![
            Measurement::TcpOneForward,
            Measurement::UdpSmall,
            Measurement::RoundTrip,
            Measurement::PingIdle,
            Measurement::Memory,
        ],
        rounds: 1,
        seconds: Seconds { iperf: 1 },
        null_node: None,
        note: String::new(),
    };

    let run = carry_out(&plan, |_| {}).unwrap();

    assert_eq!(run.failures, Vec::<String>::new());
    let measured = [
        Metric::TcpOneForward,
        Metric::CpuMachine,
        Metric::UdpSmall,
        Metric::RoundTripRate,
        Metric::IdleP50,
    ];
    for kind in plan.kinds {
        for metric in measured {
            let spread = run.spread(kind, metric);
            assert!(
                spread.is_some_and(|spread| spread.median > 0.0),
                "{kind:?} {metric:?}"
            );
        }
    }
    for metric in [Metric::CpuBoth, Metric::Memory] {
        assert!(run.spread(Kind::Ringfence, metric).is_some(), "{metric:?}");
        assert!(
            run.spread(Kind::Veth, metric).is_none(),
            "no program carries its packets"
        );
    }
    assert!(page::page(&run).contains("### UDP"));
}

#[test]
fn tcp_is_measured_over_a_bad_network_through_the_tunnel_and_plain() {
    let readings = rough::readings(&[Fault::Loss], 1, Seconds { iperf: 1 }).unwrap();

    assert_eq!(
        readings.iter().map(|reading| reading.kind).collect::<Vec<_>>(),
        [Kind::Ringfence, Kind::Veth]
    );
    for reading in readings {
        assert_eq!(reading.fault, Fault::Loss);
        assert!(
            (1.0..199.0).contains(&reading.megabits),
            "less than was wanted, but something: {reading:?}"
        );
    }
}
