"""Packets that no honest member sends, as JSON lines: group, name, how many may get through, and the bytes.

Called with the attacker's addresses, the victim's, and those of another member.
"""

import json
import logging
import sys

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
from scapy.all import (  # noqa: E402
    ICMP, IP, TCP, UDP, ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS,
    ICMPv6ND_RA, ICMPv6ND_Redirect, ICMPv6PacketTooBig, ICMPv6ParamProblem, ICMPv6TimeExceeded, IPOption_LSRR,
    IPOption_RR, IPOption_SSRR, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting,
    HAO, Jumbo, PadN, Raw, RouterAlert, raw,
)

own4, own6, db4, db6, api4, api6 = sys.argv[1:7]


def emit(group, name, *packets, passes=0):
    print(json.dumps({
        "group": group, "name": name, "passes": passes,
        "packets": [(p if isinstance(p, bytes) else raw(p)).hex() for p in packets],
    }))


def v4(src=own4, dst=db4, **more):
    return IP(src=src, dst=dst, **more)


def v6(src=own6, dst=db6, **more):
    return IPv6(src=src, dst=dst, **more)


def ask():
    return UDP(sport=999, dport=53) / b"who?"


# Every protocol number, with bytes that fit none of them and with an honest UDP datagram's bytes.
for number in range(256):
    for body in (b"\0" * 40, b"\xff" * 40):
        emit("protocols", f"v4 protocol {number}", v4(proto=number) / Raw(body))
        emit("protocols", f"v6 protocol {number}", v6(nh=number) / Raw(body))
    if number != 17:
        datagram = raw(v4() / ask())[20:]
        emit("protocols", f"v4 a question as protocol {number}", v4(proto=number) / Raw(datagram))
        emit("protocols", f"v6 a question as protocol {number}", v6(nh=number) / Raw(datagram))

# Sources that are not the sender's.
for src in (api4, db4, "0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "10.77.0.1", "169.254.1.1",
            own4.rsplit(".", 1)[0] + ".0", own4.rsplit(".", 1)[0] + ".255", "8.8.8.8"):
    emit("sources", f"from {src}", v4(src=src) / ask(), v4(src=src) / TCP(sport=1, dport=5432, flags="S"),
         v4(src=src) / ICMP())
for src in (api6, db6, "::", "::1", "ff02::1", "fe80::1", "fd77::1", f"::ffff:{own4}", f"::{own4}", f"64:ff9b::{own4}",
            "2002:c000:204::1"):
    emit("sources", f"from {src}", v6(src=src) / ask(), v6(src=src) / TCP(sport=1, dport=5432, flags="S"),
         v6(src=src) / ICMPv6EchoRequest())

# Destinations that are not the receiver's.
for dst in (api4, own4, "127.0.0.1", "255.255.255.255", "224.0.0.251", "10.77.0.1", "0.0.0.0", "10.77.0.11"):
    emit("destinations", f"to {dst}", v4(dst=dst) / ask(), v4(dst=dst) / TCP(sport=1, dport=5432, flags="S"))
for dst in (api6, own6, "::1", "ff02::1", "fe80::1", "fd77::1", "::", f"::ffff:{db4}", "fd77::11"):
    emit("destinations", f"to {dst}", v6(dst=dst) / ask(), v6(dst=dst) / TCP(sport=1, dport=5432, flags="S"))

# Ports and flags.
for port in (0, 1, 22, 52, 54, 80, 443, 5431, 5433, 65535):
    for ip in (v4(), v6()):
        emit("ports", f"v{ip.version} udp/{port}", ip / UDP(sport=53, dport=port) / b"x")
        emit("ports", f"v{ip.version} tcp/{port}", ip / TCP(sport=5432, dport=port, flags="S"))
for flags in ("", "F", "R", "A", "FPU", "SF", "SR", "SA", "FA", "RA", "SRAFPU", "P"):
    for ip in (v4(), v6()):
        emit("flags", f"v{ip.version} tcp/5432 with [{flags}] and no connection", ip / TCP(sport=7, dport=5432, flags=flags))
