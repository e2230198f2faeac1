"""What both pages share: a small HTTP server that ends in good order.

In: functions that answer a request. Out: their answers, each connection in a thread of its own. Told to
end (SIGTERM), it takes no more connections, answers those that it has, and returns.
"""

import http.server
import os
import signal
import socket
import socketserver
import threading

PORT = int(os.environ.get("PORT", "8080"))
LONGEST_BODY = 1024
PATIENCE_S = 10

STYLE = """
body { margin: 0; font-family: sans-serif; text-align: center; color: #555; background: #f7f8f9 }
h1 { font-weight: normal; margin: 2em 0 1em }
.a { background: #2196f3 } .b { background: #00bcd4 }
"""


def page(title, style, body):
    """A whole page, as bytes."""
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
    return f"<!doctype html>{head}<style>{STYLE}{style}</style>{body}\n".encode()


class Server(http.server.ThreadingHTTPServer):
    """Waits for its threads when it is closed, and listens on IPv4 and, where there is one, IPv6."""

    daemon_threads = False
    request_queue_size = 128
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's own, which asks DNS for this machine's name before it listens.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = socket.gethostname(), PORT


class Request(http.server.BaseHTTPRequestHandler):
    """One request; a page's own class says in `get` and `post` how it is answered."""

    timeout = PATIENCE_S

    def get(self):
        self.answer(404, "text/plain", b"there is nothing here\n")

    def post(self, _form):
        self.answer(405, "text/plain", b"there is nothing to send here\n")

    def answer(self, status, kind, body, headers=()):
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/healthz":
            self.answer(200, "text/plain", b"ok\n")
        else:
            self.get()

    def do_POST(self):
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > LONGEST_BODY:
            self.answer(413, "text/plain", b"that is too long\n")
        else:
            self.post(self.rfile.read(int(length)))

    def log_message(self, form, *values):
        if self.path != "/healthz":
            print(self.address_string(), form % values)


def serve(request):
    """Serves until the process is told to end."""
    server = Server(("", PORT), request)
    # `shutdown` waits for the loop, which the signal has interrupted: it needs a thread of its own.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("listening on port", PORT)
    with server:
        server.serve_forever(poll_interval=0.1)
