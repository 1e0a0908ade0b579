"""All settings of the control plane, read from the environment."""

from pathlib import Path
from types import SimpleNamespace

import environ

from billing.stripe.gateway import refuse_stand_in_in_production
from inference import protocol
from marketplace import logs
from marketplace.beat_schedule import beat_schedule
from marketplace.listing_settings import *  # noqa: F403
from marketplace.openapi_settings import SPECTACULAR_SETTINGS  # noqa: F401 (it is a setting)

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# Where this installation lives
DEBUG = env.bool("DEBUG", default=False)
# Set by the local runner: everything is on this machine, and the Stripe stand-in may be used.
LOCAL_STACK = env.bool("LOCAL_STACK", default=False)
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
PORT = env.int("PORT", default=8000)
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
SECRET_KEY = env.str("SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG:
        raise environ.ImproperlyConfigured("SECRET_KEY is not set, and DEBUG is off.")
    SECRET_KEY = "only-for-development-" + "x" * 40
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])  # earlier ones, for a while
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
# Names that lead here and mean a part of fal's API: fal.run=run,queue.fal.run=queue,…
FAL_HOSTS = env.dict("FAL_HOSTS", default={})
ALLOWED_HOSTS += FAL_HOSTS
if not {"run", "queue", "rest", "cdn"}.issuperset(FAL_HOSTS.values()):
    raise environ.ImproperlyConfigured("FAL_HOSTS: each name means run, queue, rest or cdn.")
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[PUBLIC_URL])
SECURE = PUBLIC_URL.startswith("https://")
SITE_NAME = env.str("SITE_NAME", default="Mercato")

INSTALLED_APPS = [
    "marketplace.console.apps.AdminSiteConfig",
    "marketplace.console.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "marketplace.core.apps.StaticFilesConfig",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "hijack",
    "waffle",
    "django_htmx",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "marketplace.core.apps.CoreConfig",
    "marketplace.accounts",
    "marketplace.catalog",
    "billing",
    "marketplace.simulation",
    "marketplace.jobs",
    "marketplace.api",
    "marketplace.dashboard",
]

# The innermost middleware is synchronous on purpose: Django then runs the whole chain in one
# thread instead of hopping between the event loop and a thread twice per middleware.
MIDDLEWARE = [
    "marketplace.core.middleware.request_context",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "marketplace.core.private_pages.private_pages",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "marketplace.accounts.middleware.whole_page_at_the_door",
    "hijack.middleware.HijackUserMiddleware",
    "marketplace.accounts.middleware.current_organisation",
    "marketplace.core.impersonation.read_only",
]

ROOT_URLCONF = "marketplace.urls"
ASGI_APPLICATION = "marketplace.asgi.application"
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
                "marketplace.dashboard.context.site",
            ],
            "builtins": ["marketplace.core.templatetags.money"],
        },
    },
]

# PostgreSQL. The pool is shared by all threads of a process: Django under ASGI uses a new
# thread per request, so connections kept per thread would be opened anew each time.
DATABASES = {"default": env.db("DATABASE_URL", default="postgres://postgres@127.0.0.1/mercato")}
DATABASES["default"]["OPTIONS"] = {
    **DATABASES["default"].get("OPTIONS", {}),
    "pool": {
        "min_size": env.int("DATABASE_POOL_MIN", default=2),
        "max_size": env.int("DATABASE_POOL_MAX", default=24),
        "timeout": env.float("DATABASE_POOL_TIMEOUT", default=10.0),
        "max_idle": 300,
        # The pool waits twice as long after each failed connection, for 5 minutes by default: an
        # outage would be followed by another as long. Given up early, a later request tries anew.
        "reconnect_timeout": 5,
    },
}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Valkey (or Redis): Celery's broker, job events, rate limits, cache
BROKER_URL = env.str("BROKER_URL", default="redis://127.0.0.1:6379/0")
VALKEY_URL = env.str("VALKEY_URL", default=BROKER_URL)
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": VALKEY_URL,
        # GPU workers write to the same Valkey: what it returns is never unpickled.
        "OPTIONS": {"serializer": "marketplace.core.cache.JsonSerializer"},
    },
    # Feature flags, per process: what staff switch reaches every process within this time.
    "flags": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "TIMEOUT": env.int("FLAG_CACHE_S", default=5),
    },
}

