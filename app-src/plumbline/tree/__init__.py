"""The tree itself: rendered as Argo CD renders it, and checked before it is merged."""
