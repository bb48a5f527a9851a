"""Settings. Everything that differs between one machine and a team comes from `LABELWHEEL_*` variables.

docs/reference/settings.md lists them. With none set, the service runs embedded: SQLite, a directory for the
bytes, a directory as the broker.
"""

import os
import secrets
from pathlib import Path
from typing import Any

import dj_database_url
from django.http import HttpRequest
from django.urls import reverse_lazy

BASE_DIR = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("LABELWHEEL_HOME", BASE_DIR / "var")).resolve()
HOME.mkdir(parents=True, exist_ok=True)

VERSION = "0.1.0"
"""The version of the code: a training run records it."""


def _flag(name: str, default: bool) -> bool:
    return os.environ.get(name, "1" if default else "0").lower() in ("1", "true", "yes", "on")


def _kept_secret(path: Path) -> str:
    """The embedded set-up's own secret key, made once; a team gives its own by the environment."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
    return path.read_text()


DEBUG = _flag("LABELWHEEL_DEBUG", False)
SECRET_KEY = os.environ.get("LABELWHEEL_SECRET_KEY") or _kept_secret(HOME / "secret_key")
ALLOWED_HOSTS = os.environ.get("LABELWHEEL_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
CSRF_TRUSTED_ORIGINS = [
    origin for origin in os.environ.get("LABELWHEEL_TRUSTED_ORIGINS", "").split(",") if origin
]
HTTPS = _flag("LABELWHEEL_HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^health/"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "labeling",
    "flywheel",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "labeling.api.client.ClientMiddleware",
]
ROOT_URLCONF = "flywheel.config.urls"
WSGI_APPLICATION = "flywheel.config.wsgi.application"
ASGI_APPLICATION = "flywheel.config.asgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# The admin's and the API docs' own scripts evaluate expressions, which this policy forbids to our pages.
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ["/admin/", "/api/docs/"],
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    },
}

# --- database ---------------------------------------------------------------------------------------------

DATABASE_URL = os.environ.get("LABELWHEEL_DATABASE_URL", f"sqlite:///{HOME / 'labelwheel.sqlite3'}")
_database: dict[str, Any] = dict(dj_database_url.parse(DATABASE_URL))
if _database["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE: two writers wait for each other; with DEFERRED one of them fails with "database is locked".
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    }
    # A file, so that tests with threads and processes see what the service would.
    _database["TEST"] = {"NAME": str(HOME / f"test-{os.getpid()}.sqlite3")}
else:
    _database["CONN_HEALTH_CHECKS"] = True
_database["CONN_MAX_AGE"] = 60  # opening a database costs as much as a small request
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- bytes ------------------------------------------------------------------------------------------------

STORE_DIRECTORY = HOME / "store"
S3_ENDPOINT = os.environ.get("LABELWHEEL_S3_ENDPOINT", "")  # host:port; empty means the directory
S3_ACCESS_KEY = os.environ.get("LABELWHEEL_S3_ACCESS_KEY", "")
S3_SECRET_KEY = os.environ.get("LABELWHEEL_S3_SECRET_KEY", "")
S3_BUCKET = os.environ.get("LABELWHEEL_S3_BUCKET", "labelwheel")
S3_SECURE = _flag("LABELWHEEL_S3_SECURE", True)
WORK_DIRECTORY = HOME / "work"
"""Where a worker unpacks snapshots and keeps checkpoints: may be lost, costs only time."""

MAX_PICTURE_PIXELS = min(int(os.environ.get("LABELWHEEL_MAX_PICTURE_PIXELS", "80000000")), 80_000_000)
"""Never more than a model can be shown: `ml.data` refuses larger pictures."""
MAX_UPLOAD_BYTES = int(os.environ.get("LABELWHEEL_MAX_UPLOAD_BYTES", str(2 * 1024**3)))
DATA_UPLOAD_MAX_MEMORY_SIZE = 20 * 1024**2  # JSON bodies; uploaded files stream to disk
DATA_UPLOAD_MAX_NUMBER_FILES = 1_000

# --- jobs -------------------------------------------------------------------------------------------------

BROKER_URL = os.environ.get("LABELWHEEL_BROKER_URL", "filesystem://")
JOB_LEASE_S = int(os.environ.get("LABELWHEEL_JOB_LEASE_S", "45"))
JOB_HEARTBEAT_S = JOB_LEASE_S / 3
JOB_SWEEP_S = float(os.environ.get("LABELWHEEL_JOB_SWEEP_S", "10"))
ROUND_TICK_S = float(os.environ.get("LABELWHEEL_ROUND_TICK_S", "5"))
JOB_MAX_CRASHES = 3
# One core is left to the pages: training threads that wait for a busy core spin, at many times the cost of one.
TRAIN_THREADS = int(os.environ.get("LABELWHEEL_TRAIN_THREADS", str(max(1, (os.cpu_count() or 1) - 1))))
TRAIN_PROCESSES = int(os.environ.get("LABELWHEEL_TRAIN_PROCESSES", "1"))
MLFLOW_URI = os.environ.get("LABELWHEEL_MLFLOW_URI", "")
TENSORBOARD_DIRECTORY = os.environ.get("LABELWHEEL_TENSORBOARD_DIRECTORY", "")

# --- web --------------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

FRONTEND_DIST = BASE_DIR / "frontend" / "dist"
STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [FRONTEND_DIST] if FRONTEND_DIST.is_dir() else []
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = DEBUG

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "labeling.api.authentication.HashedTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["labeling.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "labeling.api.errors.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Labelwheel",
    "DESCRIPTION": "Labeling and data flywheel for computer vision.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "ENUM_NAME_OVERRIDES": {"RoundStatus": "flywheel.models.RoundStatus"},
}


def _admin_list(title: str, icon: str, app: str, model: str) -> dict[str, Any]:
    """A line of the admin's sidebar, shown to those who may see the rows; `icon` is a Material symbol."""

    def may_see(request: HttpRequest) -> bool:
        return any(request.user.has_perm(f"{app}.{verb}_{model}") for verb in ("view", "change"))

    link = reverse_lazy(f"admin:{app}_{model}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": may_see}


