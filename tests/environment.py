"""The environment of the tests and of what they start; pytest loads this before the settings."""

import os

os.environ.setdefault("DEBUG", "True")
os.environ.setdefault("ANONYMOUS_RATE", "")
os.environ.setdefault("SIGN_IN_RATE", "")
os.environ.setdefault("LOG_LEVEL", "WARNING")
