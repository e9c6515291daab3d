"""Hands bundles on: as images in OCI registries and layouts, and as models in MLflow.

The content of a bundle is never changed here. Packed files are in `serving`.
"""
