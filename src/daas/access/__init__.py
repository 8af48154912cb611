"""Who is asking. An Actor comes from the login, never from a body."""
