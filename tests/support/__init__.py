"""What tests stand on: databases, a world with people in it, ways to wait."""
