from tests.faults.conftest import figure, full

__all__ = ["figure", "full"]
