"""What tests of Runyard, and of whatever is built on it, are made with: fakes, builders, contract suites."""
