"""What a device does: the only room that knows Lightning."""
