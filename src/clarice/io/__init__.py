"""Files: MRC stacks and maps, RELION STAR, cryoSPARC datasets; lazy reads, whole or absent writes."""