for ip, ping in ((v4(), ICMP()), (v6(), ICMPv6EchoRequest())):
    emit("ports", f"v{ip.version} ping", ip / ping)

# Lengths that lie.
honest4, honest6 = raw(v4() / ask()), raw(v6() / ask())
emit("lengths", "v4 total length past the end", raw(v4(len=1000) / ask()))
emit("lengths", "v4 total length below the header", raw(v4(len=19) / ask()))
emit("lengths", "v4 header length below five words", raw(v4(ihl=4) / ask()))
emit("lengths", "v4 header length past the end", raw(v4(ihl=15) / ask()))
emit("lengths", "v4 cut in its UDP header", raw(v4(len=24) / ask()))
emit("lengths", "v6 payload length past the end", raw(v6(plen=1000) / ask()))
emit("lengths", "v6 payload length zero", raw(v6(plen=0) / ask()))
emit("lengths", "UDP length past the end", v4() / UDP(sport=999, dport=53, len=500) / b"who?")
emit("lengths", "UDP length below its header", v4() / UDP(sport=999, dport=53, len=7) / b"who?")
emit("lengths", "TCP header past the end", v4() / TCP(sport=1, dport=5432, flags="S", dataofs=15))
emit("lengths", "TCP header below five words", v4() / TCP(sport=1, dport=5432, flags="S", dataofs=4))
for version in (0, 1, 2, 3, 5, 7, 8, 15):
    emit("lengths", f"version {version}", bytes([version << 4 | 5]) + honest4[1:], bytes([version << 4]) + honest6[1:])

# IPv4 options.
for option in (IPOption_LSRR(routers=[api4]), IPOption_SSRR(routers=[api4]), IPOption_RR(routers=[api4])):
    emit("options", f"v4 {option.name}", v4(options=[option]) / ask())
for kind in (7, 68, 130, 131, 136, 137, 148, 255):
    emit("options", f"v4 option {kind}", v4(options=[Raw(bytes([kind, 4, 4, 0]))]) / ask())

# IPv6 extension headers.
pad = PadN(optdata=b"\0" * 4)
for name, chain in {
    "hop-by-hop": IPv6ExtHdrHopByHop(options=[pad]),
    "router alert": IPv6ExtHdrHopByHop(options=[RouterAlert()]),
    "jumbo payload": IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=100)]),
    "home address": IPv6ExtHdrDestOpt(options=[HAO(hoa=api6)]),
    "routing type 0": IPv6ExtHdrRouting(type=0, addresses=[api6]),
    "routing type 2": IPv6ExtHdrRouting(type=2, addresses=[api6]),
    "routing type 4": IPv6ExtHdrRouting(type=4, addresses=[api6]),
    "hop-by-hop after destination options": IPv6ExtHdrDestOpt(options=[pad]) / IPv6ExtHdrHopByHop(options=[pad]),
    "two fragment headers": IPv6ExtHdrFragment(m=1, id=1) / IPv6ExtHdrFragment(m=1, id=2),
    "padding that is not zero": IPv6ExtHdrDestOpt(options=[PadN(optdata=b"data")]),
}.items():
    emit("extensions", name, v6() / chain / ask())
deep = v6()
for _ in range(64):
    deep = deep / IPv6ExtHdrDestOpt(options=[pad])
emit("extensions", "64 destination options", deep / ask())
for number in (50, 51, 59, 135, 139, 140, 253, 254):
    emit("extensions", f"header {number} before a question", v6() / IPv6ExtHdrDestOpt(nh=number, options=[pad]) / Raw(b"\x11" + b"\0" * 7 + raw(ask())))
emit("extensions", "destination options past the end", v6(nh=60) / Raw(b"\x11\xff" + b"\0" * 14))
# The rule is not "no extension headers": these two are honest.
emit("extensions", "padding alone", v6() / IPv6ExtHdrDestOpt(options=[pad]) / ask(), passes=1)
emit("extensions", "an atomic fragment", v6() / IPv6ExtHdrFragment(id=5) / ask(), passes=1)


