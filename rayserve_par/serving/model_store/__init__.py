"""Where models come from: folders, hub ids, and built-in ones prepared on this machine."""
