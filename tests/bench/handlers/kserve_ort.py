"""KServe's Python server with a model of its own that runs ONNX Runtime in its process."""

import os

import numpy as np
import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"] + "/model.onnx", options)
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        if isinstance(payload, InferRequest):
            (probabilities,) = self.session.run(None, {"features": payload.inputs[0].as_numpy()})
            output = InferOutput("probabilities", list(probabilities.shape), "FP32")
            output.set_data_from_numpy(probabilities, binary_data=True)
            return InferResponse(payload.id, self.name, [output], use_binary_outputs=True)
        matrix = np.array(payload["instances"], np.float32)
        return {"predictions": self.session.run(None, {"features": matrix})[0].tolist()}


model = OnnxModel("model")
model.load()
ModelServer(http_port=int(os.environ["PORT"]), enable_grpc=False, workers=1, access_log_format=None).start([model])
