"""BentoML around ONNX Runtime: one worker."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class OnnxService:
    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"] + "/model.onnx", options)

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[list[float]]:
        return self.session.run(None, {"features": np.array(rows, np.float32)})[0].tolist()
