"""Production compared with the data that a model was judged on."""
