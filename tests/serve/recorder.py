"""Stands between a client and the server and keeps what both said. Standard library only."""
import http.client
import http.server
import json
import threading

KEPT = ("content-type", "anthropic-version", "anthropic-beta", "accept", "x-stainless-raw-response")


class Recorder:
    def __init__(self, server):
        recorder = self
        self.server, self.exchanges = server, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                connection.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() != "host"})
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                recorder.exchanges.append({"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items() if k.lower() in KEPT},
                                           "body": body.decode(), "status": answer.status, "type": answer.headers["Content-Type"], "answer": data.decode()})
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = forward

            def log_message(self, *_):
                pass

        self.listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.listener.server_address[1]
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    def post(self, path, body):
        return self.server.post(path, body)

    def get(self, path):
        return self.server.get(path)

    def keep(self, path, client):
        path.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(e, ensure_ascii=False) for e in self.exchanges)
        path.write_text(f'{{"client": {json.dumps(client)}, "exchanges": [\n{lines}\n]}}\n')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown()
        self.listener.server_close()
