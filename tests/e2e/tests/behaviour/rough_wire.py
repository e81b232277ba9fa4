"""A cable between eth0 and eth1 that loses, doubles and reorders what is long enough to be data.

rough_wire.py LOSS DOUBLE HOLD DEPTH: of a thousand frames so many are lost, sent twice, held back; one that is held
back goes on when DEPTH others have overtaken it. Prints what it did when it is told to end.
"""

import random
import select
import signal
import socket
import sys

LOSS, DOUBLE, HOLD, DEPTH = (int(word) for word in sys.argv[1:])
ETH_P_ALL = 3
OUTGOING = 4
NODE_PORT = (51820).to_bytes(2, "big")
SO_RCVBUFFORCE = 33
# Handshakes are not what this is about.
DATA_BYTES_MIN = 200

random.seed(4)
counts = {"passed": 0, "lost": 0, "doubled": 0, "held": 0}


def end(*_):
    print(" ".join(f"{name}={count}" for name, count in counts.items()), flush=True)
    sys.exit(0)


def port(name):
    plug = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    plug.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    plug.bind((name, ETH_P_ALL))
    plug.setblocking(False)
    return plug


class Direction:
    def __init__(self, source, target):
        self.source, self.target = source, target
        self.held = []
        self.number = 0

    def move(self):
        for _ in range(64):
            try:
                frame, address = self.source.recvfrom(65536)
            except BlockingIOError:
                return
            if address[2] != OUTGOING:
                self.take(frame)

    def take(self, frame):
        # The destination port behind an IPv4 or an IPv6 header.
        port_at = 36 if frame[12:14] == b"\x08\x00" else 56
        if len(frame) < DATA_BYTES_MIN or frame[port_at : port_at + 2] != NODE_PORT:
            self.send(frame)
            return
        self.number += 1
        while self.held and self.held[0][0] <= self.number:
            self.send(self.held.pop(0)[1])
        fate = random.randrange(1000)
        if fate < LOSS:
            counts["lost"] += 1
        elif fate < LOSS + HOLD:
            counts["held"] += 1
            self.held.append((self.number + DEPTH, frame))
        else:
            self.send(frame)
            if fate >= 1000 - DOUBLE:
                counts["doubled"] += 1
                self.send(frame)

    def flush(self):
        for _, frame in self.held:
            self.send(frame)
        self.held.clear()

    def send(self, frame):
        counts["passed"] += 1
        try:
            self.target.send(frame)
        except (BlockingIOError, OSError):
            pass


signal.signal(signal.SIGTERM, end)
left, right = port("eth0"), port("eth1")
directions = {left.fileno(): Direction(left, right), right.fileno(): Direction(right, left)}
print("ready", flush=True)
while True:
    ready, _, _ = select.select(list(directions), [], [], 0.1)
    for plug in ready:
        directions[plug].move()
    if not ready:
        for direction in directions.values():
            direction.flush()
