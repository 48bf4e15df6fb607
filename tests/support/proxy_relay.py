"""A stand-in for the L7 proxy: accepts what the kernel brings, connects on in the client's name, and carries bytes.

argv: mark, first port of its own, and for each address that is not to be connected to as it is: `FROM=TO`
(address|port each). Tells on standard output `ready`, then a line `client -> destination` for each connection. Its
sockets are as the real one's: transparent, marked, sources in the proxy's range. Standard library only.
"""

import socket
import struct
import sys
import threading

IP_TRANSPARENT, IPV6_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT, IP_LOCAL_PORT_RANGE, SO_MARK = 19, 75, 24, 51, 36
PORT = 15001


def main():
    mark, first = int(sys.argv[1], 0), int(sys.argv[2])
    elsewhere = dict(map(place, word.split("=")) for word in sys.argv[3:])
    listeners = [listening("127.0.0.1", mark), listening("::1", mark)]
    print("ready", flush=True)
    for listener in listeners:
        threading.Thread(target=accept, args=(listener, mark, first, elsewhere)).start()


def place(text):
    address, _, port = text.rpartition("|")
    return address, int(port)


def listening(address, mark):
    listener = transparent(address, mark)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, PORT))
    listener.listen(512)
    return listener


def transparent(address, mark):
    six = ":" in address
    opened = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    opened.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    opened.setsockopt(*((socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if six else (socket.IPPROTO_IP, IP_TRANSPARENT)), 1)
    return opened


def accept(listener, mark, first, elsewhere):
    while True:
        client, peer = listener.accept()
        threading.Thread(target=carry, args=(client, peer[0], mark, first, elsewhere), daemon=True).start()


def carry(client, source, mark, first, elsewhere):
    with client:
        asked = client.getsockname()[:2]
        print(f"{source} -> {asked[0]} {asked[1]}", flush=True)
        with transparent(source, mark) as server:
            server.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            server.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("=I", 65535 << 16 | first))
            server.settimeout(3)
            try:
                server.bind((source, 0))
                server.connect(elsewhere.get(asked, asked))
            except OSError as error:
                print(f"cannot connect: {error}", flush=True)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            server.settimeout(None)
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()


def pump(reading, writing):
    try:
        while data := reading.recv(65536):
            writing.sendall(data)
        writing.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (reading, writing):
            with __import__("contextlib").suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
