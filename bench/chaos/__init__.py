"""Whatever may die dies, at random and by a seed, under load; then every run, line, point and bill is counted."""
