"""What an operator sees of running applications and asks of their controllers."""
