"""Trained weights: their table, their download, and the files themselves.

`catalog` reads weights.toml, `fetch` turns what a user types into a checked file on this machine, `hub` talks to a
Hugging Face hub, `files` reads and writes safetensors, `header` reads their headers, `publish` uploads. Only `files`
imports torch, and only inside its functions.
"""
