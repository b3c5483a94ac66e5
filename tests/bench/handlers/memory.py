"""Where the model server's memory goes: MB that the process holds after each step, as JSON."""

import json
import sys
from pathlib import Path

SHOWN = {}


def step(name):
    status = Path("/proc/self/status").read_text()
    SHOWN[name] = int(status.partition("VmRSS:")[2].split()[0]) / 1024


step("Python")
import numpy  # noqa: E402, F401

step("numpy")
import onnxruntime  # noqa: E402

step("ONNX Runtime")
import fastapi  # noqa: E402, F401
import uvicorn  # noqa: E402, F401

step("FastAPI, uvicorn, pydantic")
import plumbline.serving.main  # noqa: E402, F401

step("the server's own code")
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
step("the model")
import redis.asyncio  # noqa: E402, F401

step("Redis' client")
print(json.dumps(SHOWN))
