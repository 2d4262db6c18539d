"""The main job: stages, resume, preflight."""
