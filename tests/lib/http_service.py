"""A small HTTP server for tests: what it answers is a function of the test's, what it was asked is kept.

    service = Service(lambda request: (200, {"result": "allow"}))
    service.url("/connect")    # what goes into the configuration
    service.requests           # [Request, ...] so far
"""

import http.server
import json
import threading


class Request:
    def __init__(self, method, path, body):
        self.method, self.path = method, path
        self.json = json.loads(body) if body else None


class Service:
    """answer: function of a Request that gives (status, body[, headers]); a body that is no text becomes JSON. It may
    block: each request has a thread of its own. Answering None closes the connection without a word."""

    def __init__(self, answer, ports):
        self.answer, self.requests, self.lock = answer, [], threading.Lock()
        self.server = None
        for port in ports:
            try:
                self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self.handler())
                break
            except OSError:
                continue
        if not self.server:
            raise RuntimeError("no free port for the HTTP service")
        self.port = self.server.server_address[1]
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def url(self, path="/"):
        return "http://127.0.0.1:%d%s" % (self.port, path)

    def count(self):
        with self.lock:
            return len(self.requests)

    def stop(self):
        """Refuse connections from now on."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def handler(service):  # pylint: disable=no-self-argument
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def handle_one(self):
                size = int(self.headers.get("Content-Length") or 0)
                request = Request(self.command, self.path, self.rfile.read(size))
                with service.lock:
                    service.requests.append(request)
                got = service.answer(request)
                if got is None:
                    self.close_connection = True
                    return
                status, body, headers = got if len(got) == 3 else (*got, {})
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the broker has given up

            do_GET = do_POST = handle_one
        return Handler
