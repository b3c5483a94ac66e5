"""A real single-node Kubernetes with the real controllers, on a bare Linux machine. See docs/testing.md."""
