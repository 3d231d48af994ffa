"""What engines share: their specification, the registry, and the queue of engines that answer one call with images."""
