"""KServe's Python server with a model of its own that runs ONNX Runtime in its process."""

import os

import numpy as np
import onnxruntime as ort
from kserve import Model, ModelServer


class OnnxModel(Model):
    def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"] + "/model.onnx", options)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        matrix = np.array(payload["instances"], np.float32)
        return {"predictions": self.session.run(None, {"features": matrix})[0].tolist()}


model = OnnxModel("model")
model.load()
ModelServer(http_port=int(os.environ["PORT"]), enable_grpc=False, workers=1, access_log_format=None).start([model])
