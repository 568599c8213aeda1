"""Side-by-side measurements; each prints its rows and can write them as JSON."""
