"""The models that a form asks for, read by what reads it later: Starlette's own form parser."""

from __future__ import annotations

import asyncio
from typing import Any

from rayserve_par.serving.admission.refusal import Message, Refusal, Scope

_PART_BYTES = 2**16


async def form_models(scope: Scope, body: bytes) -> list[Any] | Refusal:
    """All values of the field `model`."""
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException
    from starlette.requests import Request

    at = 0

    async def receive() -> Message:
        nonlocal at
        await asyncio.sleep(0)  # a large form is parsed in steps
        part, at = body[at : at + _PART_BYTES], at + _PART_BYTES
        return {"type": "http.request", "body": part, "more_body": at < len(body)}

    try:
        async with Request(scope, receive).form() as form:
            return form.getlist("model")
    except (HTTPException, MultiPartException) as error:
        why = error.detail if isinstance(error, HTTPException) else error.message
        return Refusal(400, f"The form cannot be read: {why}", code="invalid_form")
