"""The choice of an index: the cheapest setting whose recall is certified on the queries of the user."""
