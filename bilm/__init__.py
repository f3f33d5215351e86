"""ELMo from scratch: the bidirectional language model, and what is made of it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bilm.elmo import ELMo

__all__ = ["ELMo"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and the scripts' --help imports from here.
    if name == "ELMo":
        from bilm.elmo import ELMo

        return ELMo
    raise AttributeError(f"module 'bilm' has no attribute {name!r}")
