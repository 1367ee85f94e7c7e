#!/usr/bin/env python3
"""UDP datagrams that the kernel gets many at a time (UDP_SEGMENT of Linux's udp(7)), and who looks at each of them.

    datagrams.py serve ADDRESS PORT          prints the port it listens at, and ends with the last burst
    datagrams.py send ADDRESS PORT           the program that sends them

Both know what every datagram has to hold: the receiver answers a burst when all of it has come, in order, unharmed.
"""

import hashlib
import socket
import struct
import sys

UDP_SEGMENT = 103
HEADER = struct.Struct(">III")
# Bytes of a datagram, datagrams, and bytes of the last one. No burst is larger than what a socket holds.
BURSTS = [(1452, 44, 1452), (1000, 60, 999), (100, 60, 13), (1452, 2, 20), (1452, 1, 1452), (700, 33, 512)]
PATIENCE = 60


def content(burst, index):
    """The datagram `index` of a burst."""
    size, count, last = BURSTS[burst]
    length = last if index + 1 == count else size
    block = hashlib.sha256(HEADER.pack(burst, index, count)).digest()
    return (HEADER.pack(burst, index, count) + block * (length // len(block) + 1))[:length]


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def serve(address, port):
    server = socket.socket(family(address), socket.SOCK_DGRAM)
    server.bind((address, port))
    server.settimeout(10 * PATIENCE)
    print(server.getsockname()[1], flush=True)
    for burst, (_, count, _) in enumerate(BURSTS):
        for index in range(count):
            data, peer = server.recvfrom(65536)
            if data != content(burst, index):
                sys.exit(f"datagram {index} of burst {burst}: {len(data)} bytes {data[:12].hex()}")
        server.sendto(HEADER.pack(burst, 0, count), peer)


def send(address, port):
    client = socket.socket(family(address), socket.SOCK_DGRAM)
    client.settimeout(PATIENCE)
    client.connect((address, port))
    for burst, (size, count, _) in enumerate(BURSTS):
        client.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        client.send(b"".join(content(burst, index) for index in range(count)))
        if client.recv(100) != HEADER.pack(burst, 0, count):
            sys.exit(f"burst {burst} was answered with something else")
    print(f"{sum(count for _, count, _ in BURSTS)} datagrams arrived")


if __name__ == "__main__":
    {"serve": serve, "send": send}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
