#!/usr/bin/env python3
# A FastCGI program (its socket is descriptor 0) that sends its header at once, and nothing behind it: it works on, waiting at the test's
# gate. The query names the answer.
import os, socket, struct, time
from urllib.parse import parse_qs

GATES = "@GATES@"
HEADERS = {
    "gone": "Status: 204 No Content\r\n",
    "same": "Status: 304 Not Modified\r\nETag: \"v7\"\r\n",
    "empty": "Content-Type: text/html\r\nContent-Length: 0\r\n",
    "moved": "Status: 303 See Other\r\nLocation: https://example.org/thanks\r\nContent-Length: 0\r\n",
    "page": "Content-Type: text/html\r\nContent-Length: 1234\r\n",
    "zero": "Content-Type: text/html\r\n",
}


def record(kind, data):
    return struct.pack(">BBHHBx", 1, kind, 1, len(data), 0) + data


def now():
    return time.time_ns() // 1000


def work(identity, peer):
    began = now()
    open(f"{GATES}/{identity}.began", "w").close()
    deadline = time.monotonic() + 75
    while not os.path.exists(f"{GATES}/{identity}.gate") and time.monotonic() < deadline:
        time.sleep(0.01)
    seen, errors = now(), ""
    try:
        peer.sendall(record(6, b"LATE" * 5000) + record(6, b"") + record(3, bytes(8)))
    except OSError as error:
        errors = str(error)
    name = f"{GATES}/{identity}.done"
    with open(name + ".new", "w") as done:
        done.write(f"began={began}\ngate={seen}\nended={now()}\nerrors={errors}\n")
    os.rename(name + ".new", name)


def parameters(data):
    def length(at):
        if data[at] < 128:
            return data[at], at + 1
        return struct.unpack(">I", data[at:at + 4])[0] & 0x7FFFFFFF, at + 4

    at, found = 0, {}
    while at < len(data):
        name, at = length(at)
        value, at = length(at)
        found[data[at:at + name]] = data[at + name:at + name + value]
        at += name + value
    return found


listener = socket.socket(fileno=0)
while True:
    peer, _ = listener.accept()
    with peer, peer.makefile("rb") as stream:
        text = b""
        while True:
            head = stream.read(8)
            if len(head) < 8:
                break
            _, kind, _, length, padding = struct.unpack(">BBHHBx", head)
            data = stream.read(length + padding)[:length]
            text += data if kind == 4 else b""
            if kind == 5 and not data:
                break
        if not text:
            continue
        query = parse_qs(parameters(text)[b"QUERY_STRING"].decode())
        mark = query.get("mark", ["on"])[0]
        mark = "" if mark == "none" else f"X-Finish-Request: {mark}\r\n"
        peer.sendall(record(6, (HEADERS[query["answer"][0]] + mark + "\r\n").encode()))
        work(query["id"][0], peer)
