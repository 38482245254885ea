"""Settings. This is the only file that reads the environment.

DEBUG is the one switch: with it, everything works with nothing set; without it, which is the default,
this is a public site, which wants a SECRET_KEY and https.
"""

import os
import secrets
from contextlib import suppress
from datetime import timedelta
from math import isfinite, nan
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent

SWITCH = dict.fromkeys(("true", "on", "ok", "yes", "y", "1"), True) | dict.fromkeys(
    ("false", "off", "no", "n", "0"), False
)


def setting(name: str, default: str = "") -> str:
    """What is set, as it stands: a secret may begin with a dollar sign, a path with a space."""
    return os.environ.get(name, default)


def items(name: str, default: str = "") -> list[str]:
    """What stands between the commas."""
    return [item for part in setting(name, default).split(",") if (item := part.strip())]


def switch(name: str, *, default: bool) -> bool:
    """On or off. Raises ImproperlyConfigured: a word that is neither must not turn off what protects."""
    word = setting(name).strip().lower()
    if word and word not in SWITCH:
        raise ImproperlyConfigured(f"{name} must be True or False.")
    return SWITCH[word] if word else default


def number(name: str, default: float) -> float:
    """Raises ImproperlyConfigured."""
    try:
        value = float(setting(name).strip() or default)
    except ValueError:
        value = nan
    if not isfinite(value):
        raise ImproperlyConfigured(
            f"{name} must be a number such as 3600 or 2.5: a point before decimals, and no other signs."
        )
    return value


def count(name: str, default: int | None) -> Any:  # None only if that is the default
    """A number of things. Raises ImproperlyConfigured."""
    text = setting(name).strip()
    if text and not text.isdecimal():
        raise ImproperlyConfigured(f"{name} must be a whole number such as 1000, in digits only.")
    return int(text) if text else default


VAR_DIR = Path(setting("VAR_DIR", str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True)


DEBUG = switch("DEBUG", default=False)
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
PERIODS = {"sec": 1, "min": 60, "hour": 3600, "day": 86_400}  # seconds


def secret_key() -> str:
    """SECRET_KEY, or else, with DEBUG, a key made on first use and kept in a file that only this user reads.

    Raises ImproperlyConfigured.
    """
    if key := setting("SECRET_KEY"):
        return key
    if not DEBUG:
        raise ImproperlyConfigured(
            "Please set SECRET_KEY to a long random text and keep it to yourself. This makes one: "
            'python -c "import secrets; print(secrets.token_urlsafe(50))". '
            "(To try Leasehold out on this machine only, set DEBUG=True instead.)"
        )
    path = VAR_DIR / "secret_key"
    if not path.exists():
        with NamedTemporaryFile("w", dir=VAR_DIR) as file:
            file.write(secrets.token_urlsafe(50))
            file.flush()
            with suppress(FileExistsError):  # another process made it first: its key is the key
                os.link(file.name, path)
    return path.read_text()


def rate(name: str, default: str) -> tuple[int, int] | None:
    """How many in how many seconds, from a text such as "10/min"; None, if it is empty, for any number.

    Raises ImproperlyConfigured.
    """
    text = setting(name, default)
    if not text:
        return None
    many, _, period = text.partition("/")
    if not (many.isdecimal() and 0 < int(many) <= 1000 and period in PERIODS):
        raise ImproperlyConfigured(
            f"{name} must be a number from 1 to 1000 for each sec, min, hour or day, for example {default}."
        )
    return int(many), PERIODS[period]


def database() -> dict[str, Any]:
    """DATABASE_URL, with the options that leases need: see `leases.checks`. Raises ImproperlyConfigured."""
    url = setting("DATABASE_URL") or f"sqlite:///{VAR_DIR / 'leasehold.sqlite3'}"
    if not url.startswith(("postgresql://", "postgres://", "sqlite://")):
        raise ImproperlyConfigured("DATABASE_URL must begin with postgresql:// or sqlite:///.")
    try:
        config: dict[str, Any] = environ.Env.db_url_config(url)
    except ValueError:  # which would quote the password
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read. Please write special characters of its password as %2F and the "
            "like: postgresql://USER:PASSWORD@HOST:PORT/NAME."
        ) from None
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
        prepared = switch("DATABASE_PREPARED_STATEMENTS", default=True)
        options.setdefault("prepare_threshold", 3 if prepared else None)
    return config


