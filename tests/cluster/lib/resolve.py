"""resolve.py SERVER NAME SECONDS: waits until the cluster's DNS knows the name; prints its address."""

import socket
import struct
import sys
import time


def main():
    server, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    deadline = time.monotonic() + seconds
    while True:
        address = ask(server, name)
        if address:
            print(address)
            return
        if time.monotonic() > deadline:
            sys.exit(f"cluster: the DNS at {server} does not know {name} after {seconds:.0f} s")
        time.sleep(0.2)


def ask(server, name):
    """The first A record, if there is one."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(1)
        try:
            udp.sendto(query, (server, 53))
            answer = udp.recv(1500)
        except OSError:
            return None
    answers = struct.unpack_from(">H", answer, 6)[0]
    if not answers or answer[3] & 15:
        return None
    # The question comes back first, then the name, type, class, lifetime and length of the answer.
    offset = after_name(answer, len(query))
    kind, _, _, length = struct.unpack_from(">HHIH", answer, offset)
    return socket.inet_ntoa(answer[offset + 10 :][:length]) if kind == 1 else None


def after_name(message, offset):
    """Where the name at `offset` ends: with an empty label, or with a pointer to the rest of it."""
    while message[offset]:
        if message[offset] >= 0xC0:
            return offset + 2
        offset += 1 + message[offset]
    return offset + 1


if __name__ == "__main__":
    main()
