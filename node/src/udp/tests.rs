//! Sockets on the loopback: what is sent as one run arrives as the datagrams it was.

use super::*;

const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

fn v4_only() -> Udp {
    Udp::new(bind_v4(0).unwrap(), Family::V4).unwrap()
}

fn to(udp: &Udp) -> Route {
    Route {
        dst: SocketAddr::from((Ipv4Addr::LOCALHOST, udp.port())),
        src_ip: None,
    }
}

/// Datagrams one behind the other, each with bytes of its own; and each for itself.
fn run(stride: usize, count: usize, last: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let each: Vec<Vec<u8>> = (0..count)
        .map(|index| vec![index as u8; if index + 1 == count { last } else { stride }])
        .collect();
    (each.concat(), each)
}

/// Receives until `count` datagrams came. Tells each, and how many runs they came in.
fn receive(udp: &Udp, count: usize) -> (Vec<Vec<u8>>, usize) {
    let (mut each, mut runs, mut inbox) = (Vec::new(), 0, Inbox::new());
    while each.len() < count {
        let mut readable = [PollFd::new(udp, PollFlags::IN)];
        assert_eq!(poll(&mut readable, Some(&PATIENCE)), Ok(1), "{} came", each.len());
        runs += udp.receive(&mut inbox).unwrap();
        for run in inbox.runs() {
            each.extend(run.bytes.chunks(run.stride).map(<[u8]>::to_vec));
        }
    }
    assert_eq!(udp.receive(&mut inbox).unwrap(), 0);
    (each, runs)
}

#[test]
fn a_run_arrives_as_its_datagrams_in_one_piece() {
    let (mut tx, rx) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    for (stride, count, last) in [(1452, 40, 1452), (1452, 40, 3), (9000, 7, 8999), (32, 64, 32)] {
        let (bytes, each) = run(stride, count, last);

        tx.send(to(&rx), &bytes, stride).unwrap();

        assert_eq!(receive(&rx, count), (each, 1), "{count} of {stride}");
    }
}

#[test]
fn what_one_call_of_the_kernel_does_not_hold_goes_in_several() {
    let (mut tx, rx) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    for (stride, count, runs) in [(32, 200, 4), (9000, 20, 3), (40_000, 3, 3), (65_507, 2, 2)] {
        let (bytes, each) = run(stride, count, stride - 1);

        tx.send(to(&rx), &bytes, stride).unwrap();

        assert_eq!(receive(&rx, count), (each, runs), "{count} of {stride}");
    }
}

#[test]
fn one_datagram_goes_by_itself_however_long_its_stride() {
    let (mut tx, rx) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    for (bytes, stride) in [
        (1, 1),
        (1452, 1452),
        (100, 1452),
        (65_507, 65_507),
        (10, usize::MAX),
    ] {
        let datagram = vec![7; bytes];

        tx.send(to(&rx), &datagram, stride).unwrap();

        assert_eq!(receive(&rx, 1), (vec![datagram], 1));
    }
}

#[test]
fn an_empty_datagram_hides_none_behind_it() {
    let (mut tx, rx) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());

    tx.send(to(&rx), &[], 0).unwrap();
    tx.send(to(&rx), &[1, 2, 3], 3).unwrap();

    assert_eq!(receive(&rx, 1), (vec![vec![1, 2, 3]], 2));
}

#[test]
fn a_kernel_without_ipv6_loses_nothing_but_ipv6() {
    let (mut tx, rx) = (v4_only(), v4_only());
    let (bytes, each) = run(1452, 40, 9);

    tx.send(to(&rx), &bytes, 1452).unwrap();

    assert_eq!(receive(&rx, 40), (each, 1));
    let v6 = Route {
        dst: "[::1]:9".parse().unwrap(),
        src_ip: None,
    };
    assert!(tx.send(v6, &bytes, 1452).is_err());
    assert_eq!(tx.unsendable(), 40);
}

#[test]
fn ipv6_arrives_and_ipv4_is_told_as_such() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let (mut tx, rx) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
        let route = Route {
            dst: SocketAddr::from((ip, rx.port())),
            src_ip: None,
        };

        tx.send(route, &[1, 2, 3, 4, 5], 2).unwrap();

        let mut inbox = Inbox::new();
        poll(&mut [PollFd::new(&rx, PollFlags::IN)], Some(&PATIENCE)).unwrap();
        rx.receive(&mut inbox).unwrap();
        let from = inbox.runs().next().map(|run| (run.src, run.dst_ip, run.stride));
        assert_eq!(from, Some((SocketAddr::from((ip, tx.port())), Some(ip), 2)));
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_spoken_to_while_it_is_there() {
    let spoken_to = IpAddr::from(Ipv4Addr::new(127, 0, 0, 5));
    let gone = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    let other_family = IpAddr::from(Ipv6Addr::LOCALHOST);
    let usual = IpAddr::from(Ipv4Addr::LOCALHOST);
    let makers: [fn() -> Udp; 2] = [|| Udp::bind(0).unwrap(), v4_only];
    for (make, (src_ip, seen)) in makers.into_iter().flat_map(|make| {
        [(spoken_to, spoken_to), (gone, usual), (other_family, usual)].map(|case| (make, case))
    }) {
        let (mut tx, rx) = (make(), make());
        let route = Route {
            src_ip: Some(src_ip),
            ..to(&rx)
        };
        let (bytes, _) = run(1000, 10, 1000);

        tx.send(route, &bytes, 1000).unwrap();

        let mut inbox = Inbox::new();
        poll(&mut [PollFd::new(&rx, PollFlags::IN)], Some(&PATIENCE)).unwrap();
        assert_eq!(rx.receive(&mut inbox).unwrap(), 1);
        let from = inbox.runs().next().map(|run| (run.src.ip(), run.bytes.len()));
        assert_eq!(from, Some((seen, 10_000)));
    }
}

#[test]
fn a_destination_that_cannot_be_costs_no_other_its_segmentation() {
    let (mut tx, rx) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    let nobody = Route {
        dst: "127.0.0.1:0".parse().unwrap(),
        src_ip: None,
    };
    let (bytes, each) = run(1000, 10, 1000);

    assert!(tx.send(nobody, &bytes, 1000).is_err());
    assert_eq!(tx.unsendable(), 10);

    tx.send(to(&rx), &bytes, 1000).unwrap();
    assert_eq!(receive(&rx, 10), (each, 1));
}

#[test]
fn the_buffers_are_as_large_as_was_asked() {
    let udp = Udp::bind(0).unwrap();

    // Linux doubles what it is asked for, and tells the double.
    assert_eq!(sockopt::socket_recv_buffer_size(&udp), Ok(2 * BUFFER_BYTES));
    assert_eq!(sockopt::socket_send_buffer_size(&udp), Ok(2 * BUFFER_BYTES));
}

#[test]
fn mapped_addresses_read_back_as_ipv4() {
    let v4: SocketAddr = "192.0.2.7:51820".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::7]:51820".parse().unwrap();

    assert_eq!(mapped(v4).to_string(), "[::ffff:192.0.2.7]:51820");
    assert_eq!(unmapped(mapped(v4)), v4);
    assert_eq!(unmapped(mapped(v6)), v6);
}
