"""Images on disk, and the smaller copies that travel inside an answer."""
