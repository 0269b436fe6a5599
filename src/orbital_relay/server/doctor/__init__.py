"""What is wrong with a server's surroundings: settings, files, database, Redis, clock, limits, and the way to it."""
