"""What tests of several rings share: builders and harnesses, no assertions."""
