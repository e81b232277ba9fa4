"""A cable between eth0 and eth1 that delays all, and loses, doubles and reorders what is long enough to be data.

cable.py LOSS DOUBLE HOLD DEPTH DELAY PORT: of a thousand frames so many are lost, sent twice, held back; one that is
held back goes on when DEPTH others have overtaken it. Every frame takes DELAY microseconds. Only frames to the UDP or
TCP port PORT suffer, or all if it is 0. Prints what it did when it is told to end.
"""

import collections
import random
import select
import signal
import socket
import sys
import time

LOSS, DOUBLE, HOLD, DEPTH, DELAY, PORT = (int(word) for word in sys.argv[1:])
ETH_P_ALL = 3
OUTGOING = 4
SO_RCVBUFFORCE = 33
# Handshakes and acknowledgements are not what this is about.
DATA_BYTES_MIN = 200
# After so long without a frame, nothing is left to overtake those that are held back.
IDLE_S = 0.1

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


def suffers(frame):
    if len(frame) < DATA_BYTES_MIN:
        return False
    # The destination port behind an IPv4 or an IPv6 header.
    port_at = 36 if frame[12:14] == b"\x08\x00" else 56
    return PORT == 0 or int.from_bytes(frame[port_at : port_at + 2], "big") == PORT


class Direction:
    def __init__(self, source, target):
        self.source, self.target = source, target
        self.held = []
        self.number = 0
        # What is on its way, with the time it arrives.
        self.underway = collections.deque()

    def move(self):
        for _ in range(64):
            try:
                frame, address = self.source.recvfrom(65536)
            except BlockingIOError:
                return
            if address[2] != OUTGOING:
                self.take(frame)

    def take(self, frame):
        if not suffers(frame):
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

    def release(self):
        for _, frame in self.held:
            self.send(frame)
        self.held.clear()

    def send(self, frame):
        if DELAY:
            self.underway.append((time.monotonic() + DELAY / 1e6, frame))
        else:
            self.deliver(frame)

    def deliver_due(self):
        """Delivers what has arrived; says how long it is until the next does."""
        now = time.monotonic()
        while self.underway and self.underway[0][0] <= now:
            self.deliver(self.underway.popleft()[1])
        return self.underway[0][0] - now if self.underway else IDLE_S

    def deliver(self, frame):
        counts["passed"] += 1
        try:
            self.target.send(frame)
        except OSError:
            pass


signal.signal(signal.SIGTERM, end)
left, right = port("eth0"), port("eth1")
directions = {left.fileno(): Direction(left, right), right.fileno(): Direction(right, left)}
print("ready", flush=True)
last = time.monotonic()
while True:
    pause = min(direction.deliver_due() for direction in directions.values())
    ready, _, _ = select.select(list(directions), [], [], pause)
    for plug in ready:
        directions[plug].move()
    now = time.monotonic()
    if ready:
        last = now
    elif now - last >= IDLE_S:
        last = now
        for direction in directions.values():
            direction.release()
