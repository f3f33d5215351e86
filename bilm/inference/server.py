"""A page for one user on this machine: enter a text, see its class and the words that decided.

    GET  /           the page, with facts about the model
    POST /classify   {"text": ...} -> {"probabilities", "words", "weights", "nearest", "note"} or {"error"}

Bound to 127.0.0.1. A request for another host is refused: any website could let its host name resolve to 127.0.0.1.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from bilm.inference.elmo import ELMo
from bilm.inference.text_classifier import TextClassifier
from bilm.runtime.errors import UserError
from bilm.text.readers import replace_surrogates

HOST = "127.0.0.1"
_PAGE = Path(__file__).with_name("page.html")
_MAX_REQUEST = 1_000_000  # bytes; ten times what the page accepts
_NEAREST = 5
_POLICY = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Nearest:
    """Finds similar texts, by the cosine of their mean vectors after subtraction of the mean of all texts."""

    def __init__(self, elmo: ELMo, texts: Sequence[str], vectors: np.ndarray):
        """vectors: elmo.sentence_vectors(texts), fp32 (N, D)."""
        self._elmo, self._texts = elmo, texts
        self._mean = vectors.mean(0) if len(vectors) else np.zeros(0, np.float32)
        self._unit = _unit(vectors - self._mean)

    def __call__(self, text: str) -> list[tuple[str, float]]:
        """Return the nearest texts and their cosines, without the text itself."""
        if not len(self._texts):
            return []
        similarity = self._unit @ _unit(self._elmo.sentence_vectors([text]) - self._mean)[0]
        order = np.argsort(-similarity, kind="stable")[: 4 * _NEAREST]
        nearest = {self._texts[i]: float(similarity[i]) for i in order if self._texts[i] != text}
        return list(nearest.items())[:_NEAREST]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def create_server(model: TextClassifier, nearest: Nearest, facts: dict[str, Any], port: int) -> ThreadingHTTPServer:
    """Create a listening server; the caller runs it. facts: see `model_facts`; port 0: any free port.

    Raises UserError when the port is in use.
    """
    # Escaped, so that the name of a class cannot end the script element.
    content = json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c")
    page = _PAGE.read_text(encoding="utf-8").replace("MODEL", content, 1).encode()
    lock = threading.Lock()  # the model answers one request at a time

    def classify(text: str) -> dict[str, Any]:
        with lock:
            tokenizer = model.vocabulary.tokenizer
            explanation, words = model.explain(text), len(tokenizer.split(text))
            most = tokenizer.config.max_tokens
            return {
                "note": f"Of the {words:,} words, the first {most:,} are read." if words > most else "",
                "probabilities": explanation.probabilities.tolist(),
                "words": explanation.words,
                "weights": explanation.weights.tolist(),
                "nearest": nearest(text),
            }

    try:
        return _Server(port, page, classify)
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}. Name another one.", "port") from error


class _Server(ThreadingHTTPServer):
    # On Windows it would share a port that another process is using.
    allow_reuse_address = os.name != "nt"

    def __init__(self, port: int, page: bytes, classify: Callable[[str], dict[str, Any]]):
        self.page, self.classify = page, classify
        super().__init__((HOST, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that closed the connection, for example because the page was reloaded."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 60

    def do_GET(self) -> None:
        if self._host_is_local():
            if self.path.split("?")[0] == "/":
                self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
            else:
                self._send(HTTPStatus.NOT_FOUND, b"There is no such page.", "text/plain")

    def do_POST(self) -> None:
        if self._host_is_local():
            status, answer = self._answer()
            self._send(status, json.dumps(answer, ensure_ascii=False).encode(), "application/json")

    def _answer(self) -> tuple[HTTPStatus, dict[str, Any]]:
        length = self.headers.get("Content-Length", "")
        # Another website can make a browser send a form to this server, but not JSON.
        if self.headers.get_content_type() != "application/json":
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "The request must be application/json."}
        if self.path != "/classify" or not length.isdecimal():
            return HTTPStatus.NOT_FOUND, {"error": "There is no such page."}
        if len(length) > len(str(_MAX_REQUEST)) or int(length) > _MAX_REQUEST:
            self.close_connection = True
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "The text is too long."}
        try:
            text = json.loads(self.rfile.read(int(length)))["text"]
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            return HTTPStatus.BAD_REQUEST, {"error": 'The request must be {"text": ...}.'}
        return HTTPStatus.OK, self.server.classify(replace_surrogates(text))

    def _host_is_local(self) -> bool:
        if self.headers.get("Host", "").rsplit(":", 1)[0] in (HOST, "localhost"):
            return True
        self._send(HTTPStatus.FORBIDDEN, b"The host must be 127.0.0.1.", "text/plain")
        return False

    def _send(self, status: HTTPStatus, content: bytes, content_type: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", content_type),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", _POLICY),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing: texts that a user enters are private."""


def model_facts(model: TextClassifier, summary: dict[str, Any], texts: str) -> dict[str, Any]:
    """Return what the page displays about the classifier, and about its evaluation if `summary` (summary.json) has one.

    texts: a sentence about the corpus of the nearest texts.
    """
    info = model.info
    mode, combination = info["settings"]["mode"], info["combination"]["after"]
    entries = [entry for part in ("classifiers", "others") for entry in summary.get(part, {}).values()]
    figures = next((entry.get("test") for entry in entries if entry["hash"] == model.hash), None)
    return {
        "about": f"Classifier {mode!r} on ELMo's layers. Trained on {info['rows_trained']:,} rows of {info['corpus']}.",
        "mode": mode,
        "classes": model.classes,
        "lambdas": combination.get("lambdas"),
        "gamma": combination.get("gamma"),
        "matrix": figures and figures["confusion_matrix"],
        "evaluated": f"Accuracy {figures['accuracy']:.4f} on {figures['rows']:,} rows."
        if figures
        else "No evaluation of these weights was found: python evaluate.py makes one.",
        "texts": texts,
    }
