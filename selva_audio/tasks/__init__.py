"""What a user can ask for; the only thing front ends call."""
