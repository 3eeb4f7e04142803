"""A small server that speaks a Hugging Face hub's protocol as far as the client needs it, and serves plain files too.

Repositories live in memory as commits (id, path to content). Files named *.safetensors are kept the LFS way: HEAD
redirects to the storage, uploads go through the batch API and a PUT.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Answer:
    """What a plain file's address gives."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # send only so many bytes of what Content-Length promises
    wait: float = 0.0


@dataclass
class Repo:
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    private: bool = False
    gated: bool = False

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1] if self.commits else None
        return next((commit for commit in self.commits if commit[0] == revision), None)

    def commit(self, changes: dict[str, bytes]) -> str:
        files = {**(self.commits[-1][1] if self.commits else {}), **changes}
        text = repr([(name, hashlib.sha1(body).hexdigest()) for name, body in sorted(files.items())])
        sha = hashlib.sha1(f"{len(self.commits)} {text}".encode()).hexdigest()
        self.commits.append((sha, files))
        return sha


class Hub(ThreadingHTTPServer):
    """Use with `serve()`; `url` is the endpoint, `seen` what was asked (method and path), `storage` the LFS objects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.pages: dict[str, Answer] = {}
        self.storage: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.token = ""  # what writing, and reading what is private, needs
        self.remark = ""  # what the hub warns of when it is shown a model card
        self.cut: int | None = None  # cut the storage's answers off

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """Commit files to a repository, made where there is none; the commit's id."""
        for body in files.values():
            self.storage[hashlib.sha256(body).hexdigest()] = body
        return self.repos.setdefault(repo, Repo()).commit(files)


@contextmanager
def serve() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_lfs(path: str) -> bool:
    return path.endswith(".safetensors")


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    # ------------------------------------------------------------------------------------------------- reading

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def _read(self) -> None:
        hub, path = self._start()
        if page := hub.pages.get(path):
            time.sleep(page.wait)
            self._send(page.body, page.status, page.headers, page.cut)
        elif path.startswith("/storage/"):
            body = hub.storage.get(path.removeprefix("/storage/"))
            self._send(body or b"", 200 if body is not None else 404, cut=hub.cut)
        elif path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._model(name, revision or "main")
        elif "/resolve/" in path:
            name, _, rest = path[1:].partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._resolve(name, unquote(revision), unquote(file))
        else:
            self._send(b"not here", 404)

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not self._allowed()):
            return self._refuse(401, "RepoNotFound")
        if repo.gated and not self._allowed():
            return self._refuse(403, "GatedRepo")
        if (commit := repo.at(revision)) is None:
            return self._refuse(404, "RevisionNotFound")
        sha, files = commit
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        body, headers = files[file], {"X-Repo-Commit": sha}
        if not _is_lfs(file):
            blob = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
            return self._send(body, 200, {**headers, "ETag": f'"{blob}"'})
        oid = hashlib.sha256(body).hexdigest()
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(body)), "ETag": f'"{oid}"'}
        # Another host, as a hub's storage is: the client would follow a redirect to the hub itself.
        return self._send(
            b"", 302, {**headers, "Location": f"http://localhost:{self.server.server_port}/storage/{oid}"}
        )

    def _model(self, name: str, revision: str) -> None:
        repo = self.server.repos.get(name)
        commit = repo.at(revision) if repo else None
        if repo is None or commit is None:
            return self._refuse(404, "RepoNotFound" if repo is None else "RevisionNotFound")
        sha, files = commit
        siblings = [{"rfilename": file} for file in files]
        return self._json({"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings})

    # ------------------------------------------------------------------------------------------------- writing

    def do_POST(self) -> None:
        hub, path = self._start()
        body = self._body()
        if path == "/api/validate-yaml":
            remarks = [{"message": hub.remark}] if hub.remark else []
            return self._json({"errors": [], "warnings": remarks})
        if not self._allowed():
            return self._refuse(401, "")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in hub.repos
            private = asked.get("private") or asked.get("visibility") == "private"
            hub.repos.setdefault(name, Repo(private=bool(private)))
            return self._json({"url": f"{hub.url}/{name}", "name": name}, 409 if known else 200)
        if path.startswith("/api/models/") and "/preupload/" in path:
            name = path.removeprefix("/api/models/").partition("/preupload/")[0]
            return self._json({"files": [self._mode(name, file["path"]) for file in json.loads(body)["files"]]})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [self._action(part["oid"], part["size"]) for part in json.loads(body)["objects"]]
            return self._json({"transfer": "basic", "objects": objects})
        if path.startswith("/api/models/") and "/commit/" in path:
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            return self._commit(name, body)
        return self._send(b"not here", 404)

    def do_PUT(self) -> None:
        hub, path = self._start()
        body, oid = self._body(), path.removeprefix("/storage/")
        if hashlib.sha256(body).hexdigest() != oid:
            return self._send(b"another content than was announced", 400)
        hub.storage[oid] = body
        return self._send(b"", 200)

    def _mode(self, name: str, file: str) -> dict[str, Any]:
        commit = self.server.repos[name].at("main")
        old = commit[1].get(file) if commit else None
        mode = "lfs" if _is_lfs(file) else "regular"
        found: dict[str, Any] = {"path": file, "uploadMode": mode, "shouldIgnore": False}
        if old is not None:
            blob = hashlib.sha1(b"blob %d\0" % len(old) + old).hexdigest()
            found["oid"] = hashlib.sha256(old).hexdigest() if _is_lfs(file) else blob
        return found

    def _action(self, oid: str, size: int) -> dict[str, Any]:
        if oid in self.server.storage:
            return {"oid": oid, "size": size}
        return {"oid": oid, "size": size, "actions": {"upload": {"href": f"{self.server.url}/storage/{oid}"}}}

    def _commit(self, name: str, body: bytes) -> None:
        changes: dict[str, bytes] = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changes[value["path"]] = self.server.storage[value["oid"]]
        sha = self.server.repos[name].commit(changes)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    # ------------------------------------------------------------------------------------------------- answering

    def _start(self) -> tuple[Hub, str]:
        path = urlsplit(self.path).path
        self.server.seen.append(f"{self.command} {path}")
        return self.server, path

    def _allowed(self) -> bool:
        token = self.server.token
        return not token or self.headers.get("Authorization") == f"Bearer {token}"

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", status, {"X-Error-Code": code} if code else {})

    def _json(self, answer: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(answer).encode(), status, {"Content-Type": "application/json"})

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] = {}, cut: int | None = None) -> None:  # noqa: B006
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        if cut is not None:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True
