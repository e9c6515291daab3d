"""A raw ASGI application that reads the body and returns a constant: the upper limit of uvicorn.

uvicorn constant_app:app --no-access-log
"""

from typing import Any

BODY = b'{"probabilities":[0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Respond to a request."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
