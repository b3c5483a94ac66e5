"""The model server: FastAPI over ONNX Runtime, and nothing that unpickles."""
