"""Runs in a pod: connects without end, and says when the answer changes. Standard library only.

argv: address, port. Each line of output is an event and the time of CLOCK_MONOTONIC, which all namespaces share:

opened TIME   the first connection that opened after some that did not: when it was begun
refused TIME  the first connection that did not open after some that did: when it was begun
cut TIME      an open connection no longer answers: when it answered last

A connection that gets no answer in 4 ms counts as refused; there is some one attempt a millisecond. The open
connection asks every millisecond, and is cut when there is no answer for 100 ms; then a new one is opened.
"""

import select
import socket
import sys
import threading
import time

ANSWER, PACE, CUT = 0.004, 0.001, 0.1


def say(event: str, when: float) -> None:
    sys.stdout.write(f"{event} {when!r}\n")
    sys.stdout.flush()


def opens(target: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(target)
        _, writable, _ = select.select([], [sock], [], ANSWER)
        return bool(writable) and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def knock(target: tuple[str, int]) -> None:
    before: bool | None = None
    while True:
        begun = time.monotonic()
        now = opens(target)
        if now != before:
            say("opened" if now else "refused", begun)
        before = now
        time.sleep(PACE)


def talk(target: tuple[str, int]) -> None:
    while True:
        try:
            with socket.create_connection(target, CUT) as sock:
                answered = time.monotonic()
                while True:
                    try:
                        sock.sendall(b"?")
                        if not sock.recv(1):
                            break
                    except TimeoutError:
                        say("cut", answered)
                        break
                    answered = time.monotonic()
                    time.sleep(PACE)
        except OSError:
            time.sleep(0.01)


if __name__ == "__main__":
    address = sys.argv[1], int(sys.argv[2])
    threading.Thread(target=talk, args=(address,), daemon=True).start()
    knock(address)
