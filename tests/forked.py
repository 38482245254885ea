"""Python programs begun in a process that has imported what they all would: other people's packages.

These take a core half of the two seconds in which a server of the project starts, and the suite starts
hundreds. Nothing of the project is among them, nor anything that reads the environment or Django's settings.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess

from tests.database import ROOT

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "django.core.handlers.asgi",
        "django.db.models",
        "django.forms",
        "numpy",
        "pgvector.django",
        "psycopg",
        "requests",
        "safetensors.numpy",
        "sqlparse",
        "Stemmer",
        "tokenizers",
        "unittest.mock",
        "uvicorn.main",
        "uvicorn.protocols.http.h11_impl",
        "yaml",
    ]
)


def begin(module: str, *arguments: str, environment: Mapping[str, str], output: str) -> BaseProcess:
    """`python -m MODULE ARGUMENTS` with this environment and no other.

    What it says goes to the file `output`, or to where this process says it if that is empty.
    """
    process = _context.Process(target=_become, args=(module, arguments, dict(environment), output))
    process.start()
    return process


def _become(module: str, arguments: tuple[str, ...], environment: dict[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    if output:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
