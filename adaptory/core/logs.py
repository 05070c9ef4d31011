"""How a service logs: one JSON object a line on standard error, stable event names, and no local variables in tracebacks.

A frame's locals hold prompts and keys, so tracebacks are plain text without them.
"""

import logging
import sys

import structlog


def configure_logging(*, service: str) -> None:
    """Send structlog's events and other libraries' warnings to standard error. Called once, by a service's `__main__`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
