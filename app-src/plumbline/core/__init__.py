"""What every part shares: the errors, documents, names, digests, schemas and programs of the platform."""
