"""What clients see while parts of a serving cluster are killed, drained and overloaded."""
