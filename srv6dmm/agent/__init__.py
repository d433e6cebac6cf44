"""One process per router: makes the kernel equal to the plan."""
