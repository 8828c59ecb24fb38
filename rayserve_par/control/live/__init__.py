"""The controller at work: what instances report, what was decided, and how it is carried out."""
