"""Whole folders: overlapped, recorded, resumable, watched (`lowlight batch`)."""
