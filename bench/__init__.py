"""What Procession costs, beside lower bounds and what the standard library offers, measured in the same run."""
