"""A loopback TCP proxy that harms connections on request, for tests of what follows.

    with Proxy(server.port) as proxy:
        client = redis.Redis(port=proxy.port)
        fault = proxy.drop_reply(matching=b"PONG")  # one shot; it strikes when the moment comes
        ...
        fault.wait()                                # until it has struck

Faults for a moment to come. Each strikes once, and returns a `Fault` at once:
    cut_after(count, direction=REPLY)     pass on `count` more bytes, all connections together, then
                                          cut the connection that carried the last one
    drop_request(number=1, ...)           cut a connection instead of passing on a request
    drop_reply(number=1, ...)             cut a connection instead of passing on a reply
    hold_reply(number=1, ...)             pass a reply on only after `fault.release()`
    hold_request(number=1, ...)           the same for a request; it reaches the server even when
                                          its sender is gone by then
They take `requesting=`, bytes that the request must have in it to be counted; those of replies
also `matching=`, the same for the reply. Both look into the first piece, up to 64 KiB. One reply
is what a server sends after the client said something, so a pipeline has one. Those that cut take
`reset=True`: the client then sees "connection reset" in place of an end of file.

Faults that last:
    delay_s, jitter_s                     attributes: hold up everything by delay_s ± jitter_s
    fall_silent(new_too=False)            half-open: what is connected stays so, for ever, and
                                          carries nothing; new connections too until `heal()`
    reset_all()                           end all connections, at once, with a reset
    refuse() and accept()                 connections are refused (the present ones end) and taken

`links` is the list of open connections; `accepted` and `requests` count since the start. The proxy
keeps its port until `close()`. All methods may be called from any thread.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from contextlib import suppress

REQUEST, REPLY = "request", "reply"
PIECE = 65536


class Fault:
    """Something that happens once; see the top of the file."""

    def __init__(self, act, direction, *, number=1, requesting=b"", matching=b"", reset=False):
        self.act, self.direction, self.reset = act, direction, reset
        self.left = number
        self.requesting, self.matching = requesting, matching
        self.struck = threading.Event()
        self.released = threading.Event()

    def wait(self, timeout_s=10.0):
        """Wait until it has struck; fail if it does not."""
        assert self.struck.wait(timeout_s), f"no {self.act} happened in {timeout_s} s"
        return self

    def release(self):
        """Let go of what is held."""
        self.released.set()

    def meets(self, link, direction, data, *, is_first):
        """Tell whether it strikes here. Called with the proxy's lock held."""
        if self.struck.is_set() or direction != self.direction:
            return False
        if self.act == "cut":
            self.left -= len(data)
        elif is_first and self.requesting in link.request and self.matching in data:
            self.left -= 1
        if self.left <= 0:
            self.struck.set()
        return self.struck.is_set()


class Link:
    """One connection: a client's socket and the server's for it."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        #: What the client said since the last reply.
        self.request = b""
        self.is_answering = True
        self.is_silent = False
        self.is_reset = False

    def note(self, direction, data):
        """Remember the request; tell whether a new request or reply begins."""
        is_first = self.is_answering == (direction == REQUEST)
        self.is_answering = direction == REPLY
        if direction == REQUEST:
            self.request = data if is_first else self.request + data
        return is_first

    def end(self, *, reset=False):
        self.is_reset |= reset
        for end in (self.client, self.server):
            with suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)  # Wakes its reader; the last close resets.
                else:
                    end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens on a free port and passes everything on to ``target_port``."""

    def __init__(self, target_port, seed=0):
        self.target_port = target_port
        self.port = 0
        self.links = []
        self.accepted = self.requests = 0
        self.delay_s = self.jitter_s = 0.0
        self._random = random.Random(seed)
        self._faults = []
        self._lock = threading.Lock()
        self._new_are_silent = False
        self._listener = None

    def __enter__(self):
        self.accept()
        return self

    def __exit__(self, *_):
        self.close()

    def cut_after(self, count, direction=REPLY, *, reset=False):
        return self._plan(Fault("cut", direction, number=count, reset=reset))

    def drop_request(self, number=1, **options):
        return self._plan(Fault("drop", REQUEST, number=number, **options))

    def drop_reply(self, number=1, **options):
        return self._plan(Fault("drop", REPLY, number=number, **options))

    def hold_reply(self, number=1, **options):
        return self._plan(Fault("hold", REPLY, number=number, **options))

    def hold_request(self, number=1, **options):
        return self._plan(Fault("hold", REQUEST, number=number, **options))

    def fall_silent(self, *, new_too=False):
        with self._lock:
            self._new_are_silent = new_too
            for link in self.links:
                link.is_silent = True

    def heal(self):
        self._new_are_silent = False

    def reset_all(self):
        with self._lock:
            for link in self.links:
                link.end(reset=True)

    def accept(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def refuse(self):
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset_all()

    def close(self):
        """End everything; what is held is let go."""
        self.refuse()
        for fault in self._faults:
            fault.release()
        deadline = time.monotonic() + 5
        while self.links and time.monotonic() < deadline:
            self.reset_all()
            time.sleep(0.005)

    def _plan(self, fault):
        with self._lock:
            self._faults.append(fault)
        return fault

    def _serve(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._carry, args=(Link(client, server),), daemon=True).start()

    def _carry(self, link):
        with self._lock:
            link.is_silent = self._new_are_silent
            self.links.append(link)
            self.accepted += 1
        replies = threading.Thread(
            target=self._pump, args=(link, REPLY, link.server, link.client), daemon=True
        )
        replies.start()
        self._pump(link, REQUEST, link.client, link.server)
        replies.join()
        link.client.close()
        link.server.close()
        with self._lock:
            self.links.remove(link)

    def _pump(self, link, direction, source, target):
        # A connection that was reset or ended by the other side is an end like any other.
        with suppress(OSError):
            while data := source.recv(PIECE):
                self._hold_up()
                with self._lock:
                    fault = self._find(link, direction, data)
                if link.is_silent:
                    continue
                if fault is not None and not self._strike(fault, link, data, target):
                    return
                if fault is None or fault.act == "hold":
                    target.sendall(data)
        if not (link.is_silent or link.is_reset):
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def _hold_up(self):
        if self.delay_s or self.jitter_s:
            jitter_s = self._random.uniform(-self.jitter_s, self.jitter_s)
            time.sleep(max(0.0, self.delay_s + jitter_s))

    def _find(self, link, direction, data):
        is_first = link.note(direction, data)
        self.requests += is_first and direction == REQUEST
        return next(
            (each for each in self._faults if each.meets(link, direction, data, is_first=is_first)),
            None,
        )

    def _strike(self, fault, link, data, target):
        """Do it; tell whether the connection goes on."""
        if fault.act == "hold":
            fault.released.wait()
            return True
        if fault.act == "cut" and (rest := len(data) + fault.left):
            target.sendall(data[:rest])
        link.end(reset=fault.reset)
        return False
