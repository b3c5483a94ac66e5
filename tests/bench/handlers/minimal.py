"""What one writes in ten minutes: a FastAPI handler around ONNX Runtime, with types and nothing else."""

import os

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["MODEL"] + "/model.onnx", options)
app = FastAPI()


class Request(BaseModel):
    rows: list[list[float]]


class Response(BaseModel):
    probabilities: list[list[float]]


@app.post("/predict")
async def predict(request: Request) -> Response:
    (probabilities,) = session.run(None, {"features": np.array(request.rows, np.float32)})
    return Response(probabilities=probabilities.tolist())


uvicorn.run(app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False)
