"""What the product costs, beside what the machine alone would cost, measured in one run."""
