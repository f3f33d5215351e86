"""`bilm predict --serve`: its answers, and the page in a real browser, by keyboard, also as wide as a phone."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import matplotlib.image
import numpy as np
import pytest
from conftest import ROOT, WHOLE_SAMPLE, run_script

from bilm import ELMo, TextClassifier
from bilm.inference.server import Nearest, model_facts
from bilm.runtime.paths import results_beside
from bilm.text.ag_news import read_ag_news

TEXT = "Stocks fell after the <b>bank</b> cut its forecast."


@pytest.fixture(scope="module")
def weights(trained):
    return trained[0] / "models/sample/bilstm.pt"


@contextlib.contextmanager
def running(*arguments) -> Iterator[tuple[subprocess.Popen, int]]:
    command = [sys.executable, "-m", "bilm", "predict", "--serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        result = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert result, f"{line}{process.stderr.read()}"
        yield process, int(result[1])
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port(weights) -> Iterator[int]:
    with running("--bilm", weights) as (_, number):
        yield number


def ask(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        method = "GET" if body is None else "POST"
        connection.request(method, path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_it_answers_as_the_library(port, weights):
    status, content = ask(port, "/classify", json.dumps({"text": TEXT}).encode())
    answer = json.loads(content)
    expected = TextClassifier.load(weights).explain(TEXT)
    assert status == 200 and answer["words"] == expected.words
    np.testing.assert_allclose(answer["probabilities"], expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(answer["weights"], expected.weights, atol=1e-5)
    corpus = [text for _, text in read_ag_news(WHOLE_SAMPLE / "train.csv")]
    assert answer["note"] == ""
    long = json.loads(ask(port, "/classify", json.dumps({"text": "word " * 1_500}).encode())[1])
    assert long["note"] == "Of the 1,500 words, the first 128 are read." and len(long["words"]) == 128
    assert len(answer["nearest"]) == 5 and all(text in corpus for text, _ in answer["nearest"])


def test_nearest_texts_are_those_of_the_largest_centred_cosine(weights):
    elmo = ELMo.load(weights)
    texts = [text for _, text in read_ag_news(WHOLE_SAMPLE / "train.csv", 40)]
    vectors = elmo.sentence_vectors(texts)
    result = Nearest(elmo, texts, vectors)(texts[3])
    assert texts[3] not in dict(result), "a text is not its own neighbour"
    centred = vectors - vectors.mean(0)
    cosines = centred @ centred[3] / (np.linalg.norm(centred, axis=1) * np.linalg.norm(centred[3]))
    order = [i for i in np.argsort(-cosines) if i != 3][:5]
    assert [text for text, _ in result] == [texts[i] for i in order]
    np.testing.assert_allclose([s for _, s in result], cosines[order], atol=1e-5)
    assert Nearest(elmo, [], np.zeros((0, 0), np.float32))("text") == []


def test_the_page_knows_the_model_in_use(port, trained, weights):
    status, page = ask(port, "/")
    facts = json.loads(re.search(r'<script type="application/json" id="model">(.*?)</script>', page)[1])
    model = TextClassifier.load(weights)
    summary = json.loads((results_beside(weights) / "summary.json").read_text())
    assert results_beside(weights) == trained[0].resolve() / "results/sample"
    entry = next(e for e in summary["classifiers"].values() if e["hash"] == model.hash)
    assert status == 200 and facts["classes"] == model.classes
    assert facts["matrix"] == entry["test"]["confusion_matrix"] and facts["lambdas"] == entry["lambdas"]
    assert "400 texts of train.csv" in facts["texts"]
    assert model_facts(model, {"others": {"classifier": entry}}, "")["matrix"] == facts["matrix"]
    entry["hash"] = "another"
    other = model_facts(model, summary, "")
    assert other["matrix"] is None and "evaluate.py" in other["evaluated"]
    assert model_facts(model, {}, "")["matrix"] is None


@pytest.mark.parametrize(
    ("path", "body", "headers", "expected"),
    [
        ("/", None, {"Host": "elsewhere.example"}, 403),
        ("/classify", b'{"text": "x"}', {"Host": "elsewhere.example:80"}, 403),
        ("/", None, {"Host": "localhost"}, 200),
        ("/etc/passwd", None, {}, 404),
        ("/../utils.py", None, {}, 404),
        ("/other", b"{}", {}, 404),
        ("/classify", b'{"text": "x"}', {"Content-Type": "text/plain"}, 415),
        ("/classify", b"", {"Content-Length": "9" * 5000}, 413),
        ("/classify", b"no json", {}, 400),
        ("/classify", b"[" * 100_000, {}, 400),
        ("/classify", b'{"text": 7}', {}, 400),
        ("/classify", b"\xff", {}, 400),
        ("/classify", b" " * 1_000_001, {}, 413),
        ("/classify", b'{"text": ""}', {}, 200),
        ("/classify", b'{"text": "\\ud83d \\u0000"}', {}, 200),
        ("/classify", json.dumps({"text": "word " * 20_000}).encode(), {}, 200),
    ],
)
def test_every_request_has_an_answer(port, path, body, headers, expected):
    try:
        assert ask(port, path, body, **headers)[0] == expected
    except ConnectionError:
        assert expected == 413, "only a request that is too long is not read completely"
    assert ask(port, "/")[0] == 200


def test_a_signal_ends_it_and_mistakes_are_one_line(weights, port):
    with running("--bilm", weights) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT and "Traceback" not in process.stderr.read()
    run = run_script("-m bilm predict", "--serve", "--port", port, "--bilm", weights)
    assert run.code == 2 and f"port {port}: " in run.err and run.err.count("\n") == 1
    run = run_script("-m bilm predict", "--serve", "a text")
    assert run.code == 2 and "--serve takes texts on its page" in run.err


class Browser:
    """Headless Chromium, controlled through pipes by its DevTools protocol."""

    def __init__(self, program: str, folder):
        to_read, to_write = os.pipe(), os.pipe()
        ends = (to_read[0], to_write[1])

        def connect() -> None:  # the browser reads from descriptor 3 and writes to 4
            copies = [os.dup(end) for end in ends]
            for copy, expected in zip(copies, (3, 4), strict=True):
                os.dup2(copy, expected)

        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(
            command, preexec_fn=connect, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for end in ends:
            os.close(end)
        self._out, self._in, self._number, self._session = os.fdopen(to_read[1], "wb", 0), to_write[0], 0, None
        self._left = b""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __call__(self, method: str, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._left:
                part = os.read(self._in, 2**16)
                assert part, "the browser has ended"
                self._left += part
            line, self._left = self._left.split(b"\0", 1)
            answer = json.loads(line)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()
        os.close(self._in)

    def value(self, expression: str):
        return self("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + 30
        while not self.value(expression):
            assert time.monotonic() < deadline, expression
            time.sleep(0.05)

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def screenshot(self) -> np.ndarray:
        """(height, width, 3)"""
        png = base64.b64decode(self("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        return matplotlib.image.imread(io.BytesIO(png))[:, :, :3]


@pytest.fixture
def browser(tmp_path) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium here")
    result = Browser(program, tmp_path)
    yield result
    result.close()


@pytest.mark.parametrize("width", [360, 1200])
def test_in_a_browser_by_keyboard_alone(browser, port, weights, width):
    browser("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    browser("Page.navigate", url=f"http://127.0.0.1:{port}/")
    browser.wait_for("document.readyState == 'complete' && document.activeElement.id == 'text'")
    blank = browser.screenshot()
    browser("Input.insertText", text=TEXT)
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.textContent") == "Classify"
    browser.press("Enter", 13, "\r")
    browser.wait_for("!document.getElementById('result').hidden")
    model = TextClassifier.load(weights)
    assert browser.value("document.getElementById('class').textContent") == model.predict([TEXT])[0]
    words = browser.value("[...document.querySelectorAll('mark')].map(m => m.textContent)")
    assert words == model.words(TEXT)
    assert browser.value("document.querySelectorAll('#nearest li').length") == 5
    assert browser.value("document.querySelectorAll('#matrix td').length") == 17
    assert browser.value("document.documentElement.scrollWidth") <= width, "no horizontal scrolling"
    picture = browser.screenshot()
    assert width - 20 <= picture.shape[1] <= width and not np.array_equal(picture, blank)
    blue = np.abs(picture - np.array([11, 87, 164]) / 255).max(-1) < 0.02
    assert blue.any(1).sum() > 40, "bars and button are drawn"
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.tagName") == "SUMMARY"
    browser.press("Enter", 13, "\r")
    assert browser.value("document.querySelector('details').open")


def test_markup_in_a_text_or_a_class_stays_text(browser, tmp_path, weights):
    """A class name that would end the script element, and texts that would be HTML elements."""
    from bilm.checkpoints import serialization

    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(weights, folder)
    saved = serialization.load(weights.with_name("classifier_frozen.pt"), "classifier")
    saved["class_names"] = [f"</script><i id=bad{i}>" for i in range(4)]
    serialization.save(folder / "classifier_frozen.pt", "classifier", saved)
    (tmp_path / "texts.txt").write_text("<i id=bad>one</i>\n<i id=bad>two</i>\n")
    with running("--bilm", folder / "bilstm.pt", "--input", tmp_path / "texts.txt") as (_, number):
        browser("Page.navigate", url=f"http://127.0.0.1:{number}/?text=%3Ci%20id%3Dbad%3E%20%26")
        browser.wait_for("document.getElementById('result') && !document.getElementById('result').hidden")
        assert browser.value("document.querySelectorAll('i').length") == 0
        assert browser.value("document.getElementById('class').textContent").startswith("</script><i id=bad")
        assert browser.value("document.querySelectorAll('#nearest li').length") == 2
        assert "No evaluation" in browser.value("document.getElementById('mistakes').parentElement.textContent")