SECRET_KEY = secret_key()
ALLOWED_HOSTS = items("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = items("CSRF_TRUSTED_ORIGINS")

# uvicorn tells http from https by X-Forwarded-Proto if a proxy that it was told to trust says so.
HTTPS = switch("HTTPS", default=not DEBUG)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS

INSTALLED_APPS = [
    "config.apps.Admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "leases",
    "documents",
    "chat",
]
MIDDLEWARE = [
    "config.requests.note_route",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
# Who may do what how often: people who have not signed in, and people who try to.
ANONYMOUS_USE = switch("ANONYMOUS_USE", default=True)
ANONYMOUS_RATE = rate("ANONYMOUS_RATE", "60/min")
SIGN_IN_RATE = rate("SIGN_IN_RATE", "10/min")
if not ANONYMOUS_USE:
    after = MIDDLEWARE.index("django.contrib.auth.middleware.AuthenticationMiddleware") + 1
    MIDDLEWARE.insert(after, "django.contrib.auth.middleware.LoginRequiredMiddleware")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    },
    "sign-in": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "sign_in_tries",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    },
}
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
STATIC_ROOT = VAR_DIR / "static"  # where collectstatic puts them for nginx
# Everything comes from this site; nothing runs that stands in a page or in what a model says.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
SIGN_UP = switch("SIGN_UP", default=False)
DATABASES = {"default": database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
SESSION_ENGINE = "config.sessions"
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True  # scripts read the token off their page
SESSION_COOKIE_AGE = int(timedelta(days=90).total_seconds())

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "config.authentication.TokenAuthentication",
        "config.authentication.SessionAuthentication",
    ],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["config.json_parser.JSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.negotiation.JSONFirst",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "URL_FORMAT_OVERRIDE": None,
    "DEFAULT_PERMISSION_CLASSES": ["config.permissions.MayUse"],
    "DEFAULT_THROTTLE_CLASSES": ["config.throttles.AnonymousThrottle"],
    "NUM_PROXIES": 0,  # X-Forwarded-For is never looked at
    "EXCEPTION_HANDLER": "config.exception_handler.exception_handler",
}
REST_KNOX = {"TOKEN_TTL": None, "AUTH_HEADER_PREFIX": "Token", "TOKEN_LIMIT_PER_USER": 20}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Leasehold",
    "VERSION": "1",
    "DESCRIPTION": (BASE_DIR / "config" / "api.md").read_text(),
    "TAGS": [
        {"name": "services", "description": "Who is free, and who waits."},
        {"name": "leases", "description": "Who holds a service, who waits for it, and who held it before."},
        {"name": "operators", "description": "What operators may do to sessions, queues and services."},
        {"name": "chat", "description": "The chat model, under the lease of `lightweight-llm`."},
        {"name": "documents", "description": "Documents, converted under the lease of `vector-convert`."},
        {"name": "search", "description": "Finding passages, which needs no lease."},
        {"name": "conversations", "description": "What was said, kept for whoever said it."},
        {"name": "tokens", "description": "Signing programs in."},
        {"name": "api", "description": "The API itself."},
    ],
    "PREPROCESSING_HOOKS": ["config.schema.endpoints"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.schema.common_to_all",
    ],
    "ENUM_NAME_OVERRIDES": {
        "Outcome": ["released", "expired", "lost", "forced", "unclaimed"],
        "LostAs": ["expired", "lost", "forced", "released"],
    },
    "SCHEMA_PATH_PREFIX": "/api/",
    "COMPONENT_SPLIT_PATCH": False,
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# Bytes that one request may carry: an upload is a 10 MB file and what a form wraps around it.
UPLOAD_MAX_BYTES = 11 * 1024 * 1024
REQUEST_MAX_BYTES = 2 * 1024 * 1024
UPLOAD_PATHS = ("/api/RAG/upload", "/api/RAG/upload/", "/documents/")
DATA_UPLOAD_MAX_MEMORY_SIZE = UPLOAD_MAX_BYTES