CELERY_BROKER_URL = BROKER_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A control task lasts milliseconds, so one that is not acknowledged for this long belonged to
# a worker that died. GPU workers keep their own list (`unacked.gpu`) with a far longer time.
CONTROL_VISIBILITY_TIMEOUT_S = env.int("CONTROL_VISIBILITY_TIMEOUT_S", default=60)
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": CONTROL_VISIBILITY_TIMEOUT_S,
    # Left alone, kombu looks for such tasks only every 100 seconds.
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "unacked_key": "unacked.control",
    "unacked_index_key": "unacked.control.index",
    "unacked_mutex_key": "unacked.control.mutex",
    "socket_keepalive": True,
    "socket_connect_timeout": 3,
    "socket_timeout": 10,
}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = protocol.QUEUE_CONTROL
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
# Whoever can write to the broker, a GPU worker say, must not command this one; and kombu's
# subscription for it is where a worker dies when the broker goes away.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TIMEZONE = "UTC"
SWEEP_EVERY_S = env.float("SWEEP_EVERY_S", default=5.0)
CELERY_BEAT_SCHEDULE = beat_schedule(SWEEP_EVERY_S)

# Accounts
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_REDIRECT_URL = "/dashboard/"
LOGOUT_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "marketplace.dashboard.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_SUBJECT_PREFIX = f"[{SITE_NAME}] "
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if SECURE else "http"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = SITE_NAME
# Who types a code in its last seconds sends it in the next step, as does a clock that is off.
MFA_TOTP_TOLERANCE = 1
MFA_FORMS = {
    "authenticate": "marketplace.accounts.code_forms.SignInCodeForm",
    "reauthenticate": "marketplace.accounts.code_forms.ConfirmCodeForm",
}
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = DEBUG or LOCAL_STACK
# The console asks staff for their second factor; only a market on one's own machine may not.
CONSOLE_SECOND_FACTOR = env.bool("CONSOLE_SECOND_FACTOR", default=not LOCAL_STACK)
if not (CONSOLE_SECOND_FACTOR or LOCAL_STACK or DEBUG):
    raise environ.ImproperlyConfigured("CONSOLE_SECOND_FACTOR cannot be off in production.")
HIJACK_PERMISSION_CHECK = "marketplace.console.acting.may_act_as"
WAFFLE_CACHE_NAME = "flags"
EMAIL_BACKEND = env.str("EMAIL_BACKEND", default="django.core.mail.backends.console.EmailBackend")
EMAIL_CONFIG = env.email("EMAIL_URL", default="consolemail://")
vars().update({k: v for k, v in EMAIL_CONFIG.items() if k != "EMAIL_BACKEND"})
if "EMAIL_URL" in env.ENVIRON:
    EMAIL_BACKEND = EMAIL_CONFIG["EMAIL_BACKEND"]
EMAIL_TIMEOUT = env.int("EMAIL_TIMEOUT", default=10)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="Mercato <no-reply@localhost>")
INVITATION_DAYS = 14

# Security headers. No page needs inline script or style.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_HTTPONLY = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("TRUST_PROXY", default=False) else None
)
X_FRAME_OPTIONS = "DENY"
S3_BUCKET = env.str("S3_BUCKET", default="")
S3_ENDPOINT_URL = env.str("S3_ENDPOINT_URL", default="")
S3_PUBLIC_ENDPOINT_URL = env.str("S3_PUBLIC_ENDPOINT_URL", default=S3_ENDPOINT_URL)
S3_REGION = env.str("S3_REGION", default="us-east-1")
_MEDIA_ORIGINS = (
    [S3_PUBLIC_ENDPOINT_URL or f"https://{S3_BUCKET}.s3.{S3_REGION}.amazonaws.com"]
    if S3_BUCKET
    else []
)
# A form that pays answers with the way to Stripe's page, which browsers count as its target.
_STRIPE_PAGES = [env.str("STRIPE_API_BASE", default="")] if env.str("STRIPE_API_BASE", "") else [
    "https://checkout.stripe.com", "https://connect.stripe.com",
]  # fmt: skip
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:", *_MEDIA_ORIGINS],
        "media-src": ["'self'", *_MEDIA_ORIGINS],
        "style-src": ["'self'"],
        "script-src": ["'self'"],
        "connect-src": ["'self'", *_MEDIA_ORIGINS],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'", *_STRIPE_PAGES],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 2**20
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