# ICMP errors. The attacker's question and the victim's answer to it are the one flow there is.
def errors4(quoted):
    for kind, code in ((3, 0), (3, 1), (3, 3), (3, 4), (4, 0), (11, 0), (11, 1), (12, 0), (5, 1)):
        yield v4() / ICMP(type=kind, code=code, nexthopmtu=68 if code == 4 else 0) / quoted


def errors6(quoted):
    for error in (ICMPv6DestUnreach(code=1), ICMPv6PacketTooBig(mtu=68), ICMPv6TimeExceeded(), ICMPv6ParamProblem()):
        yield v6() / error / quoted


for name, four, six in (
    ("another member's connection", v4(db4, api4) / TCP(sport=5432, dport=5555), v6(db6, api6) / TCP(sport=5432, dport=5555)),
    ("the other way of that", v4(api4, db4) / TCP(sport=5555, dport=5432), v6(api6, db6) / TCP(sport=5555, dport=5432)),
    ("a flow that is not", v4(db4, own4) / UDP(sport=53, dport=1), v6(db6, own6) / UDP(sport=53, dport=1)),
    ("a connection that is not", v4(db4, own4) / TCP(sport=5432, dport=999), v6(db6, own6) / TCP(sport=5432, dport=999)),
    ("the attacker's own packet", v4() / UDP(sport=999, dport=53), v6() / UDP(sport=999, dport=53)),
    ("the victim's underlay", IP(src="10.77.0.11", dst="10.77.0.1") / UDP(sport=9, dport=7443), IPv6(src="fd77::11", dst="fd77::1") / UDP(sport=9, dport=7443)),
    ("a fragment", v4(db4, own4, frag=3) / UDP(sport=53, dport=999), v6(db6, own6) / IPv6ExtHdrFragment(offset=3, nh=17) / Raw(b"\0" * 8)),
    ("an error", v4(db4, own4) / ICMP(type=3) / v4(), v6(db6, own6) / ICMPv6DestUnreach() / v6()),
):
    emit("errors", f"v4 about {name}", *errors4(four))
    emit("errors", f"v6 about {name}", *errors6(six))
emit("errors", "v4 about nothing", *errors4(Raw(b"")), *errors4(Raw(b"\x45")), *errors4(Raw(b"\0" * 28)))
emit("errors", "v6 about nothing", *errors6(Raw(b"")), *errors6(Raw(b"\x60")), *errors6(Raw(b"\0" * 48)))
emit("errors", "of the wrong family", v4(proto=58) / Raw(raw(v6() / ICMPv6DestUnreach())[40:]), v6(nh=1) / ICMP(type=3) / v4(db4, own4))
emit("errors", "in fragments", v4(flags="MF", id=9) / ICMP(type=3) / v4(db4, own4) / UDP(sport=53, dport=999))
emit("errors", "not errors", v4() / ICMP(type=0), v4() / ICMP(type=13), v4() / ICMP(type=17), v4() / ICMP(type=9),
     v4() / ICMP(type=5, gw=own4) / v4(db4, own4) / UDP(sport=53, dport=999),
     v6() / ICMPv6EchoReply(), v6() / ICMPv6ND_RA(), v6() / ICMPv6ND_NS(tgt=db6), v6() / ICMPv6ND_NA(tgt=api6),
     v6() / ICMPv6ND_Redirect(tgt=own6, dst=api6))


# Fragments. Offsets are in eights.
def piece4(ident, offset, more, data, proto=17, **kw):
    return v4(id=ident, frag=offset, flags="MF" if more else 0, proto=proto, **kw) / Raw(data)


def piece6(ident, offset, more, data, nh=17, **kw):
    return v6(**kw) / IPv6ExtHdrFragment(id=ident, offset=offset, m=1 if more else 0, nh=nh) / Raw(data)


