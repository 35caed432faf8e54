"""The same programs on torchmonarch, Ray and xoscar, each in an environment of its own."""
