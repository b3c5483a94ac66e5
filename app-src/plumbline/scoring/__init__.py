"""Files of rows answered by a released model: what the model server would say, without a server."""
