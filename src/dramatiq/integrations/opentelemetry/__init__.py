"""Traces and metrics by OpenTelemetry, with its conventions for messaging."""

from __future__ import annotations

try:
    import opentelemetry.trace  # noqa: F401 (to say what to install where it is not there)
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "The OpenTelemetry middleware needs the package opentelemetry-api: "
        "pip install 'dramatiq[otel]'",
        name=missing.name,
    ) from None

from .middleware import OpenTelemetry

__all__ = ["OpenTelemetry"]
