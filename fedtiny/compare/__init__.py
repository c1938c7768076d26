"""Many runs under one protocol: a grid of methods, densities and seeds, and what it says."""
