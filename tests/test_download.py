"""Against a server on this machine that keeps ranges, breaks off, and gives wrong bytes."""

import hashlib
import http.server
import re
import threading

import pytest

from bilm.download import Unreachable, download_ag_news
from bilm.errors import UserError

CONTENT = bytes(range(256)) * 1000


class Server(http.server.ThreadingHTTPServer):
    content = CONTENT
    breaks_off_after: int | None = None
    knows_ranges = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requested.append(wanted)
        body, status = self.server.content, 200
        if wanted and self.server.knows_ranges:
            body, status = body[int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) :], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.server.breaks_off_after is None else body[: self.server.breaks_off_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(server, tmp_path):
    md5 = {"train.csv": hashlib.md5(CONTENT).hexdigest()}
    return lambda: download_ag_news(tmp_path, f"http://127.0.0.1:{server.server_port}", md5)


def test_a_file_arrives_whole(fetch, tmp_path, server):
    fetch()
    assert (tmp_path / "train.csv").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]
    fetch()
    assert server.requested == [None], "what is there is not fetched again"


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_what_broke_off_is_resumed(fetch, tmp_path, server, knows_ranges):
    server.breaks_off_after, server.knows_ranges = 100_000, knows_ranges
    with pytest.raises(Unreachable, match="goes on from there"):
        fetch()
    assert not (tmp_path / "train.csv").exists()
    server.breaks_off_after = None
    fetch()
    assert server.requested == [None, "bytes=100000-"]
    assert (tmp_path / "train.csv").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_removed(fetch, tmp_path, server):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match="MD5"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_nobody_there(tmp_path):
    with pytest.raises(Unreachable):
        download_ag_news(tmp_path, "http://127.0.0.1:9")
    assert not (tmp_path / "train.csv").exists()
