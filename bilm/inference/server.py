"""A page to look at, for one user on this machine: a text is typed in, and it is seen what the classifier makes of it.

    GET  /           the page, with what is known of the model in it
    POST /classify   {"text": ...} -> {"probabilities", "words", "weights", "nearest"} or {"error"}

Bound to 127.0.0.1. A request that names another host is refused: a page elsewhere could have its name point here.
"""

import json
import sys
import threading
from collections.abc import Sequence
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
# Of a request: ten times what the page lets through.
_LARGEST = 1_000_000
_NEAREST = 5
_POLICY = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Nearest:
    """Texts by the mean vectors of their words, less what is common to all of them."""

    def __init__(self, elmo: ELMo, texts: Sequence[str], vectors: np.ndarray):
        """vectors: elmo.sentence_vectors(texts), fp32 (N, D)."""
        self._elmo, self._texts = elmo, texts
        self._mean = vectors.mean(0) if len(vectors) else np.zeros(0, np.float32)
        self._unit = _unit(vectors - self._mean)

    def __call__(self, text: str) -> list[tuple[str, float]]:
        """The nearest of the texts, and the cosines; not the text itself."""
        if not len(self._texts):
            return []
        similarity = self._unit @ _unit(self._elmo.sentence_vectors([text]) - self._mean)[0]
        found = {self._texts[i]: float(similarity[i]) for i in np.argsort(-similarity, kind="stable")[: 4 * _NEAREST]}
        found.pop(text, None)
        return list(found.items())[:_NEAREST]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def serve(model: TextClassifier, nearest: Nearest, known: dict[str, Any], port: int) -> ThreadingHTTPServer:
    """A server that listens, for the caller to run; port 0: any that is free. known: see page.html.

    Raises UserError when the port is taken.
    """
    # "<" is spelled otherwise: no name of a class ends the script that it stands in.
    facts = json.dumps(known, ensure_ascii=False).replace("<", "\\u003c")
    page = _PAGE.read_text(encoding="utf-8").replace("MODEL", facts, 1).encode()
    one_at_a_time = threading.Lock()

    def answer(text: str) -> dict[str, Any]:
        with one_at_a_time:
            found = model.explain(text)
            return {
                "probabilities": [float(p) for p in found.probabilities],
                "words": found.words,
                "weights": [float(w) for w in found.weights],
                "nearest": nearest(text),
            }

    class Handler(BaseHTTPRequestHandler):
        timeout = 60

        def do_GET(self) -> None:
            if not self._is_for_here():
                return
            if self.path.split("?")[0] == "/":
                self._say(HTTPStatus.OK, page, "text/html; charset=utf-8")
            else:
                self._say(HTTPStatus.NOT_FOUND, b"There is nothing here.", "text/plain")

        def do_POST(self) -> None:
            if not self._is_for_here():
                return
            length = self.headers.get("Content-Length", "")
            # A page elsewhere can send a form here, but no JSON.
            if self.headers.get_content_type() != "application/json":
                self._say_json(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "This takes application/json."})
            elif self.path != "/classify" or not length.isdecimal():
                self._say_json(HTTPStatus.NOT_FOUND, {"error": "There is nothing here."})
            elif len(length) > len(str(_LARGEST)) or int(length) > _LARGEST:
                self.close_connection = True
                self._say_json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "That is too long a text."})
            else:
                try:
                    text = json.loads(self.rfile.read(int(length)))["text"]
                    if not isinstance(text, str):
                        raise TypeError
                except (ValueError, TypeError, KeyError, RecursionError):
                    self._say_json(HTTPStatus.BAD_REQUEST, {"error": 'This takes {"text": ...}.'})
                    return
                self._say_json(HTTPStatus.OK, answer(replace_surrogates(text)))

        def _is_for_here(self) -> bool:
            asked = self.headers.get("Host", "").rsplit(":", 1)[0]
            if asked in (HOST, "localhost"):
                return True
            self._say(HTTPStatus.FORBIDDEN, b"This answers to 127.0.0.1 alone.", "text/plain")
            return False

        def _say_json(self, status: HTTPStatus, content: dict[str, Any]) -> None:
            self._say(status, json.dumps(content, ensure_ascii=False).encode(), "application/json")

        def _say(self, status: HTTPStatus, content: bytes, kind: str) -> None:
            self.send_response(status)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(content))),
                ("Content-Security-Policy", _POLICY),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: what a user types in is nobody's business."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Nothing where the browser has gone, as when a page is loaded anew before it has its answer."""
            if not isinstance(sys.exception(), ConnectionError | TimeoutError):
                super().handle_error(request, client_address)

    try:
        return Server((HOST, port), Handler)
    except OSError as error:
        raise UserError(f"port {port}: {error.strerror}. Name another one.", "port") from error


def model_facts(model: TextClassifier, summary: dict[str, Any], texts: str) -> dict[str, Any]:
    """For the page: of the classifier itself, and of its evaluation in a summary.json, where it stands in it.

    texts: which texts the nearest ones are of.
    """
    info = model.info
    mode, combination = info["settings"]["mode"], info["combination"]["after"]
    entries: list[dict[str, Any]] = list(summary.get("classifiers", {}).values())
    figures = next((entry.get("test") for entry in entries if entry["hash"] == model.hash), None)
    return {
        "about": f"Classifier {mode!r} on ELMo's layers. Trained on {info['rows_trained']:,} rows of {info['corpus']}.",
        "classes": model.classes,
        "lambdas": combination.get("lambdas"),
        "gamma": combination.get("gamma"),
        "matrix": figures and figures["confusion_matrix"],
        "evaluated": f"Accuracy {figures['accuracy']:.4f} on {figures['rows']:,} rows."
        if figures
        else "No evaluation of these weights is at hand: python evaluate.py makes one.",
        "texts": texts,
    }
