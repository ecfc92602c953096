"""What a user may set: default, range and meaning of each option at one place. No arrays."""
