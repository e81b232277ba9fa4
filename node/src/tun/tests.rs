//! Devices of a network namespace that is a test's alone, and a socket of ours behind them.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::UnshareFlags;

use super::*;
use crate::udp::{Inbox, Route, Udp};

const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
const HERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const THERE_V6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 2);
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`, `VIRTIO_NET_HDR_GSO_NONE`, `VIRTIO_NET_HDR_GSO_UDP_L4`.
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_UDP: u8 = 5;
/// Next headers of IPv6.
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const ICMP6: u8 = 58;

/// Runs `test` on a thread with a network of its own: a device with an address, THERE behind it.
fn with_device(offload: Offload, mtu: &str, test: impl FnOnce(Tun) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            #[expect(
                deprecated,
                reason = "of what a thread may unshare, only its files would be unsound"
            )]
            rustix::thread::unshare(UnshareFlags::NEWNET).unwrap();
            let tun = Tun::open("rf-test", offload).unwrap();
            for line in [
                "link set rf-test addrgenmode none",
                "address add 10.9.0.1/24 dev rf-test",
                "address add fd09::1/64 dev rf-test nodad",
                &format!("link set rf-test up mtu {mtu}"),
            ] {
                assert!(
                    Command::new("ip")
                        .args(line.split(' '))
                        .status()
                        .unwrap()
                        .success()
                );
            }
            test(tun);
        });
        thread.join().unwrap();
    });
}

/// What the device gives next: header and packet. What the kernel says of its own accord is passed over.
fn read(tun: &Tun) -> Option<Vec<u8>> {
    loop {
        let mut buffer = vec![0; READ_BYTES_MAX];
        let length = tun.read(&mut buffer).unwrap()?;
        buffer.truncate(length);
        let packet = &buffer[VNET_HEADER_BYTES..];
        let is_own_accord = packet[0] >> 4 == 6 && [HOP_BY_HOP, ICMP6].contains(&packet[6]);
        if !is_own_accord {
            return Some(buffer);
        }
    }
}

/// Sends `count` datagrams as one run to the same port on the other side of the device.
fn send(udp: &mut Udp, there: impl Into<IpAddr>, stride: usize, count: usize) {
    let route = Route {
        dst: SocketAddr::from((there.into(), udp.port())),
        src_ip: None,
    };
    udp.send(route, &vec![7; stride * count], stride).unwrap();
}

fn gso_type(read: &[u8]) -> u8 {
    read[1]
}

fn gso_bytes(read: &[u8]) -> u16 {
    u16::from_ne_bytes([read[4], read[5]])
}

/// The same packet on its way back. No checksum changes, open or not: both sides of it are summed.
fn turn_round(read: &mut [u8]) {
    let packet = &mut read[VNET_HEADER_BYTES..];
    let (src, dst) = packet[12..20].split_at_mut(4);
    src.swap_with_slice(dst);
    let (src, dst) = packet[20..24].split_at_mut(2);
    src.swap_with_slice(dst);
}

#[test]
fn datagrams_of_one_flow_come_in_one_read_and_go_in_one_write() {
    with_device(Offload::All, "1420", |tun| {
        assert_eq!(tun.offloads(), Offloads::ALL);
        let mut udp = Udp::bind(0).unwrap();

        send(&mut udp, THERE, 1000, 40);

        let mut whole = read(&tun).unwrap();
        assert_eq!((gso_type(&whole), gso_bytes(&whole)), (GSO_UDP, 1000));
        assert_eq!(whole.len(), VNET_HEADER_BYTES + 28 + 40_000);
        assert_eq!(read(&tun), None);

        turn_round(&mut whole);
        tun.write(&whole).unwrap();

        let mut inbox = Inbox::new();
        poll(&mut [PollFd::new(&udp, PollFlags::IN)], Some(&PATIENCE)).unwrap();
        assert_eq!(udp.receive(&mut inbox).unwrap(), 1);
        let run = inbox.runs().next().unwrap();
        assert_eq!((run.src.ip(), run.dst_ip), (THERE.into(), Some(HERE.into())));
        assert_eq!((run.bytes.len(), run.stride), (40_000, 1000));
    });
}

#[test]
fn tcp_comes_with_its_checksum_open() {
    with_device(Offload::All, "1420", |tun| {
        let timeout = Duration::from_millis(1);
        let connecting = std::net::TcpStream::connect_timeout(&(THERE, 443).into(), timeout);

        assert!(connecting.is_err(), "nobody answers");
        let syn = read(&tun).unwrap();
        assert_eq!(
            (syn[0] & NEEDS_CHECKSUM, gso_type(&syn)),
            (NEEDS_CHECKSUM, GSO_NONE)
        );
    });
}

#[test]
fn without_offloads_each_datagram_is_a_whole_packet() {
    with_device(Offload::None, "1420", |tun| {
        assert_eq!(tun.offloads(), Offloads::NONE);
        let mut udp = Udp::bind(0).unwrap();

        send(&mut udp, THERE, 1000, 40);

        for _ in 0..40 {
            let packet = read(&tun).unwrap();
            assert_eq!((packet[0] & NEEDS_CHECKSUM, gso_type(&packet)), (0, GSO_NONE));
            assert_eq!(packet.len(), VNET_HEADER_BYTES + 28 + 1000);
        }
        assert_eq!(read(&tun), None);
    });
}

#[test]
fn datagrams_longer_than_the_device_takes_go_in_fragments() {
    with_device(Offload::All, "1280", |tun| {
        let mut udp = Udp::bind(0).unwrap();

        send(&mut udp, THERE, 1400, 3);
        send(&mut udp, THERE_V6, 1400, 3);

        assert_eq!(udp.unsendable(), 0);
        let v4 = [(); 6].map(|()| {
            let packet = read(&tun).unwrap();
            u16::from_be_bytes([packet[VNET_HEADER_BYTES + 6], packet[VNET_HEADER_BYTES + 7]])
        });
        // "More fragments", then the rest at 157 times 8 bytes.
        assert_eq!(v4, [0x2000, 157, 0x2000, 157, 0x2000, 157]);
        let v6 = [(); 6].map(|()| read(&tun).unwrap()[VNET_HEADER_BYTES + 6]);
        assert_eq!(v6, [FRAGMENT; 6]);

        send(&mut udp, THERE, 1200, 3);
        assert_eq!(
            gso_type(&read(&tun).unwrap()),
            GSO_UDP,
            "shorter ones still go as one"
        );
        assert_eq!(read(&tun), None);
    });
}

#[test]
fn a_kernel_that_knows_less_is_asked_for_less() {
    let refusals = [
        (0, vec![TunFeatures::TCP_AND_UDP], Some(Offloads::ALL)),
        (
            1,
            vec![TunFeatures::TCP_AND_UDP, TunFeatures::TCP],
            Some(Offloads {
                tcp: true,
                udp: false,
            }),
        ),
        (
            2,
            vec![TunFeatures::TCP_AND_UDP, TunFeatures::TCP, TunFeatures::NONE],
            Some(Offloads::NONE),
        ),
        (
            3,
            vec![TunFeatures::TCP_AND_UDP, TunFeatures::TCP, TunFeatures::NONE],
            None,
        ),
    ];
    for (refused, asked, got) in refusals {
        let seen = RefCell::new(Vec::new());

        let negotiated = negotiate(|features| {
            seen.borrow_mut().push(features);
            if seen.borrow().len() <= refused {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            Ok(())
        });

        assert_eq!((seen.into_inner(), negotiated.ok()), (asked, got));
    }
}