# Static and stored files
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "marketplace" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = True
MEDIA_DIR = VAR_DIR / "media"
FILE_MAX_BYTES = env.int("FILE_MAX_BYTES", default=64 * 2**20)
INPUT_FETCH_MAX_BYTES = env.int("INPUT_FETCH_MAX_BYTES", default=32 * 2**20)  # by URL, each
INPUT_FETCHES_AT_ONCE = env.int("INPUT_FETCHES_AT_ONCE", default=16)  # in one web process
INPUT_FETCHES_PER_SECOND = env.float("INPUT_FETCHES_PER_SECOND", default=10.0)  # by organisation
INPUT_FETCHES_BURST = env.int("INPUT_FETCHES_BURST", default=200)
UPLOADS_MAX_BYTES = env.int("UPLOADS_MAX_BYTES", default=2 * 2**30)  # an organisation's, kept
FILE_URL_TTL_S = env.int("FILE_URL_TTL_S", default=3600)
FILE_KEEP_DAYS = env.int("FILE_KEEP_DAYS", default=30)  # or as an organisation says, within
FILE_KEEP_DAYS_BOUNDS = [int(n) for n in env.list("FILE_KEEP_DAYS_BOUNDS", default=["1", "365"])]
WEBHOOK_SECRET_GRACE_H = env.int("WEBHOOK_SECRET_GRACE_H", default=24)  # of the one before

# The market
WELCOME_CREDIT_USD = env.str("WELCOME_CREDIT_USD", default="1.00")
WELCOME_CREDIT_DAYS = env.int("WELCOME_CREDIT_DAYS", default=90)  # 0: it never expires
MAX_REVENUE_SHARE_BPS = env.int("MAX_REVENUE_SHARE_BPS", default=9500)  # of a charge
OFFER_TTL_S = env.float("OFFER_TTL_S", default=1.0)
JOB_DEADLINE_S = env.int("JOB_DEADLINE_S", default=3600)
JOB_MAX_ATTEMPTS = env.int("JOB_MAX_ATTEMPTS", default=3)
DISPATCH_RETRY_S = env.float("DISPATCH_RETRY_S", default=15.0)
WORKER_LOST_AFTER_S = env.float("WORKER_LOST_AFTER_S", default=protocol.HEARTBEAT_TTL_S)
# A report that a dead control worker held comes again after the visibility timeout.
REPORT_LOST_AFTER_S = 2 * CONTROL_VISIBILITY_TIMEOUT_S + 10
READS_PER_SECOND = env.float("READS_PER_SECOND", default=50.0)
READS_BURST = env.int("READS_BURST", default=200)
HEAVY_PER_SECOND = env.float("HEAVY_PER_SECOND", default=0.5)  # by organisation
HEAVY_BURST = env.int("HEAVY_BURST", default=60)
MAX_PREFER_WAIT_S = 60
RUN_HOLD_S = env.int("RUN_HOLD_S", default=JOB_DEADLINE_S)  # of a call that is answered at its end
MAX_CALL_WAIT_S = 590.0  # of a call whose client knows no other way: it reads for 600 seconds
HELD_PER_ORG = env.int("HELD_PER_ORG", default=500)  # answers that wait, in one web process
STREAMS_PER_ORG = env.int("STREAMS_PER_ORG", default=100)  # in one web process
REALTIME_PER_ORG = env.int("REALTIME_PER_ORG", default=20)  # sockets, in one web process
REALTIME_IDLE_S = env.float("REALTIME_IDLE_S", default=60.0)
REALTIME_MESSAGE_BYTES = env.int("REALTIME_MESSAGE_BYTES", default=3 * 2**20)
ALLOW_NOOP_FAMILY = env.bool("ALLOW_NOOP_FAMILY", default=False)
# Where vendors' weights may be: BUCKET or BUCKET/PREFIX, {org} standing for the vendor's slug, and
# owners of hub repositories (none named: all). Workers read the same two variables.
WEIGHTS_S3_BUCKETS = list(filter(None, env.list("WEIGHTS_S3_BUCKETS", str.strip, default=[])))
WEIGHTS_HUB_OWNERS = list(filter(None, env.list("WEIGHTS_HUB_OWNERS", str.strip, default=[])))
METRICS_ALLOW = env.list("METRICS_ALLOW", default=[])  # networks besides loopback
OUTBOUND_ALLOW_CIDRS = env.list("OUTBOUND_ALLOW_CIDRS", default=[])  # for webhooks, not public