# What is watched: /metrics for whoever brings the token, and the log, which is JSON unless DEBUG.
METRICS_TOKEN = setting("METRICS_TOKEN")
METRICS_DIR = setting("METRICS_DIR")  # where the workers of one server add up their counts
LOG_LEVEL = setting("LOG_LEVEL", "INFO").upper()
if LOG_LEVEL not in LEVELS:
    raise ImproperlyConfigured(f"LOG_LEVEL must be one of {', '.join(LEVELS)}.")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"failures": {"()": "config.logs.Failures"}},
    "formatters": {"line": {"()": "config.logs.Line" if DEBUG else "config.logs.JSON"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        **{app: {"level": LOG_LEVEL} for app in ("chat", "config", "documents", "leases")},
        # Django's and uvicorn's own handlers would write addresses with their queries.
        "django": {"handlers": [], "level": "WARNING"},
        "django.request": {"filters": ["failures"]},
        "django.server": {"handlers": [], "level": "WARNING", "propagate": True},
        "uvicorn": {"handlers": [], "propagate": True},
        "uvicorn.error": {"handlers": [], "propagate": True},
        "uvicorn.access": {"handlers": [], "propagate": False},
    },
}

# Leases, in seconds. A service may override the TTL and the idle timeout in the admin.
LEASE_TTL = number("LEASE_TTL", 30.0)
LEASE_HEARTBEAT = number("LEASE_HEARTBEAT", LEASE_TTL / 3)
LEASE_IDLE_TIMEOUT = number("LEASE_IDLE_TIMEOUT", 300.0)
LEASE_WAIT_MAX = number("LEASE_WAIT_MAX", 3600.0)
LEASE_QUEUE_LIMIT = count("LEASE_QUEUE_LIMIT", 1000)  # callers, a service may override it
# Where to hear of hand-overs on PostgreSQL: the server itself, when DATABASE_URL leads to a pooler.
DATABASE_LISTEN_URL = setting("DATABASE_LISTEN_URL")
# service id -> dotted path of a function that gives the engine behind it, whose health() answers at once
LEASE_ENGINES = {
    "lightweight-llm": "chat.engines.get_engine",
    "vector-convert": "documents.embedders.get_embedder",
}

# The engines: in-process by default, any OpenAI-compatible server by URL.
CHAT_BASE_URL = setting("CHAT_BASE_URL")
CHAT_MODEL = setting("CHAT_MODEL")
CHAT_API_KEY = setting("CHAT_API_KEY")
CHAT_CONTEXT_WINDOW = count("CHAT_CONTEXT_WINDOW", None)
CHAT_TIMEOUT = number("CHAT_TIMEOUT", 60.0)
# Passages that the model reads of those found, and whether with the neighbours of the chunk that was found:
# the small packaged model is led astray by more than one, and by what stands around it.
CHAT_PASSAGES = count("CHAT_PASSAGES", 4 if CHAT_BASE_URL or CHAT_MODEL else 1)
CHAT_NEIGHBOURS = switch("CHAT_NEIGHBOURS", default=bool(CHAT_BASE_URL or CHAT_MODEL))
EMBEDDING_BASE_URL = setting("EMBEDDING_BASE_URL")
EMBEDDING_MODEL = setting("EMBEDDING_MODEL")
EMBEDDING_API_KEY = setting("EMBEDDING_API_KEY")
EMBEDDING_TIMEOUT = number("EMBEDDING_TIMEOUT", 60.0)
# What orders anew what a search has found: nothing by default, any server with a rerank API by URL.
RERANK_BASE_URL = setting("RERANK_BASE_URL")
RERANK_MODEL = setting("RERANK_MODEL")
RERANK_API_KEY = setting("RERANK_API_KEY")
RERANK_TIMEOUT = number("RERANK_TIMEOUT", 5.0)
