"""A drawn country with perfect labels: the demo's and the tests' world, and extra training material. All synthetic."""