# Stripe
STRIPE_API_KEY = env.str("STRIPE_API_KEY", default="")
STRIPE_API_BASE = env.str("STRIPE_API_BASE", default="")
# Vendors' statements are closed this long after a month's end, when invoices have been.
STATEMENT_DELAY_DAYS = env.int("STATEMENT_DELAY_DAYS", default=3)
PAYOUT_REVIEW_CENTS = env.int("PAYOUT_REVIEW_CENTS", default=100_000)  # 0: none
PAYOUT_GRANTED = env.str("PAYOUT_GRANTED", default="after_payment")  # or always
PAYOUT_FIRST_REVIEW = env.bool("PAYOUT_FIRST_REVIEW", default=True)  # of a vendor never paid
# Where the v2 meter event stream is, if not at Stripe's own host or at STRIPE_API_BASE.
STRIPE_METER_EVENTS_BASE = env.str("STRIPE_METER_EVENTS_BASE", default="")
# What signs webhooks of Stripe. Several are separated by commas: one per destination (snapshot
# and thin events have one each), and the old and the new one while one is changed.
STRIPE_WEBHOOK_SECRET = [
    part.strip() for part in env.list("STRIPE_WEBHOOK_SECRET", default=[]) if part.strip()
]
# Have Stripe compute and collect tax on top of each payment (Stripe Tax must be set up there).
STRIPE_AUTOMATIC_TAX = env.bool("STRIPE_AUTOMATIC_TAX", default=False)
TOP_UP_MIN_CENTS = env.int("TOP_UP_MIN_CENTS", default=500)
TOP_UP_MAX_CENTS = env.int("TOP_UP_MAX_CENTS", default=1_000_000)
STRIPE_EVENT_KEEP_DAYS = env.int("STRIPE_EVENT_KEEP_DAYS", default=90)
METER_SEAL_AFTER_S = env.int("METER_SEAL_AFTER_S", default=60)
# Send meter events by the v2 stream, up to 100 in a request: for more than some hundred a second.
STRIPE_METER_STREAM = env.bool("STRIPE_METER_STREAM", default=False)
# Meter requests in flight from one relay; Stripe takes one at a time for each customer and meter.
STRIPE_METER_LANES = env.int("STRIPE_METER_LANES", default=4)

# Invoices. A month is closed this long after its end, when its last calls have been charged.
INVOICE_SETTLE_DELAY_H = env.float("INVOICE_SETTLE_DELAY_H", default=6.0)
# Above this, an invoice of more than 5 times the usual amount waits for staff to approve it.
INVOICE_SURGE_FLOOR_USD = env.str("INVOICE_SURGE_FLOOR_USD", default="100")
# Prepaid money that covers an invoice whole pays it at the close.
INVOICE_APPLY_PREPAID = env.bool("INVOICE_APPLY_PREPAID", default=True)
# Who invoices come from, as they show it: name, address and tax id, lines separated by "|".
INVOICE_ISSUER = env.str("INVOICE_ISSUER", default=SITE_NAME)
refuse_stand_in_in_production(
    SimpleNamespace(
        STRIPE_API_KEY=STRIPE_API_KEY,
        STRIPE_API_BASE=STRIPE_API_BASE,
        STRIPE_METER_EVENTS_BASE=STRIPE_METER_EVENTS_BASE,
        DEBUG=DEBUG,
    ),
    local=LOCAL_STACK,
)

# API
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["marketplace.api.auth.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["marketplace.api.auth.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["marketplace.api.throttling.ReadThrottle"],
    "DEFAULT_PAGINATION_CLASS": "marketplace.api.pagination.CursorPagination",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["marketplace.api.parsers.CleanJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "marketplace.api.negotiation.AcceptAnything",
    "DEFAULT_SCHEMA_CLASS": "marketplace.api.schema.Schema",
    "EXCEPTION_HANDLER": "marketplace.api.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    # Whose address a limit counts: only the proxy's own X-Forwarded-For entry is believed.
    "NUM_PROXIES": 1 if env.bool("TRUST_PROXY", default=False) else 0,
    "PAGE_SIZE": 20,
}

# Logs: one JSON line each
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logs.configure(
    level=env.str("LOG_LEVEL", default="INFO"), pool_level=env.str("LOG_LEVEL", default="WARNING")
)
LANGUAGE_CODE, TIME_ZONE, USE_TZ, USE_I18N = "en", "UTC", True, False
DATE_FORMAT, DATETIME_FORMAT = "j M Y", "j M Y, H:i"
