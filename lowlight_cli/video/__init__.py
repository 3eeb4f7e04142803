"""Clips: streams in and out, brightness that does not flicker, what goes wrong on the way. Only here PyAV is known."""
