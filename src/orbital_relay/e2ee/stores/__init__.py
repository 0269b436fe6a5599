"""Where a device keeps its keys and items: in memory, or in an encrypted file."""