ACCENT_SHADES = {
    "50": "#eff7fd", "100": "#dcecf8", "200": "#b9daf2", "300": "#7cc0f0", "400": "#54a8e2", "500": "#2f8fd0",
    "600": "#0a5f9e", "700": "#0a5288", "800": "#0a4370", "900": "#17364c", "950": "#0a1a26",
}  # fmt: skip
"""The pages' accent (frontend/src/styles/tokens.css), from light to dark."""

UNFOLD = {
    "SITE_TITLE": "Labelwheel",
    "SITE_HEADER": "Labelwheel",
    "SITE_SUBHEADER": "Administration",
    "SITE_SYMBOL": "cycle",
    "SITE_URL": "/",
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "COLORS": {"primary": ACCENT_SHADES},
    "SIDEBAR": {
        "navigation": [
            {
                "items": [
                    {
                        "title": "Back to Labelwheel",
                        "icon": "arrow_back",
                        "link": reverse_lazy("projects"),
                        "active": False,
                    },
                    {"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                ]
            },
            {
                "title": "Labeling",
                "separator": True,
                "items": [
                    _admin_list("Projects", "folder_open", "labeling", "project"),
                    _admin_list("Schema versions", "category", "labeling", "schemaversion"),
                    _admin_list("Tasks", "image", "labeling", "task"),
                    _admin_list("Leases", "lock_clock", "labeling", "lease"),
                    _admin_list("Annotations", "draw", "labeling", "annotation"),
                    _admin_list("Consensus", "handshake", "labeling", "consensus"),
                    _admin_list("Predictions", "auto_awesome", "labeling", "prediction"),
                    _admin_list("Skills", "military_tech", "labeling", "skill"),
                ],
            },
            {
                "title": "Wheel",
                "separator": True,
                "items": [
                    _admin_list("Rounds", "cycle", "flywheel", "round"),
                    _admin_list("Models", "deployed_code", "flywheel", "modelversion"),
                    _admin_list("Training runs", "model_training", "flywheel", "trainingrun"),
                    _admin_list("Snapshots", "photo_library", "flywheel", "snapshot"),
                ],
            },
            {
                "title": "Service",
                "separator": True,
                "items": [
                    _admin_list("Jobs", "checklist", "labeling", "job"),
                    _admin_list("Events", "history", "labeling", "event"),
                ],
            },
            {
                "title": "People",
                "separator": True,
                "items": [
                    _admin_list("People", "person", "auth", "user"),
                    _admin_list("Groups", "group", "auth", "group"),
                    _admin_list("API tokens", "key", "labeling", "apitoken"),
                ],
            },
        ]
    },
}

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LABELWHEEL_LOG_LEVEL", "INFO")},
}
