"""From images to orientations and a map."""
