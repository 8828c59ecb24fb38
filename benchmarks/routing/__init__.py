"""What routing is worth: a chat trace replayed against mock engines behind the real HAProxy."""
