"""Container images, put together from packages and programs without a container engine.

Each YAML file of this folder is one image; `definition.py` says what may stand in it.
"""
