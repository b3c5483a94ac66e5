"""Requests and answers: the routes, the edge around them, and the documents that describe them."""
