"""LitServe around ONNX Runtime: one worker, no batching."""

import os

import litserve
import numpy as np
import onnxruntime as ort


class OnnxApi(litserve.LitAPI):
    def setup(self, device):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.environ["MODEL"] + "/model.onnx", options)

    def decode_request(self, request):
        return np.array(request["rows"], np.float32)

    def predict(self, matrix):
        return self.session.run(None, {"features": matrix})[0]

    def encode_response(self, probabilities):
        return {"probabilities": probabilities.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(OnnxApi(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
