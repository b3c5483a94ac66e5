"""The limit of the protocol: uvicorn that reads a body and gives it back."""

import os

import uvicorn


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


uvicorn.run(app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", lifespan="off", access_log=False)
