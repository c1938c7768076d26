"""From what a device has room for to a density, and to a width where need be."""
