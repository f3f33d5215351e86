"""Downloads from a local server that is slow, stalls, breaks off, redirects, refuses, or sends wrong bytes."""

import hashlib
import http.server
import threading
import time

import pytest

from bilm.runtime.errors import UserError
from bilm.text import ag_news
from bilm.text.ag_news import Unreachable, download_ag_news

CONTENT = bytes(range(256)) * 1000


class Server(http.server.ThreadingHTTPServer):
    """Sends `content`, with the faults that a test sets."""

    daemon_threads = True
    content = CONTENT
    status = 200
    breaks_off_after: int | None = None
    stalls = False
    pause = 0.0
    sends_length = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str | None] = []
        self.sent = 0

    def handle_error(self, *_):
        """Ignore clients that close the connection, as some tests make them do."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.requested.append(self.path)
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/elsewhere"))
            self.end_headers()
            return
        body, status = self.server.content, self.server.status
        self.send_response(status)
        if self.server.sends_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body if self.server.breaks_off_after is None else body[: self.server.breaks_off_after]
        for start in range(0, len(body), 50_000):
            self.wfile.write(body[start : start + 50_000])
            self.wfile.flush()
            self.server.sent += len(body[start : start + 50_000])
            time.sleep(self.server.pause)
        if self.server.stalls:
            time.sleep(1)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def fetch(server, tmp_path):
    md5 = {"train.csv": hashlib.md5(CONTENT).hexdigest()}
    return lambda: download_ag_news(tmp_path, f"http://127.0.0.1:{server.server_port}", md5)


def test_a_file_is_downloaded_completely_and_once(fetch, tmp_path, server):
    fetch()
    assert (tmp_path / "train.csv").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]
    fetch()
    assert server.requested == ["/train.csv"], "an existing file is not downloaded again"
    assert (tmp_path / "train.csv").stat().st_mode & 0o444 == 0o444, "readable for everyone"


def test_nothing_is_left_of_a_broken_connection(fetch, tmp_path, server):
    server.breaks_off_after = 100_000
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1.*100000 bytes read"):
        fetch()
    assert list(tmp_path.iterdir()) == []
    server.breaks_off_after = None
    fetch()
    assert (tmp_path / "train.csv").read_bytes() == CONTENT


def test_wrong_bytes_are_refused(fetch, tmp_path, server):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(UserError, match="MD5"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_exist(tmp_path):
    with pytest.raises(Unreachable, match=r"^http://127\.0\.0\.1:9/train\.csv: \[Errno \d+\] Connection refused\.$"):
        download_ag_news(tmp_path, "http://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_stalls_is_given_up(fetch, tmp_path, server, monkeypatch):
    monkeypatch.setattr(ag_news, "TIMEOUT_SECONDS", 0.3)
    server.breaks_off_after, server.stalls = 50_000, True
    with pytest.raises(Unreachable, match="timed out"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_a_slow_server_is_not_given_up(fetch, tmp_path, server, monkeypatch):
    """The download takes longer than the timeout, which limits the time without a byte."""
    monkeypatch.setattr(ag_news, "TIMEOUT_SECONDS", 0.3)
    server.pause = 0.1
    fetch()
    assert (tmp_path / "train.csv").read_bytes() == CONTENT


def test_redirects_are_followed(tmp_path, server):
    url = f"http://127.0.0.1:{server.server_port}/elsewhere"
    download_ag_news(tmp_path, url, {"train.csv": hashlib.md5(CONTENT).hexdigest()})
    assert len(server.requested) == 2 and (tmp_path / "train.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_is_unreachable_and_leaves_nothing(fetch, tmp_path, server, status):
    server.status = status
    with pytest.raises(Unreachable, match=f"answered {status}"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_sends_no_length(fetch, tmp_path, server):
    """Without a length, only the checksum shows that something is missing."""
    server.sends_length, server.breaks_off_after = False, 100_000
    with pytest.raises(UserError, match="MD5"):
        fetch()
    assert list(tmp_path.iterdir()) == []
    server.breaks_off_after = None
    fetch()
    assert (tmp_path / "train.csv").read_bytes() == CONTENT


def test_the_temporary_file_of_a_killed_download_is_replaced(fetch, tmp_path):
    (tmp_path / ".train.csv.tmp").write_bytes(CONTENT * 2)
    fetch()
    assert (tmp_path / "train.csv").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]


def test_a_file_that_cannot_be_written_is_named(fetch, tmp_path):
    (tmp_path / ".train.csv.tmp").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"/train\.csv could not be written: No space left on device\."):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_a_second_download_at_the_same_time_is_refused(fetch, tmp_path, server):
    server.pause = 0.2
    first = threading.Thread(target=fetch)
    first.start()
    while first.is_alive() and not server.requested:
        time.sleep(0.01)
    with pytest.raises(UserError, match=r"process \d+ on .* is downloading AG News"):
        fetch()
    first.join()
    assert (tmp_path / "train.csv").read_bytes() == CONTENT and server.requested == ["/train.csv"]
    assert [p.name for p in tmp_path.iterdir()] == ["train.csv"]


def test_a_folder_that_cannot_be_made_is_no_end(tmp_path):
    """On Kaggle the checkout can be read-only; the caller then uses the sample."""
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(Unreachable, match="cannot be written to"):
        download_ag_news(tmp_path / "data/ag_news", "http://127.0.0.1:9")


def test_certificates_that_are_not_there_are_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(Unreachable, match=r"none\.pem"):
        download_ag_news(tmp_path / "data/ag_news", "https://localhost")
    assert not (tmp_path / "data/ag_news").exists(), "nor is an empty folder left"
