"""The resources as pydantic models, and the CRDs generated from them. No I/O, no decisions."""
