"""Whole folders: overlapped, recorded, resumable (`lowlight batch`)."""
