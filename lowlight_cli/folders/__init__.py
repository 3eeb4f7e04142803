"""Enhance whole folders (`lowlight batch`): overlapping stages, a manifest, resuming, watching, clusters."""
