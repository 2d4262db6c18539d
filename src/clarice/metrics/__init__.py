"""How results are judged: images, shells, orientations, clusters."""