def udp4(dport, size=56):
    return raw(v4() / UDP(sport=999, dport=dport) / (b"\7" * size))[20:]


def udp6(dport, size=56):
    return raw(v6() / UDP(sport=999, dport=dport) / (b"\7" * size))[40:]


syn4 = raw(v4() / TCP(sport=6, dport=5432, flags="S"))[20:]
syn6 = raw(v6() / TCP(sport=6, dport=5432, flags="S"))[40:]
ident = 0x100
for piece, udp, syn, v in ((piece4, udp4, syn4, "v4"), (piece6, udp6, syn6, "v6")):
    def case(name, *pieces, passes=0):
        global ident
        ident += 1
        emit("fragments", f"{v} {name}", *(p(ident) for p in pieces), passes=passes)

    good, bad = udp(53), udp(80)
    tcp = {"proto": 6} if v == "v4" else {"nh": 6}
    six = {"proto": 6} if v == "v4" else {"nh": 6}
    case("honest", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 4, False, good[32:]), passes=2)
    case("a port that is closed", lambda i: piece(i, 0, True, bad[:32]), lambda i: piece(i, 4, False, bad[32:]))
    case("second without a first", lambda i: piece(i, 4, False, good[32:]))
    case("last before first", lambda i: piece(i, 4, False, good[32:]), lambda i: piece(i, 0, True, bad[:32]))
    case("tiny TCP first: ports without flags", lambda i: piece(i, 0, True, syn[:8], **tcp), lambda i: piece(i, 1, False, syn[8:], **tcp))
    case("tiny TCP first: flags come second", lambda i: piece(i, 0, True, syn[:16], **tcp), lambda i: piece(i, 2, False, syn[16:], **tcp))
    case("flags in a second at offset one", lambda i: piece(i, 1, False, syn[8:], **tcp))
    case("first again with another port", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 0, True, bad[:32]), lambda i: piece(i, 4, False, good[32:]), passes=2)
    case("first again, whole", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 0, False, bad), passes=1)
    case("over the port", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 1, False, bad[8:]), passes=1)
    case("teardrop: inside the first", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 1, True, bad[8:16]), passes=1)
    case("the same one twice", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 4, True, good[32:40]), lambda i: piece(i, 4, True, good[32:40]), lambda i: piece(i, 5, False, good[40:]), passes=2)
    case("after the end", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 4, False, good[32:]), lambda i: piece(i, 8, False, good[32:]), passes=2)
    case("past the end it named", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 6, False, good[48:]), lambda i: piece(i, 8, True, good[:8]), passes=2)
    case("two ends", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 5, False, good[40:48]), lambda i: piece(i, 6, False, good[48:]), passes=2)
    case("ping of death", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 8191, False, b"\7" * 64), passes=1)
    case("empty", lambda i: piece(i, 0, True, b""), lambda i: piece(i, 4, False, b""))
    case("ragged", lambda i: piece(i, 0, True, good[:33]))
    case("another protocol's second", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 4, False, good[32:], **six), passes=1 if v == "v4" else 2)
    case("another member's second", lambda i: piece(i, 0, True, good[:32]), lambda i: piece(i, 4, False, good[32:], src=api4 if v == "v4" else api6), passes=1)
case6 = [piece6(0x900, 0, True, raw(IPv6ExtHdrDestOpt(nh=17, options=[pad])), nh=60), piece6(0x900, 1, False, udp6(80), nh=60)]
emit("fragments", "v6 header chain cut in two (RFC 7112)", *case6)
emit("fragments", "v6 routing header inside a fragment", piece6(0x901, 0, True, raw(IPv6ExtHdrRouting(nh=17, addresses=[api6])) + udp6(53), nh=43))
emit("fragments", "v6 fragment of a fragment", piece6(0x902, 0, True, raw(IPv6ExtHdrFragment(nh=17, id=7, m=1)) + udp6(53)[:32], nh=44))
