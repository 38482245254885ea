from typing import Any

import pytest
from django.db.backends.utils import CursorWrapper

from tests.faults.conftest import figure, full

__all__ = ["figure", "full"]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What any thread asks the database from now on."""
    execute = CursorWrapper.execute
    asked: list[str] = []

    def noted(self: CursorWrapper, sql: str, params: Any = None) -> Any:
        asked.append(sql)
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", noted)
    return asked
