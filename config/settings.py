"""Settings. This is the only file that reads the environment; everything works with nothing set."""

import os
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)


def secret_key() -> str:
    """SECRET_KEY, or else a key made on first use and kept in a file that only this user can read."""
    key: str = env.str("SECRET_KEY", default="")
    if key:
        return key
    path = VAR_DIR / "secret_key"
    if not path.exists():
        with NamedTemporaryFile("w", dir=VAR_DIR) as file:
            file.write(secrets.token_urlsafe(50))
            file.flush()
            with suppress(FileExistsError):  # another process made it first: its key is the key
                os.link(file.name, path)
    return path.read_text()


def database() -> dict[str, Any]:
    """DATABASE_URL, with the options that leases need: see `leases.checks`."""
    config: dict[str, Any] = env.db_url("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'leasehold.sqlite3'}")
    options = config.setdefault("OPTIONS", {})
    if config["ENGINE"] == "django.db.backends.sqlite3":
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 20)
        options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;")
        config["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}  # a file: tests start other processes
    else:
        options.setdefault("pool", {"min_size": 1, "max_size": 10, "timeout": 20})
        options.setdefault("connect_timeout", 10)
        options.setdefault("tcp_user_timeout", 20_000)  # ms: a host that is gone must not hang a lease
        options.setdefault("server_side_binding", True)
        prepared = env.bool("DATABASE_PREPARED_STATEMENTS", default=True)
        options.setdefault("prepare_threshold", 3 if prepared else None)
    return config


SECRET_KEY = secret_key()
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "adrf",
    "knox",
    "leases",
    "documents",
    "chat",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Everything comes from this site; nothing runs that stands in a page or in what a model says.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
SIGN_UP = env.bool("SIGN_UP", default=False)
DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = int(timedelta(days=90).total_seconds())

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "config.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.json_parser.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.negotiation.JSONOnly",
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "config.exception_handler.exception_handler",
}
REST_KNOX = {"TOKEN_TTL": None, "AUTH_HEADER_PREFIX": "Token"}

# Bytes that one request may carry: an upload is a 10 MB file and what a form wraps around it.
UPLOAD_MAX_BYTES = 11 * 1024 * 1024
REQUEST_MAX_BYTES = 2 * 1024 * 1024
UPLOAD_PATHS = ("/api/RAG/upload", "/api/RAG/upload/", "/documents/")
DATA_UPLOAD_MAX_MEMORY_SIZE = UPLOAD_MAX_BYTES

# Leases, in seconds. A service may override the TTL and the idle timeout in the admin.
LEASE_TTL = env.float("LEASE_TTL", default=30.0)
LEASE_HEARTBEAT = env.float("LEASE_HEARTBEAT", default=LEASE_TTL / 3)
LEASE_IDLE_TIMEOUT = env.float("LEASE_IDLE_TIMEOUT", default=300.0)
LEASE_WAIT_MAX = env.float("LEASE_WAIT_MAX", default=3600.0)
LEASE_QUEUE_LIMIT = env.int("LEASE_QUEUE_LIMIT", default=1000)  # callers, a service may override it
# Where to hear of hand-overs on PostgreSQL: the server itself, when DATABASE_URL leads to a pooler.
DATABASE_LISTEN_URL = env.str("DATABASE_LISTEN_URL", default="")
# service id -> dotted path of a function that gives the engine behind it, whose health() answers at once
LEASE_ENGINES = {
    "lightweight-llm": "chat.engines.get_engine",
    "vector-convert": "documents.embedders.get_embedder",
}

# The engines: in-process by default, any OpenAI-compatible server by URL.
CHAT_BASE_URL = env.str("CHAT_BASE_URL", default="")
CHAT_MODEL = env.str("CHAT_MODEL", default="")
CHAT_API_KEY = env.str("CHAT_API_KEY", default="")
CHAT_CONTEXT_WINDOW = env.int("CHAT_CONTEXT_WINDOW", default=None)
CHAT_TIMEOUT = env.float("CHAT_TIMEOUT", default=60.0)
# Passages that the model reads of those found: the small packaged model is led astray by more than one.
CHAT_PASSAGES = env.int("CHAT_PASSAGES", default=4 if CHAT_BASE_URL or CHAT_MODEL else 1)
EMBEDDING_BASE_URL = env.str("EMBEDDING_BASE_URL", default="")
EMBEDDING_MODEL = env.str("EMBEDDING_MODEL", default="")
EMBEDDING_API_KEY = env.str("EMBEDDING_API_KEY", default="")
EMBEDDING_TIMEOUT = env.float("EMBEDDING_TIMEOUT", default=60.0)
