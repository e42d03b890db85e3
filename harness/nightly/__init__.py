"""A night in a lab: one sweep, what it says against the nights before, and whom to tell."""
