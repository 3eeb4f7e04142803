"""Trained weights: the table of them, where they come from, and the files themselves.

`catalog` reads weights.toml, `fetch` turns what a user types into a checked file on this machine, `hub` speaks with a
Hugging Face hub, `files` reads and writes safetensors, `publish` uploads. Only `files` imports torch, and only inside
its functions.
"""
